"""A server to compare with, in a process of its own."""

import subprocess
import sys

from tests.bench.cpu import exact_cpu_of


class Peer:
    """`python -m module argument`: it says its port on its first line, and lives until its standard input ends."""

    def __init__(self, module: str, argument: str):
        self._popen = subprocess.Popen(  # pylint: disable=consider-using-with; `stop()` ends it
            [sys.executable, "-m", module, argument], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pid = self._popen.pid
        self.port = int(self._popen.stdout.readline())

    def cpu_seconds(self) -> float:
        """What it has used."""
        return exact_cpu_of(self.pid)

    def stop(self) -> None:
        """End it."""
        self._popen.stdin.close()
        self._popen.stdout.close()
        self._popen.kill()
        self._popen.wait(10)
