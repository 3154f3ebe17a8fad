"""What a pass costs while many requests wait: `python -m tests.bench.bench_queue [rounds] [requests ...]`. Prints
figures in Markdown.

As in the service: rows in a PostgreSQL; under the lock of one transaction the world and the queue are brought up to
date, and the pass decides. The cloud is full: 100 hosts of 20 VMs. `quiet`: nothing has changed since the last pass.
`one goes`: one VM has ended and its capacity is free, so that the first of the queue is placed. The requests are of
100 owners and of three flavors.
"""

import random
import statistics
import sys
import tempfile
import time
from json import dumps
from pathlib import Path

import psycopg2
from psycopg2.extras import execute_values

from tests.bench.bench_choice import cloud
from tests.bench.bench_decision import Installation
from tests.bench.bench_planner import typical
from vmsvc import bootstrap
from vmsvc.cloud.cache.server_cache import Watch
from vmsvc.cloud.port import Quota
from vmsvc.domain.host import Host
from vmsvc.domain.resources import Resources
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.decide_all import Commit, decide_all
from vmsvc.scheduling.decisions import Place
from vmsvc.scheduling.restarts import RestartGuard
from vmsvc.scheduling.verification import Verified
from vmsvc.service.scheduling.apply import apply
from vmsvc.service.scheduling.pending_work import pending_work
from vmsvc.service.scheduling.requests import knowledge_of, rows_of, turns_of, waiting_requests
from vmsvc.service.scheduling.snapshot import Snapshot
from vmsvc.simulator.postgres import Postgres
from vmsvc.store.db import Lock, open_database, unit

_OWNERS, _FLAVORS = 100, 3
_COLUMNS = (
    "id, name, is_preemptible, state, priority, min_run_seconds, principal, principal_id, flavor, image, boot, quota,"
    " room, avoid, rounds, created_at, updated_at, wait_until, queued_at, queued_why, attempt"
)


class Queue:
    """A full cloud, and so many requests that wait."""

    def __init__(self, url: str, count: int):
        self._url = url
        self._cloud = Installation(cloud(typical, random.Random(0), 100, 20), url)
        self._full()
        self._write(count)

    def _full(self) -> None:
        """Others hold all that is free."""
        for name, host in self._cloud._hosts.items():  # pylint: disable=protected-access
            held = {**host.allocations, "others": host.allocations["others"] + host.free}
            full = Host(name, host.inventories, held, availability_zone="nova")
            self._cloud._hosts[name] = full  # pylint: disable=protected-access
        self._cloud.world_cache.add_changes({}, self._cloud._hosts)  # pylint: disable=protected-access

    def _write(self, count: int) -> None:
        boot = {"flavor_id": "f", "image_id": "i", "network_id": "n", "key_name": None, "availability_zone": None}
        rows = [
            (
                f"q{number:05}",
                "any",
                True,
                "pending",
                0,
                0,
                f"owner {number % _OWNERS}",
                f"owner {number % _OWNERS}",
                "any",
                "any",
                dumps({**boot, "flavor_id": f"f{number % _FLAVORS}", "conditions": []}),
                dumps({"instances": 1}),
                dumps({"VCPU": 1, "MEMORY_MB": 1024 * (1 + number % _FLAVORS)}),
                "[]",
                0,
            )
            for number in range(count)
        ]
        moments = ", ".join(["now()"] * 2 + ["now() + interval '1 day'", "now()"])
        with psycopg2.connect(self._url) as connection, connection.cursor() as cursor:
            execute_values(
                cursor,
                f"INSERT INTO vm ({_COLUMNS}) VALUES %s",
                rows,
                f"({', '.join(['%s'] * 15)}, {moments}, 'the cloud is full', 0)",
                page_size=1000,
            )
        connection.close()

    def one_goes(self) -> None:
        """A VM ends, and nobody else takes its capacity."""
        (victim,) = self._cloud._rng.sample(list(self._cloud._servers), 1)  # pylint: disable=protected-access
        server = self._cloud._servers.pop(victim)  # pylint: disable=protected-access
        with psycopg2.connect(self._url) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE vm SET state = 'evicted', ended_at = now() WHERE cloud_id = %s", (victim,))
        connection.close()
        host = self._cloud._hosts[server.host]  # pylint: disable=protected-access
        held = {consumer: room for consumer, room in host.allocations.items() if consumer != victim}
        freed = Host(host.name, host.inventories, held, availability_zone="nova")
        self._cloud._hosts[host.name] = freed  # pylint: disable=protected-access
        self._cloud.world_cache.add_changes({victim: None}, {host.name: freed})

    def decide(self) -> Commit:
        """A pass, without what it asks of the cloud."""
        counted = frozenset(self._cloud._hosts)  # pylint: disable=protected-access
        snapshot = Snapshot(float("inf"), Quota({}, Resources()), Watch(), Verified(counted=counted))
        pending = pending_work()
        with unit(Lock.SCHEDULER) as work, self._cloud.world_cache.at(snapshot, work.now, True) as view:
            turns = turns_of(view, pending.ids, snapshot.began, work.now)
            knowledge = knowledge_of(turns, view, snapshot, work.now, Timing(), 10_000, RestartGuard())
            plan = decide_all(waiting_requests(turns, view, knowledge), view.world, knowledge)
            if isinstance(plan, Commit):
                apply(work, plan, rows_of(plan, turns), None)
        return plan


def measured(queue: Queue, change, rounds: int) -> tuple[float, list[float]]:
    """The CPU milliseconds of the first pass, and of each later one."""
    first, later = 0.0, []
    for number in range(rounds + 1):
        if number:
            change()
        began = time.process_time()
        queue.decide()
        spent = (time.process_time() - began) * 1000
        if number:
            later.append(spent)
        else:
            first = spent
    return first, later


def main(rounds: int, *counts: int) -> None:
    """Print the table."""
    postgres = Postgres(Path(tempfile.mkdtemp(prefix="vmsvc-bench-")))
    try:
        url = postgres.start()
        bootstrap.migrate(url)
        pool = open_database(url, 4)
        print("| requests that wait | what changed | CPU ms per pass, median | least–most | the first pass |")
        print("|---|---|---|---|---|")
        for count in counts or (0, 100, 1000, 10_000):
            queue = Queue(url, count)
            for name, change in (("nothing", lambda: None), ("one VM has ended", queue.one_goes)):
                first, spent = measured(queue, change, rounds)
                print(
                    f"| {count:,} | {name} | {statistics.median(spent):.1f} | {min(spent):.1f}–{max(spent):.1f} | "
                    f"{first:.0f} |",
                    flush=True,
                )
            queue.one_goes()
            placed = [change for change in queue.decide().changes if isinstance(change.decision, Place)]
            assert bool(placed) == (count > 0), placed
        pool.close_all()
    finally:
        postgres.stop()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:] or (20,)))
