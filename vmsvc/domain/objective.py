"""What a plan costs: the criteria in their order, and one integer per victim that orders plans alike.

Every criterion is a sum over the victims, so the lexicographic order of sums is kept when each victim's criteria are
written as digits of one integer, most important first, each digit wide enough for the sum of `max_victims` of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vmsvc.domain.resources import Resources

#: The surplus is counted in these parts of a class's capacity: fine enough that rounding decides nothing that matters.
WHOLE = 10**12


@dataclass(frozen=True, slots=True)
class Candidate:
    """A VM that may be evicted, as seen from one bin.

    `resources` is what taking it frees in this bin; a VM on another host frees quota items only. `lost_work` is an
    integer of the policy's choice, less is better: vCPU-seconds since launch (least_lost), the time of launch
    (oldest_first) or its negative (newest_first).
    """

    id: str
    resources: Resources
    priority: int = 0       # higher is evicted later
    ran: bool = True        # False: in ERROR or never scheduled, nobody loses anything
    lost_work: int = 0


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
    def of(cls, victims: Iterable[Candidate], surplus: int) -> "Objective":
        """The cost of evicting these and leaving that surplus."""
        victims = tuple(victims)
        counts: dict[int, int] = {}
        for victim in victims:
            counts[victim.priority] = counts.get(victim.priority, 0) + 1
        return cls(tuple(sorted(counts.items(), reverse=True)), sum(victim.ran for victim in victims),
                   sum(victim.lost_work for victim in victims), surplus)


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
    """Writes a victim's criteria as one positive integer; valid for sums of up to `max_victims` of the candidates."""

    def __init__(self, candidates: Sequence[Candidate], largest_surplus: int, max_victims: int):
        self._cheapest = min((candidate.lost_work for candidate in candidates), default=0)
        dearest = max((candidate.lost_work for candidate in candidates), default=0)
        self._lost_shift = (max_victims * largest_surplus).bit_length()
        self._ran_shift = self._lost_shift + (max_victims * (dearest - self._cheapest)).bit_length()
        width = max_victims.bit_length()
        priorities = sorted({candidate.priority for candidate in candidates})
        self._units = {p: 1 << (self._ran_shift + width * (rank + 1)) for rank, p in enumerate(priorities)}

    def price(self, candidate: Candidate, surplus: int) -> int:
        """The price of a victim that adds so much surplus. lost_work may be negative: only differences count,
        because it is compared between plans of as many victims."""
        return (self._units[candidate.priority] + (candidate.ran << self._ran_shift)
                + ((candidate.lost_work - self._cheapest) << self._lost_shift) + surplus)
