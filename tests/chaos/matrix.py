"""The crash matrix: for each point of each scenario one run in which the service is killed there.

One clean run of a scenario records its points. Then each is tried alone or beside a second replica, with a restart at
once or after the dead one's leases have ended. At rest the invariants must hold, as after every test.
"""

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.chaos.fleet import Launcher, Replica
from tests.chaos.scenarios import SCENARIOS, Clients
from tests.conftest import Database
from tests.system import invariants
from tests.system.simulated import Sim
from tests.system.timing import CLOUD_OF_MODE, QUICK, TIMING
from vmsvc import config
from vmsvc.simulator.process import start

LEASE = 1.0  # seconds
QUICKLY = replace(TIMING, lease=LEASE)
#: Who else is there, and when the dead one comes back (None: never; the other one goes on).
VARIANTS = {
    "alone, at once": (1, 0.0),
    "alone, after the lease": (1, LEASE),
    "second replica": (2, None),
    "second replica, at once": (2, 0.0),
}
#: Reads are repeated for as long as something is awaited: only the first ones are points of their own.
READS = 2
_WRITES = ("create_server", "stop", "delete", "set_metadata", "unset_metadata", "create_port", "delete_port")


@dataclass(frozen=True)
class Case:
    """One run: where the service dies (None: nowhere), and who goes on."""

    scenario: str
    mode: str
    deadly: str | None
    variant: str

    def __str__(self) -> str:
        return f"{self.scenario}, {self.mode}, {self.deadly}, {self.variant}"


@dataclass
class Tally:
    """What happened in all runs of a kind."""

    runs: int = 0
    deaths: int = 0
    requests: int = 0
    servers: int = 0
    recovery: float = 0.0  # the longest time from a death to the end of its run, all checks included
    failures: list[str] = field(default_factory=list)


class CaseRunner:
    """One run at a time: a database and a simulated cloud of its own."""

    def __init__(self, folder: Path, postgres: Database, launcher: Launcher, number: int):
        self._folder = folder / f"lane{number}"
        self._folder.mkdir()
        self._postgres = postgres
        self._launcher = launcher
        self._running = start(self._folder / "cloud", hosts=1, **QUICK)
        self._name = f"lane_{os.getpid()}_{number}"
        self._died_at = 0.0
        self.sim = Sim(self._running)

    def close(self) -> None:
        """Stop the cloud."""
        os.kill(self._running.pid, signal.SIGTERM)
        os.waitpid(self._running.pid, 0)

    async def run(self, case: Case, tally: Tally) -> list[str]:
        """One run; returns the points that it came to. What went wrong is added to the tally."""
        folder = self._folder / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "token").touch()
        database = await self._fresh_database()
        replicas: list[Replica] = []
        self._died_at = 0.0
        try:
            made = await self._play(case, folder, database, replicas)  # other lanes count meanwhile
            tally.servers += made
        except Exception as error:  # pylint: disable=broad-exception-caught; each run is judged by itself
            log = "\n".join(
                line for replica in replicas for line in replica.text().splitlines() if "access: GET" not in line
            )
            tally.failures.append(f"{case}: {type(error).__name__}: {error}\n{traceback.format_exc()}\n{log}")
        finally:
            for replica in replicas:
                await replica.clean_up()
        tally.runs += 1
        tally.deaths += not (folder / "token").exists()
        if self._died_at:
            tally.recovery = max(tally.recovery, time.monotonic() - self._died_at)
        tally.requests += database.rows("SELECT count(*) AS number FROM vm")[0]["number"]
        trace = folder / "trace"
        return trace.read_text(encoding="utf-8").splitlines() if trace.exists() else []

    async def _fresh_database(self) -> Database:
        self._postgres.command(f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)")
        self._postgres.command(f"CREATE DATABASE {self._name} TEMPLATE template")
        self.sim.reset()
        return Database(self._postgres.url.replace("/postgres?", f"/{self._name}?"))

    async def _play(self, case: Case, folder: Path, database: Database, replicas: list[Replica]) -> int:
        def add() -> None:
            replicas.append(
                self._launcher.start(
                    self._environ(case, database), folder / f"log{len(replicas)}", QUICKLY, folder, case.deadly
                )
            )

        number, again_after = VARIANTS[case.variant]
        for _ in range(number):
            add()
        undertaker = asyncio.create_task(self._replace(add, again_after, folder))
        try:
            await asyncio.gather(*(replica.ready() for replica in list(replicas)))
            made = await SCENARIOS[case.scenario](Clients(replicas), self.sim)
            self.sim.clear_faults()
            await invariants.all_settled(database, self.sim, 20, 0.08)
            invariants.check(database, self.sim)
            _nothing_went_wrong(replicas)
            assert len(database.rows("SELECT id FROM vm")) == made, "one row for each key"
            return made
        finally:
            undertaker.cancel()

    async def _replace(self, add: Callable[[], None], after: float | None, folder: Path) -> None:
        """Start the dead one again, once."""
        while (folder / "token").exists():
            await asyncio.sleep(0.02)
        self._died_at = time.monotonic()
        if after is not None:
            await asyncio.sleep(after)
            add()

    def _environ(self, case: Case, database: Database) -> dict[str, str]:
        settings = {
            "port": 0,
            "database_url": database.url,
            "grace_seconds": 0.3,
            "flavor": "m1.tiny",
            "cloud_rate": 1000,
            "cloud_timeout": 10,
        }
        return {
            "OS_CLOUD": CLOUD_OF_MODE[case.mode][0],
            "OS_CLIENT_CONFIG_FILE": self.sim.clouds,
            **{config.variable(name): str(value) for name, value in settings.items()},
        }


