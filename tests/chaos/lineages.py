"""Lineages by the hundred: `python -m tests.chaos.lineages`; LINEAGES (100), DELETES (1000), LATER (60), CHAOS_SEED.

Two replicas on a simulated cloud. Restartable VMs are all evicted by as many standard ones, and come back once each,
with their user data, when those are deleted. Then lineages are deleted at random moments of an eviction and a restart,
while replicas are killed: LATER seconds after the last DELETE no server is left, and none has come.
"""

import asyncio
import base64
import random
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.chaos.scenarios import Clients
from tests.chaos.system_under_test import SystemUnderTest
from tests.conftest import server_with
from tests.report import setting
from tests.system import invariants
from tests.system.client import until
from tests.system.timing import QUICK, TIMING

PATIENCE = 600.0
ABREAST = 10  # calls of clients at a time
BATCH = 50  # lineages that are deleted in one batch
LONGEST = 6.0  # seconds after its notice began in which a lineage is deleted
#: Restarts of one owner are not counted here: all that were evicted come back at once.
MANY = replace(TIMING, restarts_a_minute=100_000, lease=2.0)


class Lineages:
    """Two runs over one system, which has room for so many VMs of one vCPU."""

    def __init__(self, system: SystemUnderTest, seed: int):
        self._system, self._chance = system, random.Random(seed)
        self._clients, self._turn = Clients(system.replicas, PATIENCE), asyncio.Semaphore(ABREAST)
        self.kills = 0

    def _limit(self, count: int) -> None:
        """There is room for so many VMs."""
        self._system.sim.quota("admin", cores=count, instances=count, ram=count * 1024)

    async def _restartable(self, key: str) -> dict:
        """The first VM of a lineage; its user data tell it from all others."""
        async with self._turn:
            data = base64.b64encode(key.encode()).decode()
            made = await self._clients.create(
                key, True, "m1.tiny", name=key, on_eviction="restart", max_restarts=1000, user_data=data
            )
        assert made.status == 201, made.json
        return made.json["vm"]

    async def _standard(self, key: str) -> str:
        async with self._turn:
            made = await self._clients.create(key, False, "m1.tiny")
        assert made.status == 201, made.json
        return made.id

    async def _delete(self, ref: str) -> None:
        async with self._turn:
            await self._clients.delete(ref)

    async def come_back(self, count: int) -> str:
        """All are evicted at once, and all come back; what was seen."""
        sim, database, began = self._system.sim, self._system.database, time.monotonic()
        self._limit(count)
        first = await asyncio.gather(*(self._restartable(f"batch-{number}") for number in range(count)))
        standard = await asyncio.gather(*(self._standard(f"standard-{number}") for number in range(count)))
        assert sim.servers().keys() == set(standard), "all others were evicted"
        full = time.monotonic()
        await asyncio.gather(*(self._delete(server_id) for server_id in standard))
        active = "SELECT id FROM vm WHERE state = 'active'"
        await until(lambda: len(database.rows(active)) == count, "all of them", PATIENCE, 0.5)
        back = time.monotonic()
        rows = database.rows("SELECT name, cloud_id, lineage_id, attempt FROM vm WHERE lineage_id IS NOT NULL")
        assert len(rows) == 2 * count and sorted(row["attempt"] for row in rows) == [0] * count + [1] * count
        successors = {row["lineage_id"]: row for row in rows if row["attempt"]}
        assert successors.keys() == {vm["vmsvc_id"] for vm in first}
        assert sim.servers().keys() == {row["cloud_id"] for row in successors.values()}
        for row in successors.values():
            assert sim.made_with(row["cloud_id"])["user_data"] == base64.b64encode(row["name"].encode()).decode()
        await asyncio.gather(*(self._delete(vm["origin"]) for vm in first))
        return (
            f"{count} VMs were evicted by {count} standard ones within {full - began:.0f} s; {len(successors)} "
            f"successors ran {back - full:.0f} s after the first DELETE, each once, each with its own user data"
        )

    async def delete_at_random(self, count: int) -> str:
        """So many lineages are deleted, each at a random moment; what was seen."""
        sim, database, began = self._system.sim, self._system.database, time.monotonic()
        self._limit(BATCH)
        for batch in range(0, count, BATCH):
            keys = [f"deleted-{number}" for number in range(batch, min(count, batch + BATCH))]
            lines = await asyncio.gather(*map(self._restartable, keys))
            ends = [self._end(vm, self._chance.uniform(0, LONGEST), self._chance.random() < 0.5) for vm in lines]
            kill = asyncio.create_task(self._kill(self._chance.uniform(1, LONGEST)))
            await asyncio.gather(*ends)
            await until(lambda: not sim.servers(), "an empty cloud", 60, 0.2)
            await kill
        made = len(sim.calls(method="POST", path="/servers$"))
        later = setting("LATER", 60)
        await asyncio.sleep(later)
        assert not sim.servers() and made == len(sim.calls(method="POST", path="/servers$")), "one came after its end"
        states = database.rows("SELECT state, count(*) FROM vm WHERE name LIKE 'deleted-%%' GROUP BY 1 ORDER BY 1")
        assert not database.rows("SELECT id FROM lineage WHERE ended_at IS NULL OR end_reason <> 'deleted'")
        restarted = database.rows("SELECT count(*) FROM vm WHERE name LIKE 'deleted-%%' AND attempt > 0")[0]["count"]
        return (
            f"{count} lineages were deleted at random moments, {restarted} of them during or after their restart, in "
            f"{time.monotonic() - began:.0f} s, with {self.kills} kills: no server is left {later:.0f} s later; "
            "VMs: " + ", ".join(f"{row['count']} {row['state']}" for row in states)
        )

    async def _end(self, vm: dict, seconds: float, by_server: bool) -> None:
        """Evict it, and delete it so long after its notice began."""
        async with self._turn:
            await self._clients.ask("POST", f"/vm/{vm['id']}/evict", {}, {"Prefer": "none"})
        await asyncio.sleep(seconds)
        await self._clients.delete(vm["id"] if by_server else vm["origin"])

    async def _kill(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._system.replace(self._system.replicas[0])
        self.kills += 1


async def run(folder: Path, postgres, lineages: int, deletes: int, seed: int) -> None:
    """Both runs; AssertionError where something is not as promised."""
    hosts = (max(lineages, BATCH) + 3) // 4
    settings = {"grace_seconds": 0.5, "cloud_timeout": 10}
    system = SystemUnderTest(
        folder, postgres, "lineages", replicas=2, timing=MANY, settings=settings, cloud=QUICK, hosts=hosts
    )
    try:
        await system.open()
        runs = Lineages(system, seed)
        print(await runs.come_back(lineages), flush=True)
        print(await runs.delete_at_random(deletes), flush=True)
        await invariants.all_settled(system.database, system.sim, 60, 0.2)
        invariants.check(system.database, system.sim)
        assert not system.defects(), system.defects()[:3]
    finally:
        await system.close()


def main() -> int:
    """Run the tries with the numbers of the environment. Returns 0; raises AssertionError for what it finds."""
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-lineages-"))
    try:
        with server_with("template") as postgres:
            counts = int(setting("LINEAGES", 100)), int(setting("DELETES", 1000))
            asyncio.run(run(folder, postgres, *counts, int(setting("CHAOS_SEED", 1))))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
