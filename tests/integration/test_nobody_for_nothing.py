"""The service with its database on random clouds: as in tests/unit, where ten thousand are looked at without one.

`DATABASE_CASES=1000 SEED=7 pytest tests/integration/test_nobody_for_nothing.py` looks longer, and elsewhere.
"""

import os
import random
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from tests.examples import examples
from tests.integration.model.case import Case
from tests.integration.model.clock import Clock
from tests.unit.promises import Broken
from tests.unit.random_clouds import random_cloud, shrunk
from tests.unit.referee import Cloud, Flavor, Host, Server, Wanted
from tests.unit.test_nobody_for_nothing import looked_at

CASES = int(os.environ.get("DATABASE_CASES", examples(15, 50)))  # in each mode
SEED = int(os.environ.get("SEED", "1"))


@pytest.fixture(name="clock")
def fixture_clock(store):
    """The database's clock in our hands."""
    clock = Clock(store)
    yield clock
    clock.close()


def clouds(mode):
    """Random ones; most are such that the decisions by themselves evict somebody there."""
    rng = random.Random(f"{mode} {SEED}")
    while True:
        cloud = random_cloud(rng, mode)
        # What a running cloud does by itself has its own tests: see test_interleavings.
        cloud = replace(
            cloud,
            servers=tuple(
                replace(
                    one,
                    leaving=one.leaving and one.kind in ("preemptible", "standard"),
                    status="ACTIVE" if one.status == "BUILD" else one.status,
                )
                for one in cloud.servers
            ),
        )
        if rng.random() < 0.1 or looked_at(cloud)["evictions"]:
            yield cloud


def broken(clock, cloud) -> str:
    """Which promise is broken there; none where all hold."""
    try:
        Case(clock, cloud).tell()
    except Broken as found:
        return found.promise
    return ""


_THREE = tuple(Wanted(f"wanted-{number}", Flavor(3, 2)) for number in (1, 2, 3))
#: Clouds in which a promise was broken once.
FOUND = {
    "the promise to a request whose victim was locked costs another request a VM, before it is refused": Cloud(
        "operator",
        (Host("host-1", 6, 4), Host("host-2", 3, 2), Host("host-3", 6, 7)),
        (
            Server("preemptible-1", Flavor(1, 3), "host-1", priority=1, stubborn=True),
            Server("preemptible-2", Flavor(2, 1), "host-1", priority=2),
            Server("preemptible-3", Flavor(2, 1), "host-2"),
            Server("preemptible-4", Flavor(1, 2), "host-3", priority=2),
            Server("hidden-5", Flavor(2, 3), "host-3", kind="hidden"),
            Server("hidden-6", Flavor(1, 1), "host-3", kind="hidden"),
        ),
        _THREE,
        quota=(4, 12, -1),
        max_victims=2,
    ),
    "another victim is chosen while the first ones are being evicted": Cloud(
        "operator",
        (Host("host-1", 5, 2), Host("host-2", 6, 7)),
        (
            Server("preemptible-1", Flavor(2, 2), "host-2", priority=1, age=7),
            Server("preemptible-2", Flavor(2, 1), "host-2", age=24, stubborn=True),
            Server("preemptible-3", Flavor(1, 3), "host-2", age=40),
            Server("standard-4", Flavor(1, 1), "host-2", kind="standard", age=38),
        ),
        _THREE,
    ),
    "no host could take a request whose image was deactivated meanwhile": Cloud(
        "operator", (Host("host-1", 2, 3),), (), (Wanted("wanted-1", Flavor(4, 1), spoilt=True),)
    ),
    "the quota could not take a request whose image was deactivated meanwhile": Cloud(
        "tenant", (Host("host-1", 5, 3),), (), (Wanted("wanted-1", Flavor(2, 1), spoilt=True),), quota=(-1, 1, -1)
    ),
}


@pytest.mark.parametrize("cloud", FOUND.values(), ids=FOUND.keys())
def test_what_broke_a_promise_once(clock, cloud):
    Case(clock, cloud).tell()


@pytest.mark.parametrize("mode", ["operator", "tenant"])
def test_no_vm_is_evicted_for_a_request_that_cannot_be_served(clock, mode, record_property):
    seen = Counter()
    for cloud in islice(clouds(mode), CASES):
        case = Case(clock, cloud)
        try:
            case.tell()
        except Broken as found:
            least = shrunk(cloud, lambda one, promise=found.promise: broken(clock, one) == promise)
            pytest.fail(f"after {seen['worlds']} clouds: {found}\n{least!r}")
        seen += Counter(worlds=1, evictions=case.promises.evictions)
    record_property("looked at", f"{mode}, with a database: {seen['worlds']} worlds, {seen['evictions']} evictions")
