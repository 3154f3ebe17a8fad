"""The service with its database on random clouds: as in tests/unit, where ten thousand are looked at without one.

`DATABASE_CASES=1000 SEED=7 pytest tests/integration/test_nobody_for_nothing.py` looks longer, and elsewhere.
"""

import os
import random
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from tests.integration.model.case import Case
from tests.integration.model.clock import Clock
from tests.unit.promises import Broken
from tests.unit.random_clouds import random_cloud, shrunk
from tests.unit.test_nobody_for_nothing import looked_at

CASES = int(os.environ.get("DATABASE_CASES", "50"))  # in each mode
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
