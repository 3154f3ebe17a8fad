"""The shell loop of docs/how-to/guests.md, run as a guest would run it."""

import asyncio
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.client import until
from tests.system.marks import grace

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "guests.md"
#: Does what the loop needs of curl, where there is none.
CURL = f"""#!{sys.executable}
import sys, urllib.request
try:
    sys.stdout.write(urllib.request.urlopen(sys.argv[-1], timeout=5).read().decode())
except OSError:
    sys.exit(22)
"""


class Guest:
    """The loop, its commands as scripts in a folder. `saving`, `resumed` and `off` are files that they leave."""

    def __init__(self, folder: Path, meta: str):
        self.folder = folder
        (loop,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        self._script("save", 'echo "$1" > saving; until [ -e saved ]; do sleep 0.02; done')
        self._script("resume", "touch resumed")
        self._script("halt", "touch off")
        if not shutil.which("curl"):
            self._write("curl", CURL)
        environ = {
            "PATH": f"{os.environ['PATH']}:{folder}",
            "META": meta,
            "EVERY": "0.1",
            "SAVE": "./save",
            "RESUME": "./resume",
            "OFF": "./halt",
        }
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with; `stop` ends it
            ["sh", self._write("loop.sh", loop)], cwd=folder, env=environ
        )

    def _script(self, name: str, line: str) -> None:
        self._write(name, f"#!/bin/sh\n{line}\n")

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def has(self, name: str) -> bool:
        """True when a command has left its file."""
        return (self.folder / name).exists()

    def finish_saving(self) -> None:
        """The work is written away."""
        (self.folder / "saved").touch()

    def stop(self) -> None:
        """No guest is left behind."""
        self.finish_saving()
        self.process.terminate()
        self.process.wait(timeout=10)


@pytest.fixture(name="boot")
def fixture_boot(sim, tmp_path):
    """`guest = boot(vm)`: the loop runs in it."""
    guests = []

    def boot(vm: str) -> Guest:
        guests.append(Guest(tmp_path, sim.address(f"/metadata/{vm}/openstack/latest/meta_data.json")))
        return guests[-1]

    yield boot
    for guest in guests:
        guest.stop()


@grace(30)
@pytest.mark.gen_test(timeout=30)
async def test_a_guest_saves_its_work_powers_off_and_goes_before_its_time(client, sim, boot):
    vm = (await client.fill(4))[0]
    guest = boot(vm)
    for other in set(sim.servers()) - {vm}:
        sim.change(other, locked_by="owner")
    creating = asyncio.ensure_future(client.create(False))
    notice = await client.wait_for_event("evict/noticed", vm)
    await until(lambda: guest.has("saving"), "the saving")
    assert (guest.folder / "saving").read_text().strip() == notice["data"]["evict_at"]
    assert not guest.has("off") and sim.servers()[vm]["status"] == "ACTIVE"
    guest.finish_saving()
    await until(lambda: guest.has("off"), "the power-off")
    sim.power_off(vm)
    created = await creating
    assert created.json["evicted"] == [vm]
    assert (await client.wait_for_event("create/active", created.id))["time"] < notice["data"]["evict_at"]
    assert not guest.has("resumed") and guest.process.wait(timeout=10) == 0
    for other in set(sim.servers()) - {created.id}:
        sim.change(other, locked_by=None)


@grace(0.7)
@pytest.mark.gen_test(timeout=30)
async def test_a_guest_that_is_reprieved_while_it_saves_goes_on(client, sim, boot):
    (vm,) = await client.fill(1)
    guest = boot(vm)
    assert (await client.practise(vm, notice_only=True)).status == 202
    await until(lambda: guest.has("saving"), "the saving")
    await client.wait_for_event("evict/reprieved", vm)
    await client.wait_for_notice(sim, vm, None)
    guest.finish_saving()
    await until(lambda: guest.has("resumed"), "the resuming")
    assert not guest.has("off") and guest.process.poll() is None
    assert sim.servers()[vm]["status"] == "ACTIVE"
