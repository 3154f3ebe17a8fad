"""The storm guard: a successor gets capacity that stays free, in its turn, and not too many do at once."""

from dataclasses import replace

import pytest

from tests.unit.worlds import host, operator, quota, request, reserved, tenant, vm
from vmsvc.scheduling.decisions import Place, Queued, Refuse
from vmsvc.scheduling.restarts import RestartGuard, SteadyCapacity

NOW = 1_000_000.0


def test_capacity_is_steady_as_far_as_it_was_there_all_the_time():
    steady = SteadyCapacity()
    for second, count in enumerate((2, 2, 3, 3, 1, 4, 4)):
        steady.note("shape", {"one": count}, NOW + second)
    assert [steady.count("shape", "one", NOW + second) for second in range(7)] == [1, 1, 1, 1, 1, 4, 4]
    assert steady.count("shape", "two", NOW) == steady.count("other", "one", NOW) == 0
    assert steady.locations("shape") == {"one"}


def test_what_was_not_looked_at_for_a_while_is_not_steady():
    steady = SteadyCapacity()
    steady.note("shape", {None: 2}, NOW)
    steady.note("shape", {None: 2}, NOW + 5)
    assert steady.count("shape", None, NOW) == 2
    steady.note("shape", {None: 2}, NOW + 11)
    assert steady.count("shape", None, NOW + 5) == 0
    steady.note("other", {}, NOW + 30)
    assert not steady.locations("shape")


class Passes:
    """Passes a second apart, over one world."""

    def __init__(self, world, **rules):
        self.world, self.steady, self.rules, self.now = world, SteadyCapacity(), rules, NOW

    def one(self, *names, place="sim-1", cpus=1, **facts):
        """Which of these successors are started in the next pass, where the scheduler would place each."""
        guard, started = RestartGuard(self.steady, **self.rules), []
        with self.world.trial():
            for name in names:
                successor = request(name, cpus, is_preemptible=True, attempt=1, owner="ann", **facts)
                decision = guard.check(successor, Place(place), self.world, self.now)
                assert isinstance(decision, (Place, Queued))
                if isinstance(decision, Place):
                    self.world.place(successor, decision.host)
                    started.append((name, decision.host))
        self.now += 1
        return started


def test_a_successor_is_started_where_there_was_capacity_for_ten_seconds():
    passes = Passes(operator())
    assert [passes.one("next") for _ in range(11)] == [[]] * 10 + [[("next", "sim-1")]]


def test_capacity_that_became_free_later_is_not_used_before_its_time():
    others = [vm(name) for name in ("a", "b", "c")]
    passes = Passes(operator(*others))
    for _ in range(6):
        assert not passes.one("one", "two")
    passes.world = operator(*others[:2])
    for _ in range(4):
        assert not passes.one("one", "two")
    assert passes.one("one", "two") == [("one", "sim-1")]
    passes.world = operator(*others[:2], vm("one"))
    started = [passes.one("two") for _ in range(6)]
    assert started == [[]] * 5 + [[("two", "sim-1")]] or started[-1] == [("two", "sim-1")]


def test_what_is_reserved_for_others_is_not_free():
    standard = reserved("standard", "host", "sim-1", cpus=4)
    passes = Passes(operator(kept=[standard]))
    assert not any(passes.one("next") for _ in range(20))


def test_another_host_that_has_been_free_is_taken_when_the_chosen_one_has_not():
    hosts = [host("sim-1"), host("sim-2")]
    passes = Passes(operator(hosts=hosts))
    for number in range(12):
        started = passes.one("next", place="sim-1" if number < 6 else "sim-2")
    assert started == [("next", "sim-1")]


def test_a_tenants_successor_does_not_come_before_the_request_that_took_its_place():
    passes = Passes(tenant(limit=quota(4)), preceded=frozenset({"next"}))
    assert not any(passes.one("next", place=None) for _ in range(20))
    passes.rules = {}
    assert passes.one("next", place=None) == [("next", None)]


@pytest.mark.parametrize("lately, may", [(0, 4), (8, 2), (10, 0), (12, 0)])
def test_of_one_owner_ten_are_started_within_a_minute(lately, may):
    passes = Passes(operator(), lately={"ann": lately, "bob": 100})
    for _ in range(10):
        passes.one("a", "b", "c", "d")
    assert len(passes.one("a", "b", "c", "d")) == may


def test_a_request_without_capacity_is_answered_as_before_and_ends_what_was_seen():
    passes = Passes(operator())
    for _ in range(10):
        passes.one("next")
    refused = Refuse("no_capacity", "no host has it")
    full = operator(*[vm(name) for name in "abcd"])
    successor = replace(request("next", is_preemptible=True, owner="ann"), attempt=1)
    assert RestartGuard(passes.steady).check(successor, refused, full, passes.now) == refused
    passes.now += 1
    assert not passes.one("next")
