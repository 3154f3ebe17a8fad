"""Room as people see it."""

from datetime import UTC, datetime

from tests.unit.worlds import host, operator, request, reserved, resources, tenant, vm
from vmsvc.domain.evidence import Held, HostEvidence
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.capacity import capacity_of, times
from vmsvc.scheduling.world import HOST

FLAVORS = {"m1.tiny": request(), "m1.large": request(cpus=4), "huge": request(cpus=9)}


def fits(world):
    """How many fit now and after evictions, by flavor."""
    return {
        each["name"]: (each["fits_now"], each["fits_after_evictions"])
        for each in capacity_of(world, FLAVORS)["flavors"]
    }


def test_a_flavor_fits_as_often_as_single_hosts_have_capacity_for_it():
    vms = [vm("a"), vm("b", host="sim-2"), vm("c", is_preemptible=False, host="sim-2")]
    world = operator(*vms, hosts=[host("sim-1", vms), host("sim-2", vms)])
    assert fits(world) == {"m1.tiny": (3 + 2, 4 + 3), "m1.large": (0, 1), "huge": (0, 0)}


def test_the_quota_limits_what_hosts_would_take():
    world = operator(vm("a"), limit={"instances": 2})
    assert fits(world)["m1.tiny"] == (1, 2)


def test_a_tenant_gets_what_the_quota_allows():
    assert fits(tenant(vm("a"), vm("b", 2), limit={"cores": 8}))["m1.large"] == (1, 2)
    assert capacity_of(tenant(), {})["hosts"] == []


def test_hosts_that_are_down_offer_nothing():
    assert fits(operator(hosts=[host("sim-1", available=False)]))["m1.tiny"] == (0, 0)


def test_locked_and_leaving_vms_are_not_reclaimable():
    vms = [vm("a", untouchable=True), vm("b", state=State.NOTICED), vm("c")]
    shown = capacity_of(operator(*vms), FLAVORS)["hosts"][0]
    assert shown["reclaimable"] == {"VCPU": 1, "MEMORY_MB": 1024}


def test_a_host_shows_its_usage_by_kind():
    vms = [vm("a"), vm("b", is_preemptible=False)]
    world = operator(*vms, foreign=1, kept=[reserved("wanted", HOST, "sim-1")])
    (shown,) = capacity_of(world, FLAVORS)["hosts"]
    assert {
        key: shown[key].get("VCPU", 0)
        for key in ("capacity", "used", "free", "standard", "preemptible", "foreign", "reserved", "reclaimable")
    } == {
        "capacity": 4,
        "used": 3,
        "free": 0,
        "standard": 1,
        "preemptible": 1,
        "foreign": 1,
        "reserved": 1,
        "reclaimable": 1,
    }


def test_a_tenant_is_told_what_fits_by_evidence_beside_what_fits_the_quota():
    evidence = {"id-of-sim-1": HostEvidence((Held(resources(4), datetime(2026, 11, 23, tzinfo=UTC)),), ())}
    shown = {each["name"]: each for each in capacity_of(tenant(vm("a"), evidence=evidence), FLAVORS)["flavors"]}
    assert (shown["m1.tiny"]["fits_by_evidence"], shown["m1.tiny"]["fits_now"]) == (3, 96)
    assert (shown["m1.large"]["fits_by_evidence"], shown["m1.large"]["fits_now"]) == (0, 24)
    by_quota = capacity_of(tenant(vm("a"), evidence=evidence, limit={"cores": 2}), FLAVORS)["flavors"]
    assert {each["name"]: each["fits_by_evidence"] for each in by_quota}["m1.tiny"] == 1
    assert all("fits_by_evidence" not in each for each in capacity_of(operator(), FLAVORS)["flavors"])


def test_the_quota_shows_its_usage_by_kind():
    world = tenant(
        vm("a", 2),
        vm("b", is_preemptible=False),
        vm("c", 1, state=State.BUILDING, present=False),
        kept=[reserved("wanted", HOST, "sim-1")],
        limit={"cores": 8},
    )
    shown = {key: value["cores"] for key, value in capacity_of(world, {})["quota"].items()}
    assert shown == {"limit": 8, "used": 3, "free": 3, "standard": 1, "preemptible": 3, "reserved": 1, "reclaimable": 2}


def test_a_flavor_that_needs_nothing_that_is_counted_fits_never():
    assert times(Resources({"VCPU": 3}), Resources()) == 0
    assert times(Resources({"VCPU": 3, "DISK_GB": 1}), Resources({"VCPU": 1, "DISK_GB": 2})) == 0


def test_what_no_plan_may_take_at_once_is_not_reclaimable():
    vms = [
        vm("a", 1, group="web"),
        vm("b", 2, group="web"),
        vm("c", 1, group="db"),
        vm("d", 4, group="web", host="sim-2"),
    ]
    world = operator(
        *vms,
        hosts=[host("sim-1", vms), host("sim-2", vms)],
        budgets={"web": 1, "db": 0},
        full_budgets={"web": 1, "db": 1},
    )
    shown = capacity_of(world, FLAVORS)
    assert [each["reclaimable"].get("VCPU", 0) for each in shown["hosts"]] == [2, 4]
    assert shown["quota"]["reclaimable"]["cores"] == 4
    # One of the group may go: the two on sim-1 free room for two, those on sim-2 then none.
    assert fits(world) == {"m1.tiny": (0, 2), "m1.large": (0, 1), "huge": (0, 0)}


def test_a_flavor_for_which_too_many_would_have_to_go_does_not_fit():
    vms = [vm(name) for name in "abcd"]
    assert fits(operator(*vms, max_victims=3)) == {"m1.tiny": (0, 4), "m1.large": (0, 0), "huge": (0, 0)}
