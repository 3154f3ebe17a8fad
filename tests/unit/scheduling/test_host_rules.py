"""Which hosts a server group and hints leave to a request, and that no VM is evicted on the others."""

import random
from dataclasses import replace

import pytest

from tests.unit.worlds import host, operator, request, reserved, tenant, vm
from vmsvc.domain.lifecycle import State
from vmsvc.domain.server_group import ServerGroup
from vmsvc.scheduling.decide import decide, review
from vmsvc.scheduling.decisions import Evict, Place, Refuse, Wait
from vmsvc.scheduling.host_rules import with_host_rules
from vmsvc.scheduling.world import HOST

PLACES = ("sim-1", "sim-2", "sim-3")


def world_of(policy, *vms, members=(), most=1, elsewhere=None, **facts):
    """Three hosts, with a group `g`; `elsewhere`: where servers are that no VM accounts for."""
    places = {each.cloud_id: each.host for each in vms} | (elsewhere or {})
    group = ServerGroup("g", "g", policy, frozenset(members), most) if policy else None
    hosts = [host(name, vms) for name in PLACES]
    return operator(*vms, hosts=hosts, server_groups={"g": group}, locations=places, **facts)


def allowed(wanted, world):
    """The hosts that the rules leave."""
    ruled = with_host_rules(wanted, world)
    return {name for name in PLACES if ruled.may_be_at(name)}


A, B = (
    vm(name, host=place, is_preemptible=False, server_group="g") for name, place in (("a", "sim-1"), ("b", "sim-2"))
)


@pytest.mark.parametrize(
    "policy, vms, more, left",
    [
        ("anti-affinity", [A], {}, {"sim-2", "sim-3"}),
        ("anti-affinity", [A], {"most": 2}, set(PLACES)),
        ("anti-affinity", [], {"members": ["X"], "elsewhere": {"X": "sim-3"}}, {"sim-1", "sim-2"}),
        ("anti-affinity", [], {"members": ["X"]}, set(PLACES)),  # it has no host: in ERROR, or shelved
        ("anti-affinity", [A], {"members": ["A"], "most": 2}, set(PLACES)),  # one server, not two
        ("anti-affinity", [replace(A, state=State.EVICTING)], {}, {"sim-2", "sim-3"}),
        ("anti-affinity", [replace(A, state=State.DELETED, present=False)], {}, set(PLACES)),
        ("affinity", [A], {}, {"sim-1"}),
        ("affinity", [A, B], {}, {"sim-1", "sim-2"}),
        ("affinity", [], {}, set(PLACES)),
        ("soft-anti-affinity", [A, B], {}, set(PLACES)),
        ("soft-affinity", [A], {}, set(PLACES)),
    ],
)
def test_the_members_of_a_server_group_decide_about_the_hosts(policy, vms, more, left):
    assert allowed(request(server_group="g"), world_of(policy, *vms, **more)) == left


def test_a_member_that_builds_and_one_with_a_reservation_count():
    builds = replace(A, state=State.BUILDING, present=False, cloud_id=None)
    kept = replace(reserved("other", HOST, "sim-2"), server_group="g")
    world = world_of("anti-affinity", builds, kept=[kept])
    assert allowed(request(server_group="g"), world) == {"sim-3"}
    assert allowed(request("other", server_group="g"), world) == {"sim-2", "sim-3"}, "its own reservation is its own"


@pytest.mark.parametrize(
    "hints, left",
    [
        ({"same_host": ("X",)}, {"sim-1"}),
        ({"same_host": ("X", "Y")}, {"sim-1", "sim-2"}),
        ({"same_host": ("nowhere",)}, set()),
        ({"different_host": ("X", "nowhere")}, {"sim-2", "sim-3"}),
        ({"same_host": ("X", "Y"), "different_host": ("X",)}, {"sim-2"}),
    ],
)
def test_hints_name_hosts_by_their_servers(hints, left):
    assert allowed(request(**hints), world_of(None, elsewhere={"X": "sim-1", "Y": "sim-2"})) == left


def full(*members, **facts):
    """Three hosts full of preemptible VMs beside the members; on the first one they have lost least."""
    others = [
        vm(f"{place}-{number}", host=place, lost_work=100 * at)
        for at, place in enumerate(PLACES)
        for number in range(4 - sum(member.host == place for member in members))
    ]
    return world_of("anti-affinity", *members, *others, **facts)


def test_the_cheapest_victim_on_a_forbidden_host_stays():
    plan = decide(request(), full(A))
    assert isinstance(plan, Evict) and plan.bin == "sim-1"
    plan = decide(request(server_group="g"), full(A))
    assert isinstance(plan, Evict) and plan.bin == "sim-2"


def test_where_every_host_is_forbidden_the_answer_names_the_group():
    c = vm("c", host="sim-3", is_preemptible=False, server_group="g")
    refusal = decide(request(server_group="g"), full(A, B, c))
    assert isinstance(refusal, Refuse) and refusal.error == "no_capacity" and not refusal.final
    assert "its server group g (anti-affinity)" in refusal.message


def test_a_group_that_is_gone_refuses_and_one_that_could_not_be_read_waits():
    asked = request(server_group="g")
    refusal = decide(asked, world_of(None))
    assert isinstance(refusal, Refuse) and refusal.error == "invalid_request"
    waits = decide(asked, operator(server_groups={}))
    assert isinstance(waits, Wait) and waits.brief
    kept = replace(reserved("wanted", HOST, "sim-1"), server_group="g")
    assert isinstance(review(asked, kept, world_of(None, kept=[kept])), Refuse)


