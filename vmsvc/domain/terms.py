"""What a plan is made under."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vmsvc.domain.bins import Candidate

#: How many nodes the search for a plan may visit, about half a second. That for the runner-up may visit a quarter.
NODE_CAP = 100_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan is made under: see `planner.plan`."""

    max_victims: int = 20
    node_cap: int = NODE_CAP
    now: int = 0
    cost_words: str = "less lost work"
    budgets: Mapping[str, int] = field(default_factory=dict)

    def allow(self, victims: Iterable[Candidate]) -> bool:
        """True when no more of an eviction group are among them than may go."""
        counts = Counter(victim.group for victim in victims) if self.budgets else {}
        return all(count <= self.budgets.get(group, count) for group, count in counts.items())

    def barred(self, candidate: Candidate) -> bool:
        """True when nobody of its eviction group may go."""
        return bool(self.budgets) and self.budgets.get(candidate.group, 1) < 1
