"""What follows the eviction of a VM that is to be started again."""

import random
import uuid

import pytest

from vmsvc.domain.lineage import Restart, RestartsUsedUp, Terms, after_eviction, pause_seconds

IDS = [str(uuid.UUID(int=random.Random(seed).getrandbits(128))) for seed in range(300)]


def follow(vm_id: str, terms: Terms = Terms(), **changes):
    """What follows, for a VM that ran for an hour and was never restarted before, but for these changes."""
    facts = {"restarts": 0, "short_lives": 0, "life_seconds": 3600.0, "evictions_lately": 1, **changes}
    return after_eviction(vm_id, terms, **facts)


def test_the_first_restart_is_at_once_and_each_pause_after_a_short_life_is_twice_as_long():
    for vm_id in IDS:
        assert pause_seconds(vm_id, 0) == pause_seconds(vm_id, 1) == 0
        for short_lives in range(2, 8):
            nominal = 30 * 2 ** (short_lives - 2)
            assert 0.8 * nominal <= pause_seconds(vm_id, short_lives) <= 1.2 * nominal
        assert max(pause_seconds(vm_id, short_lives) for short_lives in range(2, 1200)) == 3600


def test_the_pause_is_the_same_whoever_computes_it_and_differs_from_vm_to_vm():
    pauses = [pause_seconds(vm_id, 2) for vm_id in IDS]
    assert pauses == [pause_seconds(vm_id, 2) for vm_id in IDS]
    assert min(pauses) < 24.5 and max(pauses) > 35.5 and len(set(pauses)) == len(IDS)


def test_vms_that_live_for_a_second_are_restarted_six_times_at_most_in_a_quarter_of_an_hour():
    for number in range(len(IDS)):
        clock, restarts, short_lives = 0.0, 0, 0
        while True:
            clock += 1.0
            found = follow(
                IDS[(number + restarts) % len(IDS)],
                Terms(max_restarts=1000),
                restarts=restarts,
                short_lives=short_lives,
                life_seconds=1.0,
            )
            assert isinstance(found, Restart)
            clock += found.pause
            if clock > 900:
                break
            restarts, short_lives = found.attempt, found.short_lives
        assert 4 <= restarts <= 6


@pytest.mark.parametrize("seconds", [60, 100, 3600, 86_400])
def test_a_pause_leaves_half_of_the_time_for_capacity(seconds):
    terms = Terms(restart_within_seconds=seconds)
    for short_lives in range(40):
        found = follow(IDS[short_lives], terms, short_lives=short_lives, life_seconds=1.0)
        assert found.pause == min(pause_seconds(IDS[short_lives], short_lives + 1), seconds / 2)


def test_a_life_of_ten_minutes_ends_the_row_of_short_ones():
    assert follow(IDS[0], short_lives=5, life_seconds=599.9).short_lives == 6
    found = follow(IDS[0], short_lives=5, life_seconds=600.0)
    assert (found.short_lives, found.pause) == (0, 0)


@pytest.mark.parametrize("most", [0, 1, 2, 1000])
def test_it_is_restarted_as_often_as_it_may_be(most):
    terms = Terms(max_restarts=most)
    if most:
        assert follow(IDS[0], terms, restarts=most - 1).attempt == most
    found = follow(IDS[0], terms, restarts=most)
    assert isinstance(found, RestartsUsedUp) and found.attempt == most + 1
    assert f"max_restarts is {most}" in found.message


def test_after_so_many_evictions_within_a_day_it_goes_on_as_a_standard_vm():
    terms = Terms(fallback_after_evictions=3)
    assert [follow(IDS[0], terms, evictions_lately=lately).falls_back for lately in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]
    assert not follow(IDS[0], evictions_lately=100).falls_back
