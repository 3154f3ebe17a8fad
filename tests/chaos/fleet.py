"""Service processes by the dozen: started by the launcher, asked whether they live, killed."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tornado.simple_httpclient import HTTPStreamClosedError

from tests.system.client import Client, until
from vmsvc.domain.timing import Timing

ROOT = Path(__file__).parents[2]


class Launcher:
    """The process that forks services. `close()` ends it; its services are their owners' business."""

    def __init__(self):
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("VMSVC_", "OS_"))}
        self._popen = subprocess.Popen(  # pylint: disable=consider-using-with
            [sys.executable, "-m", "tests.chaos.launcher"],
            cwd=ROOT,
            env=environ,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(
        self,
        environ: dict[str, str],
        log: Path,
        timing: Timing,
        folder: Path | None = None,
        deadly: str | None = None,
        constants: Mapping[str, object] | None = None,
    ) -> "Replica":
        """One service process. With a `folder` its points are written down, and the `deadly` one kills it. `constants`:
        by module and name, those of the service that are others for this process."""
        print(
            json.dumps(
                {
                    "environ": environ,
                    "log": str(log),
                    "timing": asdict(timing),
                    "constants": constants or {},
                    "folder": folder and str(folder),
                    "deadly": deadly,
                }
            ),
            file=self._popen.stdin,
            flush=True,
        )
        return Replica(int(self._popen.stdout.readline()), log)

    def close(self) -> None:
        """No more."""
        self._popen.stdin.close()
        self._popen.wait(10)
        self._popen.stdout.close()


class Replica:
    """A service process."""

    def __init__(self, pid: int, log: Path):
        self.pid = pid
        self.log = log
        self._client: Client | None = None

    @property
    def lives(self) -> bool:
        """False once it has ended. (The launcher lets the kernel reap it.)"""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 0)
            return True
        return False

    def text(self) -> str:
        """What it wrote."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    @property
    def client(self) -> Client | None:
        """A client of it as soon as it listens; None before, and once it is dead."""
        if self._client is None and (
            said := re.search(r"listening on http://[\d.]+:(\d+)/$", self.text(), re.MULTILINE)
        ):
            self._client = Client(int(said[1]))
        return self._client if self.lives else None

    async def ready(self) -> None:
        """Wait until it serves, or is dead."""
        await until(lambda: self.client or not self.lives, "listening", 30, 0.05)
        async with asyncio.timeout(30):
            with contextlib.suppress(OSError, HTTPStreamClosedError):  # it dies just now
                while self.client and (await self.client.call("GET", "/readyz")).status != 200:
                    await asyncio.sleep(0.08)

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Any signal."""
        os.kill(self.pid, number)

    async def end(self, seconds: float = 20) -> None:
        """Wait until it has ended."""
        await until(lambda: not self.lives, f"the end of {self.pid}", seconds, 0.03)

    async def clean_up(self) -> None:
        """Nothing of it is left."""
        self.kill()
        await self.end()
        if self._client:
            self._client.close()
