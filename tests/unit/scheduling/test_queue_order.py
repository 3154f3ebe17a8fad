"""The order in which what waits gets capacity: the key, the lanes that keep it, and what comes of it in a pass."""

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.unit.worlds import host, operator, request, tenant, vm
from vmsvc.domain.acceptance import Verdict
from vmsvc.domain.evidence import Held, HostEvidence
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.decide_all import Commit, Knowledge, decide_all
from vmsvc.scheduling.decisions import Evict, Place, Queued, Refuse
from vmsvc.scheduling.eligibility import KEPT
from vmsvc.scheduling.queue_order import OVERTAKEN_SECONDS, Lanes, QueueEntry, positions, queue_key
from vmsvc.scheduling.verification import Verified, WaitingRequest

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECONDS = NOW.timestamp()
HOUR = OVERTAKEN_SECONDS
OWNERS = ("ann", "bob", "eve")
SEEN = Verified(
    sought=frozenset((request(cpus=cpus).resources, request().traits) for cpus in range(1, 9)),
    fresh=frozenset(f"sim-{number}" for number in range(1, 9)),
)


def entry(name="a", *, preemptible=True, priority=0, owner="ann", age=0.0):
    """A request that came so many seconds ago."""
    return QueueEntry(name, preemptible, priority, owner, SECONDS - age)


def random_entries(rng, count):
    """Requests of a few owners, priorities and ages, so that some differ in little."""
    return [
        entry(
            f"r{number:03}",
            preemptible=rng.random() < 0.7,
            priority=rng.choice((0, 0, 5)),
            owner=rng.choice(OWNERS),
            age=rng.choice((0, 10, 10, HOUR, 2 * HOUR)),
        )
        for number in range(count)
    ]


def test_the_criteria_in_their_order():
    shares = {"ann": 7.0, "bob": 3.0}
    ordered = [
        entry("standard", preemptible=False, owner="ann"),
        entry("priority", priority=1, owner="ann"),
        entry("never ran", owner="eve"),
        entry("share", owner="bob"),
        entry("older", age=9),
        entry("a twin"),
        entry("b twin"),
    ]
    shuffled = random.Random(1).sample(ordered, len(ordered))
    assert sorted(shuffled, key=lambda one: queue_key(one, shares)) == ordered
    assert positions(shuffled, shares) == {one.id: number for number, one in enumerate(ordered, 1)}


@pytest.mark.parametrize("seed", range(40))
def test_lanes_say_what_the_order_says_whatever_comes_and_goes(seed):
    rng, lanes, known, shapes = random.Random(seed), Lanes(), {}, {}
    shares = {owner: rng.choice((0.0, 1.0, 2.0)) for owner in OWNERS}
    for one in random_entries(rng, 60):
        known[one.id], shapes[one.id] = one, rng.choice("xy")
        lanes.put(one, shapes[one.id])
        if rng.random() < 0.3:
            gone = rng.choice(list(known))
            del known[gone]
            lanes.drop(gone)
    lanes.drop("nobody")
    place = positions(known.values(), shares)
    keys = {one.id: queue_key(one, shares) for one in known.values()}
    assert {one: 1 + lanes.ahead(keys[one], shares) for one in known} == place
    assert len(lanes) == len(known) and all(one in lanes for one in known)
    assert dict(lanes.of_owner) == {
        owner: count for owner in OWNERS if (count := sum(one.owner == owner for one in known.values()))
    }
    key = queue_key(entry("zzz", owner=rng.choice(OWNERS), preemptible=rng.random() < 0.5), shares)
    before = [one for one in known if keys[one] < key]
    assert lanes.ahead(key, shares) == len(before)
    now = SECONDS + 1
    for wanted, shown in ((key, before), (None, [*known])):
        overdue = [one for one in shown if known[one].came < now - HOUR]
        assert sum(lanes.overdue(shape, wanted, shares, now) for shape in "xyz") == len(overdue)
    offers = lanes.offers(shares)
    for shape in "xy":
        alike = sorted((one for one in known if shapes[one] == shape), key=keys.get)
        assert [offer.id for offer in offers if offer.shape == shape] == alike[:2]


