"""What a plan is made under."""

from collections.abc import Mapping
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

    def barred(self, candidate: Candidate) -> bool:
        """True when nobody of its eviction group may go."""
        return bool(self.budgets) and self.budgets.get(candidate.group, 1) < 1
