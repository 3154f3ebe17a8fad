"""The line of those who wait for room."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from vmsvc.domain.lifecycle import LEAVING, State
from vmsvc.service.scheduling.snapshot import traits_named
from vmsvc.service.scheduling.world_cache import View
from vmsvc.store import ledger, vms
from vmsvc.store.db import connected
from vmsvc.store.models import Vm
from vmsvc.store.vm_cache import VmRow

_SETTLE_SECONDS = 0.1      # without a new standard request, before somebody is evicted
_SETTLE_LIMIT = 1.0


@dataclass(frozen=True, slots=True)
class Queue:
    """Requests that wait, and those that have ended and still hold room; the traits that they name; the hosts on
    which room is kept and from which nobody is on his way any more, so that it should be there. `moving` tells one
    line from the next: all that is on its way in or out, upon which a decision depends and which changes often. Where
    a victim's eviction begins nothing is to be decided anew."""

    ids: frozenset[str]
    traits: frozenset[str]
    hosts: frozenset[str]
    moving: frozenset[tuple[str, State, datetime | None]]

    def with_noticed(self, victims: Iterable[str]) -> "Queue":
        """The same after a pass that noticed these: about what it did itself nothing is to be decided anew."""
        return replace(self, moving=self.moving | {(victim, State.NOTICED, None) for victim in victims})


def waiting_queue() -> Queue:
    """The line now; to be read before the cloud is."""
    with connected():
        found = ledger.concerned()
    rows = [one for one in found if one.state]
    waiting = [one for one in rows if one.state == State.PENDING]
    kept = {one.id for one in found if not one.state} - {one.id for one in rows if one.state == State.BUILDING}
    ids = {one.id for one in waiting} | kept | {one.evicted_for for one in rows if one.state == State.NOTICED}
    hosts = {one.host for one in found if not one.state and one.host and one.id in ids}
    left = hosts - {one.host for one in rows if one.state in LEAVING}
    asked = [traits_named({"traits": one.traits or {}, "requirements": one.requirements or {}}) for one in waiting]
    return Queue(frozenset(ids), frozenset().union(*asked), frozenset(left),
                 frozenset(map(_moving, rows)))


def _moving(one: ledger.Concerned) -> tuple[str, State, datetime | None]:
    """A request that comes back refused waits as before, and yet not for the same."""
    state = State.NOTICED if one.state == State.EVICTING else State(one.state)
    return one.id, state, one.updated_at if state is State.PENDING else None


def in_order(view: View, ids: frozenset[str]) -> list[Vm]:
    """Standard before preemptible, then by age. Who was deleted since the rows were read is none of them."""
    waiting = vms.of_ids([row.id for row in view.rows.in_states(State.PENDING) if row.id in ids])
    return sorted((row for row in waiting if row.state == State.PENDING),
                  key=lambda row: (row.is_preemptible, row.created_at, row.id))


def settling_seconds(now: datetime, rows: Sequence[VmRow]) -> float:
    """Seconds for which a burst of standard requests may still be coming in, or coming back refused: evictions wait
    that long, for a plan for all of them together costs fewer victims than plans one by one. `rows` includes those
    that came after the cloud was read."""
    ages = [(now - row.updated_at).total_seconds() for row in rows]
    return max(0.0, _SETTLE_SECONDS - min(ages)) if ages and max(ages) < _SETTLE_LIMIT else 0.0