def test_more_of_a_shape_are_offered_while_all_that_are_offered_get_capacity():
    lanes = Lanes()
    for number in range(1000):
        lanes.put(entry(f"r{number:04}", age=1000 - number), "x")
    counts = []
    for _ in range(9):
        offers = lanes.offers({})
        counts.append(len(offers))
        assert [offer.more_behind for offer in offers] == [False] * (len(offers) - 1) + [True]
        for offer in offers:
            lanes.drop(offer.id)
    assert counts == [2, 4, 8, 16, 32, 64, 128, 256, 256]
    assert len(lanes.offers({})) == len(lanes) == 1000 - 766, "all that are left"
    lanes.put(entry("young"), "x")
    assert len(lanes.offers({})) == 2, "those that were offered are still there"


# ---------------------------------------------------------------- a pass


def waits(one, cpus=1, **facts):
    """This entry, as a pass sees it."""
    known = {
        "is_preemptible": one.is_preemptible,
        "priority": one.priority,
        "owner": one.owner,
        "came": one.came,
        "may_wait": True,
        "queued": True,
        **facts,
    }
    return WaitingRequest(
        request(one.id, cpus, **known), {"network_id": "net"}, "a key", turn=queue_key(one, {}), shape=cpus
    )


def decided(turns, world, **facts):
    """What a pass decides, request by request; the world stays as it was."""

    def overdue(shape, before):
        alike = (one for one in turns if one.shape == shape and (before is None or one.turn < before))
        return sum(SECONDS - one.request.came >= HOUR for one in alike)

    with world.trial():
        plan = decide_all(turns, world, Knowledge(NOW, overdue=overdue, **{"verified": SEEN, **facts}))
    assert isinstance(plan, Commit)
    return plan, {change.request_id: change.decision for change in plan.changes}


def two_hosts(*vms, **facts):
    """Two hosts of 4 vCPUs."""
    return operator(*vms, hosts=[host("sim-1", vms), host("sim-2", vms)], **facts)


@pytest.mark.parametrize("seed", range(30))
def test_pass_after_pass_over_the_lanes_places_whom_one_pass_over_all_would(seed):
    rng = random.Random(seed)
    shares = {owner: rng.choice((0.0, 1.0)) for owner in OWNERS}
    entries = [
        replaced._replace(came=SECONDS - 9 - number / 100) for number, replaced in enumerate(random_entries(rng, 40))
    ]
    sizes = {one.id: rng.choice((1, 1, 2, 3)) for one in entries}
    foreign = [
        vm(f"f{number}", rng.choice((1, 2)), is_preemptible=False, host=f"sim-{number}") for number in range(1, 7)
    ]
    hosts = [host(f"sim-{number}", foreign) for number in range(1, 7)]
    ordered = sorted(entries, key=lambda one: queue_key(one, shares))
    _, all_at_once = decided([waits(one, sizes[one.id]) for one in ordered], operator(*foreign, hosts=hosts))

    lanes, world, placed = Lanes(), operator(*foreign, hosts=hosts), {}
    by_id = {one.id: one for one in entries}
    for one in entries:
        lanes.put(one, sizes[one.id])
    with world.trial():
        for _ in range(len(entries)):
            offers = {offer.id: offer for offer in lanes.offers(shares)}
            turn = [
                replace(waits(one, sizes[one.id]), more_behind=offers[one.id].more_behind)
                for one in sorted((by_id[offer] for offer in offers), key=lambda one: queue_key(one, shares))
            ]
            plan = decide_all(turn, world, Knowledge(NOW, verified=SEEN))
            if not plan.changes:
                break
            for change in plan.changes:
                placed[change.request_id] = change.decision
                lanes.drop(change.request_id)
    assert placed == all_at_once and not plan.again


