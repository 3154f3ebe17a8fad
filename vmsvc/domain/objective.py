"""What a plan costs: the criteria in their order, and one integer per victim that orders plans alike.

Every criterion is a sum over the victims, so the lexicographic order of sums is kept when each victim's criteria are
written as digits of one integer, most important first, each digit wide enough for the sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vmsvc.domain.bins import WHOLE, Bin, Candidate
from vmsvc.domain.resources import Resources


@dataclass(frozen=True, slots=True, order=True)
class Objective:
    """The cost of a plan; the lesser is the better plan. Ties beyond it go to the lower bin id, then victim ids.

    `victims` holds (priority, how many), highest priority first, without zeros: such tuples compare as the full
    vectors of counts would. `surplus` is what stays free of the classes the request needs, each as a part of the
    bin's capacity, summed, in units of 10**-12.
    """

    victims: tuple[tuple[int, int], ...]
    ran: int
    lost_work: int
    surplus: int

    @property
    def criteria(self) -> tuple[tuple[tuple[int, int], ...], int, int, int]:
        """As a plain tuple, which compares faster."""
        return self.victims, self.ran, self.lost_work, self.surplus

    @property
    def surplus_ppm(self) -> int:
        """The surplus in parts per million of capacity, rounded, for people."""
        return (self.surplus * 10**6 + WHOLE // 2) // WHOLE

    def __add__(self, other: "Objective") -> "Objective":
        """The cost of two plans in different bins; adding keeps the order."""
        counts = dict(self.victims)
        for priority, count in other.victims:
            counts[priority] = counts.get(priority, 0) + count
        return Objective(tuple(sorted(counts.items(), reverse=True)), self.ran + other.ran,
                         self.lost_work + other.lost_work, self.surplus + other.surplus)

    @classmethod
    def of(cls, place: Bin, victims: Sequence[Candidate], now: int = 0) -> "Objective":
        """The cost of evicting these from that bin."""
        counts: dict[int, int] = {}
        for victim in victims:
            counts[victim.priority] = counts.get(victim.priority, 0) + 1
        return cls(tuple(sorted(counts.items(), reverse=True)), sum(victim.ran for victim in victims),
                   sum(victim.lost(now) for victim in victims), place.surplus(victims))


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


def cost_of(objective: Objective | None) -> dict[str, Any] | None:
    """What a plan costs, for people and programs: the criteria in their order."""
    if objective is None:
        return None
    return {"victims_by_priority": {str(priority): count for priority, count in objective.victims},
            "running_victims": objective.ran, "lost_work": objective.lost_work,
            "surplus_ppm": objective.surplus_ppm}


class Pricing:
    """Writes the criteria after the counts of victims as one integer for each of these candidates of a bin, good for
    comparing sets of equal counts. The digits, lowest first: surplus, lost work, ran; each is wide enough for a sum of
    so many victims."""

    def __init__(self, place: Bin, candidates: Sequence[Candidate], victims: int, now: int):
        vectors = [candidate.resources for candidate in candidates]
        freed = [[weight * amount for amount in Resources.column(vectors, name)]
                 for name, weight in place.weights.items()]
        surplus = [sum(row) for row in zip(*freed)]
        lost = [candidate.lost(now) for candidate in candidates]
        self._least = min(lost, default=0)
        self._base = place.surplus()
        self._lost_at = (victims * max(surplus, default=0)).bit_length()
        self._ran_at = self._lost_at + (victims * (max(lost, default=0) - self._least)).bit_length()
        #: The prices of the candidates, in their order. All that a victim frees counts as surplus here: the plan's is
        #: that without what was lacking.
        self.prices = [(candidate.ran << self._ran_at) + (work - self._least << self._lost_at) + over
                       for candidate, work, over in zip(candidates, lost, surplus)]

    def limit(self, objective: Objective, inclusive: bool) -> int:
        """What the sum of prices of a set with the same counts is below exactly when it costs less than the
        objective (or, inclusive, as much). The objective is another bin's: its costs may not occur here."""
        lost = objective.lost_work - sum(count for _, count in objective.victims) * self._least
        limit = objective.ran << self._ran_at
        if lost >= 0:
            limit += min(lost, 1 << self._ran_at - self._lost_at) << self._lost_at
        if 0 <= lost < 1 << self._ran_at - self._lost_at:
            limit += min(max(objective.surplus + inclusive - self._base, 0), 1 << self._lost_at)
        return limit
