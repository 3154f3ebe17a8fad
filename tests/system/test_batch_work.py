"""The shell loop of docs/how-to/batch-work.md, run as the guests of a lineage would run it, one after the other."""

import asyncio
import os
import re
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.system.test_lineage import next_of, restartable

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "batch-work.md"
#: Does what the loop needs of curl, where there is none.
CURL = f"""#!{sys.executable}
import sys, urllib.request
body = open(sys.argv[sys.argv.index("-T") + 1], "rb").read() if "-T" in sys.argv else None
try:
    request = urllib.request.Request(sys.argv[-1], body, method="PUT" if body is not None else "GET")
    sys.stdout.write(urllib.request.urlopen(request, timeout=5).read().decode())
except OSError:
    sys.exit(22)
"""


class Store(BaseHTTPRequestHandler):
    """An object store: PUT and GET."""

    objects: dict[str, bytes] = {}

    def do_PUT(self) -> None:  # pylint: disable=invalid-name; the base class calls it so
        """Keep the body."""
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.end_headers()

    def do_GET(self) -> None:  # pylint: disable=invalid-name
        """What was kept; 404."""
        body = self.objects.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # pylint: disable=redefined-builtin
        """Nothing: the test's output stays clean."""


@pytest.fixture(name="store")
def fixture_store():
    """The address of an empty object store."""
    Store.objects = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/work"
    server.shutdown()
    server.server_close()


def script(path: Path, text: str) -> str:
    """An executable file; its path."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("options", [{"grace_seconds": 5}], ids=["grace5"])
@pytest.mark.gen_test(timeout=60)
async def test_the_work_is_done_to_its_end_by_the_vms_of_a_lineage(client, sim, store, tmp_path):
    (loop,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    done = tmp_path / "done"
    work = script(tmp_path / "work", f'#!/bin/sh\necho "$1" >>{done}\nsleep 0.2\n')
    off = script(tmp_path / "off", "#!/bin/sh\nexit 7\n")
    if not shutil.which("curl"):
        script(tmp_path / "curl", CURL)
    vm = await restartable(client, name="batch")

    async def guest(server_id: str):
        environ = {
            "PATH": f"{os.environ['PATH']}:{tmp_path}",
            "META": sim.address(f"/metadata/{server_id}/openstack/latest/meta_data.json"),
            "STORE": store,
            "WORK": work,
            "OFF": off,
            "STEPS": "12",
            "EVERY": "0.1",
        }
        path = script(tmp_path / "loop.sh", loop)
        return await asyncio.create_subprocess_exec("sh", path, cwd=tmp_path, env=environ)

    running = await guest(vm["id"])
    while not done.exists() or len(done.read_text().split()) < 3:
        await asyncio.sleep(0.05)
    await client.practise(vm["id"])
    assert await running.wait() == 7, "it powers itself off when it reads its notice"
    before = len(done.read_text().split())
    assert 3 <= before < 12
    await asyncio.to_thread(sim.power_off, vm["id"])
    successor = await next_of(client, vm)
    assert await (await guest(successor["id"])).wait() == 0
    assert done.read_text().split() == [str(step) for step in range(12)], "each step once, by two VMs"
