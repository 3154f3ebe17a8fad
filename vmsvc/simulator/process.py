"""The simulator as a process of its own: at most one in a folder, found or started, and shared by its users.

`start(folder)` is for a caller that ends the simulator itself; `CloudProcess` is for several processes that use one
simulator together, of which the last one ends it.
"""

import fcntl
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

#: A proxy that the environment names could not reach this machine's loopback.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_ALREADY_RUNNING = 3  # the exit status of a simulator whose folder another one has


def write_atomically(path: Path, text: str) -> None:
    """Replace the content of a file, which only its owner can read. A reader sees the old content or the new one."""
    draft = path.with_suffix(f"{path.suffix}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def start_time(pid: int) -> str | None:
    """When a process started, in the kernel's ticks, or None when it has ended. Pids are used again: only pid and start
    time together name a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


class FolderLock:
    """The lock of the one simulator of a folder, and the address that this simulator announces there. The kernel
    releases the lock when its process ends, however that ends."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._file: TextIO | None = None

    def acquire(self) -> bool:
        """Try to get the lock. False when another process has it."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = open(self._folder / "lock", "a", encoding="utf-8")  # pylint: disable=consider-using-with
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._file = file
        return True

    def last_port(self) -> int | None:
        """The port of the simulator that ran here last."""
        address = self.address()
        return address["port"] if address else None

    def announce(self, port: int) -> None:
        """Write down where this process answers."""
        pid = os.getpid()
        write_atomically(
            self._folder / "address",
            json.dumps(
                {
                    "url": f"http://127.0.0.1:{port}",
                    "port": port,
                    "pid": pid,
                    "started": start_time(pid),
                    "clouds": str(self._folder / "clouds.yaml"),
                }
            ),
        )

    def address(self) -> dict[str, Any] | None:
        """What the last simulator of this folder announced: url, port, pid, started, clouds."""
        try:
            announced: dict[str, Any] = json.loads((self._folder / "address").read_text(encoding="utf-8"))
            return announced
        except (OSError, ValueError):
            return None

    def live_address(self) -> dict[str, Any] | None:
        """The announcement if the process that made it is still running, else None."""
        address = self.address()
        if address is None or start_time(address["pid"]) != address["started"]:
            return None
        return address


class SharedUse:
    """This process as one of several users of a server. Each user holds a shared lock on one file; the kernel releases
    it even after `kill -9`."""

    def __init__(self, file: Path):
        self._file = file
        self._handle = -1

    @property
    def joined(self) -> bool:
        """True between `join()` and `leave()`."""
        return self._handle >= 0

    def join(self) -> None:
        """Become a user."""
        if not self.joined:
            self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._handle, fcntl.LOCK_SH)

    def leave(self) -> bool:
        """Stop being a user. True when there is no other one."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(self._handle)
            self._handle = -1


@dataclass(frozen=True)
class RunningSimulator:
    """A simulator that answers. `clouds` is its clouds.yaml, with the clouds sim-admin and sim-demo."""

    url: str
    clouds: Path
    pid: int


class StartFailed(Exception):
    """The simulator did not start. The message has the end of its log."""


def start(
    folder: Path | str, *, hosts: int = 4, vcpus: int = 4, ram_mb: int = 8192, timeout: float = 20.0, **options: object
) -> RunningSimulator:
    """Find the simulator of this folder, or start it as a process that outlives the caller.

    Blocks until it answers. Callers that do this at once get the same simulator. `hosts`, `vcpus` and `ram_mb` are the
    size of a new cloud; `options` are further options of the command line, such as `boot_seconds=0`. Raises StartFailed
    after `timeout` seconds.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock, deadline, child = FolderLock(folder), time.monotonic() + timeout, None
    flags = {"hosts": hosts, "vcpus": vcpus, "ram_mb": ram_mb, **options}
    while time.monotonic() < deadline:
        address = lock.live_address()
        if address is not None and _answers(address["url"]):
            if child not in (None, address["pid"]):
                os.waitpid(child, 0)  # Another starter's simulator got the lock, so ours ends at once.
            return RunningSimulator(address["url"], Path(address["clouds"]), address["pid"])
        status = None if child is None else _exit_status(child)
        if status not in (None, _ALREADY_RUNNING):
            break
        if address is None and (child is None or status is not None):
            child = _spawn(folder, flags)
        elif status is not None:
            child = None
        time.sleep(0.05)
    raise StartFailed(f"no simulated cloud in {folder}: {_log_end(folder)}")


def _spawn(folder: Path, flags: dict[str, Any]) -> int:
    """Start the simulator in a session of its own. Returns its pid."""
    command = [sys.executable, "-m", "vmsvc.simulator", "--dir", str(folder)]
    for name, value in flags.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    package = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    log = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
        return os.posix_spawn(sys.executable, command, environment, file_actions=files, setsid=True)
    finally:
        os.close(log)


def _exit_status(pid: int) -> int | None:
    """The exit status of our child, None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _answers(url: str) -> bool:
    try:
        with _DIRECT.open(f"{url}/identity/v3", timeout=2) as answer:
            return "version" in json.load(answer)
    except (OSError, ValueError, urllib.error.URLError):
        return False


def _log_end(folder: Path) -> str:
    try:
        return (folder / "log").read_text(encoding="utf-8", errors="replace")[-600:]
    except OSError:
        return "it wrote no log"


class CloudProcess:
    """A simulator that several processes share. `url` is its address once it was started. `size`: see `start`."""

    def __init__(self, folder: Path, **size: int):
        self._folder = folder
        self._size = size
        self._users = SharedUse(folder / "users.lock")
        self._pid = 0
        self.url = ""

    def start(self) -> Path:
        """Find it or start it. Returns the path of its clouds.yaml. Raises StartFailed."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._users.join()
        running = start(self._folder, **self._size)
        self._pid, self.url = running.pid, running.url
        return running.clouds

    def stop(self) -> None:
        """End it, unless another process uses it."""
        if self._users.joined and self._users.leave() and self._pid:
            os.kill(self._pid, signal.SIGTERM)
