"""Plans for a request that the project's quota and the hosts are both too small for: joint bins.

A joint bin is a host together with the quota. Quota items and resource classes have different names, so one vector
holds both. The eviction of a VM on the host frees resources there and quota; of a VM elsewhere it frees quota only.
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from heapq import heappop, heappush

from vmsvc.domain.resources import Resources
from vmsvc.planner.bins import Bin, Candidate
from vmsvc.planner.bounds import CandidateLevels
from vmsvc.planner.objective import Objective

Entries = Generator[tuple[Objective, Bin], None, None]


def join_quota(hosts: Iterable[Bin], quota: Bin, *, max_victims: int = 20, now: int = 0) -> list[Bin]:
    """The hosts as joint bins; unchanged when the request fits the quota.

    The candidates of `quota` are all of the project's, those on the hosts among them, each with what it frees of the
    quota; the candidates of a host have what they free there.
    """
    if not quota.deficit:
        return list(hosts)
    joint = JointQuota(quota, max_victims, now)
    return [joint.with_host(host) for host in hosts]


class JointQuota:
    """A quota that the request does not fit, to be joined with one host after the other.

    Of the VMs on other hosts a joint bin gets those that can matter: of the candidates with one priority, group and
    amount of quota, the cheapest that a plan could take together, and one more in case one of these is ruled out.
    """

    def __init__(self, quota: Bin, max_victims: int, now: int):
        self.quota = quota
        self.bound = CandidateLevels(quota.candidates).bound(quota, max_victims, now)
        self._frees = {candidate.id: candidate.resources for candidate in quota.candidates}
        groups: dict[tuple[int, str | None, Resources], list[Candidate]] = {}
        for candidate in quota.candidates:
            groups.setdefault((candidate.priority, candidate.group, candidate.resources), []).append(candidate)
        self._groups: list[tuple[int, list[Candidate]]] = []
        for (*_, frees), group in groups.items():
            useful = max(
                (-(-lack // frees[name]) for name, lack in quota.deficit.items() if frees[name] > 0), default=0
            )
            if useful:
                group.sort(key=lambda candidate: (candidate.ran, candidate.lost_work_at(now), candidate.id))
                self._groups.append((min(useful, max_victims) + 1, group))

    def with_host(self, host: Bin) -> Bin:
        """The joint bin of one host."""
        here = {candidate.id for candidate in host.candidates}
        candidates = [replace(one, resources=one.resources + self._frees.get(one.id, {})) for one in host.candidates]
        for wanted, group in self._groups:
            for candidate in group:
                if not wanted:
                    break
                if candidate.id not in here:
                    candidates.append(candidate)
                    wanted -= 1
        return Bin(
            host.id,
            host.need + self.quota.need,
            host.free.floored() + self.quota.free.floored(),
            host.capacity + self.quota.capacity,
            tuple(candidates),
        )

    def queue(self, hosts: Entries) -> Entries:
        """Joint bins with their bounds, the lowest first, from hosts with theirs in the same order.

        A plan in a joint bin costs no less than a plan for the host alone or for the quota alone. On a host with enough
        free resources, the surplus there is added to the quota's.
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
