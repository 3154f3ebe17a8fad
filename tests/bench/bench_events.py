"""From the commit to the socket, and what the order of events costs: `python -m tests.bench.bench_events [ROUNDS]`.

Everything is real: an embedded PostgreSQL that waits for its disk, a writer in a process of its own that commits
through `unit()`, the feed, the hub and the channel of a service, WebSockets.

- latency: from the moment when a transaction has made its changes and begins to end (the outbox lock, the events, the
  doorbell, the commit) to the moment when a socket has the event. Beside it, as the limit, NOTIFY alone: from before
  the statement to the moment when a connection that listens has it.
- transactions per second: eight threads in two processes, each transaction one event. Beside it the same without the
  outbox lock, in turns. Both are bounded by the disk: a commit waits for it, and under the lock commits do not share
  a wait. So both are done twice, with PostgreSQL's fsync and without, which shows what the lock itself costs.
"""

import asyncio
import json
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from tests.bench.bench_fanout import percentile, spread
from tests.bench.fanout_peers import stalled
from tests.conftest import Database
from tests.integration.live import Replica
from tests.integration.writer import emit
from vmsvc import bootstrap
from vmsvc.simulator.postgres import Postgres
from vmsvc.store import db

RATE = 50
SOCKETS = 100
SECONDS = 8
THREADS = 4
PROCESSES = 2
TURN_SECONDS = 2.0
LAST = "last"


@contextmanager
def process(role: str, *arguments: object) -> Iterator[subprocess.Popen]:
    """Another part of this benchmark, as a process."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bench_events", role, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as popen:
        try:
            yield popen
        finally:
            popen.kill()


# ---------------------------------------------------------------- the parts that run as processes


async def serve(url: str) -> None:
    """What of a service brings events to sockets."""
    db.open_database(url, 6)
    replica = Replica(url, 1024)
    await replica.start()
    print(replica.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


def write_steadily(url: str) -> None:
    """Events at an even pace, each named after the time of its making."""
    db.open_database(url, 1)
    begun = time.monotonic()
    for number in range(RATE * SECONDS):
        time.sleep(max(0.0, begun + number / RATE - time.monotonic()))
        with db.unit() as work:
            emit(work, f"{time.monotonic():.6f}", "create", False)
    with db.unit() as work:
        emit(work, LAST, "create", False)


class Unordered(db.Unit):
    """A unit without the lock that orders events."""

    ORDER = "SELECT 1"


def write_fast(url: str, kind: str) -> None:
    """As many transactions as there can be; prints how many a second."""
    db.open_database(url, THREADS)
    db.Unit = {"ordered": db.Unit, "unordered": Unordered}[kind]

    def write(_: int) -> int:
        done, end = 0, time.monotonic() + TURN_SECONDS
        while time.monotonic() < end:
            with db.unit() as work:
                emit(work, "vm", "create", False)
            done += 1
        return done

    with ThreadPoolExecutor(THREADS) as threads:
        print("ready", flush=True)
        sys.stdin.readline()
        print(sum(threads.map(write, range(THREADS))) / TURN_SECONDS, flush=True)


# ---------------------------------------------------------------- latency


def frames(data: bytearray) -> Iterator[bytes]:
    """The texts of the whole frames in a buffer, which they leave."""
    while len(data) >= 4:
        start, length = (4, int.from_bytes(data[2:4], "big")) if data[1] == 126 else (2, data[1])
        if len(data) < start + length:
            return
        yield bytes(data[start : start + length])
        del data[: start + length]


def listen(sockets: list[socket.socket]) -> list[float]:
    """Read all sockets to the last event; the seconds that each event took to each of them."""
    selector, seconds, ended = selectors.EpollSelector(), [], 0
    for one in sockets:
        one.setblocking(False)
        selector.register(one, selectors.EVENT_READ, bytearray())
    while ended < len(sockets):
        for key, _ in selector.select():
            key.data.extend(key.fileobj.recv(65536))
            now = time.monotonic()
            for text in frames(key.data):
                made = json.loads(text)["subject"]
                if made == LAST:
                    ended += 1
                else:
                    seconds.append(now - float(made))
    assert len(seconds) == RATE * SECONDS * SOCKETS, "each event once at each socket"
    return seconds


def latency(url: str) -> list[float]:
    """From the commit to the socket."""
    with process("serve", url) as service:
        sockets = stalled(int(service.stdout.readline()), SOCKETS)
        with process("write_steadily", url):
            return listen(sockets)


def notify_alone(url: str) -> list[float]:
    """From one connection to another."""
    seconds = []
    with (
        closing(db.listen(url)) as ear,
        closing(db.listen(url)) as mouth,
        mouth.cursor() as cursor,
        selectors.EpollSelector() as selector,
    ):
        selector.register(ear.fileno(), selectors.EVENT_READ)
        for _ in range(RATE * SECONDS):
            begun = time.monotonic()
            cursor.execute(f"NOTIFY {db.CHANNEL}")
            while not ear.notifies:
                selector.select()
                ear.poll()
            seconds.append(time.monotonic() - begun)
            ear.notifies.clear()
            time.sleep(0.005)
    return seconds


# ---------------------------------------------------------------- throughput


def throughput(url: str, kind: str) -> float:
    """Transactions per second of all writers together."""
    with process("write_fast", url, kind) as one, process("write_fast", url, kind) as other:
        writers = (one, other)
        for writer in writers:
            writer.stdout.readline()
        for writer in writers:
            writer.stdin.write(b"\n")
            writer.stdin.flush()
        return sum(float(writer.stdout.readline()) for writer in writers)


def in_turns(url: str, rounds: int) -> tuple[list[float], list[float]]:
    """With the lock and without."""
    pairs = [(throughput(url, "ordered"), throughput(url, "unordered")) for _ in range(rounds)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def main(rounds: int) -> None:
    """Print the tables."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    server = Postgres(folder)
    try:
        url = server.start()
        bootstrap.migrate(url)
        print(f"| {RATE} events a second | p50 ms | p99 ms |\n|---|---|---|")
        for name, way in ((f"commit to each of {SOCKETS} sockets", latency), ("NOTIFY alone", notify_alone)):
            seconds = way(url)
            print(f"| {name} | {percentile(seconds, 50):.1f} | {percentile(seconds, 99):.1f} |", flush=True)
        print(
            "\n| transactions with one event, 8 writers | in order, per second | without the lock, per second | "
            "ratio |\n|---|---|---|---|"
        )
        for name, state in (("PostgreSQL waits for its disk", "on"), ("and without fsync", "off")):
            Database(url).command(f"ALTER SYSTEM SET fsync = {state}")
            Database(url).rows("SELECT pg_reload_conf()")
            ours, other = in_turns(url, rounds)
            print(
                f"| {name} | {statistics.median(ours):,.0f} | {statistics.median(other):,.0f} | "
                f"{spread([one / two for one, two in zip(ours, other)])} |",
                flush=True,
            )
    finally:
        server.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", address]:
            asyncio.run(serve(address))
        case ["write_steadily", address]:
            write_steadily(address)
        case ["write_fast", address, variety]:
            write_fast(address, variety)
        case given:
            main(int(given[0]) if given else 5)