def test_one_that_does_not_fit_is_overtaken_for_an_hour_and_no_longer():
    world = two_hosts(vm("a", 2), vm("b", 3, host="sim-2"))
    small = waits(entry("small"))
    _, found = decided([waits(entry("large", age=HOUR - 1), 4), small], world)
    assert found == {"small": Place("sim-2")}
    _, found = decided([waits(entry("large", age=HOUR), 4), small], world)
    assert found == {"small": Place("sim-2")}, "sim-1 lacks less for it, and is kept"
    _, found = decided([waits(entry(name, age=HOUR), 4) for name in "lm"] + [small], world)
    assert not found, "both hosts are kept: one for each"
    fresh = replace(small, shape=None, request=replace(small.request, may_wait=False, queued=False))
    _, found = decided([waits(entry(name, age=HOUR), 4) for name in "lm"] + [fresh], world)
    assert isinstance(found["small"], Refuse) and KEPT in found["small"].message


@pytest.mark.parametrize("queued", [True, False])
def test_equal_requests_that_are_planned_together_do_not_come_before_one_that_is_overdue(queued):
    """A plan for both small ones takes two of the four that can be evicted; the large one between them needs three."""
    there = [vm(name) for name in "abcd"]
    first = waits(entry("first", preemptible=False, priority=1))
    last = waits(entry("last", preemptible=False))
    for age, chosen in ((HOUR + 1, {"first", "large"}), (HOUR - 1, {"first", "last"})):
        large = waits(entry("large", preemptible=False, age=age), 3, queued=queued)
        if not queued:
            large = replace(large, shape=None, overdue=age > HOUR)
        _, found = decided([first, large, last], operator(*there), verified=verdict())
        assert {name for name, decision in found.items() if isinstance(decision, Evict)} == chosen


def verdict():
    """All that can be verified was, and Nova takes the requests."""
    return replace(SEEN, verdicts={"a key": Verdict()})


def test_what_is_kept_for_one_that_was_overtaken_goes_to_those_before_it():
    world = two_hosts(vm("a", 2), vm("b", 4, host="sim-2"))
    before = waits(entry("before", priority=1))
    _, found = decided([before, waits(entry("large", age=HOUR), 4), waits(entry("small"))], world)
    assert found == {"before": Place("sim-1")}


def test_a_quota_that_is_too_small_for_one_that_was_overtaken_is_kept_too():
    world = two_hosts(vm("a", 2), limit={"cores": 4})
    small = waits(entry("small"))
    _, found = decided([waits(entry("large", age=HOUR - 1), 4), small], world)
    assert found == {"small": Place("sim-1")}
    _, found = decided([waits(entry("large", age=HOUR), 4), small], world)
    assert not found


@pytest.mark.parametrize("seen", [4, 3])
def test_a_tenants_requests_wait_for_one_that_was_overtaken_if_a_host_can_hold_it_at_all(seen):
    evidence = {"id-of-sim-1": HostEvidence((Held(Resources({"VCPU": seen, "MEMORY_MB": 1024 * seen}), NOW),))}
    world = tenant(vm("a", 2), evidence=evidence)
    large = waits(entry("large", age=HOUR), 4, refusal="no_capacity", refusals=1, refused_at=NOW)
    plan, found = decided([large, waits(entry("small"))], world)
    assert found == ({} if seen == 4 else {"small": Place()}) and plan.wait


@pytest.mark.parametrize("refusals", [1, 4, 40])
def test_the_number_of_its_refusals_lets_nobody_overtake_a_tenants_request(refusals):
    world = tenant(vm("a", 2))
    facts = {"refusal": "no_capacity", "refused_at": NOW, "freed_since": True}
    first = waits(entry("first", age=9), refusals=refusals, **facts)
    _, found = decided([first, waits(entry("second"), refusals=1, **facts)], world)
    assert found["first"] == Place()


def test_those_alike_wait_without_a_decision_of_their_own():
    """Ten thousand that wait cost no more than their kinds."""
    world = two_hosts(vm("a", 4), vm("b", 4, host="sim-2"))
    many = [waits(entry(f"r{number:05}", age=10_000 - number)) for number in range(2000)]
    plan, found = decided(many, world)
    assert not found and plan.wait


