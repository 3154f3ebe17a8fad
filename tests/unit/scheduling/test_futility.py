"""When an eviction would be in vain though the plan fits by size."""

from dataclasses import replace

import pytest

from tests.unit.worlds import host, operator, request, reserved, tenant, vm
from vmsvc.domain.request import EVIDENCE_SECONDS, Precedents
from vmsvc.domain.requirements import conditions_of
from vmsvc.scheduling.decide import decide
from vmsvc.scheduling.decisions import Evict, Refuse, Wait
from vmsvc.scheduling.world import HOST, HOST_GROUP

NOW = 10_000
CONDITIONS = ("hw_architecture=aarch64 (image)",)
UNTRIED = {"conditions": CONDITIONS, "precedents": Precedents(accepted=False)}
REFUSED = {"refusal": "no_capacity", "refusals": 1, "cloud_message": "No valid host was found."}


def built(seconds_ago, cpus=1, **facts):
    """A VM of ours that was built so long ago."""
    return vm("built", cpus, since=NOW - seconds_ago, **facts)


@pytest.mark.parametrize(
    "existing, fields, expected",
    [
        pytest.param(built(9), {}, Refuse, id="an equal size was built a moment ago"),
        pytest.param(built(9, 2), {}, Refuse, id="a larger one too"),
        pytest.param(built(EVIDENCE_SECONDS), {}, Evict, id="long ago is no evidence"),
        pytest.param(built(9), {"refused_at": NOW - 5}, Evict, id="the cloud has refused a smaller one since"),
        pytest.param(built(9), {"refused_at": NOW - 20}, Refuse, id="that refusal came before"),
        pytest.param(built(9), {"accepted": True}, Evict, id="hosts have taken such a VM before"),
    ],
)
def test_a_tenant_s_refusal_a_moment_after_an_equal_size_was_built_is_not_for_capacity(existing, fields, expected):
    world = tenant(existing, now=NOW)
    wish = request(conditions=CONDITIONS, precedents=Precedents(**{"accepted": False, **fields}), **REFUSED)
    assert isinstance(decide(wish, world), expected)
    if expected is Refuse:
        assert CONDITIONS[0] in decide(wish, world).message


def test_a_smaller_one_or_one_in_another_zone_is_no_evidence():
    world = tenant(vm("small", since=NOW - 9), vm("a", 4, since=1), now=NOW)
    assert isinstance(decide(request(cpus=2, **UNTRIED, **REFUSED), world), Evict)
    zoned = tenant(vm("here", since=1, zone="mars"), built(9, host="sim-2", zone="nova"), now=NOW)
    decision = decide(request(availability_zone="mars", **UNTRIED, **REFUSED), zoned)
    assert (decision.bin, decision.victims) == ("id-of-sim-1", ("here",))


def test_a_zone_in_which_a_vm_of_ours_runs_is_no_doubt():
    """Whether its request named the zone or not."""
    conditions = conditions_of({}, {}, "nova")
    wish = request(
        availability_zone="nova", conditions=tuple(conditions), precedents=Precedents(accepted=False), **REFUSED
    )
    assert isinstance(decide(wish, tenant(built(9, zone="nova"), now=NOW)), Evict)
    special = replace(wish, conditions=(*conditions, *CONDITIONS))
    assert isinstance(decide(special, tenant(built(9, zone="nova"), now=NOW)), Refuse)


def test_without_conditions_a_refusal_is_for_capacity():
    world = tenant(built(9), now=NOW)
    assert isinstance(decide(request(**REFUSED), world), Evict)


@pytest.mark.parametrize("make", [tenant, operator])
def test_of_requests_with_the_same_untried_conditions_one_is_tried_at_a_time(make):
    world = make(*[vm(name) for name in "abcd"])
    wish = request(**UNTRIED, **({} if world.operator else REFUSED))
    assert isinstance(decide(wish, world), Evict)
    kind, place = (HOST, "sim-1") if world.operator else (HOST_GROUP, "id-of-sim-1")
    world.set_reservations({"other": replace(reserved("other", kind, place), conditions=CONDITIONS)})
    assert isinstance(decide(wish, world), Wait)
    world.set_reservations({})
    wish = replace(wish, precedents=Precedents(accepted=False, being_tried=True))
    assert isinstance(decide(wish, world), Wait)


@pytest.mark.parametrize(
    "facts, expected",
    [
        ({"refused_rounds": 1}, Evict),  # a thief: the room was not there any more
        ({"refused_rounds": 1, "refused_with_capacity": True}, Refuse),
        ({"refused_rounds": 1, **UNTRIED}, Refuse),
        ({"refused_rounds": 0, "refused_with_capacity": True}, Evict),  # of one host; others may take it
        ({"refused_rounds": 0, "refused_with_capacity": True, **UNTRIED}, Refuse),
    ],
)
def test_an_operator_s_next_round_depends_on_what_the_last_refusal_shows(facts, expected):
    vms = [vm(f"{name}{place}", host=f"sim-{place}") for place in (1, 2) for name in "abcd"]
    world = operator(*vms, hosts=[host("sim-1", vms), host("sim-2", vms)])
    wish = request(rounds=facts["refused_rounds"], avoid=frozenset({"sim-1"}), **REFUSED, **facts)
    assert isinstance(decide(wish, world), expected)


@pytest.mark.parametrize(
    "make",
    [lambda *vms: tenant(*vms, limit={"instances": 1}, now=NOW), lambda *vms: operator(*vms, now=NOW)],
    ids=["tenant", "operator"],
)
def test_what_was_in_vain_an_hour_ago_is_not_repeated_whatever_the_cause(make):
    world = make(*[vm(name) for name in "abcd"])
    assert isinstance(decide(request(cpus=4), make(vm("a", 4))), Evict)
    vain = Precedents(futile_error="invalid_request", futile_reason="Network x has no address", futile_at=NOW - 300)
    decision = decide(request(precedents=vain), world)
    assert isinstance(decision, Refuse) and decision.error == "invalid_request"
    assert "5 min ago" in decision.message and "Network x has no address" in decision.message


def test_conditions_are_what_may_rule_out_a_host():
    assert conditions_of({}, {}, None) == []
    assert not conditions_of(
        {"quota:disk_read_iops_sec": "100", "hw_rng:allowed": "true"},
        {"os_distro": "debian", "owner_specified.openstack.md5": "x", "base_image_ref": "y"},
        None,
    )
    assert conditions_of(
        {"trait:CUSTOM_SSD": "required", "aggregate_instance_extra_specs:ssd": "true"},
        {"hw_architecture": "aarch64"},
        "mars",
    ) == [
        "aggregate_instance_extra_specs:ssd=true (flavor)",
        "availability zone mars",
        "hw_architecture=aarch64 (image)",
        "trait:CUSTOM_SSD=required (flavor)",
    ]
