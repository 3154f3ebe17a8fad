"""How much room there is for a request: what is used, what is promised to others, what is on its way."""

from dataclasses import replace

import pytest

from tests.unit.worlds import host, operator, quota, request, reserved, resources, tenant, vm
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.scheduling.free_capacity import free_in_group, free_on_host, free_quota
from vmsvc.scheduling.world import HOST, HOST_GROUP, PROJECT, QUOTA


def cpus(world, name="sim-1", asks=None, stays=()):
    """(VCPUs free now, VCPUs free when all that leaves is gone) on a host."""
    found = free_on_host(world, world.hosts[name], asks or request(), frozenset(stays))
    return found.now["VCPU"], found.soon["VCPU"]


def cores(world, asks=None, stays=()):
    """The same for the project's quota."""
    found = free_quota(world, asks or request(), frozenset(stays))
    return found.now["cores"], found.soon["cores"]


def test_what_servers_hold_is_not_free_whosever_they_are():
    assert cpus(operator(vm("a"), foreign=2)) == (1, 1)
    assert cpus(operator()) == (4, 4)


def test_what_leaves_is_free_soon_and_not_now():
    for state in (State.NOTICED, State.EVICTING, State.DELETING):
        assert cpus(operator(vm("a", 3, state=state))) == (1, 4)
    assert cores(tenant(vm("a", state=State.EVICTING), limit={"cores": 1})) == (0, 1)


def test_what_ended_after_the_cloud_was_read_is_free_soon():
    for state in (State.EVICTED, State.DELETED, State.LOST, State.FAILED):
        assert cpus(operator(vm("a", 3, state=state))) == (1, 4)
        assert cpus(operator(vm("a", 3, state=state, present=False))) == (4, 4)


def test_victims_that_may_yet_be_spared_are_counted_as_staying_where_asked():
    world = operator(vm("a", 2, state=State.NOTICED, evicted_for="wanted"))
    assert cpus(world, stays=["a"]) == (2, 2)
    assert cpus(world) == (2, 4)


def test_a_build_that_the_cloud_does_not_count_yet_takes_its_capacity():
    building = vm("b", 3, state=State.BUILDING, present=False, cloud_id=None, is_preemptible=False)
    world = operator(building)
    assert cpus(world) == (1, 1)
    assert cores(tenant(building, limit={"cores": 4})) == (1, 1)
    assert cpus(world, asks=request("b")) == (4, 4), "its own build does not stand in its way"


def test_a_build_that_the_cloud_counts_is_not_counted_twice():
    building = vm("b", 3, state=State.BUILDING, is_preemptible=False)
    assert cpus(operator(building)) == (1, 1)
    assert cores(tenant(building, limit={"cores": 4})) == (1, 1)


def test_a_server_that_appeared_while_the_cloud_was_read_takes_capacity_for_now_and_no_request_loses_its_place():
    """The cloud may or may not count it: too early a boot loses its place, too early a victim its life."""
    for state in (State.BUILDING, State.ACTIVE):
        late = vm("b", 3, state=state, uncounted=True)
        world = tenant(late, limit={"cores": 4})
        world.quota_used = quota(0)
        assert cores(world) == (1, 4)
        assert cores(world, asks=request("b")) == (4, 4)
    late = vm("b", 3, uncounted=True, present=False)
    assert cpus(operator(late)) == (1, 4)


def test_capacity_that_is_reserved_for_another_is_not_free():
    kept = [reserved("other", HOST, "sim-1", 3)]
    assert cpus(operator(kept=kept)) == (1, 1)
    assert cpus(operator(kept=kept), asks=request("other")) == (4, 4)
    assert cores(tenant(kept=kept, limit={"cores": 4})) == (1, 1)


def test_capacity_kept_on_one_host_takes_nothing_from_another():
    world = operator(hosts=[host("sim-1"), host("sim-2")], kept=[reserved("other", HOST, "sim-2", 3)])
    assert cpus(world) == (4, 4)
    assert cpus(world, "sim-2") == (1, 1)


def test_what_the_victims_of_a_reservation_still_hold_is_not_taken_off_twice():
    """Three of four VCPUs are held by its victims: it has a claim to the fourth only when they are short of it."""
    victims = [vm(name, state=State.NOTICED, evicted_for="other") for name in "abc"]
    assert cpus(operator(*victims, kept=[reserved("other", HOST, "sim-1", 3)])) == (1, 1)
    assert cpus(operator(*victims, kept=[reserved("other", HOST, "sim-1", 4)])) == (0, 0)


