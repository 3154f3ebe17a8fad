"""vmsvc on a real OpenStack, beside the same done by hand: `make bench_openstack`, or `python -m tests.bench.bench_bed
[rounds]`. Prints a table in Markdown, and where vmsvc's time went.

VMSVC_TEST_CLOUD=bed (a real OpenStack on loopback) or sim (the simulated cloud: to try the benchmark itself). Both
sides do the same in turns, ours, theirs, theirs, ours, and each pair gives one ratio. The service and the program by
hand use the same project. What is made in between, to have the same state before each, is not measured.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.bench.bed_steps import calls_of, steps_of
from tests.bench.by_hand import ByHand
from tests.openstack.conftest import BED, LARGE, real_cloud, simulated_cloud
from tests.openstack.http import Api
from tests.openstack.service import PREEMPTIBLE, STANDARD, USER_OF, Service, set_quota

TINY = {"is_preemptible": False, "flavor": "m1.tiny"}
HOSTS = 4  # of either cloud; a VM of the flavor m1.large fills one
PARALLEL = 50
KIND = os.environ.get("VMSVC_TEST_CLOUD", "bed")


@dataclass
class Side:
    """One way to do it: how long each round took, and what it asked of the cloud."""

    run: Callable[[], None]
    count: Callable[[], Counter]
    prepare: Callable[[], None] = lambda: None
    restore: Callable[[], None] = lambda: None
    seconds: list[float] = field(default_factory=list)
    calls: list[Counter] = field(default_factory=list)

    def round(self, keep: bool) -> None:
        """Once; the first times are for warming up."""
        self.prepare()
        before, began = self.count(), time.monotonic()
        self.run()
        took, after = time.monotonic() - began, self.count()
        self.restore()
        if keep:
            self.seconds.append(took)
            self.calls.append(after - before)

    @property
    def asked(self) -> str:
        """The median of calls in a round, and which they are."""
        names = sorted(set().union(*self.calls))
        each = {name: statistics.median(calls[name] for calls in self.calls) for name in names}
        total = statistics.median(calls.total() for calls in self.calls)
        return f"{total:g} ({', '.join(f'{name} {number:g}' for name, number in each.items() if number)})"


class Ground:
    """A cloud, a project in it, the service and the program by hand on it."""

    def __init__(self, clouds: Path, mode: str, folder: Path):
        entries = {
            entry["auth"]["username"]: (name, entry)
            for name, entry in yaml.safe_load(clouds.read_text())["clouds"].items()
        }
        name, entry = entries[USER_OF[mode]]
        self.mode, self.project, self._admin = mode, Api(entry), Api(entries["admin"][1])
        self.quota(**LARGE)
        self.hand = ByHand(clouds, name, PARALLEL)
        [image] = self.project("GET", "/images", service="image").body["images"]
        [network] = self.project("GET", "/networks", service="network").body["networks"]
        flavors = {flavor["name"]: flavor["id"] for flavor in self.project("GET", "/flavors").body["flavors"]}
        self._choose = lambda flavor: self.hand.choose(flavors[flavor], image["id"], network["id"])
        self.made: list[str] = []  # by hand, to be deleted
        self.steps: list[dict[str, float]] = []
        self._seq, self._told = 0, (0.0, 0.0, 0, {})
        self.service = Service(clouds, name, folder, VMSVC_GRACE_SECONDS="0", VMSVC_EVICT_ACTION="delete")

    def quota(self, **limits: int) -> None:
        """Set the project's."""
        set_quota(self._admin, self.project, **limits)

    def sides(self, body: dict, *by_hand: Callable[[], list[str]], **ours: Callable) -> list[Side]:
        """A VM by the service, and the same by hand, in one or more ways."""
        self._choose(body["flavor"])
        self.steps = []

        def post() -> None:
            began, seq = time.time(), self._seq
            reply = self.service("POST", "/vm", body)
            assert reply.status == 201, reply
            self.made.append(reply.body["vm"]["id"])
            self._told = (began, time.time(), seq, reply.body["vm"])

        def restore() -> None:
            self.steps.append(steps_of(self.service, *self._told))
            self.service("DELETE", f"/vm/{self.made.pop()}")

        hands = [
            Side(
                lambda way=way: self.made.extend(way()),
                lambda: Counter(self.hand.calls),
                prepare=ours.get("prepare_by_hand", lambda: None),
                restore=self.clear,
            )
            for way in by_hand
        ]
        return [
            Side(
                post,
                lambda: calls_of(self.service),
                prepare=self._noting(ours.get("prepare", lambda: None)),
                restore=restore,
            ),
            *hands,
        ]

    def _noting(self, prepare: Callable[[], None]) -> Callable[[], None]:
        def prepared() -> None:
            prepare()
            self._seq = self.service.seq()

        return prepared

    def clear(self) -> None:
        """Delete what was made by hand."""
        self.hand.delete_all(self.made)
        self.made = []


def alternate(rounds: int, *sides: Side, warming: int = 1) -> None:
    """Ours, theirs, theirs, ours; the first rounds are for `warming` up."""
    for number in range(warming + rounds):
        for side in reversed(sides) if number % 2 else sides:
            side.round(number >= warming)


def line(what: str, goal: str, ours: Side, theirs: Side) -> None:
    """A line of the table."""
    ratios = [mine / other for mine, other in zip(ours.seconds, theirs.seconds, strict=True)]
    print(
        f"| {what} | {goal} | {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | "
        f"{statistics.median(ours.seconds):.2f} | {statistics.median(theirs.seconds):.2f} | {ours.asked} | "
        f"{theirs.asked} |",
        flush=True,
    )