def _nothing_went_wrong(replicas: list[Replica]) -> None:
    """No defect of ours in any log."""
    for replica in replicas:
        assert not re.search(r"Traceback|\bERROR\b", replica.text()), "a defect in the log"


def points_of(trace: list[str]) -> list[str]:
    """The points to die at, of those that a clean run came to: all commits and writes, and once somebody has asked
    for something the first of each kind of read. Nothing but time is lost before that."""
    begun, points = False, []
    for point in trace:
        step, _, number = point.rpartition(" #")
        _, kind, name = step.split(" ")
        if kind == "commit" and name != "_renew" or name in _WRITES or begun and int(number) <= READS:
            points.append(point)
        begun |= name == "_accept"
    return points


class Matrix:
    """Runs cases, as many side by side as there are runners."""

    def __init__(self, folder: Path, postgres: Database, runners: int):
        self._launcher = Launcher()
        self._runners = [CaseRunner(folder, postgres, self._launcher, number) for number in range(runners)]

    def close(self) -> None:
        """Leave nothing running."""
        for runner in self._runners:
            runner.close()
        self._launcher.close()

    async def run(self, cases: list[Case], tally: Tally) -> dict[Case, list[str]]:
        """All of them; returns the points that each came to."""
        waiting, traces = list(reversed(cases)), {}

        async def work(runner: CaseRunner) -> None:
            while waiting:
                case = waiting.pop()
                traces[case] = await runner.run(case, tally)

        await asyncio.gather(*(work(runner) for runner in self._runners))
        return traces

    async def record(self, scenarios: list[tuple[str, str]], tally: Tally, seed: int = 0) -> list[Case]:
        """A clean run of each (scenario, mode); returns the cases to try: each point of `life` in all variants, the
        others' in one each, another one for each seed."""
        clean = [Case(scenario, mode, None, "alone, at once") for scenario, mode in scenarios]
        traces = await self.run(clean, tally)
        assert not tally.failures, tally.failures[0]
        names = list(VARIANTS)
        return [
            Case(case.scenario, case.mode, point, variant)
            for case, trace in traces.items()
            for number, point in enumerate(points_of(trace))
            for variant in (names if case.scenario == "life" else [names[(number + seed) % len(names)]])
        ]


def sample(cases: list[Case], number: int, seed: int) -> list[Case]:
    """So many of them, spread evenly, other ones for each seed."""
    random.Random(seed).shuffle(cases)
    return cases[:number]


#: Where the mode makes a difference both are tried.
ALL = [
    ("life", "operator"),
    ("life", "tenant"),
    ("failure", "operator"),
    ("failure", "tenant"),
    ("practice", "operator"),
    ("change of mind", "tenant"),
    ("queue", "operator"),
    ("queue", "tenant"),
    ("lineage", "operator"),
    ("lineage", "tenant"),
]


@contextlib.contextmanager
def matrix(folder: Path, postgres: Database, runners: int):
    """A matrix that is closed in the end."""
    made = Matrix(folder, postgres, runners)
    try:
        yield made
    finally:
        made.close()
