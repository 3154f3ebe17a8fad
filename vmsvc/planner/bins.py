"""The question that a plan answers: bins where the request could go, candidates that could leave them, and options."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vmsvc.domain.resources import Resources

#: Surplus is counted in these parts of a class's capacity: so fine that rounding decides nothing that matters.
WHOLE = 10**12


@dataclass(frozen=True, slots=True)
class Candidate:
    """A VM that may be evicted, with what its eviction means for one bin.

    `resources` is what its eviction frees in this bin; a VM on another host frees quota items only. The eviction
    policy chooses the integers `lost_work` (less is better) and `rate` (>= 0): the cost of the eviction is `lost_work`
    at second 0 of the caller's clock and grows by `rate` each second. Policy least_lost: rate = vCPUs, lost_work =
    -vCPUs * time of launch. oldest_first: lost_work = time of launch. newest_first: its negative.
    """

    id: str
    resources: Resources
    priority: int = 0  # higher is evicted later
    ran: bool = True  # False: in ERROR or never scheduled, so its eviction loses no work
    lost_work: int = 0
    rate: int = 0
    group: str | None = None  # eviction group; `PlanOptions.budgets` limits how many of a group may leave at once

    def lost_work_at(self, now: int) -> int:
        """The work that is lost when the candidate leaves at this second."""
        return self.lost_work + self.rate * now


@dataclass(frozen=True, slots=True)
class Bin:
    """Where a request could go: a host, the project's quota, or a host group (servers with one hostId).

    Bins with one `place` are alternatives: only one of them can be used (empty: no other bin has the place).

    When quota and host are both short, a bin holds the vectors of both (`VCPU`... and `cores`...), and the project's
    VMs on other hosts are candidates that free quota only: see `joint_quota`.
    """

    id: str
    need: Resources  # what the request needs here
    free: Resources  # below 0 counts as 0
    capacity: Resources  # surplus is a part of it; a class without capacity is measured by the need
    candidates: tuple[Candidate, ...] = ()
    place: str = ""

    @property
    def deficit(self) -> dict[str, int]:
        """By class, how much is lacking before any candidate leaves; empty when the request fits."""
        return {
            name: need - max(self.free[name], 0) for name, need in self.need.items() if need > max(self.free[name], 0)
        }

    @property
    def weights(self) -> dict[str, int]:
        """By needed class, how much one unit of it counts as surplus, in units of 1 / WHOLE of the capacity."""
        return {name: WHOLE // (self.capacity[name] or need) for name, need in self.need.items() if need > 0}

    def surplus(self, victims: Sequence[Candidate] = ()) -> int:
        """How much of the needed classes stays free after the victims have left and the request has come: the sum of
        the parts of capacity, in units of 1 / WHOLE. Below 0 when the request does not fit."""
        left = 0
        for name, weight in self.weights.items():
            freed = sum(Resources.column([victim.resources for victim in victims], name))
            left += weight * (max(self.free[name], 0) + freed - self.need[name])
        return left


#: How many nodes the search for a plan may visit (about half a second). The search for the runner-up may visit a
#: quarter of it.
NODE_CAP = 100_000


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The conditions that a plan keeps to; `plan` explains each. `budgets`: how many of an eviction group may leave."""

    max_victims: int = 20
    node_cap: int = NODE_CAP
    now: int = 0
    cost_words: str = "less lost work"
    budgets: Mapping[str, int] = field(default_factory=dict)

    def allow(self, victims: Iterable[Candidate]) -> bool:
        """True when the victims keep to the budget of every eviction group."""
        if not self.budgets:
            return True
        counts = Counter(victim.group for victim in victims if victim.group is not None)
        return all(count <= self.budgets.get(group, count) for group, count in counts.items())

    def bars(self, candidate: Candidate) -> bool:
        """True when the budget of the candidate's eviction group is used up."""
        return candidate.group is not None and self.budgets.get(candidate.group, 1) < 1
