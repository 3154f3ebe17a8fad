"""What holds over hours: restarts and shares, by the service's own loops, a real PostgreSQL and a clock that is set on.

`ALL_EXAMPLES=1 pytest tests/integration/test_days.py` has more owners' days.
"""

import random
from datetime import timedelta

import pytest

from tests.examples import examples
from tests.integration.model.clock import Clock
from tests.integration.model.day import Day
from vmsvc.domain.lineage import Terms
from vmsvc.domain.principal import ANYBODY
from vmsvc.service.evictions import record
from vmsvc.store import usage
from vmsvc.store.db import reading

DAY = 86_400.0


@pytest.fixture(name="day")
def fixture_day(store):
    """A function that begins a day on a cloud with these hosts."""
    clock, begun = Clock(store), []

    def begin(*hosts):
        begun.append(Day(clock, hosts))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()
    clock.close()


def evict(day, row):
    """The VM is evicted at once, as one that practises it."""
    servers = day.cloud.shown()
    record._practise(row["cloud_id"], servers, timedelta(0), False, ANYBODY)  # pylint: disable=protected-access
    day.replica.wake()


def running(day):
    """The VMs that run."""
    return day.rows("SELECT id, cloud_id FROM vm WHERE state = 'active'")


def test_vms_that_live_for_a_second_are_started_again_six_times_at_most_in_a_quarter_of_an_hour(day, record_property):
    day = day(4)
    began, origin = day.now, day.post("ann", terms=Terms(max_restarts=1000))
    while day.now < began + timedelta(minutes=15):
        if vms := running(day):
            day.pass_by(1.0)
            evict(day, vms[0])
        paused = day.rows("SELECT id FROM vm WHERE state = 'pending' AND not_before > clock_timestamp()")
        day.pass_by(4.0 if paused else 1.0, stride=4.0)
    attempts = day.rows(
        "SELECT extract(epoch FROM launched_at - %s)::float8 AS at FROM vm WHERE lineage_id = %s AND attempt > 0"
        " AND launched_at IS NOT NULL ORDER BY attempt",
        began,
        origin,
    )
    restarts = [round(row["at"]) for row in attempts if row["at"] <= 900]
    record_property("looked at", f"a VM that lives for a second, for 15 minutes: it was started again at {restarts} s")
    assert 4 <= len(restarts) <= 6
    # No two VMs of it at a time, and none that was not asked for.
    assert day.rows("SELECT max(attempt) + 1 = count(*) AS each_once FROM vm") == [{"each_once": True}]


@pytest.mark.parametrize("seed", range(examples(1, 4)))
def test_two_owners_with_endless_demand_use_as_much_of_one_place_in_a_day(day, record_property, seed):
    """One place, VMs that run for 10 to 30 minutes; ann asks for much more than bob does."""
    day, rng = day(1), random.Random(seed)
    end = day.now + timedelta(seconds=DAY)
    waiting = {"ann": 20, "bob": 2}
    for owner, number in waiting.items():
        for _ in range(number):
            day.post(owner, wait=7 * 86_400)
    lived = 0
    while day.now < end:
        day.until(lambda: running(day), 30.0)
        (vm,) = running(day)
        day.pass_by(rng.uniform(600, 1800), stride=1800)
        day.post(vm["id"].partition("-")[0], wait=7 * 86_400)
        day.delete(vm["id"])
        lived += 1
    with reading():
        used = usage.shares(day.now)
    record_property("looked at", f"a day of two owners and {lived} VMs: they used {used} vCPU-seconds")
    assert used.keys() == waiting.keys() and sum(used.values()) > 0.95 * DAY, (used, lived)
    assert abs(used["ann"] - used["bob"]) <= 0.05 * max(used.values()), (used, lived)
