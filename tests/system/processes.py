"""`python -m vmsvc` as a process of its own, to be killed and to be asked to stop."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.system.client import Client, until

#: In a log of either kind.
LISTENING = re.compile(r'listening on http://[\d.]+:(\d+)/(?=$|")', re.MULTILINE)


class Process:
    """One service process; its log goes to a file."""

    def __init__(self, environ: dict[str, str], log: Path, *arguments: str):
        self.log = log
        own = {name: value for name, value in os.environ.items() if not name.startswith(("VMSVC_", "OS_"))}
        with log.open("w", encoding="utf-8") as stderr:
            self._popen = subprocess.Popen(  # pylint: disable=consider-using-with
                [sys.executable, "-m", "vmsvc", *arguments],
                env={**own, **environ},
                stderr=stderr,
                start_new_session=True,
            )
        self.client: Client | None = None

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    def text(self) -> str:
        """What it wrote."""
        return self.log.read_text(encoding="utf-8")

    async def listening(self) -> Client:
        """Wait until it listens, though its cloud may be away; a client of it."""
        said = await until(lambda: self._popen.poll() is not None or LISTENING.search(self.text()), "listening", 30)
        assert said is not True, self.text()
        self.client = Client(int(said[1]))
        return self.client

    async def ready(self) -> Client:
        """Wait until it serves; a client of it."""
        await self.listening()
        while (await self.client.call("GET", "/readyz")).status != 200:
            await until(lambda: True)
        return self.client

    def kill(self) -> None:
        """As a power cut would."""
        self._popen.send_signal(signal.SIGKILL)
        self._popen.wait(10)

    def tell_to_stop(self) -> None:
        """SIGTERM."""
        self._popen.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT, as Ctrl-C sends it."""
        self._popen.send_signal(signal.SIGINT)

    async def exit_status(self) -> int:
        """Wait for its end."""
        await until(lambda: self._popen.poll() is not None, "the end of the process", 20)
        return self._popen.returncode

    def clean_up(self) -> None:
        """Nothing of it is left."""
        if self.client:
            self.client.close()
        if self._popen.poll() is None:
            self.tell_to_stop()
            try:
                self._popen.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