def test_a_reservation_on_a_host_that_a_member_has_taken_is_given_up():
    victim = vm("v", 4, host="sim-2", state=State.NOTICED, evicted_for="wanted")
    kept = replace(reserved("wanted", HOST, "sim-2"), server_group="g")
    world = world_of("anti-affinity", A, victim, kept=[kept], members=["X"], elsewhere={"X": "sim-2"})
    assert review(request(server_group="g"), kept, world) == Place("sim-3")


def test_a_soft_policy_chooses_among_the_hosts_that_fit():
    world = world_of("soft-anti-affinity", A, B)
    assert decide(request(server_group="g"), world) == Place("sim-3")
    world = world_of("soft-affinity", A, vm("d", 2, host="sim-2"))
    assert decide(request(), world) == Place("sim-2") and decide(request(server_group="g"), world) == Place("sim-1")


def test_a_later_request_for_the_same_port_is_refused():
    claims = frozenset({"port p"})
    kept = replace(reserved("first", HOST, "sim-1"), claims=claims)
    refusal = decide(request(claims=claims), world_of(None, kept=[kept]))
    assert isinstance(refusal, Refuse) and refusal.error == "conflict" and "port p" in refusal.message
    builds = vm("first", state=State.BUILDING, present=False, claims=claims)
    assert isinstance(decide(request(claims=claims), world_of(None, builds)), Refuse)
    assert isinstance(decide(request("first", claims=claims), world_of(None, kept=[kept])), Place)


def test_a_tenant_frees_quota_where_affinity_lets_the_vm_go():
    """A victim elsewhere would be cheaper; if the host of the group is full, Nova would refuse the VM all the same."""
    ours = [vm(name, host=place, lost_work=cost) for name, place, cost in (("x", "sim-1", 9), ("y", "sim-2", 0))]
    facts = {
        "server_groups": {"g": ServerGroup("g", "g", "affinity", frozenset("M"))},
        "locations": {"M": "id-of-sim-1"},
        "limit": {"instances": 2},
    }
    plan = decide(request(), tenant(*ours, **facts))
    assert isinstance(plan, Evict) and plan.victims == ("y",)
    plan = decide(request(server_group="g"), tenant(*ours, **facts))
    assert isinstance(plan, Evict) and plan.victims == ("x",)
    assert isinstance(decide(request(server_group="g"), tenant(ours[1], **facts | {"limit": {"instances": 1}})), Refuse)


def test_a_tenant_evicts_on_no_hostid_that_the_group_forbids():
    ours = [vm(name, 4, host=place) for name, place in (("x", "sim-1"), ("y", "sim-2"))]
    group = ServerGroup("g", "g", "anti-affinity", frozenset({"M"}))
    asked = request(cpus=4, server_group="g", refusal="no_capacity", refusals=1)
    world = tenant(*ours, server_groups={"g": group}, locations={"M": "id-of-sim-1"})
    plan = decide(asked, world)
    assert isinstance(plan, Evict) and plan.victims == ("y",)
    world.locations = {"M": "id-of-sim-1", "N": "id-of-sim-2"}
    world.server_groups = {"g": replace(group, members=frozenset("MN"))}
    assert isinstance(decide(asked, world), Refuse)


@pytest.mark.parametrize("make", [operator, tenant], ids=["operator", "tenant"])
def test_a_server_that_a_hint_names_is_no_victim(make):
    """Though it would be the cheapest: once it is gone, Nova has no host that is the same as its."""
    cheap, dear = vm("cheap", 2, host="sim-1"), vm("dear", 2, host="sim-1", lost_work=9)
    facts = {"locations": {"CHEAP": "sim-1" if make is operator else "id-of-sim-1"}}
    if make is operator:
        facts["hosts"] = [host("sim-1", [cheap, dear])]
    else:
        facts["limit"] = {"instances": 2}
    assert decide(request(), make(cheap, dear, **facts)).victims == ("cheap",)
    world = make(cheap, dear, **facts)
    plan = decide(request(same_host=("CHEAP",)), world)
    assert isinstance(plan, Evict) and plan.victims == ("dear",)
    assert not world.vms["cheap"].untouchable


def test_no_hint_costs_the_server_that_it_names_on_random_full_clouds():
    rng, plans = random.Random(7), 0
    for _ in range(300):
        vms = [
            vm(f"{place}-{number}", host=place, lost_work=rng.randrange(9), priority=rng.randrange(2))
            for place in PLACES
            for number in range(4)
        ]
        named = rng.sample(vms, rng.randrange(1, 4))
        same, different = named[: rng.randrange(1, 4)], named[2:]
        wanted = request(
            cpus=rng.randrange(1, 4),
            same_host=tuple(one.cloud_id for one in same),
            different_host=tuple(one.cloud_id for one in different),
        )
        decision = decide(wanted, world_of(None, *vms))
        if isinstance(decision, Evict):
            plans += 1
            assert not set(decision.victims) & {one.id for one in same}
            assert decision.bin in {one.host for one in same} - {one.host for one in different}
    assert plans > 150


def test_a_request_whose_group_could_not_be_read_keeps_its_plan():
    victim = vm("v", 4, host="sim-1", state=State.NOTICED, evicted_for="wanted")
    kept = replace(reserved("wanted", HOST, "sim-1"), server_group="g")
    world = operator(victim, hosts=[host(name, [victim]) for name in PLACES], kept=[kept], server_groups={})
    assert isinstance(review(request(server_group="g"), kept, world), Wait)
