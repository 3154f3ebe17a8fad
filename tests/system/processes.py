"""`python -m vmsvc` as a process of its own, to be killed and to be asked to stop. See `warm_start` for its start."""

import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.system.client import Client, until
from tests.system.warm_start import WarmProcess

#: In a log of either kind.
LISTENING = re.compile(r'listening on http://[\d.]+:(\d+)/(?=$|")', re.MULTILINE)


async def output_of(*arguments: str, environ: dict[str, str], seconds: float = 40) -> tuple[int, str, str]:
    """What a command of `python -m vmsvc` ends with in this environment: its status, stdout and stderr."""
    with tempfile.TemporaryDirectory(prefix="vmsvc-command-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = WarmProcess(arguments, environ, err, out)
        try:
            await until(lambda: process.poll() is not None, f"the end of {arguments}", seconds)
        finally:
            process.send_signal(signal.SIGKILL)
        return process.returncode, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")


class Process:
    """One service process; its log goes to a file."""

    def __init__(self, environ: dict[str, str], log: Path, *arguments: str):
        self.log = log
        own = {name: value for name, value in os.environ.items() if not name.startswith(("VMSVC_", "OS_"))}
        log.touch()
        self._popen = WarmProcess(arguments, {**own, **environ}, log)
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
