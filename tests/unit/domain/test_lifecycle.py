"""The table of life."""

import itertools

import pytest

from vmsvc.domain.lifecycle import FINAL, LEAVING, LIVE, MOVES, STEPS, InvalidTransition, State, event_of


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
