"""Operator mode on a large cloud: `python -m tests.bench.bench_fleet [hosts] [servers] [own]`. Prints figures; asserts
nothing.

The service runs as its users run it, on the simulated cloud and a PostgreSQL of its own. `servers` are other projects',
spread evenly; `own` are preemptible VMs of ours, on every host as many. The last column of the table is what the cloud
was asked meanwhile.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
from psycopg2.extras import execute_values

from tests.system.simulated import Sim
from vmsvc import bootstrap
from vmsvc.simulator.postgres import Postgres
from vmsvc.simulator.process import start

TICK = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parents[2]
PORT = 18997


class Process:
    """The service, and what it has taken so far."""

    def __init__(self, sim: Sim, url: str, folder: Path):
        environment = {
            **os.environ,
            "OS_CLIENT_CONFIG_FILE": sim.clouds,
            "OS_CLOUD": "sim-admin",
            "VMSVC_DATABASE_URL": url,
            "VMSVC_DATA_DIR": str(folder),
            "VMSVC_PORT": str(PORT),
            "VMSVC_FLAVOR": "m1.tiny",
        }
        with open(folder / "log", "wb") as log:
            self._child = subprocess.Popen(  # pylint: disable=consider-using-with
                [sys.executable, "-m", "vmsvc"], cwd=ROOT, env=environment, stderr=log
            )
        self.pid = self._child.pid

    @property
    def cpu(self) -> float:
        """Seconds of CPU."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    @property
    def megabytes(self) -> int:
        """Resident memory."""
        lines = Path(f"/proc/{self._child.pid}/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024

    def ask(self, path: str, body: object = None) -> object:
        """A request to it; the JSON of the answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{PORT}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def ready(self) -> bool:
        """True once it works."""
        try:
            return self.ask("/readyz")["status"] == "ready"
        except OSError:
            return False

    def stop(self) -> None:
        """An orderly end."""
        self._child.send_signal(signal.SIGTERM)
        self._child.wait(60)


class Bench:
    """One cloud, one service, one line per measurement."""

    def __init__(self, sim: Sim, process: Process):
        self._sim = sim
        self._process = process

    def measure(self, what: str, work: Callable[[], int]) -> None:
        """Print the time and the CPU of `work`, each per one of the so many things that it says it did."""
        self._sim.forget_calls()
        began, cpu = time.monotonic(), self._process.cpu
        times = work()
        seconds, cpu = time.monotonic() - began, self._process.cpu - cpu
        counts = Counter(self._sim.call("GET", "/sim/calls?limit=1")["counts"]).most_common(6)
        asked = ", ".join(f"{count} {name.replace('/v2.1', '')}" for name, count in counts)
        print(
            f"{what:44} {seconds / times * 1000:8.0f} ms  CPU {cpu / times * 1000:7.1f} ms  "
            f"RSS {self._process.megabytes:4} MB  {asked}",
            flush=True,
        )

    def until_ready(self) -> int:
        """Wait for readiness."""
        while not self._process.ready():
            time.sleep(0.05)
        return 1

    def repeat(self, times: int, path: str, body: object = None) -> Callable[[], int]:
        """The same request so many times."""

        def work() -> int:
            for _ in range(times):
                self._process.ask(path, body)
            return times

        return work

    def idle(self, seconds: float) -> Callable[[], int]:
        """Nothing happens; the figures are per second."""

        def work() -> int:
            time.sleep(seconds)
            return int(seconds)

        return work

    def changes(self, seconds: float, hosts: int) -> Callable[[], int]:
        """Ten servers of others come or go in each second; the figures are per second."""

        def work() -> int:
            stop = threading.Event()

            def change() -> None:
                made, number = [], 0
                while not stop.wait(0.1):
                    number += 1
                    if number % 2:
                        made += self._sim.foreign("demo", host=f"sim-{number * 7 % hosts + 1}")
                    elif made:
                        self._sim.vanish(made.pop(0))

            thread = threading.Thread(target=change)
            thread.start()
            time.sleep(seconds)
            stop.set()
            thread.join()
            return int(seconds)

        return work


def fill(sim: Sim, hosts: int, servers: int) -> None:
    """Other projects' servers, evenly spread."""
    for number in range(1, hosts + 1):
        sim.foreign("demo", host=f"sim-{number}", count=servers // hosts)


def own(sim: Sim, url: str, hosts: int, count: int) -> None:
    """Preemptible VMs that the service made in an earlier life."""
    rows = []
    for number in range(count):
        vm_id, host = str(uuid.uuid4()), f"sim-{number % hosts + 1}"
        (server_id,) = sim.foreign("admin", host=host, metadata={"vmsvc_id": vm_id})
        rows.append(
            (
                vm_id,
                server_id,
                "preemptible",
                True,
                "active",
                number % 3,
                0,
                "anonymous",
                "m1.tiny",
                "bed-image",
                "bed-net",
                "{}",
                '{"instances": 1, "cores": 1, "ram": 1024}',
                '{"VCPU": 1, "MEMORY_MB": 1024, "DISK_GB": 1}',
                host,
                "",
                "[]",
                0,
            )
        )
    columns = (
        "id, cloud_id, name, is_preemptible, state, priority, min_run_seconds, principal, flavor, image,"
        " network, boot, quota, room, host, host_id, avoid, rounds, created_at, updated_at, launched_at"
    )
    template = "(" + ", ".join(["%s"] * 18) + ", now(), now(), now())"
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        execute_values(cursor, f"INSERT INTO vm ({columns}) VALUES %s", rows, template)
    connection.close()


@contextlib.contextmanager
def installation(hosts: int, room: int) -> Iterator[tuple[Sim, str, Path]]:
    """A cloud whose hosts have room for so many VMs each, a migrated database's address, and a folder."""
    with tempfile.TemporaryDirectory(prefix="vmsvc-bench-") as name:
        folder = Path(name)
        running = start(folder / "cloud", hosts=hosts, vcpus=room, ram_mb=room * 1024, timeout=120)
        sim, postgres = Sim(running), Postgres(folder / "database")
        try:
            url = postgres.start()
            bootstrap.migrate(url)
            sim.quota("admin", instances=10**6, cores=10**6, ram=10**9, port=10**6)
            yield sim, url, folder
        finally:
            os.kill(running.pid, signal.SIGTERM)
            os.waitpid(running.pid, 0)
            postgres.stop()


@contextlib.contextmanager
def service(sim: Sim, url: str, folder: Path) -> Iterator[Process]:
    """A process that is stopped in the end."""
    process = Process(sim, url, folder)
    try:
        yield process
    finally:
        process.stop()


def main(hosts: int = 1000, servers: int = 40_000, count: int = 2_000) -> None:
    """All of it."""
    with installation(hosts, (servers + count) // hosts + 1) as (sim, url, folder):
        fill(sim, hosts, servers)
        own(sim, url, hosts, count)
        print(f"{hosts} hosts, {servers} servers of others, {count} preemptible VMs of ours", flush=True)
        with service(sim, url, folder) as process:
            bench = Bench(sim, process)
            bench.measure("from start to ready", bench.until_ready)
            bench.measure("idle, per second", bench.idle(30))
            bench.measure("10 changes a second by others, per second", bench.changes(30, hosts))
            bench.measure(
                "a pass that finds room", bench.repeat(20, "/api/v1/vm?dry_run=true", {"is_preemptible": True})
            )
            bench.measure(
                "a pass that chooses victims",
                bench.repeat(20, "/api/v1/vm?dry_run=true", {"is_preemptible": False, "flavor": "m1.small"}),
            )
            bench.measure("GET /capacity", bench.repeat(5, "/api/v1/capacity"))
            bench.measure("a VM made and active", bench.repeat(10, "/api/v1/vm", {"is_preemptible": True}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
