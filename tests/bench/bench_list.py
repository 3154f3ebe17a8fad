"""`GET /api/v1/vm` beside a bare Tornado handler that writes the same bytes: `python -m tests.bench.bench_list
[SERVERS [ROUNDS]]`. Prints a table; asserts nothing.

The service runs as its users run it, in a process of its own, on the simulated cloud and a PostgreSQL of its own. Half
of the servers are ours. A round takes each way in turn; the client is one connection of this process, on the other
core. Requests per CPU second are of the server's process, all of its threads and the kernel's part included. What
counts is the ratio within a round; the table gives the median over the rounds, and the least and the most.
"""

import contextlib
import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg2

from tests.bench.bench_fleet import PORT, installation, own, service
from tests.bench.cpu import exact_cpu_of
from tests.bench.peer import Peer

SECONDS = 0.5
#: More than a round of the reconciler, which restores the marks that these servers lack, some in each round.
SETTLED_SECONDS = 8
CHANGE = "UPDATE vm SET priority = (priority + 1) %% 100 WHERE id = %s; NOTIFY vmsvc"


class Connection:
    """One connection that asks again and again."""

    def __init__(self, port: int, path: str, etag: str | None = None):
        tag = f"If-None-Match: {etag}\r\n" if etag else ""
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{tag}\r\n".encode()
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._buffer = memoryview(bytearray(4 * 1024 * 1024))

    def ask(self) -> tuple[bytes, memoryview]:
        """One answer: its head and its body."""
        self._socket.sendall(self._request)
        got, end = 0, -1
        while end < 0:
            got += self._socket.recv_into(self._buffer[got:])
            end = bytes(self._buffer[: min(got, 4096)]).find(b"\r\n\r\n")
        head = bytes(self._buffer[:end])
        whole = end + 4 + (0 if b" 304 " in head[:16] else int(_header(head, b"Content-Length")))
        while got < whole:
            got += self._socket.recv_into(self._buffer[got:])
        return head, self._buffer[end + 4 : whole]

    def close(self) -> None:
        """Cut it."""
        self._socket.close()


def _header(head: bytes, name: bytes) -> bytes:
    return head.split(name + b": ")[1].split(b"\r\n")[0]


@dataclass
class Way:
    """One way to be asked, and what it did: requests per CPU second in each round."""

    name: str
    pid: int
    port: int
    path: str
    unchanged: bool = False  # the client has the list already
    changes: bool = False  # ten VMs change in each second
    rates: list[float] = field(default_factory=list)

    def measure(self, url: str, ids: list[str]) -> None:
        """One round."""
        etag = None
        if self.unchanged:
            first = Connection(self.port, self.path)
            etag = _header(first.ask()[0], b"Etag").decode()
            first.close()
        connection = Connection(self.port, self.path, etag)
        with changing(url, ids) if self.changes else contextlib.nullcontext():
            connection.ask()
            spent, until, count = exact_cpu_of(self.pid), time.monotonic() + SECONDS, 0
            while time.monotonic() < until:
                head, _ = connection.ask()
                assert (b" 304 " in head[:16]) == self.unchanged, head
                count += 1
            self.rates.append(count / (exact_cpu_of(self.pid) - spent))
        connection.close()


@contextlib.contextmanager
def changing(url: str, ids: list[str]) -> Iterator[None]:
    """Ten VMs change in each second."""
    stop = threading.Event()

    def change() -> None:
        with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            number = 0
            while not stop.wait(0.1):
                cursor.execute(CHANGE, (ids[number % len(ids)],))
                number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def spread(ours: list[float], theirs: list[float]) -> str:
    """Median, least and most of the ratios."""
    ratios = [one / other for one, other in zip(ours, theirs)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def compare(count: int, rounds: int) -> None:
    """The table of so many servers."""
    with installation(4, count) as (sim, url, folder):
        own(sim, url, 4, count // 2)
        sim.foreign("admin", host="sim-1", count=count - count // 2)
        with service(sim, url, folder) as process:
            while not process.ready():
                time.sleep(0.1)
            body = settled_list(count)
            (folder / "body").write_bytes(body)
            ways = measured(process.pid, Peer("tests.bench.list_peer", str(folder / "body")), url, rounds)
    rates = {way.name: way.rates for way in ways}
    print(f"\n| {count:,} servers, {len(body):,} bytes | requests per CPU s | of bare Tornado | of one without a tag |")
    print("|---|---|---|---|")
    for name, found in rates.items():
        pair = (
            ("bare Tornado, 304",) * 2
            if name.endswith("304")
            else ("bare Tornado", "bare Tornado without its entity tag")
        )
        print(
            f"| {name} | {statistics.median(found):,.0f} | {spread(found, rates[pair[0]])} | "
            f"{spread(found, rates[pair[1]])} |",
            flush=True,
        )


def settled_list(count: int) -> bytes:
    """The list, when it has so many servers and has not changed for SETTLED_SECONDS."""
    connection, body, since = Connection(PORT, "/api/v1/vm"), b"", time.monotonic()
    while time.monotonic() - since < SETTLED_SECONDS:
        time.sleep(0.2)
        latest = bytes(connection.ask()[1])
        if latest != body or len(json.loads(latest)["servers"]) < count:
            body, since = latest, time.monotonic()
    connection.close()
    return body


def measured(pid: int, peer: Peer, url: str, rounds: int) -> list[Way]:
    """All ways, after so many rounds. The peer is stopped."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM vm")
        ids = [vm_id for (vm_id,) in cursor.fetchall()]
    ways = [
        Way("vmsvc", pid, PORT, "/api/v1/vm"),
        Way("vmsvc, 10 changes a second", pid, PORT, "/api/v1/vm", changes=True),
        Way("bare Tornado", peer.pid, peer.port, "/tagged"),
        Way("bare Tornado without its entity tag", peer.pid, peer.port, "/plain"),
        Way("vmsvc, 304", pid, PORT, "/api/v1/vm", unchanged=True),
        Way("bare Tornado, 304", peer.pid, peer.port, "/tagged", unchanged=True),
    ]
    try:
        for _ in range(rounds):
            for way in ways:
                way.measure(url, ids)
    finally:
        peer.stop()
    return ways


def main() -> None:
    """Print the tables."""
    sizes = [int(sys.argv[1])] if len(sys.argv) > 1 else [100, 1000]
    for size in sizes:
        compare(size, int(sys.argv[2]) if len(sys.argv) > 2 else 15)


if __name__ == "__main__":
    main()
