"""A whole installation for a storm or a soak: a database, a simulated cloud, replicas that die and come back, and
watchers of the events."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.chaos.fleet import Launcher, Replica
from tests.conftest import Database
from tests.system import invariants
from tests.system.simulated import Sim
from vmsvc import config
from vmsvc.domain.timing import Timing
from vmsvc.simulator.process import start

HOSTS = 8


class SystemUnderTest:
    """`await open()` first, `await close()` in the end."""

    def __init__(
        self,
        folder: Path,
        postgres: Database,
        name: str,
        *,
        replicas: int,
        timing: Timing = Timing(),
        constants: Mapping[str, object] = MappingProxyType({}),
        settings: Mapping[str, object],
        cloud: Mapping[str, float],
        hosts: int = HOSTS,
        credentials: str = "sim-admin",
    ):
        self._folder = folder / name
        self._folder.mkdir()
        self._postgres = postgres
        self.database_name = f"{name}_{os.getpid()}"
        postgres.command(f"CREATE DATABASE {self.database_name} TEMPLATE template")
        self.database = Database(postgres.url.replace("/postgres?", f"/{self.database_name}?"))
        self._running = start(self._folder / "cloud", hosts=hosts, **cloud)
        self.sim = Sim(self._running)
        self._launcher = Launcher()
        self._timing = timing
        self._constants = constants
        self._settings = settings
        self._number = replicas
        self._credentials = credentials
        self.replicas: list[Replica] = []
        self.started = 0

    async def open(self) -> None:
        """Start the replicas and wait until they serve."""
        for _ in range(self._number):
            self.add()
        await asyncio.gather(*(replica.ready() for replica in self.replicas))

    def add(self) -> Replica:
        """One more replica."""
        settings = {
            "port": 0,
            "database_url": self.database.url,
            "flavor": "m1.tiny",
            "cloud_rate": 1000,
            "read_rate": 10_000,
            **self._settings,
        }
        environ = {
            "OS_CLOUD": self._credentials,
            "OS_CLIENT_CONFIG_FILE": self.sim.clouds,
            **{config.variable(name): str(value) for name, value in settings.items()},
        }
        self.started += 1
        self.replicas.append(
            self._launcher.start(
                environ, self._folder / f"log{self.started}", self._timing, constants=dict(self._constants)
            )
        )
        return self.replicas[-1]

    async def replace(self, replica: Replica) -> None:
        """Start a new replica in the place of this one, which gets SIGKILL unless it has ended."""
        replica.kill()
        self.replicas.remove(replica)
        self.add()
        await replica.clean_up()

    def cut_sessions(self) -> int:
        """End all sessions of the database; how many there were."""
        return len(
            self._postgres.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", self.database_name
            )
        )

    def injected_faults(self) -> int:
        """Faults that the cloud has inflicted so far."""
        faults = self.sim.call("GET", "/sim/faults")
        return sum(one["hits"] for kind in faults.values() for one in kind)

    def defects(self) -> list[str]:
        """Lines of the logs that no fault outside explains."""
        return [
            line
            for log in sorted(self._folder.glob("log*"))
            for line in log.read_text("utf-8").splitlines()
            if " ERROR " in line or line.startswith("  Traceback")
        ]

    async def close(self) -> None:
        """Leave nothing running."""
        for replica in self.replicas:
            await replica.clean_up()
        self._launcher.close()
        os.kill(self._running.pid, signal.SIGTERM)
        os.waitpid(self._running.pid, 0)
        self._postgres.command(f"DROP DATABASE {self.database_name} WITH (FORCE)")


class Watcher:
    """A client of the events: it goes on from the last seq it saw, wherever somebody listens. `seq` has no gaps, so
    what is lost or doubled shows."""

    def __init__(self, replicas: list[Replica], offset: int):
        self._replicas = replicas
        self._offset = offset
        self.seq = 0
        self.lost = 0
        self.doubled = 0
        self.reconnects = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            channel = await self._connect()
            if channel is None:
                await asyncio.sleep(0.1)
                continue
            try:
                while (text := await channel.read_message()) is not None:
                    self._record(json.loads(text)["data"]["seq"])
            finally:
                channel.close()
            self.reconnects += 1

    def _record(self, seq: int) -> None:
        self.doubled += seq <= self.seq
        self.lost += max(0, seq - self.seq - 1)
        self.seq = max(seq, self.seq)

    async def _connect(self) -> WebSocketClientConnection | None:
        living = [replica for replica in self._replicas if replica.client]
        if not living:
            return None
        port = living[self._offset % len(living)].client.port
        with contextlib.suppress(Exception):  # it has just died, or stops
            return await websocket_connect(f"ws://127.0.0.1:{port}/api/v1/events?since={self.seq}", connect_timeout=5)
        return None

    async def caught_up(self, database: Database, seconds: float = 20) -> None:
        """Wait for the last event."""
        newest = database.rows("SELECT coalesce(max(seq), 0) AS seq FROM event")[0]["seq"]
        deadline = time.monotonic() + seconds
        while self.seq < newest and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self.lost += newest - self.seq


@dataclass
class Result:
    """What a storm, or a soak, came to."""

    faults: int = 0
    kills: int = 0
    requests: int = 0
    servers: int = 0
    left_over: int = 0
    lost: int = 0
    doubled: int = 0
    recovery: float = 0.0
    seconds: float = 0.0
    memory: str = ""
    rest: str = ""
    health: str = ""
    problems: str = ""


async def check_end_state(system: SystemUnderTest, watchers: list[Watcher], result: Result) -> None:
    """After it is calm: what is left over, lost, doubled, or not as it must always be."""
    try:
        await invariants.all_settled(system.database, system.sim, 120, 0.3)
        # Beside the loop: the history of half an hour takes minutes to read, and the sockets still want their pongs.
        await asyncio.to_thread(invariants.check, system.database, system.sim)
    except AssertionError as error:
        result.problems += f"{error!r} "
    result.left_over = len(invariants.left_over(system.database, system.sim))
    result.servers = system.database.rows(
        "SELECT count(*) AS number FROM event WHERE type = 'create' AND state = 'active'"
    )[0]["number"]
    for watcher in watchers:
        await watcher.caught_up(system.database)
    result.lost = sum(watcher.lost for watcher in watchers)
    result.doubled = sum(watcher.doubled for watcher in watchers)
    result.problems += "; ".join(system.defects()[:3])