def test_what_a_victim_frees_beyond_the_need_of_its_request_is_there_for_others_when_it_is_gone():
    large = vm("a", 4, state=State.EVICTING, evicted_for="other")
    assert cpus(operator(large, kept=[reserved("other", HOST, "sim-1", 1)])) == (0, 3)


def test_a_host_that_is_over_committed_has_no_capacity_rather_than_less():
    assert cpus(operator(vm("a", 3), foreign=3)) == (0, 0)


def test_capacity_in_a_group_is_what_its_members_have_given_back_since_the_plan():
    a, b, c = vm("a", 2, state=State.EVICTING), vm("b"), vm("c")
    kept = reserved("wanted", HOST_GROUP, "id-of-sim-1", 3, [a, b, c])
    gone_c = vm("c", state=State.EVICTED, present=False)
    found = free_in_group(tenant(a, b, gone_c, kept=[kept]), kept)
    assert (found.now, found.soon) == (resources(1), resources(3))
    found = free_in_group(tenant(a, b, gone_c, kept=[kept]), kept, frozenset({"a"}))
    assert (found.now, found.soon) == (resources(1), resources(1))


def test_two_of_a_batch_do_not_count_the_same_capacity_of_a_group_for_each_of_them():
    """Each has a victim of its own: the one that leaves for the first makes no room for the second."""
    a, b = vm("a", state=State.NOTICED, evicted_for="first"), vm("b", state=State.NOTICED, evicted_for="second")
    first, second = (reserved(name, HOST_GROUP, "id-of-sim-1", 1, [a, b]) for name in ("first", "second"))
    found = free_in_group(tenant(a, b, kept=[first, second]), second, frozenset({"b"}))
    assert (found.now, found.soon) == (resources(0), resources(0))
    found = free_in_group(tenant(a, b, kept=[first, second]), second)
    assert (found.now, found.soon) == (resources(0), resources(1))


def test_capacity_of_a_group_that_another_of_the_batch_has_taken_is_taken():
    gone, b = vm("a", state=State.EVICTED, present=False), vm("b", state=State.NOTICED, evicted_for="second")
    second = reserved("second", HOST_GROUP, "id-of-sim-1", 1, [gone, b])
    builds = vm("first", state=State.BUILDING, is_preemptible=False, present=False, host=None)
    runs = vm("first", is_preemptible=False)
    for first, kept in (
        (replace(builds, host_id=""), [reserved("first", HOST_GROUP, "id-of-sim-1", 0), second]),
        (runs, [second]),
    ):
        found = free_in_group(tenant(gone, b, first, kept=kept), second, frozenset({"b"}))
        assert (found.now, found.soon) == (resources(0), resources(0))


def test_a_limit_of_zero_is_a_limit():
    assert free_quota(tenant(limit={"instances": 0}), request()).now["instances"] == 0


def test_deciding_one_request_is_seen_by_the_next():
    world = operator(vm("a", 2), limit={"cores": 4})
    world.place(request("first"), "sim-1")
    assert (cpus(world), cores(world)) == ((1, 1), (1, 1))
    world.reserve(request("second", 2), HOST, "sim-1", ("a",), {})
    # Of "a"'s two VCPUs and the one that is free, two are promised.
    assert cpus(world) == (1, 1)
    assert world.vms["a"].state is State.NOTICED and world.vms["a"].evicted_for == "second"
    assert [victim.id for victim in world.victims_of("second", State.NOTICED)] == ["a"]
    world.reprieve(("a",))
    world.release("second")
    assert world.vms["a"].state is State.ACTIVE and cpus(world) == (1, 1)


def test_the_quota_is_one_place_for_reservations_of_every_kind():
    kept = [reserved("one", HOST, "sim-1"), reserved("two", QUOTA, PROJECT), reserved("three", HOST_GROUP, "x")]
    assert cores(tenant(kept=kept, limit={"cores": 5})) == (2, 2)


@pytest.mark.parametrize(
    "inventory, admitted",
    [
        (Inventory(4, max_unit=1), False),
        (Inventory(4, reserved=3), False),
        (Inventory(4, step_size=4), False),
        (Inventory(1, allocation_ratio=2.0), True),
        (Inventory(4), True),
    ],
)
def test_a_host_admits_what_placement_would_let_be_claimed_of_it_when_empty(inventory, admitted):
    assert Host("sim-1", {"VCPU": inventory}, {}).admits(Resources({"VCPU": 2})) is admitted
    assert not Host("sim-1", {}, {}).admits(Resources({"VCPU": 1}))


def test_what_a_vm_counts_for_and_what_it_claims_have_different_names():
    """So their sum is one vector in which both shortages can be seen."""
    assert not set(quota(2)) & set(resources(2))
