"""What follows the eviction of a VM that is to be started again: a successor, its pause, or the end of its lineage."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from vmsvc.domain.events import instant

#: The values of `on_eviction`.
END, RESTART = "end", "restart"
#: Why a request failed that a lineage would have gone on with, and why one whose time to wait was over: the `reason` of
#: the event.
RESTARTS_USED_UP, DEADLINE = "restarts_used_up", "deadline"
MAX_RESTARTS, RESTART_WITHIN_SECONDS = 5, 86400  # the defaults

#: A VM that ran for less time had a short life.
SHORT_LIFE_SECONDS = 600
#: The pause before the second restart in a row after short lives; each further one takes twice as long, up to an hour.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 3600.0
#: A pause takes at most this share of the time that a successor has, so that it can get capacity after it.
LONGEST_SHARE = 0.5
#: Each pause is so much shorter or longer, so that VMs that were evicted together do not come back together.
SPREAD = 0.2
#: The evictions that `fallback_after_evictions` counts are those of so many hours.
FALLBACK_HOURS = 24


@dataclass(frozen=True, slots=True)
class Terms:
    """What a client asked for: how a preemptible VM is started again. Defaults as the API has them."""

    max_restarts: int = MAX_RESTARTS
    restart_within_seconds: int = RESTART_WITHIN_SECONDS
    fallback_after_evictions: int | None = None
    keep_address: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """A successor is to be started: the `attempt`-th, after a pause of so many seconds. `short_lives`: how many lives
    in a row were short, this one included. `falls_back`: it is a standard VM."""

    attempt: int
    pause: float
    short_lives: int
    falls_back: bool


@dataclass(frozen=True, slots=True)
class RestartsUsedUp:
    """The VM was to be started again, and has been as often as it may."""

    attempt: int
    message: str


@dataclass(frozen=True, slots=True)
class UserDataLost:
    """The VM was to be started again, and its user data are not there any more."""

    attempt: int
    message: str = (
        "an older release of vmsvc, which ran beside this one, has removed its user data: it is not started again"
    )


def after_eviction(
    vm_id: str, terms: Terms, *, restarts: int, short_lives: int, life_seconds: float, evictions_lately: int
) -> Restart | RestartsUsedUp:
    """What follows the eviction of this VM of an open lineage, which was restarted `restarts` times. `short_lives` as
    the lineage has it, `life_seconds` of this VM, `evictions_lately` of the lineage within FALLBACK_HOURS, this one
    included."""
    if restarts >= terms.max_restarts:
        times = "once" if restarts == 1 else f"{restarts} times"
        return RestartsUsedUp(
            restarts + 1, f"it was restarted {times}, and max_restarts is {terms.max_restarts}: it is not started again"
        )
    short_lives = short_lives + 1 if life_seconds < SHORT_LIFE_SECONDS else 0
    falls_back = terms.fallback_after_evictions is not None and evictions_lately >= terms.fallback_after_evictions
    pause = min(pause_seconds(vm_id, short_lives), terms.restart_within_seconds * LONGEST_SHARE)
    return Restart(restarts + 1, pause, short_lives, falls_back)


def pause_seconds(vm_id: str, short_lives: int) -> float:
    """How long the successor of this VM is not started. None after a long life and after the first short one; then
    30 s, and twice as long each time. The share by which it differs is derived from the id, so that it is the same
    whoever computes it."""
    if short_lives < 2:
        return 0.0
    share = int.from_bytes(hashlib.sha256(vm_id.encode()).digest()[:8], "big") / 2**64
    pause = FIRST_PAUSE_SECONDS * 2.0 ** min(short_lives - 2, 20)
    return min(LONGEST_PAUSE_SECONDS, pause * (1 - SPREAD + 2 * SPREAD * share))


def restart_data(origin: str, attempt: int, not_before: datetime) -> dict[str, object]:
    """What the event of the eviction says of the successor."""
    return {"origin": origin, "attempt": attempt, "not_before": instant(not_before)}
