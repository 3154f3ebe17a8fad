"""What each host holds, from what Placement said of it and from what servers' changes have told since."""

import pytest

from vmsvc.cloud.claims import Claims
from vmsvc.cloud.hosting import Occupant
from vmsvc.domain.resources import Resources

SMALL, LARGE = Resources({"VCPU": 1}), Resources({"VCPU": 4})


def server(name, host="one", room=SMALL, status="ACTIVE"):
    """A server as a list shows it."""
    return Occupant(name, status, host, room)


@pytest.fixture(name="claims")
def fixture_claims():
    """Two hosts, read; one has a server on it that no list has shown yet."""
    claims = Claims()
    tell(claims, "one", a=SMALL)
    tell(claims, "two")
    return claims


def tell(claims, host, **allocations):
    """Placement answers about a host, and nothing happens meanwhile."""
    with claims.reading() as meanwhile:
        claims.told(host, allocations, meanwhile)


def test_who_appears_is_counted_with_what_its_flavor_claims(claims):
    claims.saw(server("b", room=LARGE))
    assert claims.of("one") == {"a": SMALL, "b": LARGE}
    assert not claims.doubted


@pytest.mark.parametrize("status", ["DELETED", "SHELVED_OFFLOADED", "ERROR"])
def test_who_has_gone_is_counted_no_more(claims, status):
    claims.saw(server("a", host=None, status=status))
    assert claims.of("one") == {}


@pytest.mark.parametrize("seen", [server("a", status="SHUTOFF"), server("a", status="SOFT_DELETED"),
                                  server("a", status="ERROR"), server("a", host=None, status="UNKNOWN"),
                                  server("a", host=None, status="BUILD")])
def test_who_stays_where_it_was_keeps_its_room(claims, seen):
    """A stopped or soft-deleted server, one that failed in place, one in a cell that is down, one that builds."""
    claims.saw(seen)
    assert claims.of("one") == {"a": SMALL}


def test_what_placement_says_stands_until_the_server_changes_its_size(claims):
    tell(claims, "one", a=LARGE)
    claims.saw(server("a"))
    assert claims.of("one") == {"a": LARGE} and claims.doubted == {"one"}
    tell(claims, "one", a=LARGE)
    claims.saw(server("a", status="SHUTOFF"))
    assert claims.of("one") == {"a": LARGE} and not claims.doubted
    claims.saw(server("a", room=Resources({"VCPU": 2})))
    assert claims.of("one") == {"a": {"VCPU": 2}}


def test_who_holds_nothing_by_placement_is_not_counted_for_being_seen_again(claims):
    claims.saw(server("b"))
    tell(claims, "one", a=SMALL)
    claims.saw(server("b", status="SHUTOFF"))
    assert claims.of("one") == {"a": SMALL}


def test_consumers_that_are_no_servers_stay_until_their_host_is_read_again(claims):
    tell(claims, "one", a=SMALL, migration=LARGE)
    claims.saw(server("b"))
    assert claims.of("one") == {"a": SMALL, "migration": LARGE, "b": SMALL}
    tell(claims, "one", a=SMALL, b=SMALL)
    assert claims.of("one") == {"a": SMALL, "b": SMALL}


def test_who_moved_holds_room_in_both_places_until_placement_says_otherwise(claims):
    claims.saw(server("a"))
    claims.saw(server("a", host="two"))
    assert claims.of("one") == claims.of("two") == {"a": SMALL}
    assert claims.doubted == {"one"}
    tell(claims, "one")
    assert claims.of("one") == {} and claims.of("two") == {"a": SMALL} and not claims.doubted
    claims.gone("a")
    assert claims.of("two") == {}


def test_a_host_is_doubted_while_a_server_is_being_resized_and_once_more_after_it(claims):
    claims.saw(server("a", status="VERIFY_RESIZE", room=LARGE))
    assert claims.doubted == {"one"}
    tell(claims, "one", a=LARGE)
    claims.saw(server("a", status="ACTIVE", room=LARGE))
    assert claims.doubted == {"one"}


def test_what_happens_while_a_host_is_read_is_newer_than_the_answer(claims):
    with claims.reading() as meanwhile:
        claims.saw(server("b"))
        claims.gone("a")
        claims.told("one", {"a": SMALL, "c": SMALL}, meanwhile)
    assert claims.of("one") == {"b": SMALL, "c": SMALL}


def test_who_appears_on_a_host_while_it_is_read_for_the_first_time_is_counted():
    claims = Claims()
    with claims.reading() as meanwhile:
        claims.saw(server("b"))
        claims.told("one", {}, meanwhile)
    assert claims.of("one") == {"b": SMALL}


def test_a_server_is_forgotten_wherever_it_was_and_hosts_with_all_that_was_on_them(claims):
    tell(claims, "two", a=LARGE)
    claims.gone("a")
    assert claims.of("one") == claims.of("two") == {}
    claims.saw(server("b"))
    claims.forget("one")
    assert claims.of("one") == {}
    claims.gone("b")


def test_only_hosts_on_which_something_changed_are_named(claims):
    claims.changed.clear()
    claims.saw(server("a"))
    claims.saw(server("a", status="SHUTOFF"))
    assert not claims.changed
    claims.saw(server("b", host="two"))
    assert claims.changed == {"two"}


def test_of_two_readings_at_once_the_one_that_ends_first_ends_alone():
    claims = Claims()
    with claims.reading() as longer:
        with claims.reading() as shorter:
            assert shorter is not longer
        claims.gone("a")
        assert "a" in longer and "a" not in shorter
