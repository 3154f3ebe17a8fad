"""What a plan costs: the criteria in their order, and one integer per victim that orders plans alike.

Every criterion is a sum over the victims, so the lexicographic order of sums is kept when each victim's criteria are
written as digits of one integer, most important first, each digit wide enough for the sum of `max_victims` of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vmsvc.domain.bins import WHOLE, Bin, Candidate


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
    def surplus_ppm(self) -> int:
        """The surplus in parts per million of capacity, rounded, for people."""
        return (self.surplus * 10**6 + WHOLE // 2) // WHOLE

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


class Pricing:
    """Writes the criteria of a bin's candidates as positive integers, for sums of up to `max_victims` of them.

    The digits, lowest first: surplus, lost work, ran, then one count per priority.
    """

    def __init__(self, place: Bin, max_victims: int, now: int):
        lost = [candidate.lost(now) for candidate in place.candidates]
        self._now = now
        self._least = min(lost, default=0)
        self._weights = place.weights
        largest = max((self._weigh(candidate) for candidate in place.candidates), default=0)
        self._lost_at = (max_victims * largest).bit_length()
        self._ran_at = self._lost_at + (max_victims * (max(lost, default=0) - self._least)).bit_length()
        width = max_victims.bit_length()
        priorities = sorted({candidate.priority for candidate in place.candidates})
        self._units = {p: 1 << (self._ran_at + width * (rank + 1)) for rank, p in enumerate(priorities)}

    def _weigh(self, candidate: Candidate) -> int:
        return sum(weight * candidate.resources[name] for name, weight in self._weights.items())

    def price(self, candidate: Candidate) -> int:
        """The price of a victim. Its surplus is all that it frees: that of a plan is short by what was lacking."""
        lost = candidate.lost(self._now) - self._least
        return (self._units[candidate.priority] + (candidate.ran << self._ran_at) + (lost << self._lost_at)
                + self._weigh(candidate))

    def limit(self, objective: Objective, inclusive: bool) -> int | None:
        """The number that the sum of a plan's prices and the bin's surplus is below exactly when the plan costs less
        than the objective (or, inclusive, as much); None when every plan here costs less. The objective is that of
        another bin: it may have priorities and costs that do not occur here."""
        limit, count = 0, 0
        for priority, victims in objective.victims:
            if priority not in self._units:
                higher = [unit for p, unit in self._units.items() if p > priority]
                return limit + min(higher) if higher else None
            limit += victims * self._units[priority]
            count += victims
        limit += objective.ran << self._ran_at
        lost = objective.lost_work - count * self._least
        if lost < 0:
            return limit
        if lost >> (self._ran_at - self._lost_at):
            return limit + (1 << self._ran_at)
        limit += lost << self._lost_at
        if objective.surplus >> self._lost_at:
            return limit + (1 << self._lost_at)
        return limit + objective.surplus + inclusive