def test_a_request_begins_to_wait_once():
    world, facts = two_hosts(vm("a", 4), vm("b", 4, host="sim-2")), {"queued": False}
    _, found = decided([waits(entry("new"), **facts), waits(entry("known"))], world)
    assert list(found) == ["new"] and isinstance(found["new"], Queued) and found["new"].error == "no_capacity"
    _, found = decided([waits(entry("new"), may_wait=False, **facts)], world)
    assert isinstance(found["new"], Refuse)


def test_what_can_never_fit_is_refused_at_once():
    _, found = decided([waits(entry("giant"), 5, queued=False)], two_hosts())
    assert isinstance(found["giant"], Refuse) and found["giant"].final
    _, found = decided([waits(entry("rich"), 3, queued=False)], two_hosts(limit={"cores": 2}))
    assert isinstance(found["rich"], Refuse) and found["rich"].error == "quota_exceeded"
    down = operator(hosts=[host("sim-1", available=False)])
    assert isinstance(decided([waits(entry("later"), 3, queued=False)], down)[1]["later"], Queued)


def test_an_owner_has_no_more_requests_in_the_queue_than_may_be():
    world = two_hosts(vm("a", 4), vm("b", 4, host="sim-2"))
    new = [waits(entry(name, owner=owner), queued=False) for name, owner in (("1", "ann"), ("2", "bob"), ("3", "ann"))]
    _, found = decided(new, world, waiting={"ann": 1}, most_waiting=2)
    assert isinstance(found["1"], Queued) and isinstance(found["2"], Queued)
    assert isinstance(found["3"], Refuse) and found["3"].error == "too_many_requests"


def test_nobody_is_evicted_for_a_patient_request_and_nobody_of_its_group_for_one_that_fell_back():
    mine = [vm(name, group="web") for name in "abcd"]
    standard = waits(entry("s", preemptible=False), queued=False, patient=True)
    seen = replace(SEEN, verdicts={"a key": Verdict()})
    world = operator(*mine, budgets={"web": 4}, full_budgets={"web": 4})
    assert isinstance(decided([standard], world, verified=seen)[1]["s"], Queued)
    impatient = replace(standard, request=replace(standard.request, patient=False))
    assert decided([impatient], world, verified=seen)[0].noticed
    fell_back = replace(impatient, request=replace(impatient.request, group="web"))
    assert isinstance(decided([fell_back], world, verified=seen)[1]["s"], Queued)


def test_patient_requests_that_are_alike_reserve_nothing_together():
    """One victim would be enough for both: neither may count on it."""
    large = vm("large", 4)
    world = operator(large, hosts=[host("sim-1", [large])])
    pair = [waits(entry(name, preemptible=False), queued=False, patient=True) for name in "ab"]
    plan, found = decided(pair, world, verified=replace(SEEN, verdicts={"a key": Verdict()}))
    assert {type(decision) for decision in found.values()} == {Queued} and len(found) == 2
    assert not plan.noticed


@pytest.mark.parametrize("seed", range(60))
def test_whatever_waits_with_patience_costs_nobody_a_vm(seed):
    """Random hosts, victims and requests, patient ones among them: only impatient ones evict. A patient one counts on
    capacity that is being freed only where victims of this pass leave."""
    rng = random.Random(seed)
    names = [f"sim-{number}" for number in range(1, rng.randint(2, 4))]
    there = [
        vm(f"{name}-{number}", size, host=name, priority=rng.choice((0, 0, 5)))
        for name in names
        for number, size in enumerate(rng.choice([(4,), (3, 1), (2, 2), (1, 1, 2), (3,), (1, 1)]))
    ]
    world = operator(*there, hosts=[host(name, there) for name in names])
    turns = []
    for number in range(rng.randint(2, 7)):
        one = entry(
            f"r{number}", preemptible=rng.random() < 0.2, owner=rng.choice(OWNERS), age=rng.choice((0, 10, HOUR))
        )
        patient = not one.is_preemptible and rng.random() < 0.6
        turns.append(waits(one, rng.randint(1, 4), queued=rng.random() < 0.5, patient=patient))
    turns.sort(key=lambda turn: turn.turn)
    _, found = decided(turns, world, verified=replace(SEEN, verdicts={"a key": Verdict()}))
    emptied = {one.bin for one in found.values() if isinstance(one, Evict) and one.victims}
    for turn in turns:
        decision = found.get(turn.request.id)
        if turn.request.patient or turn.request.is_preemptible:
            freed = isinstance(decision, Evict) and not decision.victims and decision.bin in emptied
            assert decision is None or freed or isinstance(decision, (Place, Queued)), (turn.request.id, decision)


