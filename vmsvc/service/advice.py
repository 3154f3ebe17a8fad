"""What to expect of a preemptible VM of a flavor.

How often such VMs were evicted, how long they lived, and how long their requests waited."""

from datetime import UTC, datetime
from typing import Any

from vmsvc.domain.events import instant
from vmsvc.domain.survival import evictions_per_hour, percentile, survival_curve, uptime
from vmsvc.store import usage
from vmsvc.store.db import SHOW_SECONDS, reading

#: From fewer VMs nothing is concluded.
LEAST = 30
#: The newest so many VMs count: the answer stays quick however much happened.
_MOST = 5000


def of(flavor: str, hours: float) -> dict[str, Any]:
    """The advice for the flavor with this name, from the preemptible VMs that started within the last hours. Runs in
    the database pool."""
    with reading(SHOW_SECONDS):
        now, _ = usage.span()
        lives, waits = usage.lives(flavor, now - 3600 * hours, _MOST)
    curve = survival_curve(lives)
    enough = len(lives) >= LEAST
    return {
        "flavor": flavor,
        "since": instant(datetime.fromtimestamp(now - 3600 * hours, UTC)),
        "until": instant(datetime.fromtimestamp(now, UTC)),
        "eviction_rate": {
            "per_hour": evictions_per_hour(lives) if enough else None,
            "evicted": sum(life.was_evicted for life in lives),
            **_basis(len(lives)),
        },
        "expected_uptime_seconds": {
            "p10": uptime(curve, 0.1) if enough else None,
            "p50": uptime(curve, 0.5) if enough else None,
            "longest": max((life.seconds for life in lives), default=None),
            **_basis(len(lives)),
        },
        "wait_seconds": {
            "p50": percentile(waits, 0.5) if len(waits) >= LEAST else None,
            "p90": percentile(waits, 0.9) if len(waits) >= LEAST else None,
            **_basis(len(waits)),
        },
    }


def _basis(count: int) -> dict[str, Any]:
    return {"n": count, "too_few": count < LEAST}
