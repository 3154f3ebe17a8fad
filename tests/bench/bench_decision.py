"""A decision from end to end: `python -m tests.bench.bench_decision [rounds] [hosts] [VMs of each]`. Prints figures in
Markdown; asserts that the choices are equal.

As in the service: rows in a PostgreSQL, changes of servers and hosts, and under the lock of one transaction the world
is brought up to date and a decision made. In each round the victims of the last decision have gone, a few VMs changed
in the database and some servers of others came or went. Kubernetes' way gets the candidates of all hosts
ready to use. The clouds are those of `bench_choice`.
"""

import gc
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from json import dumps
from pathlib import Path
from types import SimpleNamespace

import psycopg2
from psycopg2.extras import execute_values

from tests.bench.bench_choice import CHANGED, cloud, kubernetes
from tests.bench.bench_planner import hard, typical
from tests.servers import server_of
from vmsvc import bootstrap
from vmsvc.cloud.cache.server_cache import Watch
from vmsvc.cloud.port import MARK, Quota, Server
from vmsvc.domain.host import Host
from vmsvc.domain.request import Request
from vmsvc.domain.resources import Inventory, Resources, total
from vmsvc.domain.timing import Timing
from vmsvc.planner import Bin, plan
from vmsvc.scheduling.candidates import Policy, candidates_on
from vmsvc.scheduling.decide import decide
from vmsvc.scheduling.world import World
from vmsvc.service.scheduling.world_cache import WorldCache
from vmsvc.simulator.postgres import Postgres
from vmsvc.store.db import Lock, open_database, unit

NOW = datetime.now(UTC)
QUOTA = Quota({}, Resources())
COLUMNS = (
    "id, cloud_id, name, is_preemptible, state, priority, min_run_seconds, principal, flavor, image, boot,"
    " quota, room, host, host_id, avoid, rounds, created_at, updated_at, launched_at"
)


