"""Fan-out to many sockets beside the ways of others: `python -m tests.bench.bench_fanout [SOCKETS [ROUNDS]]`.

The limit (`bare`): a loop that calls `send` of each socket and does nothing else. Peers: a plain Tornado loop over
`write_message`, the packages `websockets` and `aiohttp`, and nginx with nchan when Debian's libnginx-mod-nchan is
there. Events have 300 bytes. A round takes each way in turn: a new process, its sockets, a burst of 50 events in one
turn and single events at a steady pace. The client is one process on the other core. What counts is the ratio within a
round; the tables give the median over the rounds, and the least and the most.

- deliveries per CPU second: of the server's process, all of its threads, the kernel's part included;
- p50, p99: from the call to publish to the last byte of what was published, over all sockets;
- memory per idle socket: of the process, before and after they came.
"""

import statistics
import sys
import time
from dataclasses import dataclass, field

from tests.bench.fanout_peers import NCHAN, Crowd, Nchan, Server, stalled
from tests.bench.fanout_servers import WAYS

BURST = 50
#: So many that each way has a second of CPU or so, and no luck with the clock's ticks; the others need but one.
BURSTS = {"vmsvc": 50, "bare": 50, "nchan": 5, "websockets": 2, "aiohttp": 2}
STEADY = 12
PACE = 0.25  # seconds between two single events, when they take no longer
STALLED = 50


@dataclass
class Figures:
    """What one way did, a value for each round."""

    burst: list[float] = field(default_factory=list)
    burst_p99: list[float] = field(default_factory=list)
    steady: list[float] = field(default_factory=list)
    steady_p50: list[float] = field(default_factory=list)
    steady_p99: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def start(way: str) -> Server:
    """A server of this way."""
    return Nchan(way) if way == "nchan" else Server(way)


def publish(server: Server, crowd: Crowd, count: int) -> list[float]:
    """Publish so many at once and wait until everybody has them; the seconds that it took, for each socket."""
    begun = time.monotonic()
    server.publish(count)
    return crowd.receive(count, begun)


def measure(way: str, size: int, figures: Figures) -> None:
    """One round of one way."""
    server = start(way)
    before = server.memory()
    crowd = Crowd(server.port, size)
    try:
        figures.memory.append((server.memory() - before) / size)
        publish(server, crowd, 2)
        bursts = BURSTS.get(way, 1)
        spent, seconds = server.cpu_seconds(), []
        for _ in range(bursts):
            seconds += publish(server, crowd, BURST)
        figures.burst.append(bursts * BURST * size / (server.cpu_seconds() - spent))
        figures.burst_p99.append(percentile(seconds, 99))
        spent, seconds = server.cpu_seconds(), []
        for _ in range(STEADY):
            begun = time.monotonic()
            seconds += publish(server, crowd, 1)
            time.sleep(max(0.0, begun + PACE - time.monotonic()))
        figures.steady.append(STEADY * size / (server.cpu_seconds() - spent))
        figures.steady_p50.append(percentile(seconds, 50))
        figures.steady_p99.append(percentile(seconds, 99))
    finally:
        crowd.close()
        server.stop()


def percentile(values: list[float], part: int) -> float:
    """In milliseconds."""
    return 1000 * sorted(values)[min(len(values) - 1, len(values) * part // 100)]


def spread(ratios: list[float]) -> str:
    """Median, least and most."""
    return f"{_short(statistics.median(ratios))} ({_short(min(ratios))}–{_short(max(ratios))})"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 3 else f"{value:.1f}" if value < 20 else f"{value:.0f}"


def compare(ways: list[str], size: int, rounds: int) -> None:
    """The table of one number of sockets."""
    found = {way: Figures() for way in ways}
    for _ in range(rounds):
        for way in ways:
            measure(way, size, found[way])
    ours = found["vmsvc"]
    print(
        f"\n| {size:,} sockets | burst: deliveries per CPU s | vmsvc is | p99 ms | steady: deliveries per CPU s | "
        "vmsvc is | p50 ms | p99 ms | KiB per idle socket |\n|---|---|---|---|---|---|---|---|---|"
    )
    for way, each in found.items():
        middle = {name: statistics.median(values) for name, values in vars(each).items()}
        burst = spread([one / other for one, other in zip(ours.burst, each.burst)])
        steady = spread([one / other for one, other in zip(ours.steady, each.steady)])
        print(
            f"| {way} | {middle['burst']:,.0f} | {burst} x | {middle['burst_p99']:.0f} | {middle['steady']:,.0f} | "
            f"{steady} x | {middle['steady_p50']:.1f} | {middle['steady_p99']:.1f} | {middle['memory'] / 1024:.1f} |",
            flush=True,
        )


def with_stalled(ways: list[str], size: int) -> None:
    """The table of peers that never read: 6 MB are published; readers must get all of it."""
    print(
        f"\n| {size:,} sockets that read, {STALLED} that never do | readers who lost something | "
        "most memory per stalled socket, KiB |\n|---|---|---|"
    )
    for way in ways:
        server = start(way)
        crowd = Crowd(server.port, size)
        publish(server, crowd, BURST)
        silent = stalled(server.port, STALLED)
        before, lost = server.memory(), "0"
        try:
            for _ in range(400):
                publish(server, crowd, BURST)
        except (AssertionError, OSError) as error:
            lost = str(error)
        print(f"| {way} | {lost} | {(server.memory('VmHWM') - before) / STALLED / 1024:.0f} |", flush=True)
        crowd.close()
        for one in silent:
            one.close()
        server.stop()


def main() -> None:
    """Print the tables."""
    sizes = [int(sys.argv[1])] if len(sys.argv) > 1 else [1000, 5000]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    ways = [*WAYS, *(["nchan"] if NCHAN.exists() else [])]
    for size in sizes:
        compare(ways, size, rounds)
    with_stalled(ways, 20)


if __name__ == "__main__":
    main()
