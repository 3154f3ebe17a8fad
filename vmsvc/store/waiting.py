"""The requests that wait for capacity: those of which the scheduler has to be told, the queue, and its deadlines."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from peewee import SQL, Expression, Field, fn

from vmsvc.domain.lifecycle import State
from vmsvc.store import queries
from vmsvc.store.models import Reservation, Vm, any_of, database, tuples_of


class MovingRow(NamedTuple):
    """A VM that waits for its decision, is being created or is leaving; or, with `state` None, a VM that has a
    reservation; or, with `state` QUEUED, one of the requests that wait in the queue. `traits` and `requirements`, of a
    VM that waits, are what its flavor and image ask of a host; `server_group` is the one that it names. `host` is where
    the VM or its reserved capacity is, as far as hosts are known."""

    id: str
    state: str | None
    updated_at: datetime | None
    evicted_for: str | None
    traits: dict[str, list[str]] | None
    requirements: dict[str, object] | None
    host: str | None
    server_group: str | None = None


#: Of a row of `moving_rows`: requests wait in the queue.
QUEUED = "queued"


def moving_rows() -> list[MovingRow]:
    """All VMs that a decision may concern, and one request of the queue for all that wait there. One statement, because
    the scheduler reads them at every wakeup."""
    return list(map(MovingRow._make, database.execute_sql(queries.MOVING_ROWS).fetchall()))


class QueuedRow(NamedTuple):
    """Those columns of a request in the queue that its decision needs; `boot` is without user data and without the body
    of the POST."""

    id: str
    is_preemptible: bool
    priority: int
    principal: str
    principal_id: str | None
    group_name: str | None
    quota: dict[str, int]
    room: dict[str, int]
    boot: dict[str, Any]
    refusal: dict[str, Any] | None
    avoid: list[str]
    rounds: int
    attempt: int
    created_at: datetime
    updated_at: datetime
    wait_until: datetime | None
    patience_until: datetime | None
    queued_why: str | None


def queued_rows(vm_ids: Collection[str]) -> list[QueuedRow]:
    """Those of these requests that wait in the queue, in no order."""
    found = database.execute_sql(queries.QUEUED_ROWS, {"ids": list(vm_ids)}).fetchall()
    return list(map(QueuedRow._make, found))


def refused_requests(vm_ids: Collection[str]) -> list[Vm]:
    """Those of these requests that the cloud refused, and that wait for their next decision."""
    return list(
        Vm.select().where(
            any_of(Vm.id, vm_ids), Vm.state == State.PENDING, Vm.refusal.is_null(False), Vm.queued_why.is_null()
        )
    )


def is_queued() -> Expression:
    """The condition for the requests that wait in the queue."""
    return (Vm.state == State.PENDING) & Vm.queued_why.is_null(False)


def queued_of(owner: str) -> int:
    """How many requests of this owner wait in the queue."""
    found: int = Vm.select().where(is_queued(), Vm.principal_id == owner).count()
    return found


def totals() -> tuple[int, int, datetime | None]:
    """How many requests wait in the queue, how many vCPUs they need, and when the oldest came."""
    cores = fn.COALESCE(fn.SUM(SQL("(quota ->> 'cores')::int")), 0)
    ((count, vcpus, oldest),) = tuples_of(
        Vm.select(fn.COUNT(SQL("*")), cores, fn.MIN(Vm.created_at)).where(is_queued())
    )
    return count, vcpus, oldest


def position(vm: Vm, shares: Mapping[str, float]) -> int:
    """The position of a request in the queue: 1 is next. `scheduling.queue_order.queue_key` has the same order."""
    values = {
        "owners": list(shares),
        "shares": list(shares.values()),
        "is_preemptible": vm.is_preemptible,
        "priority": vm.priority,
        "share": shares.get(vm.principal_id or vm.principal, 0.0),
        "came": vm.created_at,
        "id": vm.id,
    }
    return 1 + int(database.execute_sql(queries.AHEAD, values).fetchone()[0])


# ---------------------------------------------------------------- deadlines


def seconds_to_next_deadline() -> float | None:
    """Seconds until the next deadline of a request that waits, below 0 for one that has passed; None when there is
    none. A request with a reservation has no end."""
    seconds: float | None = database.execute_sql(queries.NEXT_DEADLINE).fetchone()[0]
    return seconds


def expired(now: datetime, limit: int) -> list[Vm]:
    """Requests whose time to wait is over, for which no capacity is being freed, and about which the scheduler does not
    have to decide first; longest over first."""
    reserved = Reservation.select().where(Reservation.vm_id == Vm.id, Reservation.released_at.is_null())
    return list(
        Vm.select()
        .where(Vm.state == State.PENDING, Vm.wait_until <= now, ~fn.EXISTS(reserved), SQL(f"NOT {queries.GIVEN_BACK}"))
        .order_by(Vm.wait_until)
        .limit(limit)
    )


def falling_back(now: datetime, since: datetime, limit: int) -> list[Vm]:
    """Requests that go on as standard ones from now on. None whose wait ended before `since`."""
    return _due(Vm.fallback_at, now, since, limit)


def without_patience(now: datetime, since: datetime, limit: int) -> list[Vm]:
    """Requests whose patience is over. None whose wait ended before `since`."""
    return _due(Vm.patience_until, now, since, limit)


def _due(moment: Field, now: datetime, since: datetime, limit: int) -> list[Vm]:
    return list(
        Vm.select().where(Vm.state == State.PENDING, moment <= now, Vm.wait_until > since).order_by(moment).limit(limit)
    )
