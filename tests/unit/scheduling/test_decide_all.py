"""A whole pass: what is returned, what of the world is changed, and what one decision means for the next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.worlds import host, operator, request, reserved, tenant, vm
from vmsvc.domain.acceptance import Objection, Verdict
from vmsvc.domain.catalog import Addresses
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import FutileEviction, History, Precedents
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.decide import decide
from vmsvc.scheduling.decide_all import Commit, Knowledge, Settle, Verify, decide_alike, decide_all
from vmsvc.scheduling.decisions import Evict, Place, Refuse, Reprieve
from vmsvc.scheduling.verification import UNPLUGGED, Networks, Verification, Verified, WaitingRequest
from vmsvc.scheduling.world import HOST

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
GOOD = {"a key": Verdict()}
FULL = [vm(name) for name in "abcd"]
CONDITIONS = ("an aggregate",)
HOSTS = frozenset({"sim-1", "sim-2"})


def waits(name="wanted", cpus=1, *, first_end=None, had_victims=False, **facts):
    """A request of so many vCPUs, as a pass sees it."""
    boot = {"flavor_id": "f", "image_id": "i", "network_id": "net", "availability_zone": None}
    return WaitingRequest(request(name, cpus, **facts), boot, "a key", first_end, had_victims)


def asked(**facts):
    """All that can be verified on these hosts was."""
    needs = frozenset((request(cpus=cpus).resources, request().traits) for cpus in range(1, 9))
    return Verified(fresh=HOSTS, sought=needs, **{"verdicts": GOOD, **facts})


def decided(waiting, world, **facts):
    """The plan of a pass, whose trial ends then."""
    with world.trial():
        return decide_all(waiting, world, Knowledge(NOW, **{"verified": asked(), **facts}))


def decisions(plan):
    """What a commit says of each request."""
    assert isinstance(plan, Commit)
    return {change.request_id: change.decision for change in plan.changes}


def test_requests_that_fit_are_placed_and_there_is_no_next_pass():
    plan = decided([waits("one"), waits("two")], operator(vm("a")))
    assert decisions(plan) == {"one": Place("sim-1"), "two": Place("sim-1")} and plan.acts and not plan.wait


def test_what_an_eviction_rests_on_is_verified_first_and_for_all_requests_at_once():
    world = operator(*FULL)
    plan = decided([waits("one"), replace(waits("two", 2), key="another key")], world, verified=Verified())
    assert isinstance(plan, Verify)
    assert plan.what.hosts == {"sim-1"} and len(plan.what.needs) == 2
    assert set(plan.what.boots) == {"a key", "another key"}
    assert all(one.state is State.ACTIVE for one in world.vms.values()) and not world.reservations


def test_a_plan_that_rests_on_what_was_verified_names_its_victims_with_how_their_notice_is_delivered():
    world = operator(vm("a", takes_notice=False), vm("b", rate=1), vm("c", rate=1), vm("d", rate=1, since=-99))
    plan = decided([waits()], world)
    (change,) = plan.changes
    assert isinstance(change.decision, Evict) and plan.noticed == {"a"} and plan.wait == Timing().pass_while_waiting
    assert [(one.vm_id, one.takes_notice) for one in change.notices] == [("a", False)]


def test_while_more_may_come_no_vm_is_noticed_until_the_pass_has_waited_for_them():
    assert decided([waits()], operator(*FULL), settling=0.1) == Settle(0.1)
    plan = decided([waits()], operator(*FULL), settling=0.1, settled=True)
    assert plan == Commit((), False, 0.1)
    assert not decided([waits("small"), waits("large", 4)], operator(vm("a")), settling=0.1).noticed


def test_no_two_requests_get_the_same_capacity_or_the_same_victim():
    plan = decided([waits("one", 2), waits("two", 2), waits("three", 2)], operator(*FULL))
    assert len(plan.noticed) == 4
    assert sum(isinstance(one, Evict) for one in decisions(plan).values()) == 2


@pytest.mark.parametrize("world", [operator(vm("a"), vm("b", 3)), tenant(vm("a"), vm("b", 3), limit={"cores": 4})])
def test_a_victim_stays_when_a_later_plan_of_the_pass_frees_its_capacity_too(world):
    small, large = waits("small"), waits("large", 2)
    plan = decided([small, large], world)
    assert plan.noticed == {"b"} == decided([large, small], world).noticed
    assert [notice.vm_id for change in plan.changes for notice in change.notices] == ["b"]
    found = decisions(plan)
    assert found["small"].victims == () and found["small"].criterion == "room that is being freed already"
    assert found["large"].victims == ("b",)


def test_of_the_victims_of_one_plan_the_costlier_stays_and_the_cost_is_that_of_the_other():
    vms = [vm("a", since=1, rate=1), vm("b", rate=1), vm("c", 2, priority=1)]
    plan = decided([waits("first", 2), waits("second")], operator(*vms, now=9))
    found = decisions(plan)
    assert (found["first"].victims, found["second"].victims) == (("a",), ("c",))
    assert not found["first"].optimal and found["first"].criterion == "the least beside the victims of other requests"
    assert found["first"].cost == {
        "victims_by_priority": {"0": 1},
        "running_victims": 1,
        "lost_work": 8,
        "surplus_ppm": 500_000,
        "surcharge": 0,
    }


@pytest.mark.parametrize(("surcharges", "common"), [({"loser": 300}, 0), ({"loser": 300, "": 200}, 200)])
def test_the_cost_tells_lost_work_and_the_surcharge_of_owners_apart(surcharges, common):
    vms = [vm("a", 2, since=0, rate=2, owner="loser"), vm("b", 2, priority=1)]
    world = operator(*vms, now=10)
    world.set_surcharges(surcharges, common)
    one = decisions(decided([waits("wanted", 2)], world))["wanted"]
    assert one.victims == ("a",)
    assert (one.cost["lost_work"], one.cost["surcharge"]) == (2 * 10 + 300, 300)
    two = decisions(decided([waits("one", 2), waits("two", 2)], world))
    assert {each.cost["surcharge"] for each in two.values()} == {300 + surcharges.get("", 0)}


def test_so_many_requests_alike_are_decided_as_the_pass_would_and_leave_the_world_as_it_was():
    world = operator(*FULL)
    wanted = [waits(name, 2) for name in ("one", "two", "three")]

    def ask(one):
        return decide(one, world)

    with world.trial():
        found, what = decide_alike(wanted[0].request, 3, world, Verified(), ask)
        assert [type(each) for each in found] == [Evict, Evict, Refuse] and what
        assert decide_alike(wanted[0].request, 3, world, Verified(), ask)[0] == found
    pass_ = decisions(decided(wanted, world))
    assert [each.victims for each in found[:2]] == [pass_[name].victims for name in ("one", "two")]


def test_a_victim_that_could_not_leave_costs_the_request_whose_victim_it_was():
    """Two requests were promised capacity, and of the second a victim was locked: the quota lacks one instance."""
    vms = [vm("locked", 2, host="sim-2", untouchable=True), vm("b", 2, host="sim-2")]
    world = operator(
        *vms,
        hosts=[host("sim-1", vms), host("sim-2", vms)],
        kept=[reserved("one", HOST, "sim-1", 4), reserved("two", HOST, "sim-2", 2)],
        limit={"instances": 3},
    )
    plan = decided([waits("one", 4, rounds=1), waits("two", 2)], world)
    assert plan.noticed == {"b"}
    found = decisions(plan)
    assert found["one"] == Place("sim-1") and (found["two"].bin, found["two"].victims) == ("sim-2", ("b",))


def test_a_victim_stays_when_the_request_that_it_makes_up_for_is_refused_in_the_same_pass():
    vms = [vm("locked", 4, host="sim-2", untouchable=True), vm("c")]
    world = operator(
        *vms,
        hosts=[host("sim-1", vms), host("sim-2", vms)],
        kept=[reserved("one", HOST, "sim-1", 3), reserved("two", HOST, "sim-2", 4)],
        limit={"instances": 3},
    )
    plan = decided([waits("one", 3, rounds=1), waits("two", 4, rounds=1)], world)
    found = decisions(plan)
    assert isinstance(found["two"], Refuse) and not plan.noticed and not plan.changes[0].notices
    assert (found["one"].bin, found["one"].victims) == ("sim-1", ())


def test_a_victim_is_reprieved_when_a_plan_of_a_later_pass_frees_its_capacity_too():
    vms = [
        vm("a", state=State.NOTICED, evicted_for="small"),
        vm("b", 3, state=State.NOTICED, evicted_for="large"),
    ]
    world = operator(*vms, kept=[reserved("small", HOST, "sim-1"), reserved("large", HOST, "sim-1", 2)])
    assert decisions(decided([waits("small"), waits("large", 2)], world)) == {"small": Reprieve(("a",))}


def test_a_refusal_is_a_precedent_for_the_next_of_its_class_in_the_same_pass():
    world = operator(*FULL, limit={"cores": 4})
    tried = waits(
        "tried",
        had_victims=True,
        refusal="no_capacity",
        refused_rounds=1,
        refused_with_capacity=True,
        cloud_message="No valid host was found.",
    )
    other = replace(waits("other"), boot={**tried.boot, "flavor_id": "another"})
    plan = decided([tried, waits("next"), other], world)
    found = decisions(plan)
    assert isinstance(found["tried"], Refuse) and isinstance(found["other"], Evict)
    assert found["next"].error == "no_capacity" and "No valid host was found." in found["next"].message
    assert isinstance(decisions(decided([replace(tried, had_victims=False), waits("next")], world))["next"], Evict)


def test_when_the_request_that_tried_the_conditions_is_refused_the_next_may_try_them():
    history = History(tried_by={CONDITIONS: frozenset({"first"})})
    first = waits(
        "first",
        conditions=CONDITIONS,
        refusal="no_capacity",
        refusals=1,
        refused_rounds=1,
        precedents=Precedents(accepted=False),
        cloud_message="no",
    )
    second = waits("second", conditions=CONDITIONS, precedents=Precedents(accepted=False, being_tried=True))
    assert not decided([second], operator(*FULL), history=history).changes
    found = decisions(decided([first, second], operator(*FULL), history=history))
    assert isinstance(found["first"], Refuse) and isinstance(found["second"], Evict)


def test_a_network_that_gave_no_address_to_the_request_before_costs_nobody_a_vm():
    failed = waits("failed", refusal="cloud_error", refusals=9, cloud_message=f"{UNPLUGGED}(s), not rescheduling.")
    found = decisions(decided([failed, waits("next")], operator(*FULL)))
    assert isinstance(found["failed"], Refuse) and "could not be plugged" in found["next"].message


def test_requests_that_nova_refuses_are_refused_and_others_are_decided():
    bad = waits("bad", invalid=Objection("no such image", "image"))
    found = decisions(decided([bad, waits("good")], operator()))
    assert found == {"bad": Refuse("invalid_request", "no such image"), "good": Place("sim-1")}


def test_the_request_is_asked_about_again_shortly_before_its_first_victim_leaves():
    victim = vm("a", 4, state=State.NOTICED, evicted_for="wanted")
    world = operator(victim, kept=[reserved("wanted", HOST, "sim-1", 4)])
    late, early = (waits(cpus=4, first_end=NOW + timedelta(seconds=seconds)) for seconds in (1, 5))
    assert decided([late], world, verified=Verified()) == Verify(Verification(boots={"a key": late.boot}))
    assert not decided([early], world, verified=Verified()).changes
    no = asked(verdicts={"a key": Verdict(Objection("the image is gone", "image"))})
    (change,) = decided([late], world, verified=no).changes
    assert change.decision == Refuse("invalid_request", "the image is gone") and change.reprieved == ("a",)


@pytest.mark.parametrize("network, refused", [("net", True), ("another", False)])
def test_vms_that_build_take_the_last_addresses_of_their_own_network(network, refused):
    builds = vm("new", state=State.BUILDING, is_preemptible=False, cloud_id=None, present=False)
    world = tenant(*FULL, builds, limit={"cores": 5})
    used = Addresses(9, 9, frozenset("ABCD"))
    counted = asked(verdicts={"a key": Verdict(addresses=used)})
    plan = decided([waits()], world, verified=counted, networks=Networks({"new": {network: 1}}))
    assert isinstance(decisions(plan)["wanted"], Refuse) is refused


def test_a_victim_whose_port_stays_gives_no_address_back():
    counted = asked(verdicts={"a key": Verdict(addresses=Addresses(4, 4, frozenset("ABCD")))})
    for stays, refused in ((False, False), (True, True)):
        world = tenant(*(replace(each, keeps_ports=stays) for each in FULL), limit={"cores": 4})
        decision = decisions(decided([waits()], world, verified=counted))["wanted"]
        assert isinstance(decision, Refuse) is refused, decision


@pytest.mark.parametrize("second, ports, refused", [(1, 2, False), (0, 2, True), (1, 0, True)])
def test_each_network_of_a_request_needs_a_free_address_and_each_interface_a_port(second, ports, refused):
    """One victim gives one port back."""
    one = waits()
    nics = [{"network_id": "net"}, {"network_id": "two"}, {"network_id": "two", "port_id": "own"}]
    one = replace(one, boot={**one.boot, "options": {"nics": nics}})
    verdict = Verdict(ports=ports, addresses_of={"net": Addresses(9, 0), "two": Addresses(9, 9 - second)})
    plan = decided([one], tenant(*FULL, limit={"cores": 4}), verified=asked(verdicts={"a key": verdict}))
    assert isinstance(decisions(plan)["wanted"], Refuse) is refused


def test_the_world_is_as_before_when_the_pass_is_over():
    world = tenant(*FULL, limit={"cores": 4})
    before = dict(world.vms)
    assert decided([waits(), waits("two")], world).noticed
    assert dict(world.vms) == before and not world.reservations


def test_the_history_after_a_refusal_is_the_same_where_it_shows_nothing():
    history = History({("f",): FutileEviction("no_capacity", "why", 1)}, tried_by={CONDITIONS: frozenset({"a"})})
    assert history.after_refusal("b", ("g",), None) is history
    assert history.after_refusal("a", ("g",), None).tried_by == {CONDITIONS: frozenset()}
