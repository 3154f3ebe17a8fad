"""What is decided for a request where hosts are known: worlds in, literal decisions out."""

import pytest

from tests.unit.worlds import host, operator, request, reserved, vm
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.scheduling.decide import MAX_BUILDS, MAX_REFUSALS, MAX_ROUNDS, decide, review
from vmsvc.scheduling.decisions import Evict, Place, Postpone, Refuse, Reprieve, Wait
from vmsvc.scheduling.world import HOST


def plan(decision):
    """Where, and who goes."""
    assert isinstance(decision, Evict), decision
    return decision.bin, set(decision.victims)


def refusal(decision):
    """The slug."""
    assert isinstance(decision, Refuse), decision
    return decision.error


FULL = [vm(name) for name in "abcd"]


@pytest.mark.parametrize("preemptible", [True, False])
def test_who_fits_is_placed_on_the_host_where_least_stays_free(preemptible):
    vms = [vm("a", 3, host="sim-2"), vm("b", 1, host="sim-3")]
    world = operator(*vms, hosts=[host(f"sim-{number}", vms) for number in (1, 2, 3)])
    assert decide(request(is_preemptible=preemptible), world) == Place("sim-2")
    assert decide(request(cpus=2, is_preemptible=preemptible), world) == Place("sim-3")
    assert decide(request(cpus=4, is_preemptible=preemptible), world) == Place("sim-1")


def test_a_preemptible_vm_evicts_no_vm():
    assert refusal(decide(request(is_preemptible=True), operator(*FULL))) == "no_capacity"


def test_a_standard_vm_evicts_as_many_as_it_needs_and_no_more():
    place, victims = plan(decide(request(cpus=3), operator(*FULL)))
    assert place == "sim-1" and len(victims) == 3
    assert plan(decide(request(cpus=3), operator(*FULL[:3])))[1] < {"a", "b", "c"}


def test_the_best_host_is_chosen_over_all():
    vms = [vm(name, 1, host="sim-1") for name in "abcd"] + [vm("large", 4, host="sim-2")]
    world = operator(*vms, hosts=[host("sim-1", vms), host("sim-2", vms)])
    assert plan(decide(request(cpus=4), world)) == ("sim-2", {"large"})
    assert plan(decide(request(cpus=1), world))[0] == "sim-1"


def test_a_request_that_no_host_could_take_evicts_no_vm():
    assert refusal(decide(request(cpus=5), operator(*FULL))) == "no_capacity"


def test_what_others_hold_cannot_be_freed():
    assert refusal(decide(request(cpus=3), operator(*FULL[:2], foreign=2))) == "no_capacity"


@pytest.mark.parametrize(
    "facts", [{"untouchable": True}, {"is_preemptible": False}, {"state": State.NOTICED}, {"present": False}]
)
def test_who_may_not_be_a_victim_is_none(facts):
    keeper = vm("a", 4, **facts)
    world = operator(keeper) if keeper.present else operator(keeper, foreign=4)
    decision = decide(request(), world)
    assert isinstance(decision, Refuse) or (isinstance(decision, Evict) and not decision.victims), decision


@pytest.mark.parametrize("facts", [{"available": False}, {"availability_zone": "other"}])
def test_hosts_that_the_cloud_would_not_take_are_not_thought_of(facts):
    world = operator(hosts=[host("sim-1", **facts)])
    assert refusal(decide(request(availability_zone="nova"), world)) == "no_capacity"
    full = operator(*FULL, hosts=[host("sim-1", FULL, **facts)])
    assert refusal(decide(request(availability_zone="nova"), full)) == "no_capacity"


def test_a_host_that_refused_it_is_avoided():
    vms = [vm("a", 4, host="sim-2")]
    world = operator(*vms, hosts=[host("sim-1", vms), host("sim-2", vms)])
    assert decide(request(cpus=4), world) == Place("sim-1")
    assert plan(decide(request(cpus=4, avoid=frozenset({"sim-1"})), world)) == ("sim-2", {"a"})


def test_capacity_that_is_being_freed_is_reserved_and_no_vm_is_evicted_for_it():
    leaving = [vm("a", state=State.DELETING), *FULL[1:]]
    assert plan(decide(request(), operator(*leaving))) == ("sim-1", set())
    assert decide(request(is_preemptible=True), operator(*leaving)) == Wait("VMs are leaving and make room")


def test_vms_that_are_being_built_are_waited_for():
    building = [vm(name, state=State.BUILDING) for name in "abcd"]
    assert isinstance(decide(request(), operator(*building)), Wait)
    standard = [vm(name, state=State.BUILDING, is_preemptible=False) for name in "abcd"]
    assert refusal(decide(request(), operator(*standard))) == "no_capacity"


