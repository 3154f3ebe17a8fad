"""A storm: clients ask and delete without a pause while calls to the cloud fail in every way there is, replicas are
killed, and sessions of the database are cut, until so many faults have happened. Then it is calm, and everything must
be accounted for."""

import asyncio
import itertools
import random
import time
from dataclasses import replace
from pathlib import Path

from tests.chaos.matrix import QUICKLY
from tests.chaos.scenarios import Clients
from tests.chaos.system_under_test import Result, SystemUnderTest, Watcher, check_end_state
from tests.conftest import Database
from tests.system.timing import QUICK

CLIENTS = 20
KILL_SECONDS = 12.0
CUT_SECONDS = 5.0
FAULT_SECONDS = 2.0
FLAVORS = ("m1.tiny", "m1.tiny", "m1.small", "m1.medium", "m1.large")
#: Shares of all calls to the cloud, each kind by its own dice.
WIRE = (
    {"action": "status", "status": 500, "probability": 0.02},
    {"action": "status", "status": 502, "probability": 0.02},
    {"action": "status", "status": 503, "probability": 0.02},
    {"action": "status", "status": 429, "probability": 0.002, "headers": {"Retry-After": "1"}, "service": "compute"},
    {"action": "cut", "probability": 0.02},
    {"action": "cut_after", "probability": 0.02},
    {"action": "cut_body", "probability": 0.02},
    {"action": "half_json", "probability": 0.02},
    {"action": "html", "probability": 0.02},
    {"action": "status_after", "status": 502, "probability": 0.02},
    {"action": "delay", "seconds": 0.4, "probability": 0.02},
    {"action": "hang", "probability": 0.002},
    {"action": "hang_after", "probability": 0.002},
    {"action": "revoke", "probability": 0.005},
)
TROUBLES = ("spawn_fails", "no_valid_host", "delete_fails", "metadata_refused")


class Storm:
    """Clients, faults and kills over one system, all at once; counts what came of it."""

    def __init__(self, system: SystemUnderTest, seed: int):
        self._system = system
        self._chance = random.Random(seed)
        self._clients = Clients(system.replicas, patience=120.0)
        self._keys = itertools.count(1)
        self._over = False
        self._killed_at: float | None = None
        self.result = Result()

    async def run(self, faults: int) -> Result:
        """Until there were so many faults; then check what is left."""
        began = time.monotonic()
        watchers = [Watcher(self._system.replicas, number) for number in range(3)]
        watching = [asyncio.create_task(watcher.run()) for watcher in watchers]
        for fault in WIRE:
            self._system.sim.fault(seed=self._chance.randrange(10**6), **fault)
        clients = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]
        disturbances = [
            asyncio.create_task(disturbance) for disturbance in (self._kill(), self._cut(), self._inject_faults())
        ]
        while self._fault_count() < faults and not any(task.done() for task in (*clients, *disturbances)):
            await asyncio.sleep(0.5)
        self.result.faults = self._fault_count()
        self._over = True
        self._system.sim.clear_faults()
        await asyncio.gather(*disturbances)
        await asyncio.gather(*clients)
        self.result.seconds = time.monotonic() - began
        await check_end_state(self._system, watchers, self.result)
        for task in watching:
            task.cancel()
        return self.result

    def _fault_count(self) -> int:
        return self._system.injected_faults() + self.result.kills + self.result.faults

    async def _client(self) -> None:
        """Ask for a VM, and mostly delete it again."""
        mine: list[str] = []
        while not self._over:
            answer = await self._clients.create(
                f"key-{next(self._keys)}",
                self._chance.random() < 0.6,
                self._chance.choice(FLAVORS),
                priority=self._chance.randrange(3),
            )
            self.result.requests += 1
            assert answer.status in (201, 403, 409, 502), answer.json
            if answer.status == 201:
                self._record_recovery()
                mine.append(answer.id)
            while len(mine) > 1:
                gone = await self._clients.ask("DELETE", f"/vm/{mine.pop(0)}")
                self.result.requests += 1
                assert gone.status in (200, 404), gone.json

    def _record_recovery(self) -> None:
        if self._killed_at is not None:
            self.result.recovery = max(self.result.recovery, time.monotonic() - self._killed_at)
            self._killed_at = None

    async def _kill(self) -> None:
        """kill -9 a replica; now and then all of them."""
        while not self._over:
            await asyncio.sleep(KILL_SECONDS * self._chance.uniform(0.5, 1.5))
            number = len(self._system.replicas) if self._chance.random() < 0.2 else 1
            for replica in self._system.replicas[:number]:
                await self._system.replace(replica)
                self.result.kills += 1
            self._killed_at = self._killed_at or time.monotonic()

    async def _cut(self) -> None:
        """Cut the sessions of the database, the one that listens too."""
        while not self._over:
            await asyncio.sleep(CUT_SECONDS * self._chance.uniform(0.5, 1.5))
            self.result.kills += self._system.cut_sessions() > 0

    async def _inject_faults(self) -> None:
        """Things that fail inside the cloud, and others who use it."""
        while not self._over:
            await asyncio.sleep(FAULT_SECONDS)
            self._system.sim.fault(kind=self._chance.choice(TROUBLES), count=1)


async def storm(folder: Path, postgres: Database, faults: int, seed: int) -> Result:
    """A storm of so many faults over two replicas."""
    system = SystemUnderTest(
        folder,
        postgres,
        "storm",
        replicas=2,
        cloud=QUICK,
        timing=replace(QUICKLY, cooldown=1.0),
        settings={"grace_seconds": 0.5, "cloud_timeout": 1.5},
    )
    try:
        await system.open()
        return await Storm(system, seed).run(faults)
    finally:
        await system.close()
