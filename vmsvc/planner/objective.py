"""The criteria that choose victims, in their order, and the same order as one integer for each victim.

Every criterion is a sum over the victims. So each victim's criteria can be written as the digits of one integer, the
most important first and each digit wide enough for the sum: the sums of these integers compare as the criteria do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vmsvc.domain.resources import Resources
from vmsvc.planner.bins import WHOLE, Bin, Candidate


@dataclass(frozen=True, slots=True, order=True)
class Objective:
    """What a plan minimises. Between equal objectives the lower bin id decides, then the lower victim ids.

    `victims` holds (priority, how many), highest priority first, without zeros: such tuples compare as the full
    vectors of counts would. `ran` counts the victims that ran. `surplus` is how much of the needed classes stays free:
    the sum of the parts of the bin's capacity, in units of 1 / WHOLE.
    """

    victims: tuple[tuple[int, int], ...]
    ran: int
    lost_work: int
    surplus: int

    @property
    def criteria(self) -> tuple[tuple[tuple[int, int], ...], int, int, int]:
        """The criteria as a plain tuple, which compares faster."""
        return self.victims, self.ran, self.lost_work, self.surplus

    @property
    def surplus_ppm(self) -> int:
        """The surplus in parts per million of capacity, rounded."""
        return (self.surplus * 10**6 + WHOLE // 2) // WHOLE

    def __add__(self, other: "Objective") -> "Objective":
        """The objective of two plans in different bins together; adding keeps the order."""
        counts = dict(self.victims)
        for priority, count in other.victims:
            counts[priority] = counts.get(priority, 0) + count
        return Objective(
            tuple(sorted(counts.items(), reverse=True)),
            self.ran + other.ran,
            self.lost_work + other.lost_work,
            self.surplus + other.surplus,
        )

    @classmethod
    def of(cls, bin_: Bin, victims: Sequence[Candidate], now: int = 0) -> "Objective":
        """The objective of evicting these victims from the bin at second `now`."""
        counts: dict[int, int] = {}
        for victim in victims:
            counts[victim.priority] = counts.get(victim.priority, 0) + 1
        return cls(
            tuple(sorted(counts.items(), reverse=True)),
            sum(victim.ran for victim in victims),
            sum(victim.lost_work_at(now) for victim in victims),
            bin_.surplus(victims),
        )


def criterion(best: Objective, runner_up: Objective | None, cost_words: str) -> str:
    """The first criterion in which the best plan beats the runner-up, in words."""
    if runner_up is None:
        return "the only possibility"
    for priority in sorted({p for p, _ in best.victims + runner_up.victims}, reverse=True):
        if dict(best.victims).get(priority, 0) != dict(runner_up.victims).get(priority, 0):
            return f"fewer victims of priority {priority}"
    if best.ran != runner_up.ran:
        return "fewer running victims"
    if best.lost_work != runner_up.lost_work:
        return cost_words
    return "less surplus" if best.surplus != runner_up.surplus else "lowest id"


def cost_of(objective: Objective) -> dict[str, Any]:
    """An objective as the JSON object that clients and the record of evictions show: the criteria in their order."""
    return {
        "victims_by_priority": {str(priority): count for priority, count in objective.victims},
        "running_victims": objective.ran,
        "lost_work": objective.lost_work,
        "surplus_ppm": objective.surplus_ppm,
    }


class Pricing:
    """One integer per candidate of a bin: its price. Of two sets of victims with equal counts by priority, the one with
    the lower sum of prices has the lower objective. The digits of a price, lowest first, are surplus, lost work and
    ran; each is wide enough for the sum over `victims` candidates."""

    def __init__(self, bin_: Bin, candidates: Sequence[Candidate], victims: int, now: int):
        vectors = [candidate.resources for candidate in candidates]
        freed = [
            [weight * amount for amount in Resources.column(vectors, name)] for name, weight in bin_.weights.items()
        ]
        surplus = [sum(row) for row in zip(*freed)]
        lost = [candidate.lost_work_at(now) for candidate in candidates]
        self._least = min(lost, default=0)
        self._base = bin_.surplus()
        self._lost_at = (victims * max(surplus, default=0)).bit_length()
        self._ran_at = self._lost_at + (victims * (max(lost, default=0) - self._least)).bit_length()
        #: In the order of the candidates. Here all that a victim frees counts as surplus; the deficit, which is the
        #: same for every set, is subtracted in `limit`.
        self.prices = [
            (candidate.ran << self._ran_at) + (work - self._least << self._lost_at) + over
            for candidate, work, over in zip(candidates, lost, surplus)
        ]

    def limit(self, objective: Objective, inclusive: bool) -> int:
        """The sum of prices below which a set with the same counts has a lower objective than this one (inclusive: or
        an equal one). The objective may come from another bin, so its values need not occur among the prices."""
        lost = objective.lost_work - sum(count for _, count in objective.victims) * self._least
        limit = objective.ran << self._ran_at
        if lost >= 0:
            limit += min(lost, 1 << self._ran_at - self._lost_at) << self._lost_at
        if 0 <= lost < 1 << self._ran_at - self._lost_at:
            limit += min(max(objective.surplus + inclusive - self._base, 0), 1 << self._lost_at)
        return limit