def test_two_requests_share_no_victim():
    vms = FULL + [vm(name, host="sim-2") for name in "efgh"]
    world = operator(*vms, hosts=[host("sim-1", vms), host("sim-2", vms)])
    seen = set()
    for name in ("one", "two", "three", "four"):
        wanted = request(name, 2)
        place, victims = plan(decide(wanted, world))
        assert len(victims) == 2 and not victims & seen
        seen |= victims
        world.reserve(wanted, HOST, place, tuple(victims), {})
    assert refusal(decide(request("five"), world)) == "no_capacity"


def test_a_later_standard_request_does_not_take_capacity_that_is_reserved_for_an_earlier_one():
    kept = [reserved("earlier", HOST, "sim-1", 4)]
    victims = [vm(name, state=State.EVICTING, evicted_for="earlier") for name in "abcd"]
    assert refusal(decide(request("later"), operator(*victims, kept=kept))) == "no_capacity"
    gone = operator(kept=kept)
    assert refusal(decide(request("later"), gone)) == "no_capacity"
    assert refusal(decide(request("later", is_preemptible=True), gone)) == "no_capacity"
    assert review(request("earlier", 4), kept[0], gone) == Place("sim-1")


def test_the_quota_alone_may_be_short():
    vms = [vm("a", host="sim-1"), vm("b", host="sim-2")]
    world = operator(*vms, hosts=[host("sim-1", vms), host("sim-2", vms)], limit={"instances": 2})
    _, victims = plan(decide(request(), world))
    assert len(victims) == 1
    assert refusal(decide(request(is_preemptible=True), world)) == "quota_exceeded"
    assert (
        refusal(decide(request(cpus=3), operator(*vms, hosts=[host("sim-1", vms)], limit={"cores": 2})))
        == "quota_exceeded"
    )


def test_quota_and_host_may_be_short_at_once():
    """Room on sim-1 needs two of its VMs; the quota is short of one instance, which those two give."""
    world = operator(*FULL, limit={"instances": 4})
    assert len(plan(decide(request(cpus=2), world))[1]) == 2


def test_a_request_that_had_its_rounds_has_no_third():
    assert refusal(decide(request(rounds=MAX_ROUNDS), operator(*FULL))) == "no_capacity"
    assert decide(request(rounds=MAX_ROUNDS), operator()) == Place("sim-1"), "room that is there costs nobody anything"


def test_a_cloud_that_refuses_again_and_again_is_believed():
    assert refusal(decide(request(refusal="no_capacity", refusals=MAX_REFUSALS), operator())) == "no_capacity"


def test_what_a_host_is_over_committed_by_must_leave_too_before_anything_fits():
    """Six of four VCPUs are claimed: one more fits when three are gone."""
    world = operator(*FULL, foreign=2)
    place, victims = plan(decide(request(), world))
    assert place == "sim-1" and len(victims) == 3
    assert refusal(decide(request(), operator(*FULL[:2], foreign=4))) == "no_capacity"


def test_a_class_that_it_does_not_ask_for_may_be_over_committed():
    crowded = host("sim-1", FULL[:1])
    crowded = Host(
        "sim-1",
        {**crowded.inventories, "DISK_GB": Inventory(1)},
        {**crowded.allocations, "x": Resources({"DISK_GB": 5})},
        availability_zone="nova",
    )
    assert decide(request(), operator(FULL[0], hosts=[crowded])) == Place("sim-1")


def test_a_build_that_failed_is_tried_on_other_hosts_and_no_vm_is_evicted_for_it():
    failed = {"refusal": "cloud_error", "refusals": 1, "cloud_message": "it burnt", "avoid": frozenset({"sim-1"})}
    vms = [vm(name, host="sim-2") for name in "abcd"]
    assert decide(request(**failed), operator(hosts=[host("sim-1"), host("sim-2")])) == Place("sim-2")
    assert decide(request(**failed), operator(*vms, hosts=[host("sim-1"), host("sim-2", vms)])) == Refuse(
        "cloud_error", "it burnt"
    )
    assert decide(request(**{**failed, "refusals": MAX_BUILDS}), operator(hosts=[host("sim-2")])) == Refuse(
        "cloud_error", "it burnt"
    )


def test_of_an_eviction_group_no_more_go_than_may():
    vms = [vm(name, lost_work=at, group="web") for at, name in enumerate("ab")] + [
        vm(name, lost_work=9) for name in "cd"
    ]
    assert set(decide(request(cpus=2), operator(*vms, budgets={"web": 1})).victims) == {"a", "c"}
    assert set(decide(request(cpus=2), operator(*vms, budgets={"web": 2})).victims) == {"a", "b"}
    vms = [vm("a", lost_work=0, group="web"), vm("b", lost_work=1, group="web"), vm("c", 2, lost_work=9)]
    assert decide(request(cpus=2), operator(*vms, budgets={"web": 0})).victims == ("c",)


