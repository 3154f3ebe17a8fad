"""Use over time, from the rows that are never deleted."""

import math
from datetime import datetime

import pytest

from tests.integration.conftest import new_vm, request
from vmsvc.service import advice, usage
from vmsvc.store import db, usage as store_usage


def lived(
    store, begun: float, ended: float | None = None, *, cores: int = 1, preemptible: bool = True, evicted: bool = False
) -> None:
    """A VM that was launched `begun` and ended `ended` minutes ago (None: it is there)."""
    vm = new_vm(is_preemptible=preemptible, quota={**request()["quota"], "cores": cores})
    store.rows(
        "UPDATE vm SET launched_at = clock_timestamp() - %s * interval '1 minute', "
        "ended_at = clock_timestamp() - %s * interval '1 minute' WHERE id = %s",
        begun,
        ended,
        vm.id,
    )
    if evicted:
        store.rows(
            "INSERT INTO eviction (vm_id, owner, reason, simulated, round, cost, optimal, planned_at, evict_at, "
            "evicting_at) SELECT id, principal, 'capacity', false, 1, '{}', true, ended_at, ended_at, ended_at "
            "FROM vm WHERE id = %s",
            vm.id,
        )


def born(store, hours: float) -> None:
    """The first start was so many hours ago."""
    db.deployment_id()
    store.rows("UPDATE deployment SET created_at = clock_timestamp() - %s * interval '1 hour'", hours)


def at(answer: dict, name: str, minutes: float) -> int:
    """The number of the slot that was so many minutes ago."""
    since, until = (datetime.fromisoformat(answer[end]) for end in ("since", "until"))
    return answer[name][int(((until - since).total_seconds() - 60 * minutes) // answer["step_seconds"])]


def test_what_was_held_is_known_for_each_moment(store):
    born(store, 100)
    lived(store, 600)  # was there before, and is there still
    lived(store, 50, 20, cores=2, evicted=True)
    lived(store, 15, cores=4, preemptible=False)
    lived(store, 600, 400, cores=8, evicted=True)  # before the time that was asked for
    new_vm(is_preemptible=True)  # waits: it holds nothing yet
    answer = usage.over(1)
    assert answer["step_seconds"] == 30
    assert [at(answer, "preemptible", minutes) for minutes in (58, 40, 25, 10, 0)] == [1, 3, 3, 1, 1]
    assert [at(answer, "standard", minutes) for minutes in (58, 20, 10, 0)] == [0, 0, 4, 4]
    assert sum(answer["evictions"]) == 1 and sum(usage.over(24)["evictions"]) == 2


@pytest.mark.parametrize(("age", "asked", "shown"), [(0, 6, 1 / 6), (2, 6, 2), (100, 6, 6), (100, 168, 100)])
def test_the_time_is_no_longer_than_the_service_s_own_and_the_answer_small(store, age, asked, shown):
    born(store, age)
    answer = usage.over(asked)
    since, until = (datetime.fromisoformat(answer[name]) for name in ("since", "until"))
    assert shown <= (until - since).total_seconds() / 3600 <= shown * 1.02
    assert len(answer["standard"]) == len(answer["preemptible"]) == len(answer["evictions"]) <= 122


def test_slots_lie_on_multiples_of_their_length_so_that_two_answers_agree(store):
    born(store, 100)
    for hours in (1, 6, 24):
        answer = usage.over(hours)
        assert datetime.fromisoformat(answer["since"]).timestamp() % answer["step_seconds"] == 0


def test_before_anything_has_happened_all_is_nought(store):
    answer = usage.over(6)
    assert set(answer["standard"] + answer["preemptible"] + answer["evictions"]) == {0}
    assert store.rows("SELECT * FROM deployment") == []


def history(store, flavor: str, count: int, per_hour: float, **columns) -> None:
    """So many preemptible VMs of the flavor, each launched 6 h ago, whose hazard is `per_hour`: the k-th of n is
    evicted at the age that the share (k + 1/2) / n of such VMs does not outlive, or deleted after 4 h."""
    for number in range(count):
        hours = -math.log(1 - (number + 0.5) / count) / per_hour
        vm = new_vm(is_preemptible=True, flavor=flavor, **columns)
        store.rows(
            "UPDATE vm SET created_at = start - interval '20 seconds', launched_at = start, "
            "ended_at = start + %s * interval '1 hour' "
            "FROM (SELECT now() - interval '6 hours' AS start) AS begun WHERE id = %s",
            min(hours, 4.0),
            vm.id,
        )
        if hours < 4:
            store.rows(
                "INSERT INTO eviction (vm_id, owner, reason, simulated, round, cost, optimal, planned_at, evict_at, "
                "evicting_at) SELECT id, principal, 'capacity', false, 1, '{}', true, ended_at, ended_at, ended_at "
                "FROM vm WHERE id = %s",
                vm.id,
            )


def test_advice_finds_the_hazard_of_a_flavor_and_says_when_there_are_too_few(store):
    history(store, "often", 60, per_hour=0.5)
    history(store, "rare", 29, per_hour=0.5)
    found = advice.of("often", 24)
    assert found["eviction_rate"]["per_hour"] == pytest.approx(0.5, rel=0.1)
    assert found["eviction_rate"] | {"per_hour": 0} == {"per_hour": 0, "evicted": 52, "n": 60, "too_few": False}
    assert found["expected_uptime_seconds"]["p50"] == pytest.approx(3600 * math.log(2) / 0.5, rel=0.1)
    assert found["expected_uptime_seconds"]["p10"] == pytest.approx(3600 * -math.log(0.9) / 0.5, rel=0.2)
    assert found["expected_uptime_seconds"]["longest"] == pytest.approx(4 * 3600)
    assert found["wait_seconds"] == {"p50": 20, "p90": 20, "n": 60, "too_few": False}
    for answer, count in ((advice.of("rare", 24), 29), (advice.of("unheard", 24), 0), (advice.of("often", 5), 0)):
        for name in ("eviction_rate", "expected_uptime_seconds", "wait_seconds"):
            assert (answer[name]["n"], answer[name]["too_few"]) == (count, True)
        assert answer["eviction_rate"]["per_hour"] is answer["expected_uptime_seconds"]["p50"] is None
        assert answer["wait_seconds"]["p90"] is None


def test_who_was_not_evicted_for_capacity_counts_as_long_as_he_lived(store):
    lived(store, 60)  # runs
    lived(store, 60, 30)  # deleted by its owner
    lived(store, 60, 15, evicted=True)
    for change in ("reason = 'lifetime'", "simulated = true", "reprieved_at = now()"):
        lived(store, 60, 15, evicted=True)
        store.rows(f"UPDATE eviction SET {change} WHERE id = (SELECT max(id) FROM eviction)")
    lived(store, 60, preemptible=False)
    with db.reading():
        lives, waits = store_usage.lives(request()["flavor"], 0, 100)
    assert sorted((round(life.seconds / 60), life.was_evicted) for life in lives) == [
        (30, False),
        (45, False),
        (45, False),
        (45, False),
        (45, True),
        (60, False),
    ]
    assert len(waits) == 6
