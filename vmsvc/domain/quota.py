"""Quota and hosts short at once: bins in which both are seen together.

Quota items and resource classes have different names, so one vector holds both. A VM on the host frees room and quota
there, a VM elsewhere quota alone.
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from heapq import heappop, heappush

from vmsvc.domain.bins import Bin, Candidate
from vmsvc.domain.bound import Stock
from vmsvc.domain.objective import Objective
from vmsvc.domain.resources import Resources

Entries = Generator[tuple[Objective, Bin], None, None]


def join(hosts: Iterable[Bin], quota: Bin, *, max_victims: int = 20, now: int = 0) -> list[Bin]:
    """The hosts as bins that need the quota too; as they are when the quota has room.

    The candidates of the hosts free room, those of the quota (all of the project, those on the hosts again) quota.
    """
    if not quota.deficit:
        return list(hosts)
    joint = Joint(quota, max_victims, now)
    return [joint.with_host(host) for host in hosts]


class Joint:
    """A quota that lacks something, to be joined with one host after the other.

    Of the VMs elsewhere each bin gets the few that can matter: of those of one priority and group that free the same,
    the cheapest that could be taken together, and one more that could stand in for any of these.
    """

    def __init__(self, quota: Bin, max_victims: int, now: int):
        self.quota = quota
        self.bound = Stock(quota.candidates).bound(quota, max_victims, now)
        self._frees = {candidate.id: candidate.resources for candidate in quota.candidates}
        groups: dict[tuple[int, str | None, Resources], list[Candidate]] = {}
        for candidate in quota.candidates:
            groups.setdefault((candidate.priority, candidate.group, candidate.resources), []).append(candidate)
        self._groups: list[tuple[int, list[Candidate]]] = []
        for (*_, frees), group in groups.items():
            useful = max((-(-lack // frees[name]) for name, lack in quota.deficit.items() if frees[name] > 0),
                         default=0)
            if useful:
                group.sort(key=lambda candidate: (candidate.ran, candidate.lost(now), candidate.id))
                self._groups.append((min(useful, max_victims) + 1, group))

    def with_host(self, host: Bin) -> Bin:
        """One host joined with the quota."""
        here = {candidate.id for candidate in host.candidates}
        candidates = [replace(one, resources=one.resources + self._frees.get(one.id, {})) for one in host.candidates]
        for wanted, group in self._groups:
            for candidate in group:
                if not wanted:
                    break
                if candidate.id not in here:
                    candidates.append(candidate)
                    wanted -= 1
        return Bin(host.id, host.need + self.quota.need, host.free.floored() + self.quota.free.floored(),
                   host.capacity + self.quota.capacity, tuple(candidates))

    def queue(self, hosts: Entries) -> Entries:
        """The hosts joined, with bounds, in ascending order, from hosts in the order of theirs.

        A plan in a joined bin costs no less than one for the host alone or for the quota alone; on a host with room
        the surplus there comes on top of the quota's.
        """
        if self.bound is None:
            return
        quota = self.bound.objective
        waiting: list[tuple[Objective, str, Bin]] = []
        with closing(hosts):
            for objective, host in hosts:
                if not objective.victims:
                    bound = replace(quota, surplus=quota.surplus + objective.surplus)
                else:
                    bound = max(objective, quota)
                    while waiting and waiting[0][0] < bound:
                        yield self._next(waiting)
                heappush(waiting, (bound, host.id, host))
            while waiting:
                yield self._next(waiting)

    def _next(self, waiting: list[tuple[Objective, str, Bin]]) -> tuple[Objective, Bin]:
        bound, _, host = heappop(waiting)
        return bound, self.with_host(host)