def room_is_free(ground: Ground, rounds: int) -> None:
    """A POST, to ACTIVE."""
    ours, theirs = ground.sides(TINY, lambda: [ground.hand.create()])
    alternate(rounds, ours, theirs)
    line(f"room free, {ground.mode}", "≤ 1.1", ours, theirs)
    show(ground.steps)
    _, sdk = ground.sides(TINY, lambda: [ground.hand.create_and_wait()])
    for _ in range(3):
        sdk.round(True)
    print(f"(the SDK's own wait: {statistics.median(sdk.seconds):.2f} s)", flush=True)


def cloud_is_full(ground: Ground, rounds: int, short: str) -> None:
    """A POST for which a preemptible VM has to go. All other room is taken by standard VMs, which never go; the last
    host, or the rest of the quota, by a VM that was made by whoever has its turn. A tenant cannot see that the hosts
    are full; so there is a second way by hand, in which nobody goes before the cloud has refused."""
    others = ground.service.create_many(HOSTS - 1, STANDARD)
    taken: list[str] = []
    if short == "quota":
        ground.quota(**LARGE | {"instances": HOSTS})

    def by_hand() -> list[str]:
        ground.hand.delete(taken.pop())
        return [ground.hand.create()]

    def asking_first() -> list[str]:
        ground.hand.is_refused()
        return by_hand()

    ways = {"": by_hand}
    if (short, ground.mode) == ("hosts", "tenant"):
        ways["; by hand after the cloud's refusal"] = asking_first
    ours, *theirs = ground.sides(
        STANDARD,
        *ways.values(),
        prepare=lambda: ground.service.create_many(1, PREEMPTIBLE),
        prepare_by_hand=lambda: taken.append(ground.hand.create()),
    )
    alternate(rounds, ours, *theirs)
    for way, side in zip(ways, theirs, strict=True):
        line(f"{short} full, {ground.mode}{way}", "≤ 1.15", ours, side)
    show(ground.steps)
    ground.quota(**LARGE)
    for server in others:
        ground.service("DELETE", f"/vm/{server}")


def side_by_side(ground: Ground, rounds: int, number: int) -> None:
    """Many POSTs at once, until the last is ACTIVE."""
    ground.sides(TINY, list)
    made: list[str] = []
    ours = Side(
        lambda: made.extend(ground.service.create_many(number, TINY, abreast=number)),
        lambda: calls_of(ground.service),
        restore=ground.service.empty,
    )
    theirs = [
        Side(
            lambda create=create: ground.made.extend(create(number)),
            lambda: Counter(ground.hand.calls),
            restore=ground.clear,
        )
        for create in (ground.hand.create_all, ground.hand.create_each)
    ]
    alternate(rounds, ours, *theirs, warming=0)
    for way, side in zip(("one list by hand", "a thread each by hand"), theirs):
        line(f"{number} at once, {ground.mode}; {way}", "≤ 1.05", ours, side)


def show(steps: list[dict[str, float]]) -> None:
    """Where the time went."""
    names = list(dict.fromkeys(name for step in steps for name in step))
    medians = {name: statistics.median(step[name] for step in steps if name in step) for name in names}
    print("\n    ms: " + ", ".join(f"{name} {1000 * took:.0f}" for name, took in medians.items()) + "\n", flush=True)


@contextlib.contextmanager
def ground_of(clouds: Path, mode: str) -> Iterator[Ground]:
    """A service, and an orderly end."""
    with tempfile.TemporaryDirectory(prefix="vmsvc-bench-") as folder:
        ground = Ground(clouds, mode, Path(folder))
        try:
            yield ground
        finally:
            ground.clear()
            ground.service.empty()
            ground.service.stop()


@contextlib.contextmanager
def large_hosts() -> Iterator[int]:
    """Hosts with room for all that is made at once; how many that is."""
    if KIND == "sim":
        yield 4 * HOSTS
        return
    subprocess.run(
        [BED, "up"],
        check=True,
        timeout=300,
        capture_output=True,
        env={**os.environ, "BED_VCPUS": "16", "BED_RAM_MB": "32768"},
    )
    try:
        yield PARALLEL
    finally:
        subprocess.run([BED, "up"], check=True, timeout=300, capture_output=True)


def main(rounds: int = 10, rows: str = "free,full,many", modes: str = "tenant,operator") -> None:
    """Print the table."""
    with (
        tempfile.TemporaryDirectory(prefix="vmsvc-cloud-") as folder,
        contextlib.contextmanager(real_cloud if KIND == "bed" else lambda: simulated_cloud(Path(folder)))() as clouds,
    ):
        print("| what | goal | ratio (least–most) | vmsvc s | by hand s | vmsvc's calls | calls by hand |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for mode in modes.split(","):
            with ground_of(clouds, mode) as ground:
                if "free" in rows:
                    room_is_free(ground, rounds)
                if "full" in rows:
                    for short in ("hosts", "quota") if mode == "tenant" else ("hosts",):
                        cloud_is_full(ground, max(1, rounds * 6 // 10), short)
        if "many" in rows:
            with large_hosts() as number, ground_of(clouds, "tenant") as ground:
                side_by_side(ground, max(1, rounds // 10), number)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