@pytest.mark.parametrize("seed", range(40))
def test_no_more_hosts_are_kept_than_requests_are_overdue(seed):
    """So many hosts in which one more small VM fits and no large one: all but one for each large request that is
    overdue get a small VM."""
    rng = random.Random(seed)
    count, overdue = rng.randint(2, 7), rng.randint(0, 3)
    there = [vm(f"v{number}", 3, host=f"sim-{number}") for number in range(1, count + 1)]
    world = operator(*there, hosts=[host(f"sim-{number}", there) for number in range(1, count + 1)])
    large = [waits(entry(f"l{number}", age=HOUR + number + 1), 4) for number in range(overdue)]
    large += [waits(entry(f"young{number}", age=HOUR / 2), 4) for number in range(rng.randint(0, 3))]
    small = [waits(entry(f"s{number}")) for number in range(count)]
    _, found = decided(sorted([*large, *small], key=lambda turn: turn.turn), world)
    assert sum(isinstance(decision, Place) for decision in found.values()) == max(0, count - overdue)


def test_capacity_is_kept_once_for_all_of_a_shape():
    there = [vm(f"v{number}", 3, host=f"sim-{number}") for number in range(1, 5)]
    world = operator(*there, hosts=[host(f"sim-{number}", there) for number in range(1, 5)])
    overdue = [waits(entry(name, age=HOUR + 1), 4) for name in "lm"]
    _, found = decided([*overdue, waits(entry("small"))], world)
    assert isinstance(found["small"], Place)
    _, found = decided([*overdue, *(waits(entry(f"small{number}")) for number in range(4))], world)
    assert [type(decision) for decision in found.values()].count(Place) == 2


def test_a_request_that_has_waited_is_not_refused_for_the_number_of_those_that_wait():
    world = two_hosts(vm("a", 4), vm("b", 4, host="sim-2"))
    returns = waits(entry("old"), queued=False, has_waited=True)
    _, found = decided([returns], world, waiting={"ann": 2}, most_waiting=2)
    assert isinstance(found["old"], Queued)


# ---------------------------------------------------------------- shares over a day


@pytest.mark.parametrize("seed", range(5))
def test_two_owners_with_endless_demand_get_as_much_of_one_place(seed):
    """One VM at a time, of 1 to 20 minutes, for three days of a stepped clock; one owner asks for much more."""
    rng, day = random.Random(seed), 86_400.0
    lives: list[tuple[str, float, float]] = []  # owner, from, to
    now, number = SECONDS, 0
    waiting = {}
    while now < SECONDS + 3 * day:
        for owner, wanted in (("ann", 50), ("bob", 2)):
            while sum(one.owner == owner for one in waiting.values()) < wanted:
                number += 1
                waiting[f"r{number}"] = QueueEntry(f"r{number}", True, 0, owner, now)
        shares = {
            owner: sum(max(0.0, min(end, now) - max(start, now - day)) for who, start, end in lives if who == owner)
            for owner in OWNERS
        }
        first = min(waiting.values(), key=lambda one: queue_key(one, shares))
        del waiting[first.id]
        length = rng.uniform(60, 1200)
        lives.append((first.owner, now, now + length))
        now += length
    used = {
        owner: sum(max(0.0, end - max(start, now - day)) for who, start, end in lives if who == owner)
        for owner in ("ann", "bob")
    }
    assert abs(used["ann"] - used["bob"]) <= 0.05 * max(used.values()), used
