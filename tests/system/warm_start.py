"""Processes of `python -m vmsvc` that start by fork from one that has imported everything already. Most of the CPU of a
start is imports, and a run of the tests starts a hundred services.

`WarmProcess` is for tests. This file run as a program is the parent of the services: it reads one order a line on stdin
(JSON: `arguments`, `environ`, `folder`, and the files `stdout`, `stderr` and `status`), and answers with the new
process's id. When the process has ended, its status is in that file.
"""

import contextlib
import functools
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOWHERE = Path(os.devnull)
#: What the service imports only when it connects.
LATE_IMPORTS = (
    "openstack.connection",
    "openstack.config.loader",
    "keystoneauth1.session",
    "requests",
    "keystoneauth1.loading",
    "openstack.compute.v2._proxy",
    "openstack.network.v2._proxy",
    "openstack.image.v2._proxy",
    "openstack.placement.v1._proxy",
)


@functools.cache
def _parent() -> subprocess.Popen[str]:
    """One for this test process. It ends by itself when its stdin does."""
    return subprocess.Popen(  # pylint: disable=consider-using-with; it lives as long as we do
        [sys.executable, "-W", "ignore", "-m", "tests.system.warm_start"],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def end() -> None:
    """End the parent, if there is one. Processes that it started are their owners' business."""
    if _parent.cache_info().currsize:
        parent = _parent()
        _parent.cache_clear()
        parent.stdin.close()
        parent.wait(10)
        parent.stdout.close()


class WarmProcess:
    """As subprocess.Popen. `stdout` and `stderr` are files; the status of its end will be in a file beside `stderr`."""

    def __init__(self, arguments: Sequence[str], environ: dict[str, str], stderr: Path, stdout: Path = NOWHERE):
        self._status = stderr.with_name(f"{stderr.name}.status")
        self.returncode: int | None = None
        order = {
            "arguments": list(arguments),
            "environ": environ,
            "stdout": str(stdout),
            "stderr": str(stderr),
            "status": str(self._status),
            "folder": os.getcwd(),
        }
        parent = _parent()
        print(json.dumps(order), file=parent.stdin, flush=True)
        self.pid = int(parent.stdout.readline())

    def poll(self) -> int | None:
        """The status once it has ended (minus the signal that ended it)."""
        if self.returncode is None:
            with contextlib.suppress(FileNotFoundError):
                self.returncode = int(self._status.read_text(encoding="ascii"))
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(["vmsvc"], timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _be_a_service(order: dict) -> None:
    """In the new process, to the end."""
    status = 70
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.closerange(3, 64)
        os.chdir(order["folder"])
        files = [os.open(order[name], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600) for name in ("stdout", "stderr")]
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (files[0], 1), (files[1], 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(order["environ"])
        sys.argv = ["vmsvc", *order["arguments"]]
        importlib.import_module("vmsvc.__main__").run()
    finally:
        os._exit(status)  # pylint: disable=protected-access


def _tell(pid: int, status: int, told: dict[int, Path]) -> None:
    """Write down how a process ended; a reader sees all of it or nothing."""
    file = told.pop(pid)
    draft = file.with_suffix(".draft")
    with contextlib.suppress(FileNotFoundError):  # the test is over, and its folder has gone
        draft.write_text(str(os.waitstatus_to_exitcode(status)), encoding="ascii")
        draft.replace(file)


def main() -> None:
    """Until stdin ends."""
    sys.argv = [str(ROOT / "vmsvc" / "__main__.py")]  # the service calls itself by that name
    for name in ("vmsvc.__main__", "vmsvc.cli", "vmsvc.bootstrap", *LATE_IMPORTS):
        importlib.import_module(name)
    ended, wakeup = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    told: dict[int, Path] = {}
    while True:
        ready, _, _ = select.select([0, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            with contextlib.suppress(ChildProcessError):
                while (found := os.waitpid(-1, os.WNOHANG))[0]:
                    _tell(*found, told)
        if 0 in ready:
            line = sys.stdin.readline()
            if not line:
                return
            order = json.loads(line)
            pid = os.fork()
            if not pid:
                _be_a_service(order)
            told[pid] = Path(order["status"])
            print(pid, flush=True)


if __name__ == "__main__":
    main()
