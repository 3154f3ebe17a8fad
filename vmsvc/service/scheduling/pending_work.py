"""What waits and what moves, as the scheduler reads it before each snapshot: whether there is anything to decide."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from vmsvc.domain.lifecycle import LEAVING, State
from vmsvc.domain.request import traits_named
from vmsvc.store.db import connected
from vmsvc.store.waiting import QUEUED, MovingRow, moving_rows


@dataclass(frozen=True, slots=True)
class PendingWork:
    """`ids`: the requests that wait without being in the queue, and those that have ended and still have a reservation;
    `traits`: those that they name, `server_groups` too; `hosts`: those with reserved capacity that no VM is leaving any
    more, so that it should be free; `queued`: others wait in the queue. Two are equal when there is nothing new to
    decide: `moving` are the VMs on their way in or out, with their states. (That a victim's eviction begins is nothing
    new.)"""

    ids: frozenset[str]
    traits: frozenset[str]
    hosts: frozenset[str]
    moving: frozenset[tuple[str, State, datetime | None]]
    queued: bool = False
    server_groups: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.ids or self.queued)

    def with_noticed(self, victims: Iterable[str]) -> "PendingWork":
        """The work after a pass that noticed these victims: its own notices give it nothing new to decide."""
        return replace(self, moving=self.moving | {(victim, State.NOTICED, None) for victim in victims})


def pending_work() -> PendingWork:
    """The work now. It has to be read before the cloud is."""
    with connected():
        every = moving_rows()
    found = [one for one in every if one.state != QUEUED]
    rows = [one for one in found if one.state]
    waiting = [one for one in rows if one.state == State.PENDING]
    kept = {one.id for one in found if not one.state} - {one.id for one in rows if one.state == State.BUILDING}
    preemptors = {one.evicted_for for one in rows if one.state == State.NOTICED and one.evicted_for}
    ids = {one.id for one in waiting} | kept | preemptors
    hosts = {one.host for one in found if not one.state and one.host and one.id in ids}
    left = hosts - {one.host for one in rows if one.state in LEAVING}
    asked = [traits_named({"traits": one.traits or {}, "requirements": one.requirements or {}}) for one in waiting]
    moving = frozenset(_moving_entry(one, State(one.state)) for one in rows if one.state)
    groups = frozenset(one.server_group for one in waiting if one.server_group)
    queued = len(found) < len(every)
    return PendingWork(frozenset(ids), frozenset().union(*asked), frozenset(left), moving, queued, groups)


def _moving_entry(one: MovingRow, state: State) -> tuple[str, State, datetime | None]:
    """A VM as `PendingWork.moving` has it. A request that the cloud has refused is new."""
    if state is State.EVICTING:
        state = State.NOTICED
    return one.id, state, one.updated_at if state is State.PENDING else None
