"""Where a request could go, and who could leave for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from vmsvc.domain.resources import Resources

#: Surplus is counted in these parts of a class's capacity: so fine that rounding decides nothing that matters.
WHOLE = 10**12


@dataclass(frozen=True, slots=True)
class Candidate:
    """A VM that may be evicted, as seen from one bin.

    `resources` is what taking it frees in this bin; a VM on another host frees quota items only. `lost_work` is an
    integer of the policy's choice, less is better, and grows by `rate` (>= 0) each second from the moment that the
    caller calls 0. least_lost: rate = vCPUs, lost_work = -vCPUs * time of launch (or a rate of 0 and the value of
    this moment); oldest_first: the time of launch; newest_first: its negative.
    """

    id: str
    resources: Resources
    priority: int = 0       # higher is evicted later
    ran: bool = True        # False: in ERROR or never scheduled, nobody loses anything
    lost_work: int = 0
    rate: int = 0
    group: str | None = None    # eviction group, of which only so many may go at once

    def lost(self, now: int) -> int:
        """The lost work if it goes now."""
        return self.lost_work + self.rate * now


@dataclass(frozen=True, slots=True)
class Bin:
    """One place where the request could go: a host, the project's quota, a group of servers with one hostId.

    Quota and host short at once: one bin per host with the vectors joined (`VCPU`... and `cores`...), in which the
    project's VMs on other hosts are candidates with their quota part alone; see `domain.quota`.
    """

    id: str
    need: Resources                       # what the request needs here
    free: Resources                       # below 0 counts as 0; empty when nobody knows (hostId groups)
    capacity: Resources                   # the measure of surplus; a class it lacks is measured by the need
    candidates: tuple[Candidate, ...] = ()

    @property
    def deficit(self) -> dict[str, int]:
        """What is lacking of each class, before anybody leaves; empty when the request fits."""
        return {name: need - max(self.free[name], 0) for name, need in self.need.items()
                if need > max(self.free[name], 0)}

    @property
    def weights(self) -> dict[str, int]:
        """What one unit of each needed class counts as surplus."""
        return {name: WHOLE // (self.capacity[name] or need) for name, need in self.need.items() if need > 0}

    def surplus(self, victims: Sequence[Candidate] = ()) -> int:
        """What stays free of the needed classes when the victims have left and the request has come, each as a part
        of capacity, summed. Below 0 as long as it does not fit."""
        left = 0
        for name, weight in self.weights.items():
            freed = sum(Resources.column([victim.resources for victim in victims], name))
            left += weight * (max(self.free[name], 0) + freed - self.need[name])
        return left
