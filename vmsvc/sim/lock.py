"""At most one sim per folder: a lock that ends with its process, and the address that it writes."""

import fcntl
import json
import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """The whole text or the old one, never a part; for its owner only."""
    draft = path.with_suffix(f"{path.suffix}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def start_time(pid: int) -> str | None:
    """When a process started (in the kernel's ticks), None when there is none: a pid alone may be another's by now."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


class Lock:
    """The lock file of a folder. The kernel frees it when its process ends, however it ends."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._file = None

    def take(self) -> bool:
        """True when this process now owns the folder."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = open(self._folder / "lock", "a", encoding="utf-8")  # pylint: disable=consider-using-with
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            self._file = None
            return False
        return True

    def last_port(self) -> int | None:
        """The port of the last run."""
        address = self.address()
        return address["port"] if address else None

    def announce(self, port: int) -> None:
        """Say where the sim answers."""
        pid = os.getpid()
        write_atomically(self._folder / "address", json.dumps({
            "url": f"http://127.0.0.1:{port}", "port": port, "pid": pid, "started": start_time(pid),
            "clouds": str(self._folder / "clouds.yaml")}))

    def address(self) -> dict | None:
        """What the last sim of this folder announced."""
        try:
            return json.loads((self._folder / "address").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def living(self) -> dict | None:
        """The announcement, if its process lives."""
        address = self.address()
        if address is None or start_time(address["pid"]) != address["started"]:
            return None
        return address
