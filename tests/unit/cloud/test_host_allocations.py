"""What each host holds, from what Placement said of it and from what servers' changes have told since."""

import pytest

from vmsvc.cloud.cache.host_allocations import HostAllocations
from vmsvc.cloud.port import Occupant
from vmsvc.domain.resources import Resources

SMALL, LARGE = Resources({"VCPU": 1}), Resources({"VCPU": 4})


def server(name, host="one", resources=SMALL, status="ACTIVE"):
    """A server as a list shows it."""
    return Occupant(name, status, host, resources)


@pytest.fixture(name="allocations")
def fixture_claims():
    """Two hosts, read; one has a server on it that no list has shown yet."""
    allocations = HostAllocations()
    tell(allocations, "one", a=SMALL)
    tell(allocations, "two")
    return allocations


def tell(allocations, host, **held):
    """Placement answers about a host, and nothing happens meanwhile."""
    with allocations.reading() as meanwhile:
        allocations.update_host(host, held, meanwhile)


def test_a_new_server_counts_with_the_claim_of_its_flavor(allocations):
    allocations.update_server(server("b", resources=LARGE))
    assert allocations.of("one") == {"a": SMALL, "b": LARGE}
    assert not allocations.uncertain


@pytest.mark.parametrize("status", ["DELETED", "SHELVED_OFFLOADED", "ERROR"])
def test_a_deleted_server_no_longer_counts(allocations, status):
    allocations.update_server(server("a", host=None, status=status))
    assert allocations.of("one") == {}


@pytest.mark.parametrize(
    "seen",
    [
        server("a", status="SHUTOFF"),
        server("a", status="SOFT_DELETED"),
        server("a", status="ERROR"),
        server("a", host=None, status="UNKNOWN"),
        server("a", host=None, status="BUILD"),
    ],
)
def test_a_server_that_stays_on_its_host_keeps_its_claim(allocations, seen):
    """A stopped or soft-deleted server, one that failed in place, one in a cell that is down, one that builds."""
    allocations.update_server(seen)
    assert allocations.of("one") == {"a": SMALL}


def test_what_placement_says_stands_until_the_server_changes_its_size(allocations):
    tell(allocations, "one", a=LARGE)
    allocations.update_server(server("a"))
    assert allocations.of("one") == {"a": LARGE} and allocations.uncertain == {"one"}
    tell(allocations, "one", a=LARGE)
    allocations.update_server(server("a", status="SHUTOFF"))
    assert allocations.of("one") == {"a": LARGE} and not allocations.uncertain
    allocations.update_server(server("a", resources=Resources({"VCPU": 2})))
    assert allocations.of("one") == {"a": {"VCPU": 2}}


def test_a_server_that_holds_nothing_by_placement_does_not_count_when_a_list_shows_it_again(allocations):
    allocations.update_server(server("b"))
    tell(allocations, "one", a=SMALL)
    allocations.update_server(server("b", status="SHUTOFF"))
    assert allocations.of("one") == {"a": SMALL}


def test_consumers_that_are_no_servers_stay_until_their_host_is_read_again(allocations):
    tell(allocations, "one", a=SMALL, migration=LARGE)
    allocations.update_server(server("b"))
    assert allocations.of("one") == {"a": SMALL, "migration": LARGE, "b": SMALL}
    tell(allocations, "one", a=SMALL, b=SMALL)
    assert allocations.of("one") == {"a": SMALL, "b": SMALL}


def test_a_server_that_moved_counts_on_both_hosts_until_placement_is_read(allocations):
    allocations.update_server(server("a"))
    allocations.update_server(server("a", host="two"))
    assert allocations.of("one") == allocations.of("two") == {"a": SMALL}
    assert allocations.uncertain == {"one"}
    tell(allocations, "one")
    assert allocations.of("one") == {} and allocations.of("two") == {"a": SMALL} and not allocations.uncertain
    allocations.remove_server("a")
    assert allocations.of("two") == {}


def test_a_host_is_uncertain_while_a_server_is_being_resized_and_once_more_after_it(allocations):
    allocations.update_server(server("a", status="VERIFY_RESIZE", resources=LARGE))
    assert allocations.uncertain == {"one"}
    tell(allocations, "one", a=LARGE)
    allocations.update_server(server("a", status="ACTIVE", resources=LARGE))
    assert allocations.uncertain == {"one"}


def test_what_happens_while_a_host_is_read_is_newer_than_the_answer(allocations):
    with allocations.reading() as meanwhile:
        allocations.update_server(server("b"))
        allocations.remove_server("a")
        allocations.update_host("one", {"a": SMALL, "c": SMALL}, meanwhile)
    assert allocations.of("one") == {"b": SMALL, "c": SMALL}


def test_a_server_that_appears_on_a_host_during_its_first_read_counts():
    allocations = HostAllocations()
    with allocations.reading() as meanwhile:
        allocations.update_server(server("b"))
        allocations.update_host("one", {}, meanwhile)
    assert allocations.of("one") == {"b": SMALL}


def test_a_server_is_forgotten_wherever_it_was_and_hosts_with_all_that_was_on_them(allocations):
    tell(allocations, "two", a=LARGE)
    allocations.remove_server("a")
    assert allocations.of("one") == allocations.of("two") == {}
    allocations.update_server(server("b"))
    allocations.forget("one")
    assert allocations.of("one") == {}
    allocations.remove_server("b")


def test_only_hosts_on_which_something_changed_are_named(allocations):
    allocations.take_changed()
    allocations.update_server(server("a"))
    allocations.update_server(server("a", status="SHUTOFF"))
    assert not allocations.take_changed()
    allocations.update_server(server("b", host="two"))
    assert allocations.take_changed() == {"two"}


def test_of_two_readings_at_once_the_one_that_ends_first_ends_alone():
    allocations = HostAllocations()
    with allocations.reading() as longer:
        with allocations.reading() as shorter:
            assert shorter is not longer
        allocations.remove_server("a")
        assert "a" in longer and "a" not in shorter
