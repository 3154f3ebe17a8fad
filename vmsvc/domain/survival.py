"""How long preemptible VMs live before they are evicted, by the estimator of Kaplan and Meier.

E. L. Kaplan, P. Meier: Nonparametric Estimation from Incomplete Observations, J. Amer. Statist. Assoc. 53 (1958). A VM
that its owner deleted, or that still runs, says only that it was not evicted up to then: it is *censored*. To leave it
out, or to take its end for an eviction, would make the others look shorter-lived than they are.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Life(NamedTuple):
    """How many seconds a VM lived, and whether an eviction ended it; if not, it is censored."""

    seconds: float
    was_evicted: bool


def survival_curve(lives: Sequence[Life]) -> list[tuple[float, float]]:
    """The share of VMs that outlives each age at which one was evicted: (seconds, share), ages rising, shares falling.
    An eviction and a censoring of the same age: the censored VM was there when the other was evicted."""
    curve, share, at_risk = [], 1.0, len(lives)
    evicted_at: dict[float, int] = {}
    ended_at: dict[float, int] = {}
    for life in lives:
        ended_at[life.seconds] = ended_at.get(life.seconds, 0) + 1
        evicted_at[life.seconds] = evicted_at.get(life.seconds, 0) + life.was_evicted
    for seconds in sorted(ended_at):
        if evicted_at[seconds]:
            share *= 1 - evicted_at[seconds] / at_risk
            curve.append((seconds, share))
        at_risk -= ended_at[seconds]
    return curve


def uptime(curve: Sequence[tuple[float, float]], share_evicted: float) -> float | None:
    """The age in seconds by which this share of the VMs was evicted; None when fewer than that were evicted within the
    longest life in the data."""
    return next((seconds for seconds, share in curve if share <= 1 - share_evicted + 1e-12), None)


def evictions_per_hour(lives: Sequence[Life]) -> float:
    """Evictions for each hour that one VM runs; 0 where none has run."""
    hours = sum(life.seconds for life in lives) / 3600
    return sum(life.was_evicted for life in lives) / hours if hours else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed. Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(share * len(values) - 1e-12) - 1)]
