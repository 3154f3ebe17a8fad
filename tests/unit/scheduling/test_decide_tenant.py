"""What is decided where only the quota and the project's own servers are known."""

from datetime import UTC, datetime, timedelta

from tests.unit.worlds import request, reserved, tenant, vm
from vmsvc.domain.lifecycle import State
from vmsvc.scheduling.decide import MAX_ROUNDS, decide, review
from vmsvc.scheduling.decisions import Evict, Place, Postpone, Refuse, Reprieve, Wait
from vmsvc.scheduling.world import HOST_GROUP, PROJECT, QUOTA

GROUP = [vm(name) for name in "abcd"]
REFUSED = {"refusal": "no_capacity", "refusals": 1}


def plan(decision):
    """Of which bin, where, and who goes."""
    assert isinstance(decision, Evict), decision
    return decision.kind, decision.bin, set(decision.victims)


def refusal(decision):
    """The slug."""
    assert isinstance(decision, Refuse), decision
    return decision.error


def test_the_cloud_is_tried_first():
    assert decide(request(), tenant(*GROUP)) == Place(None)
    assert decide(request(is_preemptible=True), tenant(*GROUP)) == Place(None)


def test_a_full_quota_is_known_without_trying():
    full = tenant(*GROUP, limit={"cores": 4})
    kind, place, victims = plan(decide(request(cpus=2), full))
    assert (kind, place, len(victims)) == (QUOTA, PROJECT, 2)
    assert refusal(decide(request(is_preemptible=True), full)) == "quota_exceeded"
    assert refusal(decide(request(cpus=5), full)) == "quota_exceeded"


def test_after_a_refusal_for_want_of_capacity_one_group_of_servers_gives_it_whole():
    vms = GROUP[:2] + [vm(name, host="sim-2") for name in "efg"]
    assert plan(decide(request(cpus=3, **REFUSED), tenant(*vms))) == (HOST_GROUP, "id-of-sim-2", {"e", "f", "g"})
    assert refusal(decide(request(cpus=4, **REFUSED), tenant(*vms))) == "no_capacity"
    assert refusal(decide(request(is_preemptible=True, **REFUSED), tenant(*vms))) == "no_capacity"


def test_a_server_with_an_unknown_host_frees_no_capacity():
    assert refusal(decide(request(**REFUSED), tenant(vm("a", host_id="")))) == "no_capacity"


def test_capacity_that_was_freed_since_is_tried_before_any_eviction():
    assert decide(request(freed_since=True, **REFUSED), tenant(*GROUP)) == Place(None)


def test_those_that_wait_in_the_queue_are_tried_one_after_the_other():
    retry = request(is_preemptible=True, freed_since=True, may_wait=True, **REFUSED)
    trying = vm("x", state=State.BUILDING, host_id="")
    assert isinstance(decide(retry, tenant(*GROUP, trying)), Wait)
    assert decide(retry, tenant(*GROUP, vm("x", state=State.BUILDING))) == Place(None), "Nova has found it a host"
    assert decide(retry, tenant(*GROUP, vm("x", 2, state=State.BUILDING, host_id=""))) == Place(None)
    assert decide(request(freed_since=True, **REFUSED), tenant(*GROUP, trying)) == Place(None), "it does not wait"


def test_after_a_refusal_for_want_of_capacity_no_vm_is_evicted_for_quota_alone():
    """A victim has to free room too, or it would go for nothing."""
    lone, pair = vm("a", host="sim-2"), [vm("b"), vm("c")]
    full = tenant(lone, *pair, limit={"cores": 3})
    assert plan(decide(request(cpus=2, **REFUSED), full)) == (HOST_GROUP, "id-of-sim-1", {"b", "c"})
    assert refusal(decide(request(cpus=3, **REFUSED), full)) == "no_capacity"
    building = tenant(*pair, vm("x", state=State.BUILDING, is_preemptible=False), limit={"cores": 3})
    assert isinstance(decide(request(**REFUSED), building), Wait)


def test_while_a_vm_leaves_or_is_built_no_vm_is_evicted():
    leaving = tenant(*GROUP, vm("x", state=State.DELETING))
    assert isinstance(decide(request(**REFUSED), leaving), Wait)
    building = tenant(*GROUP, vm("x", state=State.BUILDING))
    assert isinstance(decide(request(**REFUSED), building), Wait)


def test_while_capacity_on_a_host_is_freed_no_other_request_may_try():
    """The cloud alone decides where a VM goes: it could go right there."""
    gate = tenant(*GROUP, kept=[reserved("earlier", HOST_GROUP, "id-of-sim-1", 2, GROUP[:2])])
    for preemptible in (True, False):
        assert isinstance(decide(request(is_preemptible=preemptible), gate), Wait)
    quota_only = tenant(*GROUP, kept=[reserved("earlier", QUOTA, PROJECT)])
    assert decide(request(), quota_only) == Place(None)


def test_a_request_that_had_its_rounds_has_no_third():
    assert refusal(decide(request(rounds=MAX_ROUNDS, **REFUSED), tenant(*GROUP))) == "no_capacity"


def looked_at(kind, members, world, cpus=2):
    """The review of "wanted", which holds room that was planned with these members."""
    place = PROJECT if kind == QUOTA else "id-of-sim-1"
    kept = reserved("wanted", kind, place, cpus, members)
    world.reservations["wanted"] = kept
    return review(request(cpus=cpus, rounds=1, **({} if kind == QUOTA else REFUSED)), kept, world)


def noticed(*names):
    """Victims of the request "wanted"."""
    return [vm(name, state=State.NOTICED, evicted_for="wanted") for name in names]


