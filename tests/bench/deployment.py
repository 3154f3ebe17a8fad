"""A whole deployment for the benchmarks: the service as its users run it, its PostgreSQL and a simulated cloud, each
in processes of its own, and what each of them takes of the machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.bench.cpu import cpu_of, family
from tests.system.simulated import Sim
from tests.system.timing import CLOUD_OF_MODE
from vmsvc import bootstrap, config
from vmsvc.simulator.postgres import Postgres
from vmsvc.simulator.process import start

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60
#: A cloud that takes no longer than it must: what is measured is the service.
QUICK = {"schedule_seconds": 0.05, "boot_seconds": 0.2, "delete_seconds": 0.1}


class Deployment:
    """A context manager: inside, the service is ready. `settings` are the service's own, by field name."""

    def __init__(
        self,
        *,
        mode: str = "operator",
        hosts: int = 20,
        room: int = 500,
        ram_mb: int | None = None,
        cloud: dict | None = None,
        **settings: object,
    ):
        self.folder = Path(tempfile.mkdtemp(prefix="vmsvc-bench-"))
        self._running = start(
            self.folder / "cloud", hosts=hosts, vcpus=room, ram_mb=ram_mb or room * 1024, **{**QUICK, **(cloud or {})}
        )
        self.sim = Sim(self._running)
        self._postgres = Postgres(self.folder / "database")
        self._entry, self._project = CLOUD_OF_MODE[mode]
        self._settings = {
            "port": 0,
            "flavor": "m1.tiny",
            "cloud_rate": 2000,
            "write_rate": 10_000,
            "read_rate": 10_000,
            "data_dir": self.folder,
            **settings,
        }
        self._service: subprocess.Popen | None = None
        self.port = 0

    def __enter__(self) -> "Deployment":
        try:
            url = self._postgres.start()
            bootstrap.migrate(url)
            self.sim.quota(self._project, instances=10**6, cores=10**6, ram=10**9, port=10**6)
            self._begin({**self._settings, "database_url": url})
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin(self, settings: dict[str, object]) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("VMSVC_", "OS_"))}
        environment = {
            **own,
            "OS_CLIENT_CONFIG_FILE": self.sim.clouds,
            "OS_CLOUD": self._entry,
            **{config.variable(name): str(value) for name, value in settings.items()},
        }
        log = self.folder / "log"
        with log.open("wb") as stderr:
            self._service = subprocess.Popen(  # pylint: disable=consider-using-with
                [sys.executable, "-m", "vmsvc"], cwd=ROOT, env=environment, stderr=stderr
            )
        deadline = time.monotonic() + READY_SECONDS
        replicas = int(settings.get("replicas", 1))
        while (text := log.read_text(encoding="utf-8")).count("ready in ") < replicas or not self._answers(text):
            assert time.monotonic() < deadline and self._service.poll() is None, text
            time.sleep(0.1)

    def _answers(self, text: str) -> bool:
        self.port = int(text.partition("http://127.0.0.1:")[2].partition("/")[0] or 0)
        try:
            return self.port > 0 and self.ask("/readyz")["status"] == "ready"
        except (OSError, ValueError):
            return False

    def __exit__(self, *_: object) -> None:
        if self._service is not None:
            self._service.send_signal(signal.SIGTERM)
            self._service.wait(60)
        os.kill(self._running.pid, signal.SIGTERM)
        os.waitpid(self._running.pid, 0)
        self._postgres.stop()
        shutil.rmtree(self.folder)

    def ask(self, path: str) -> dict:
        """The JSON at a path of the service."""
        return json.loads(self.text(path))

    def text(self, path: str) -> str:
        """What is at a path of the service."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return answer.read().decode()

    @property
    def replicas(self) -> list[int]:
        """The processes that serve."""
        below = list(family(self._service.pid))
        return below[1:] or below

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU so far, by who took them."""
        postmaster = int((self._postgres.data / "postmaster.pid").read_text(encoding="ascii").split()[0])
        return {
            "service": cpu_of(self._service.pid),
            "PostgreSQL": cpu_of(postmaster),
            "simulated cloud": cpu_of(self._running.pid),
        }

    def calls(self) -> dict[str, int]:
        """What the cloud was asked since `sim.forget_calls()`."""
        return self.sim.call("GET", "/sim/calls?limit=1")["counts"]
