"""The bins of a cloud kept between requests, so that a plan looks at the few that matter.

For each need that was asked for, the bins stand in the order of their bounds. A bin that changes gets a new place in
each order when that is asked for again.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace

from vmsvc.domain.batch import BatchPlan, decide_batch, several
from vmsvc.domain.bins import Bin
from vmsvc.domain.bound import Bound, Stock
from vmsvc.domain.objective import Objective
from vmsvc.domain.order import Order
from vmsvc.domain.planner import Outcome, Refuse, decide, refusal
from vmsvc.domain.quota import Joint
from vmsvc.domain.resources import Resources
from vmsvc.domain.search import Budget
from vmsvc.domain.terms import Terms

#: How many needs an index keeps an order for: flavors are few; the need that was not asked for longest goes.
NEEDS = 32


class Index:
    """Bins to be planned over, as they stand now. The bins that are put in have no need: each plan brings its own.

    Gives the same outcome as `planner.plan` over the same bins. Not for two threads at once.
    """

    def __init__(self):
        self._bins: dict[str, Bin] = {}
        self._stocks: dict[str, Stock] = {}
        self._short: dict[str, Resources] = {}
        self._orders: dict[tuple[Resources, int, int], Order] = {}   # the last one used is last
        self._now = 0

    def put(self, place: Bin, short: Resources = Resources()) -> None:
        """Add a bin, or replace it when anything about it changed. `short` is by how much it is over-committed: of
        the classes that a request needs so much must leave beyond the need. Raises ValueError for a candidate given
        twice."""
        if len({candidate.id for candidate in place.candidates}) < len(place.candidates):
            raise ValueError(f"bin {place.id} has a candidate twice")
        self._bins[place.id] = place
        self._stocks.pop(place.id, None)
        self._short.pop(place.id, None)
        if short:
            self._short[place.id] = short
        for order in self._orders.values():
            order.stale.add(place.id)

    def drop(self, bin_id: str) -> None:
        """Forget a bin; one that is not there counts as forgotten."""
        if self._bins.pop(bin_id, None) is not None:
            self._stocks.pop(bin_id, None)
            self._short.pop(bin_id, None)
            for order in self._orders.values():
                order.stale.add(bin_id)

    def __len__(self) -> int:
        return len(self._bins)

    def short(self, bin_id: str, need: Resources) -> Resources:
        """What must leave a bin beyond the need before that fits."""
        short = self._short.get(bin_id)
        return Resources({name: short[name] for name in need} if short else ())

    def fits(self, need: Resources, *, eligible: Callable[[Bin], bool] | None = None,
             terms: Terms = Terms()) -> str | None:
        """The bin that `plan` would say has room without any eviction, if there is one."""
        with closing(self._queue(self._order(need, 1, terms), None, eligible)) as entries:
            first = next(entries, None)
        return first[1].id if first is not None and not first[0].victims else None

    def plan(self, need: Resources, *, quota: Bin | None = None, eligible: Callable[[Bin], bool] | None = None,
             terms: Terms = Terms()) -> Outcome:
        """As `planner.plan`, over the bins for which `eligible` is true; with a quota that lacks something, over these
        bins joined with it (`domain.quota`)."""
        order = self._order(need, 1, terms)
        joint = None if quota is None or not quota.deficit else Joint(quota, terms.max_victims, terms.now)

        def queue(skipped: str | None) -> Generator[tuple[Objective, Bin], None, None]:
            entries = self._queue(order, skipped, eligible)
            return entries if joint is None else joint.queue(entries)

        def refuse(budget: Budget) -> str:
            if joint is not None and joint.bound is None:
                return refusal([quota], terms.max_victims, budget)
            return self._refusal(order, eligible, budget)

        if joint is not None:
            return decide(queue, refuse, terms)
        outcome = decide(queue, refuse, terms, order.solved.solve)
        order.learn(terms.now)
        return outcome

    def plan_batch(self, need: Resources, count: int, *, eligible: Callable[[Bin], bool] | None = None,
                   terms: Terms = Terms()) -> BatchPlan | Refuse:
        """As `batch.plan_batch`; the bins must not share candidates."""
        return decide_batch(lambda share: self._queue(self._order(need, share, terms), None, eligible),
                            lambda budget: self._refusal(self._order(need, 1, terms), eligible, budget), count, terms)

    def _refusal(self, order: Order, eligible: Callable[[Bin], bool] | None, budget: Budget) -> str:
        """Why there is no plan. Asking all bins takes long, so the answer is kept until one of them changes."""
        if order.refusal is not None and eligible is None and not budget.spent:
            return order.refusal
        reason = refusal([self._place(order, bin_id) for bin_id, place in sorted(self._bins.items())
                          if eligible is None or eligible(place)], order.max_victims, budget)
        if eligible is None and not budget.spent:
            order.refusal = reason
        return reason

    def _order(self, need: Resources, share: int, terms: Terms) -> Order:
        """The order for a need, up to date."""
        if terms.now < self._now:
            self._orders.clear()  # bounds hold for later times only
        self._now = terms.now
        key = need, share, terms.max_victims
        order = self._orders.pop(key, None) or Order(need, share, share * terms.max_victims, self._bins, self._stock)
        self._orders[key] = order
        if len(self._orders) > NEEDS:
            del self._orders[next(iter(self._orders))]
        if order.stale:
            order.refusal = None
        for bin_id in order.stale:
            order.solved.forget(bin_id)
            if bin_id in self._bins:
                order.put(bin_id, self._bound(order, bin_id), self._now)
            else:
                order.drop(bin_id)
        order.stale.clear()
        return order

    def _place(self, order: Order, bin_id: str) -> Bin:
        need = order.need + self.short(bin_id, order.need) if bin_id in self._short else order.need
        place = replace(self._bins[bin_id], need=need)
        return place if order.share == 1 else several(place, order.share)

    def _bound(self, order: Order, bin_id: str) -> Bound | None:
        place = self._place(order, bin_id)
        return self._stock(place).bound(place, order.max_victims, self._now)

    def _stock(self, place: Bin) -> Stock:
        stock = self._stocks.get(place.id)
        if stock is None:
            stock = self._stocks[place.id] = Stock(place.candidates)
        return stock

    def _queue(self, order: Order, skipped: str | None,
               eligible: Callable[[Bin], bool] | None) -> Generator[tuple[Objective, Bin], None, None]:
        with closing(order.bounds(self._now, lambda bin_id: self._bound(order, bin_id))) as bounds:
            for objective, bin_id in bounds:
                if bin_id != skipped and (eligible is None or eligible(self._bins[bin_id])):
                    yield objective, self._place(order, bin_id)