def test_the_member_of_a_group_that_is_on_the_right_host_goes():
    vms = [
        vm("a", 1, lost_work=1, group="web"),
        vm("b", 3, lost_work=2, is_preemptible=False),
        vm("c", 1, lost_work=3, group="web", host="sim-2"),
        vm("d", 2, lost_work=3, host="sim-2"),
        vm("e", 1, lost_work=9, host="sim-2", is_preemptible=False),
    ]
    world = operator(*vms, hosts=[host("sim-1", vms), host("sim-2", vms)], budgets={"web": 1})
    assert decide(request(cpus=3), world).victims == ("c", "d")


def test_victims_that_were_noticed_already_do_not_count_against_their_group_again():
    victim = vm("a", 4, group="web", state=State.NOTICED, evicted_for="wanted")
    world = operator(victim, kept=[reserved("wanted", HOST, "sim-1", 4)], budgets={"web": 0})
    assert isinstance(review(request(cpus=4), world.reservations["wanted"], world), Wait)


def test_a_request_that_only_a_used_up_budget_keeps_out_waits_for_it():
    vms = [vm("a", 2, group="web"), vm("b", 2, group="web", state=State.NOTICED, evicted_for="other")]
    world = operator(*vms, kept=[reserved("other", HOST, "sim-1", 2)], budgets={"web": 0}, full_budgets={"web": 1})
    waits = decide(request(), world)
    assert isinstance(waits, Postpone) and waits.groups == {"web"}
    assert refusal(decide(request(waited=600), world)) == "no_capacity"
    assert refusal(decide(request(rounds=MAX_ROUNDS), world)) == "no_capacity"
    assert refusal(decide(request(cpus=3), world)) == "no_capacity"
    assert refusal(decide(request(is_preemptible=True), world)) == "no_capacity"


def test_a_request_that_needs_more_of_a_group_than_may_ever_go_at_once_is_refused():
    vms = [vm(name, group="web") for name in "abcd"]
    world = operator(*vms, budgets={"web": 1}, full_budgets={"web": 1})
    assert refusal(decide(request(cpus=2), world)) == "no_capacity"


def test_a_plan_that_comes_to_want_a_used_up_budget_lets_its_victims_off():
    """One of its victims was locked; the other that could go instead is of a group that has lost enough for now."""
    vms = [
        vm("a", 2, state=State.NOTICED, evicted_for="wanted", locked=True, untouchable=True),
        vm("b", 1, state=State.NOTICED, evicted_for="wanted"),
        vm("c", 1, group="web"),
        vm("d", 1, group="web", state=State.NOTICED, host="sim-2"),
    ]
    world = operator(
        *vms,
        hosts=[host("sim-1", vms)],
        kept=[reserved("wanted", HOST, "sim-1", 2)],
        budgets={"web": 0},
        full_budgets={"web": 1},
    )
    assert isinstance(review(request(cpus=2), world.reservations["wanted"], world), Postpone)


def test_nobody_later_in_the_order_uses_the_budget_that_an_earlier_request_waits_for():
    vms = [vm(name, group="web") for name in "abc"] + [vm("d", 1, group="web", state=State.NOTICED)]
    world = operator(*vms, budgets={"web": 1}, full_budgets={"web": 2})
    waits = decide(request(cpus=3), operator(*vms, budgets={"web": 1}, full_budgets={"web": 3}))
    assert isinstance(waits, Postpone) and not isinstance(decide(request("later", 2), world), Postpone)
    world.use_up_budgets(waits.groups)
    assert isinstance(decide(request("later", 2), world), Postpone)


def test_capacity_that_appears_on_another_host_is_taken_and_the_victims_stay():
    vms = [vm("a", 4, state=State.NOTICED, evicted_for="wanted"), vm("b", 1, host="sim-2")]
    world = operator(*vms, hosts=[host("sim-1", vms), host("sim-2", vms)], kept=[reserved("wanted", HOST, "sim-1", 3)])
    assert review(request(cpus=3), world.reservations["wanted"], world) == Place("sim-2")
    going = [vm("a", 4, state=State.EVICTING, evicted_for="wanted"), vms[1]]
    world = operator(
        *going, hosts=[host("sim-1", going), host("sim-2", going)], kept=[reserved("wanted", HOST, "sim-1", 3)]
    )
    assert isinstance(review(request(cpus=3), world.reservations["wanted"], world), Wait), "nobody can be spared"


