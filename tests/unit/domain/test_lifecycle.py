"""The table of life, and the end of a lifetime."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from vmsvc.domain.lifecycle import (
    BOOTABLE,
    FINAL,
    LEAVING,
    LIVE,
    MOVES,
    REMOVING,
    RESTARTABLE,
    STEPS,
    InvalidTransition,
    State,
    earliest_end,
    end_of_life,
    event_of,
)

#: What clients are told of each move: the life of a VM as they may rely on it.
TOLD = """
pending building create/building
pending failed create/failed
pending deleting delete/deleting
building pending -
building active create/active
building failed create/failed
building deleting delete/deleting
active noticed evict/noticed
active deleting delete/deleting
active lost delete/lost
noticed noticed evict/noticed
noticed active evict/reprieved
noticed evicting evict/evicting
noticed deleting delete/deleting
noticed lost delete/lost
evicting evicted evict/evicted
deleting deleted delete/deleted
"""
BORN = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_the_life_of_a_vm_is_the_one_that_clients_know():
    told = {
        f"{source} {target} {'/'.join(event_of(source, target) or '-')}": (source, target) for source, target in MOVES
    }
    assert set(told) == set(TOLD.strip().splitlines())
    assert STEPS == {
        ("create", "queued"): {State.PENDING},
        ("create", "fell_back"): {State.PENDING},
        ("create", "converted"): {State.ACTIVE},
    }


def test_the_sets_of_states_say_where_a_server_may_be_and_what_is_still_needed_of_a_request():
    has_server = {State.BUILDING, State.ACTIVE, State.NOTICED, State.EVICTING, State.DELETING}
    assert LIVE == has_server and FINAL == set(State) - has_server - {State.PENDING}
    assert LEAVING == {State.NOTICED, State.EVICTING, State.DELETING}
    assert REMOVING == {State.EVICTING, State.DELETING}
    assert BOOTABLE == {State.PENDING, State.BUILDING}
    assert RESTARTABLE == {State.PENDING, State.BUILDING, State.ACTIVE, State.NOTICED, State.EVICTING}


def test_a_lifetime_ends_in_its_last_tenth_at_a_moment_of_the_vm_s_own_that_never_changes():
    assert earliest_end(100) == timedelta(seconds=90)
    ends = [(end_of_life(f"vm-{number}", BORN, 100) - BORN).total_seconds() for number in range(200)]
    assert all(90 <= end <= 100 for end in ends) and len(set(ends)) == 200
    assert min(ends) < 91 and max(ends) > 99 and 94 < sum(ends) / len(ends) < 96
    # On every replica, whatever its release.
    assert end_of_life("vm-1", BORN, 86_400) == BORN + timedelta(seconds=84_868.239434)


def test_every_move_of_the_table_has_its_event():
    for (source, target), told in MOVES.items():
        assert event_of(source, target) == told


def test_every_other_move_is_refused_with_its_story():
    for source, target in itertools.product(State, State):
        if (source, target) not in MOVES:
            with pytest.raises(InvalidTransition, match=f"from {source} to {target}"):
                event_of(source, target)


def test_nothing_comes_back_from_its_end():
    assert FINAL == {State.EVICTED, State.DELETED, State.FAILED, State.LOST}
    assert not FINAL & (LIVE | LEAVING)


def test_every_state_can_be_reached_and_every_end_too():
    reached, before = {State.PENDING}, set()
    while reached != before:
        before = set(reached)
        reached |= {target for source, target in MOVES if source in reached}
    assert reached == set(State)


def test_only_what_was_noticed_can_be_evicted_and_it_can_be_spared_until_then():
    assert [source for source, target in MOVES if target is State.EVICTING] == [State.NOTICED]
    assert [source for source, target in MOVES if target is State.EVICTED] == [State.EVICTING]
    assert (State.NOTICED, State.ACTIVE) in MOVES and (State.EVICTING, State.ACTIVE) not in MOVES


def test_the_types_and_states_of_events_are_those_that_clients_are_promised():
    told = {}
    for kind, state in [*filter(None, MOVES.values()), *STEPS]:
        told.setdefault(kind, set()).add(state)
    assert told == {
        "create": {"queued", "fell_back", "converted", "building", "active", "failed"},
        "evict": {"noticed", "reprieved", "evicting", "evicted"},
        "delete": {"deleting", "deleted", "lost"},
    }


def test_a_step_is_no_move_and_no_vm_that_has_ended_takes_one():
    assert not set(STEPS) & set(filter(None, MOVES.values()))
    assert not any(states & FINAL for states in STEPS.values())
