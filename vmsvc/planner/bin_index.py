"""The bins of a cloud, kept between requests, so that a plan searches only the few bins that matter.

For each need that was asked for, `BinIndex` keeps the bins in the order of their bounds (`BinOrder`). A bin that
changes gets a new position in an order when that order is used again.

Lost work grows with time. A bound holds the least rate at which it grows; bins whose bounds grow alike share a sorted
list, which time does not reorder, and a bound that has fallen behind is computed anew when its turn comes.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import Any

from vmsvc.domain.resources import Resources
from vmsvc.planner.batch import BatchPlan, bin_for_many, plan_batch_in_order
from vmsvc.planner.bins import Bin, PlanOptions
from vmsvc.planner.bounds import Bound, CandidateLevels
from vmsvc.planner.joint_quota import JointQuota
from vmsvc.planner.objective import Objective
from vmsvc.planner.preemption import Entries, NoPlan, Outcome, plan_in_order, why_no_plan
from vmsvc.planner.search import NodeBudget
from vmsvc.planner.solution_cache import SolutionCache

#: How many needs an index keeps an order for (a cloud has few flavors). The least recently used order is dropped.
NEEDS = 32

_Key = tuple[tuple[tuple[int, int], ...], int, int]  # victims, ran, rate
_Position = tuple[int, int, str]  # lost work at second 0, surplus, bin id


class BinOrder:
    """The bins in the order of their bounds for `share` equal requests at once.

    `stale` holds the bins that changed since they got their position. `no_plan_reason` is the last answer when there
    was no plan; None when it has to be computed.
    """

    def __init__(
        self,
        need: Resources,
        share: int,
        max_victims: int,
        bin_ids: Iterable[str],
        levels: Callable[[Bin], CandidateLevels],
    ):
        self.need = need
        self.share = share
        self.max_victims = max_victims
        self.stale = set(bin_ids)
        self.no_plan_reason: str | None = None
        self.cache = SolutionCache(levels)
        self._lists: dict[_Key, list[_Position]] = {}
        self._positions: dict[str, tuple[_Key, _Position, int]] = {}

    def put(self, bin_id: str, bound: Bound | None, now: int) -> None:
        """Give a bin the position of this bound; with None (no plan is possible there) take it out."""
        self.drop(bin_id)
        if bound is not None:
            objective = bound.objective
            key = objective.victims, objective.ran, bound.rate
            position = objective.lost_work - bound.rate * now, objective.surplus, bin_id
            insort(self._lists.setdefault(key, []), position)
            self._positions[bin_id] = key, position, now

    def use_searched_bounds(self, now: int) -> None:
        """Give the bins that were searched since the last call the positions that the search found."""
        for bin_id, bound in self.cache.searched_bounds():
            self.put(bin_id, bound, now)

    def drop(self, bin_id: str) -> None:
        """Take a bin out, if it is there."""
        found = self._positions.pop(bin_id, None)
        if found is not None:
            key, position, _ = found
            positions = self._lists[key]
            del positions[bisect_left(positions, position)]
            if not positions:
                del self._lists[key]

    def bounds(self, now: int, renew: Callable[[str], Bound | None]) -> Generator[tuple[Objective, str], None, None]:
        """(bound, bin id), the lowest bound first; `renew` computes the bound of a bin as of now. The renewed bounds
        are kept when the iterator ends or is closed."""
        # Plain tuples: comparing Objectives would take most of the time.
        heads: list[tuple[Any, ...]] = [
            (*key[:2], positions[0][0] + key[2] * now, *positions[0][1:], key, 0)
            for key, positions in self._lists.items()
        ]
        heapify(heads)
        renewed: dict[str, Bound] = {}
        try:
            while heads:
                *costs, bin_id, key, at = heappop(heads)
                objective = Objective(*costs)
                if at is None:
                    yield objective, bin_id
                    continue
                if at + 1 < len(self._lists[key]):
                    lost, surplus, other = self._lists[key][at + 1]
                    heappush(heads, (*key[:2], lost + key[2] * now, surplus, other, key, at + 1))
                if self._positions[bin_id][2] < now and bin_id not in self.cache:
                    bound = renew(bin_id)
                    if bound is not None and bound.objective > objective:
                        renewed[bin_id] = bound
                        heappush(heads, (*bound.objective.criteria, bin_id, key, None))
                        continue
                yield objective, bin_id
        finally:
            for bin_id, bound in renewed.items():
                self.put(bin_id, bound, now)


class BinIndex:
    """The bins as they are now, to be planned over. The bins have no need of their own: each plan brings its need.

    Gives the same outcome as `plan` over the same bins. Two threads must not use one index at once.
    """

    def __init__(self) -> None:
        self._bins: dict[str, Bin] = {}
        self._levels: dict[str, CandidateLevels] = {}
        self._shortfalls: dict[str, Resources] = {}
        self._orders: dict[tuple[Resources, int, int], BinOrder] = {}  # the most recently used is last
        self._now = 0

    def put(self, bin_: Bin, shortfall: Resources = Resources()) -> None:
        """Add a bin, or replace it after a change. `shortfall` is how much the bin is over-committed: of the classes
        that a request needs, so much must leave beyond the need. Raises ValueError for a candidate that occurs
        twice."""
        if len({candidate.id for candidate in bin_.candidates}) < len(bin_.candidates):
            raise ValueError(f"bin {bin_.id} has a candidate twice")
        self._bins[bin_.id] = bin_
        self._levels.pop(bin_.id, None)
        self._shortfalls.pop(bin_.id, None)
        if shortfall:
            self._shortfalls[bin_.id] = shortfall
        for order in self._orders.values():
            order.stale.add(bin_.id)

    def drop(self, bin_id: str) -> None:
        """Remove a bin, if it is there."""
        if self._bins.pop(bin_id, None) is not None:
            self._levels.pop(bin_id, None)
            self._shortfalls.pop(bin_id, None)
            for order in self._orders.values():
                order.stale.add(bin_id)

    def __len__(self) -> int:
        return len(self._bins)

    def shortfall(self, bin_id: str, need: Resources) -> Resources:
        """How much must leave a bin beyond the need before the need fits."""
        shortfall = self._shortfalls.get(bin_id)
        return Resources({name: shortfall[name] for name in need} if shortfall else ())

    def fits(
        self, need: Resources, *, eligible: Callable[[Bin], bool] | None = None, options: PlanOptions = PlanOptions()
    ) -> str | None:
        """The id of the bin for which `plan` would answer `Fits`; None when it would not."""
        with closing(self._queue(self._order(need, 1, options), None, eligible)) as entries:
            first = next(entries, None)
        return first[1].id if first is not None and not first[0].victims else None

    def plan(
        self,
        need: Resources,
        *,
        quota: Bin | None = None,
        eligible: Callable[[Bin], bool] | None = None,
        options: PlanOptions = PlanOptions(),
    ) -> Outcome:
        """As `vmsvc.planner.plan`, over the bins for which `eligible` is true. When the request does not fit `quota`,
        these bins are joined with it (see `joint_quota`)."""
        order = self._order(need, 1, options)
        joint = None if quota is None or not quota.deficit else JointQuota(quota, options.max_victims, options.now)

        def queue(skipped: str | None) -> Entries:
            entries = self._queue(order, skipped, eligible)
            return entries if joint is None else joint.queue(entries)

        def explain(nodes: NodeBudget) -> str:
            if quota is not None and joint is not None and joint.bound is None:
                return why_no_plan([quota], options.max_victims, nodes)
            return self._why_no_plan(order, eligible, nodes)

        if joint is not None:
            return plan_in_order(queue, explain, options)
        outcome = plan_in_order(queue, explain, options, order.cache.solve)
        order.use_searched_bounds(options.now)
        return outcome

    def plan_batch(
        self,
        need: Resources,
        count: int,
        *,
        eligible: Callable[[Bin], bool] | None = None,
        options: PlanOptions = PlanOptions(),
    ) -> BatchPlan | NoPlan:
        """As `vmsvc.planner.plan_batch`, over the bins for which `eligible` is true. No two of them share a
        candidate."""
        return plan_batch_in_order(
            lambda share: self._queue(self._order(need, share, options), None, eligible),
            lambda nodes: self._why_no_plan(self._order(need, 1, options), eligible, nodes),
            count,
            options,
        )

    def _why_no_plan(self, order: BinOrder, eligible: Callable[[Bin], bool] | None, nodes: NodeBudget) -> str:
        """Why there is no plan. This reads all bins, so the answer is kept until one of them changes."""
        if order.no_plan_reason is not None and eligible is None and not nodes.spent:
            return order.no_plan_reason
        reason = why_no_plan(
            [
                self._bin_for(order, bin_id)
                for bin_id, bin_ in sorted(self._bins.items())
                if eligible is None or eligible(bin_)
            ],
            order.max_victims,
            nodes,
        )
        if eligible is None and not nodes.spent:
            order.no_plan_reason = reason
        return reason

    def _order(self, need: Resources, share: int, options: PlanOptions) -> BinOrder:
        """The order for a need, up to date."""
        if options.now < self._now:
            self._orders.clear()  # bounds hold for later times only
        self._now = options.now
        key = need, share, options.max_victims
        order = self._orders.pop(key, None) or BinOrder(
            need, share, share * options.max_victims, self._bins, self._levels_of
        )
        self._orders[key] = order
        if len(self._orders) > NEEDS:
            del self._orders[next(iter(self._orders))]
        if order.stale:
            order.no_plan_reason = None
        for bin_id in order.stale:
            order.cache.forget(bin_id)
            if bin_id in self._bins:
                order.put(bin_id, self._bound(order, bin_id), self._now)
            else:
                order.drop(bin_id)
        order.stale.clear()
        return order

    def _bin_for(self, order: BinOrder, bin_id: str) -> Bin:
        need = order.need + self.shortfall(bin_id, order.need) if bin_id in self._shortfalls else order.need
        bin_ = replace(self._bins[bin_id], need=need)
        return bin_ if order.share == 1 else bin_for_many(bin_, order.share)

    def _bound(self, order: BinOrder, bin_id: str) -> Bound | None:
        bin_ = self._bin_for(order, bin_id)
        return self._levels_of(bin_).bound(bin_, order.max_victims, self._now)

    def _levels_of(self, bin_: Bin) -> CandidateLevels:
        levels = self._levels.get(bin_.id)
        if levels is None:
            levels = self._levels[bin_.id] = CandidateLevels(bin_.candidates)
        return levels

    def _queue(self, order: BinOrder, skipped: str | None, eligible: Callable[[Bin], bool] | None) -> Entries:
        with closing(order.bounds(self._now, lambda bin_id: self._bound(order, bin_id))) as bounds:
            for objective, bin_id in bounds:
                if bin_id != skipped and (eligible is None or eligible(self._bins[bin_id])):
                    yield objective, self._bin_for(order, bin_id)
