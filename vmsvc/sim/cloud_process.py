"""The simulated cloud as a process of its own, shared by those who use its folder."""

import os
import signal
from pathlib import Path

from vmsvc.sim.start import StartFailed, start
from vmsvc.sim.users import Users

__all__ = ["CloudProcess", "StartFailed"]


class CloudProcess:
    """`start()` finds or makes it; `stop()` ends it when nobody else uses it. Its servers are kept on disk."""

    def __init__(self, folder: Path, **size: int):
        self._folder = folder
        self._size = size
        self._users = Users(folder / "users.lock")
        self._pid = 0
        self.url = ""

    def start(self) -> Path:
        """Make sure that it runs; returns its clouds.yaml. Raises StartFailed."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._users.join()
        running = start(self._folder, **self._size)
        self._pid, self.url = running.pid, running.url
        return running.clouds

    def stop(self) -> None:
        """SIGTERM, unless another process uses it."""
        if self._users.joined and self._users.leave() and self._pid:
            os.kill(self._pid, signal.SIGTERM)
