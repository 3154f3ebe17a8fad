"""Which events an endpoint gets, when a delivery is tried again, and when an endpoint is switched off."""

from datetime import UTC, datetime, timedelta

import pytest

from vmsvc.domain.webhooks import (
    FAILING,
    GONE,
    PATIENCE,
    SCHEDULE,
    EventRule,
    Health,
    after_failure,
    after_success,
    retry_of,
    urgent_until,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def event(kind="evict", state="noticed", preemptible=True, **data):
    """A CloudEvents object."""
    vm = {"id": "cloud-1", "vmsvc_id": "own-1", "is_preemptible": preemptible}
    return {"type": kind, "subject": "cloud-1", "data": {"seq": 1, "state": state, "vm": vm, **data}}


@pytest.mark.parametrize(
    ("rule", "admits"),
    [
        (EventRule(), True),
        (EventRule(types=frozenset({"evict", "delete"})), True),
        (EventRule(types=frozenset({"create"})), False),
        (EventRule(states=frozenset({"noticed"})), True),
        (EventRule(states=frozenset({"evicted"})), False),
        (EventRule(preemptible=True), True),
        (EventRule(preemptible=False), False),
        (EventRule(vm="cloud-1"), True),
        (EventRule(vm="own-1"), True),
        (EventRule(vm="own-2"), False),
        (EventRule(frozenset({"evict"}), frozenset({"evicted"}), True, "own-1"), False),
    ],
)
def test_all_conditions_of_a_rule_have_to_hold(rule, admits):
    assert rule.admits(event()) is admits


def test_the_schedule_is_that_of_standard_webhooks_and_lasts_three_days():
    at, step, pauses = NOW, 0, []
    while (retry := retry_of(step, at, None, 0.0)) is not None:
        pauses.append((retry.at - at).total_seconds())
        at, step = retry.at, retry.step
    assert pauses == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert timedelta(days=3) < at - NOW < timedelta(days=3, hours=4)


def test_a_pause_is_up_to_a_tenth_longer():
    assert retry_of(1, NOW, None, 1.0).at == NOW + timedelta(seconds=330)


def test_a_notice_is_tried_every_5_seconds_until_it_ends_and_keeps_its_step():
    end = NOW + timedelta(seconds=12)
    retry = retry_of(3, NOW, end, 1.0)
    assert (retry.at, retry.step) == (NOW + timedelta(seconds=5), 3)
    assert retry_of(len(SCHEDULE), NOW, end, 0.0) is not None
    late = retry_of(0, end, end, 0.0)
    assert (late.at, late.step) == (end + timedelta(seconds=5), 1)


def test_only_a_notice_is_urgent():
    noticed = event(evict_at="2026-11-23T12:00:30.000Z")
    assert urgent_until(noticed) == NOW + timedelta(seconds=30)
    assert urgent_until(event(state="reprieved", evict_at="2026-11-23T12:00:30.000Z")) is None
    assert urgent_until(event()) is None


def test_410_switches_off_at_once():
    assert after_failure(Health(), NOW, 410) == Health(1, NOW, GONE)


def test_five_days_without_a_success_switch_off_and_a_success_begins_anew():
    health = after_failure(Health(), NOW, 500)
    assert health == Health(1, NOW)
    almost = after_failure(health, NOW + PATIENCE - timedelta(seconds=1), None)
    assert almost == Health(2, NOW)
    assert after_failure(almost, NOW + PATIENCE, 503).off == FAILING
    assert after_failure(after_success(), NOW + PATIENCE, 503) == Health(1, NOW + PATIENCE)
