"""Who uses a thing that several processes share: whoever leaves last puts out the light.

Each holds a shared lock on one file as long as it lives; the kernel gives it back even after a `kill -9`.
"""

import fcntl
import os
from pathlib import Path


class Users:
    """This process's part in it."""

    def __init__(self, file: Path):
        self._file = file
        self._handle = -1

    @property
    def joined(self) -> bool:
        """True between `join()` and `leave()`."""
        return self._handle >= 0

    def join(self) -> None:
        """Count as a user from now on."""
        if not self.joined:
            self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._handle, fcntl.LOCK_SH)

    def leave(self) -> bool:
        """Count no longer; True when nobody else is left."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(self._handle)
            self._handle = -1