def test_a_group_s_capacity_is_there_when_members_that_held_as_much_have_left():
    assert isinstance(looked_at(HOST_GROUP, GROUP, tenant(*noticed("a", "b"), *GROUP[2:])), Wait)
    one_left = tenant(vm("a", state=State.EVICTED, present=False), *noticed("b"), *GROUP[2:])
    assert isinstance(looked_at(HOST_GROUP, GROUP, one_left), Wait)
    assert looked_at(HOST_GROUP, GROUP, tenant(*GROUP[2:])) == Place(None)


def test_any_member_that_leaves_counts_and_spares_a_victim():
    """Its owner deleted "c", who was no victim: one of the two victims may stay."""
    world = tenant(*noticed("a", "b"), GROUP[3])
    decision = looked_at(HOST_GROUP, GROUP, world)
    assert isinstance(decision, Reprieve) and len(decision.victims) == 1


def test_quota_that_appears_reprieves_and_then_places():
    world = tenant(*noticed("a", "b"), limit={"cores": 3})
    decision = looked_at(QUOTA, (), world)
    assert isinstance(decision, Reprieve) and len(decision.victims) == 1
    assert looked_at(QUOTA, (), tenant(*noticed("a", "b"), limit={"cores": 4})) == Place(None)


def test_quota_that_a_new_server_may_have_taken_spares_no_vm_yet():
    """It came after the quota was read: the room that seems to be there may be its own."""
    for unseen, expected in ((True, Wait), (False, Reprieve)):
        new = vm("new", state=State.BUILDING, is_preemptible=False, uncounted=unseen)
        world = tenant(new, *noticed("a", "b"), limit={"cores": 3})
        world.quota_used = world.quota_used - new.quota
        assert isinstance(looked_at(QUOTA, (), world), expected)


def test_quota_that_was_taken_costs_another_round():
    thief = vm("thief", 2, is_preemptible=False)
    world = tenant(thief, *GROUP[2:], limit={"cores": 4})
    kind, _, victims = plan(looked_at(QUOTA, (), world))
    assert (kind, victims) == (QUOTA, {"c", "d"})


def test_a_group_that_can_no_longer_give_it_is_left_for_another():
    stays = vm("a", untouchable=True)
    others = [vm(name, host="sim-2") for name in "ef"]
    kind, place, victims = plan(looked_at(HOST_GROUP, [stays], tenant(stays, *others)))
    assert (kind, place, victims) == (HOST_GROUP, "id-of-sim-2", {"e", "f"})


def test_where_a_victim_stays_another_of_its_group_goes_and_what_has_left_there_counts():
    """Three of four were needed: "a" and "b" have left, "c" was locked and stays."""
    stays, spare = vm("c", untouchable=True, locked=True), vm("d")
    members = [*GROUP[:2], stays, spare]
    decision = looked_at(HOST_GROUP, members, tenant(stays, spare), cpus=3)
    assert plan(decision) == (HOST_GROUP, "id-of-sim-1", {"d"})
    assert decision.members == {member.id: member.resources for member in members}
    assert refusal(looked_at(HOST_GROUP, [*GROUP[:1], stays, spare], tenant(stays, spare), cpus=3)) == "no_capacity"


def test_of_two_whose_plans_broke_one_gives_its_reservation_up_and_the_other_goes_on():
    """The gate would make each wait for the other."""
    stays, free = vm("a", untouchable=True), vm("b", 3, host="sim-2")
    world = tenant(stays, free, kept=[reserved("other", HOST_GROUP, "id-of-sim-1", 2, [stays])])
    decision = looked_at(HOST_GROUP, [stays], world)
    assert isinstance(decision, Postpone) and not decision.groups
    world.release("wanted")
    other = request("other", 2, rounds=1, **REFUSED)
    assert plan(review(other, world.reservations["other"], world)) == (HOST_GROUP, "id-of-sim-2", {"b"})


def test_a_used_up_budget_is_waited_for_by_quota_and_by_host():
    vms = [vm("a", group="web"), vm("b", group="web", state=State.NOTICED, host="sim-2")]
    for wish, limit in ((request(), {"cores": 2}), (request(**REFUSED), None)):
        world = tenant(*vms, limit=limit, budgets={"web": 0}, full_budgets={"web": 1})
        world.vms.put(vm("b", group="web", state=State.ACTIVE, untouchable=True))  # it only practises
        assert decide(wish, world) == Postpone(
            "as many VMs of eviction group web as may go at once are noticed or leaving", frozenset({"web"})
        )


def test_when_a_vm_as_large_has_just_left_elsewhere_the_cloud_is_tried_before_the_victims_go():
    victim = vm("a", 2, state=State.NOTICED, evicted_for="wanted")
    said_no = datetime(2026, 11, 23, tzinfo=UTC)
    gone = {"host": "sim-2", "present": False, "is_preemptible": False, "ended_at": said_no + timedelta(seconds=1)}

    def decision(*vms, more=()):
        world = tenant(victim, *vms, kept=[reserved("wanted", HOST_GROUP, "id-of-sim-1", 2, [victim]), *more])
        return review(request(cpus=2, refused_at=said_no, **REFUSED), world.reservations["wanted"], world)

    assert decision(vm("b", 2, state=State.DELETED, **gone)) == Place()
    for still in (
        vm("b", 1, state=State.DELETED, **gone),
        vm("b", 2, state=State.EVICTED, evicted_for="other", **gone),
        vm("b", 2, host="sim-2"),
        vm("b", 2, state=State.DELETED, **{**gone, "ended_at": said_no}),
    ):
        assert isinstance(decision(still), Wait), still
    other = reserved("other", HOST_GROUP, "id-of-sim-3")
    assert isinstance(decision(vm("b", 2, state=State.DELETED, **gone), more=[other]), Wait)
