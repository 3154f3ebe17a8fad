"""Vectors of resources and what a flavor asks for."""

import pytest

from vmsvc.domain.resources import Inventory, Resources, merged, total


def test_defect_1_a_class_whose_free_amount_is_exactly_zero_does_not_cover_a_request_for_it():
    free = Resources({"VCPU": 8, "MEMORY_MB": 16384, "DISK_GB": 0})
    request = Resources({"VCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 20})
    assert not free.covers(request)
    assert free.deficit(request) == {"DISK_GB": 20}


def test_a_class_that_is_missing_counts_as_zero_on_both_sides():
    assert not Resources({"VCPU": 8}).covers({"VGPU": 1})
    assert Resources().covers({"VCPU": 0})
    assert Resources({"VCPU": 1, "DISK_GB": 0}) == Resources({"VCPU": 1}) == {"VCPU": 1, "DISK_GB": 0}
    assert len({Resources({"VCPU": 1, "DISK_GB": 0}), Resources({"VCPU": 1})}) == 1


def test_what_is_there_covers_a_request_of_the_same_size():
    assert Resources({"VCPU": 2, "MEMORY_MB": 512}).covers({"VCPU": 2, "MEMORY_MB": 512})


def test_sums_and_differences_go_class_by_class():
    one, two = Resources({"VCPU": 1, "DISK_GB": 5}), Resources({"VCPU": 3, "VGPU": 1})
    assert one + two == {"VCPU": 4, "DISK_GB": 5, "VGPU": 1}
    assert one - two == {"VCPU": -2, "DISK_GB": 5, "VGPU": -1}
    assert total([one, two, one]) == {"VCPU": 5, "DISK_GB": 10, "VGPU": 1}
    assert total([]) == Resources()


def test_a_host_that_was_over_committed_has_no_capacity_rather_than_less():
    free = Resources({"VCPU": -4, "MEMORY_MB": 100}).floored()
    assert free == {"MEMORY_MB": 100}
    assert free.deficit({"VCPU": 2}) == {"VCPU": 2}


def test_a_column_has_one_amount_per_vector():
    assert Resources.column([Resources({"VCPU": 2}), Resources({"DISK_GB": 7})], "VCPU") == [2, 0]


def test_defect_2_the_reserved_part_is_taken_off_before_the_allocation_ratio():
    assert Inventory(total=64, reserved=2, allocation_ratio=4.0).capacity == 248


@pytest.mark.parametrize(
    "inventory, capacity",
    [
        (Inventory(total=10, allocation_ratio=1.1), 11),
        (Inventory(total=3, allocation_ratio=1.5), 4),
        (Inventory(total=100, allocation_ratio=0.29), 28),
    ],
)
def test_a_capacity_is_rounded_down_with_the_error_of_a_binary_fraction_as_placement_does(inventory, capacity):
    assert inventory.capacity == capacity


@pytest.mark.parametrize("amount, admitted", [(1, False), (2, True), (3, False), (6, True), (8, False)])
def test_a_claim_must_respect_the_smallest_and_largest_unit_and_the_step(amount, admitted):
    assert Inventory(total=64, min_unit=2, max_unit=6, step_size=2).admits(amount) is admitted


def test_a_claim_larger_than_the_provider_is_never_admitted():
    assert not Inventory(total=4).admits(5)


def test_what_is_nested_in_a_host_adds_up_and_a_claim_gets_no_more_than_one_part_has():
    gpus = merged([Inventory(total=8, max_unit=4), Inventory(total=6, reserved=4)])
    assert gpus.capacity == 10
    assert [gpus.admits(amount) for amount in (1, 4, 5)] == [True, True, False]
    assert merged([Inventory(total=5, reserved=1)]) == Inventory(total=5, reserved=1)