class Installation:
    """A cloud with the service's rows, and the world that decisions are made upon."""

    def __init__(self, bins: list[Bin], url: str):
        self.need = bins[0].need
        self._url = url
        self._hosts = {place.id: host_of(place) for place in bins}
        self._servers = {one.id.upper(): our_server(one.id, place.id) for place in bins for one in place.candidates}
        self._rng = random.Random(1)
        self.world_cache = WorldCache(Policy(), Timing())
        self._write(bins)
        self.world_cache.add_changes(self._servers, self._hosts)

    def _write(self, bins: list[Bin]) -> None:
        rows = [
            (
                one.id,
                one.id.upper(),
                "any",
                True,
                "active",
                one.priority,
                0,
                "anonymous",
                "any",
                "any",
                "{}",
                dumps({"instances": 1, "cores": one.rate, "ram": one.resources["MEMORY_MB"]}),
                dumps(dict(one.resources)),
                place.id,
                "",
                "[]",
                0,
                NOW,
                NOW,
                NOW - timedelta(seconds=one.lost_work // one.rate),
            )
            for place in bins
            for one in place.candidates
        ]
        with psycopg2.connect(self._url) as connection, connection.cursor() as cursor:
            cursor.execute("TRUNCATE vm")
            execute_values(cursor, f"INSERT INTO vm ({COLUMNS}) VALUES %s", rows, page_size=1000)
        connection.close()

    def decided(self, look: Callable[[World, object], None] = lambda world, decision: None) -> object:
        """A decision for one request as a pass makes it; `look` sees the world that it was made upon."""
        snapshot = SimpleNamespace(quota=QUOTA, watch=Watch(), server_groups={})
        request = Request("wanted", False, Resources({"instances": 1}), self.need)
        with unit() as work:
            work.lock(Lock.SCHEDULER)
            with self.world_cache.at(snapshot, work.now, True) as view:
                decision = decide(request, view.world)
                look(view.world, decision)
        return decision

    def live(self, victims: tuple[str, ...]) -> None:
        """The victims go and others take their room, ten VMs change in the database, and what others hold on some
        hosts."""
        some = self._rng.sample(list(self._servers), 10)
        with psycopg2.connect(self._url) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE vm SET state = 'evicted', ended_at = now() WHERE id = ANY (%s)", (list(victims),))
            cursor.execute("UPDATE vm SET updated_at = now() WHERE cloud_id = ANY (%s)", (some,))
        connection.close()
        gone = {victim.upper() for victim in victims}
        names = {self._servers[server_id].host for server_id in gone} | set(
            self._rng.sample(list(self._hosts), min(CHANGED, len(self._hosts)))
        )
        for name in names:
            host = self._hosts[name]
            held = {consumer: room for consumer, room in host.allocations.items() if consumer not in gone}
            freed = total(host.allocations[server_id] for server_id in gone & host.allocations.keys())
            held["others"] = Resources({**host.allocations["others"] + freed, "PCPU": self._rng.randint(1, 9)})
            self._hosts[name] = Host(name, host.inventories, held, availability_zone="nova")
        for server_id in gone:
            del self._servers[server_id]
        self.world_cache.add_changes(dict.fromkeys(gone), {name: self._hosts[name] for name in names})


def host_of(place: Bin) -> Host:
    """A host with these VMs, and as much free as the bin has."""
    held = {one.id.upper(): one.resources for one in place.candidates}
    size = total(held.values()) + place.free + Resources({"PCPU": 9})
    return Host(
        place.id,
        {name: Inventory(size[name]) for name in (*place.capacity, "PCPU")},
        {**held, "others": Resources({"PCPU": 9})},
        availability_zone="nova",
    )


def our_server(vm_id: str, host: str) -> Server:
    """A server of ours."""
    return server_of(
        vm_id.upper(), host=host, host_id="", created=NOW, launched_at=NOW, updated=NOW, metadata={MARK: vm_id}
    )


def cpu(call: Callable[[], object]) -> tuple[float, float, object]:
    """Milliseconds of CPU and of the clock, and what it gave."""
    start, began = time.process_time(), time.monotonic()
    found = call()
    return (time.process_time() - start) * 1000, (time.monotonic() - began) * 1000, found


def bins_of(world: World, need: Resources) -> list[Bin]:
    """Every host as a place for the need."""
    world.up_to_date_index()
    return [
        Bin(host.name, need, host.free, host.capacity, candidates_on(world, host, False))
        for host in world.hosts.values()
    ]


def measured(make: Callable, hosts: int, candidates: int, rounds: int, url: str) -> None:
    """Some lines of the table."""
    installation = Installation(cloud(make, random.Random(0), hosts, candidates), url)
    first = cpu(installation.decided)
    gc.collect()
    times: dict[str, list[tuple[float, float]]] = {"vmsvc, all of it": [], "Kubernetes, its choice alone": []}

    def compare(world: World, decision: object) -> None:
        bins = bins_of(world, installation.need)
        times["Kubernetes, its choice alone"].append(cpu(lambda: kubernetes(bins))[:2])
        cold = plan([replace(place, need=installation.need) for place in bins], now=world.now)
        assert (cold.bin_id, cold.victims, cold.criterion) == (decision.bin, decision.victims, decision.criterion)

    victims = first[2].victims
    for at in range(rounds):
        installation.live(victims)
        spent, waited, decision = cpu(installation.decided)
        times["vmsvc, all of it"].append((spent, waited))
        victims = decision.victims
        if at < 3:
            installation.decided(compare)
    name = f"{make.__name__} {hosts:,} x {candidates}"
    print(f"| {name} | vmsvc, the first after a start | {first[0]:.0f} | | {first[1]:.0f} |")
    for way, spent in times.items():
        used, waited = zip(*spent)
        print(
            f"| {name} | {way} | {statistics.median(used):.1f} | {min(used):.1f}–{max(used):.1f} | "
            f"{statistics.median(waited):.1f} |",
            flush=True,
        )


def main(rounds: int = 20, hosts: int = 10_000, candidates: int = 20) -> None:
    """Print the table."""
    postgres = Postgres(Path(tempfile.mkdtemp(prefix="vmsvc-bench-")))
    try:
        url = postgres.start()
        bootstrap.migrate(url)
        pool = open_database(url, 4)
        print("| cloud (hosts x VMs) | way | CPU ms per decision, median | least–most | ms by the clock |")
        print("|---|---|---|---|---|")
        for make in (typical, hard):
            measured(make, hosts, candidates, rounds, url)
        pool.close_all()
        print(f"\nmost memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
    finally:
        postgres.stop()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