def test_the_criterion_is_called_as_the_policy_has_it():
    vms = [vm("a", 4, lost_work=-9), vm("b", 4, lost_work=-5, host="sim-2")]
    world = operator(*vms, hosts=[host("sim-1", vms), host("sim-2", vms)], cost_words="oldest first")
    assert decide(request(cpus=4), world).criterion == "oldest first"


def test_no_more_victims_than_allowed():
    assert refusal(decide(request(cpus=3), operator(*FULL, max_victims=2))) == "no_capacity"


# ---------------------------------------------------------------- review: victims are on their way


def noticed(*names, **facts):
    """Victims of the request "wanted"."""
    return [vm(name, state=State.NOTICED, evicted_for="wanted", **facts) for name in names]


def looked_at(world, cpus=2, **facts):
    """The review of "wanted", which holds room on sim-1."""
    kept = reserved("wanted", HOST, "sim-1", cpus)
    world.reservations["wanted"] = kept
    return review(request(cpus=cpus, rounds=1, **facts), kept, world)


def test_while_its_victims_go_a_request_waits():
    assert isinstance(looked_at(operator(*noticed("a", "b"), *FULL[2:])), Wait)
    going = [vm("a", state=State.EVICTING, evicted_for="wanted"), *noticed("b")]
    assert isinstance(looked_at(operator(*going, *FULL[2:])), Wait)


def test_when_they_are_gone_it_is_placed():
    assert looked_at(operator(*FULL[2:])) == Place("sim-1")


def test_a_victim_that_is_no_longer_needed_is_reprieved():
    decision = looked_at(operator(*noticed("a", "b"), FULL[2]))
    assert isinstance(decision, Reprieve) and len(decision.victims) == 1
    # With room for all of it nobody need go: it is placed, and who carries it out spares those that are left.
    assert looked_at(operator(*noticed("a", "b"))) == Place("sim-1")


def test_capacity_that_was_taken_costs_another_round_elsewhere():
    vms = [vm(name, host="sim-2") for name in "efgh"]
    world = operator(*vms, hosts=[host("sim-1", foreign=4), host("sim-2", vms)])
    place, victims = plan(looked_at(world))
    assert place == "sim-2" and len(victims) == 2


def test_a_host_that_has_gone_costs_another_round_elsewhere():
    vms = [vm(name, host="sim-2") for name in "efgh"]
    world = operator(*vms, hosts=[host("sim-2", vms)])
    assert plan(looked_at(world))[0] == "sim-2"
    down = operator(*vms, hosts=[host("sim-1", available=False), host("sim-2", vms)])
    assert plan(looked_at(down))[0] == "sim-2"


def test_a_victim_that_was_reprieved_meanwhile_is_replaced():
    """It was locked and stays: somebody else goes."""
    locked = vm("a", untouchable=True)
    world = operator(locked, *noticed("b"), *FULL[2:])
    place, victims = plan(looked_at(world))
    assert place == "sim-1" and "a" not in victims and victims


def test_without_candidates_it_is_refused():
    assert refusal(looked_at(operator(*noticed("b"), foreign=3))) == "no_capacity"


def test_capacity_that_a_new_server_may_take_is_promised_to_no_request():
    """One leaves, for an earlier request. The quota leaves room for one more, unless it lacks the newest server."""
    for unseen in (True, False):
        new = vm("new", is_preemptible=False, uncounted=unseen, host="sim-2")
        going = vm("going", state=State.EVICTING, evicted_for="first")
        world = operator(
            new,
            going,
            vm("other"),
            limit={"cores": 3},
            hosts=[host("sim-1", [going]), host("sim-2", [new])],
            kept=[reserved("first", HOST, "sim-1")],
        )
        world.quota_used = world.quota_used - new.quota
        assert isinstance(decide(request(), world), Wait if unseen else Place)


@pytest.mark.parametrize("counts_on_it", [True, False])
def test_a_victim_that_another_plan_counts_on_is_not_reprieved(counts_on_it):
    """ "v" was to free quota for the first request, which is there by now; its capacity was promised to another one."""
    vms = [
        vm("u", 4, state=State.NOTICED, evicted_for="wanted"),
        vm("v", 2, host="sim-2", state=State.NOTICED, evicted_for="wanted"),
        vm("w", 2, host="sim-2", is_preemptible=False),
    ]
    mine, other = reserved("wanted", HOST, "sim-1", 4), reserved("other", HOST, "sim-2", 2)
    world = operator(
        *vms, hosts=[host("sim-1", vms), host("sim-2", vms)], kept=[mine, other] if counts_on_it else [mine]
    )
    found = review(request(cpus=4), mine, world)
    assert isinstance(found, Wait) if counts_on_it else found == Reprieve(("v",))
