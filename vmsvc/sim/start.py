"""Start a simulated cloud, or find the one that lives in a folder."""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from vmsvc.sim.lock import Lock

#: Whatever proxy the environment names: it would not reach this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Running:
    """A sim that answers: its address, its clouds.yaml (clouds sim-admin and sim-demo), its process."""

    url: str
    clouds: Path
    pid: int


class StartFailed(Exception):
    """The sim did not come up; the message has the end of its log."""


def start(folder: Path | str, *, hosts: int = 4, vcpus: int = 4, ram_mb: int = 8192, timeout: float = 20.0,
          **options) -> Running:
    """The sim of this folder: the one that runs, or a new process that outlives the caller.

    Blocking; several callers at once end with one sim. Sizes are those of a new cloud only. `options` are further
    flags, such as `boot_seconds=0`. Raises StartFailed after `timeout` seconds.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock, deadline, child = Lock(folder), time.monotonic() + timeout, None
    flags = {"hosts": hosts, "vcpus": vcpus, "ram_mb": ram_mb, **options}
    while time.monotonic() < deadline:
        address = lock.living()
        if address is not None and _answers(address["url"]):
            if child not in (None, address["pid"]):
                os.waitpid(child, 0)  # It lost the race for the lock and ends at once.
            return Running(address["url"], Path(address["clouds"]), address["pid"])
        status = None if child is None else _exit_status(child)
        if status not in (None, 3):  # 3: another starter was first
            break
        if address is None and (child is None or status is not None):
            child = _spawn(folder, flags)
        elif status is not None:
            child = None
        time.sleep(0.05)
    raise StartFailed(f"no simulated cloud in {folder}: {_log_end(folder)}")


def _spawn(folder: Path, flags: dict) -> int:
    """A process in a session of its own; its pid."""
    command = [sys.executable, "-m", "vmsvc.sim", "--dir", str(folder)]
    for name, value in flags.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    package = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    log = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, log, 1),
                 (os.POSIX_SPAWN_DUP2, log, 2)]
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
