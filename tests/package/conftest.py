"""The package as its users get it: built from the checkout, installed where nothing of the checkout is to be found."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LIMIT = 60.0  # seconds for the service to start
LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)/")
_PAUSES = (2.0, 10.0)  # seconds before a download is tried again


def bare_environment(**more: str) -> dict[str, str]:
    """The environment without what makes the checkout, or a configured cloud, visible."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("VMSVC_", "OS_", "PYTHON")) and name != "VIRTUAL_ENV"
    }
    return {**kept, **more}


def program(name: str) -> Path:
    """A program of requirements-package.txt; where it is missing the test is left out, or fails if none may be."""
    found = BIN / name
    if not found.exists():
        missing = f"{name} is missing: make test_package"
        (pytest.fail if os.environ.get("TESTS_REQUIRE_ALL") else pytest.skip)(missing)
    return found


def module(name: str) -> ModuleType:
    """A module of requirements-package.txt; where it is missing the tests of the caller's file are left out, or fail if
    none may be."""
    if importlib.util.find_spec(name) is None and not os.environ.get("TESTS_REQUIRE_ALL"):
        pytest.skip(f"{name} is missing: make test_package", allow_module_level=True)
    return importlib.import_module(name)


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, within two minutes."""
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=bare_environment(**environment),
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )


def download(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program that downloads packages; three tries."""
    for pause in (*_PAUSES, None):
        done = run(*command, cwd=cwd, **environment)
        if done.returncode == 0:
            return done
        if pause is None:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
        time.sleep(pause)
    raise AssertionError("unreachable")


class Started:
    """A program of the package, in a folder of its own; what it says goes to a file."""

    def __init__(self, folder, *command, **environment):
        self.log = folder / f"{command[1]}.log"
        with self.log.open("w", encoding="utf-8") as output:
            self._process = subprocess.Popen(  # pylint: disable=consider-using-with
                list(map(str, command)),
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=bare_environment(**environment),
            )

    def said(self, pattern):
        """Wait until it says this; the match."""
        deadline = time.monotonic() + LIMIT
        while not (found := re.search(pattern, self.log.read_text(encoding="utf-8"))):
            assert self._process.poll() is None and time.monotonic() < deadline, self.log.read_text(encoding="utf-8")
            time.sleep(0.05)
        return found

    def stop(self):
        """SIGTERM; the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def clean_up(self):
        """Nothing of it is left."""
        if self._process.poll() is None:
            self.stop()


@pytest.fixture(name="built", scope="session")
def fixture_built(tmp_path_factory):
    """A folder with the source distribution, and the wheel that was built from it as an installer builds it."""
    folder = tmp_path_factory.mktemp("built")
    download(program("uv"), "build", "--build-constraints", "constraints.txt", "--out-dir", folder, cwd=ROOT)
    return folder


@pytest.fixture(name="wheel", scope="session")
def fixture_wheel(built):
    """The wheel."""
    (found,) = built.glob("*.whl")
    return found


def install(wheel: Path, extras: str, folder: Path, python: str = sys.executable) -> Path:
    """A new virtual environment of this Python with nothing but the wheel and these extras; its folder of programs."""
    uv = program("uv")
    download(uv, "venv", "--python", python, folder, cwd=folder.parent)
    download(
        uv,
        "pip",
        "install",
        "--python",
        folder / "bin" / "python",
        "-c",
        ROOT / "constraints.txt",
        f"vmsvc{extras} @ {wheel.as_uri()}",
        cwd=folder.parent,
    )
    return folder / "bin"


@pytest.fixture(name="installed", scope="session")
def fixture_installed(wheel, tmp_path_factory):
    """The folder of programs of an environment with everything."""
    return install(wheel, "[service,embedded,tracing]", tmp_path_factory.mktemp("installed") / "env")
