"""Decides which events a webhook gets, when a delivery is tried again, and when a webhook is switched off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

#: Pauses in seconds after the first, second, ... failed attempt: the schedule of Standard Webhooks 1.0, three days.
SCHEDULE = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
#: The same for a notice that has not ended: until `evict_at` it is tried so often.
URGENT_PAUSE = 5.0
#: Each pause is up to this part longer, so that what failed together is not tried again together.
JITTER = 0.1
#: An endpoint without a success for so long is switched off.
PATIENCE = timedelta(days=5)
#: Most requests to one endpoint at a time, and how many of them may be repetitions: VMs whose events fail leave some
#: for the others.
IN_FLIGHT, REPETITIONS = 8, 4
#: The same after so many failures in a row, until one succeeds: endpoints that are dead must not use up the service's
#: requests.
MANY_FAILURES = 5
TROUBLED_IN_FLIGHT, TROUBLED_REPETITIONS = 2, 1
#: How long the secret before a rotation signs along.
ROTATION = timedelta(hours=24)

GONE, FAILING, BY_OWNER = "gone", "failing", "by_owner"
PENDING, DONE, FAILED = "pending", "done", "failed"
STATUSES = (PENDING, DONE, FAILED)


@dataclass(frozen=True, slots=True)
class EventRule:
    """Which events an endpoint gets. An empty set is no condition, and None is none."""

    types: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    preemptible: bool | None = None
    vm: str | None = None

    def admits(self, event: Mapping[str, Any]) -> bool:
        """True when the endpoint gets this event (a CloudEvents object)."""
        data = event["data"]
        vm = data["vm"]
        return (
            (not self.types or event["type"] in self.types)
            and (not self.states or data["state"] in self.states)
            and self.preemptible in (None, vm["is_preemptible"])
            and self.vm in (None, event["subject"], vm["id"], vm["vmsvc_id"])
        )


def urgent_until(event: Mapping[str, Any]) -> datetime | None:
    """Until when the delivery of an event is worth more than its place in the schedule: the end of a notice."""
    data = event["data"]
    if data["state"] != "noticed" or not data.get("evict_at"):
        return None
    return datetime.fromisoformat(data["evict_at"])


@dataclass(frozen=True, slots=True)
class Retry:
    """When a delivery that failed is tried again, and its step in the schedule then."""

    at: datetime
    step: int


def retry_of(
    step: int,
    now: datetime,
    urgent: datetime | None,
    share: float,
    schedule: Sequence[float] = SCHEDULE,
    urgent_pause: float = URGENT_PAUSE,
) -> Retry | None:
    """The next try of a delivery that failed at this step (0 at first); None: it has failed for good. While a delivery
    is `urgent` it is tried every `urgent_pause` seconds, and keeps its step: else the schedule would send it away for
    hours when the notice has ended. `share` is a number from 0 to 1, another one for each delivery."""
    if urgent is not None and now < urgent:
        return Retry(now + timedelta(seconds=urgent_pause), step)
    if step >= len(schedule):
        return None
    return Retry(now + timedelta(seconds=schedule[step] * (1 + JITTER * share)), step + 1)


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint takes its deliveries. `failures` counts those since the last success, the first of which was at
    `failing_since`; `off` says why the endpoint was switched off."""

    failures: int = 0
    failing_since: datetime | None = None
    off: str | None = None


def after_success() -> Health:
    """The health of an endpoint that took a delivery."""
    return Health()


def after_failure(health: Health, now: datetime, code: int | None) -> Health:
    """The health after a delivery that failed; `code` is the status of the answer, None when there was none."""
    since = health.failing_since or now
    failed = replace(health, failures=health.failures + 1, failing_since=since)
    if code == 410:
        return replace(failed, off=GONE)
    return replace(failed, off=FAILING) if now - since >= PATIENCE else failed
