"""The simulator's README: every command works as it is written, and its lists leave nothing out."""

import re
import signal
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from tests.docker.test_scenario import objects
from vmsvc.simulator import control
from vmsvc.simulator.clock import Settings
from vmsvc.simulator.faults import HTTP_ACTIONS, SERVER_KINDS
from vmsvc.simulator.process import FolderLock

README = (Path(control.__file__).parent / "README.md").read_text("utf-8")


@pytest.fixture(name="script")
def _script(tmp_path):
    """All commands of the README in their order, for a folder and a port of this test."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    text = "".join(re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S))
    text = text.replace("$(mktemp -d)", str(tmp_path)).replace("8774", port).replace("kill %1", "kill $!")
    yield text.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    if address := FolderLock(tmp_path).live_address():
        subprocess.run(["kill", f"-{signal.SIGKILL:d}", str(address["pid"])], check=True)


def test_every_command_works(script):
    done = subprocess.run(
        ["bash", "-ec", script], capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    output = re.sub(r"^simulated cloud at .*\n", "", done.stdout, flags=re.M)
    names = (
        "clock",
        "first",
        "frozen",
        "later",
        "runs",
        "settings",
        "theirs",
        "quota",
        "host",
        "call_fault",
        "server_fault",
        "faults",
        "calls",
        "guest",
        "state",
    )
    shown = dict(zip(names, objects(output), strict=True))
    assert shown["first"] == {"status": "ACTIVE"}
    assert shown["frozen"]["frozen"] and shown["later"]["now"] == shown["frozen"]["now"] + 60
    assert not shown["runs"]["frozen"]
    assert (shown["settings"]["boot_seconds"], shown["settings"]["delete_seconds"]) == (0, 5)
    assert len(shown["theirs"]["ids"]) == 3 and shown["quota"]["instances"] == 3 and shown["host"]["silent_since"]
    assert shown["faults"] == {"faults": [shown["call_fault"]], "troubles": [shown["server_fault"]]}
    assert [call["status"] for call in shown["calls"]["calls"]] == [202]
    assert shown["guest"]["name"] == "theirs"
    assert [server["name"] for server in shown["state"]["servers"]] == ["theirs", "theirs", "theirs", "first"]


def test_every_path_setting_and_fault_is_named():
    paths = {re.split(r"[(\\]", path)[0] for path, _ in control.routes}
    assert not {path for path in paths if path not in README}
    names = [*(field.name for field in fields(Settings)), *HTTP_ACTIONS, *SERVER_KINDS]
    assert not {name for name in names if f"`{name}`" not in README}
