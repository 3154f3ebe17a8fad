"""The VMs that matter now, kept between readings: an update reads only the rows that changed."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

from peewee import JOIN, fn

from vmsvc.domain.lifecycle import FINAL
from vmsvc.store import queries, vms
from vmsvc.store.models import Lineage, Vm, database, tuples_of


class CachedRow(Protocol):
    """What the cache needs of a row: a NamedTuple whose fields are columns of a VM, or columns of its lineage that a VM
    does not have, with these among them."""

    @property
    def id(self) -> str:
        """The VM's id in vmsvc, which is not the cloud's."""

    @property
    def state(self) -> str:
        """A value of `domain.lifecycle.State`."""

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None before."""


T = TypeVar("T", bound=CachedRow)


class VmRow(NamedTuple):
    """Those columns of a VM that scheduling needs of each, and a part of `boot`. A caller that needs others passes a
    class of its own."""

    id: str
    state: str
    cloud_id: str | None
    is_preemptible: bool
    priority: int
    min_run_seconds: int
    group_name: str | None
    max_unavailable: int | None
    principal: str
    quota: dict[str, int]
    room: dict[str, int]
    host: str | None
    host_id: str | None
    updated_at: datetime
    launched_at: datetime | None
    ended_at: datetime | None
    evicted_for: str | None
    notice: dict[str, Any] | None
    evict_at: datetime | None = None
    principal_id: str | None = None
    queued_why: str | None = None
    not_before: datetime | None = None
    options: dict[str, Any] | None = None  # of `boot`: see domain.boot_options


#: Columns of such a class that are a part of a column of the table.
_PARTS = {"options": fn.jsonb_extract_path(Vm.boot, "options")}


class VmCache(Mapping[str, T]):
    """The VMs that `vms.current` returns, by id, with the columns that `kind` has. Two threads must not use it at
    once."""

    def __init__(self, kind: type[T]):
        self._kind: Callable[..., T] = kind
        # There is no type for "any NamedTuple" that would have `_fields`.
        names = getattr(kind, "_fields")
        columns = [_PARTS.get(name) or getattr(Vm, name, None) or getattr(Lineage, name) for name in names]
        self._rows_of = Vm.select(*columns)
        if any(name not in _PARTS and not hasattr(Vm, name) for name in names):
            self._rows_of = self._rows_of.join(Lineage, JOIN.LEFT_OUTER, on=Lineage.id == Vm.lineage_id)
        self._rows: dict[str, T] = {}
        self._states: dict[str, dict[str, T]] = {}
        self._mark: tuple[int, datetime] | None = None

    def update(self, now: datetime) -> set[str]:
        """Read what changed, in the caller's transaction; `now` is the database's clock. Returns the ids of the rows
        that are new, changed or left out from now on. Raises RuntimeError when the transaction has written already:
        what it wrote could be rolled back, and be remembered here."""
        *mark, wrote = database.execute_sql(queries.TRANSACTIONS).fetchone()
        if wrote:
            raise RuntimeError("rows are to be read before anything is written")
        whole = self._mark is None or self._mark[1] != mark[1]
        wanted = vms.is_current() if self._mark is None or whole else Vm.changed >= self._mark[0]
        found = [self._kind(*values) for values in tuples_of(self._rows_of.where(wanted))]
        changed = self._rows.keys() - {row.id for row in found} if whole else set()
        for row_id in changed:
            self._drop(row_id)
        for row in found:
            if self._rows.get(row.id) != row:
                self._put(row)
                changed.add(row.id)
        self._mark = mark[0], mark[1]
        return changed | self._forget_ended(now)

    def _forget_ended(self, now: datetime) -> set[str]:
        since = now - timedelta(seconds=vms.LISTED_SECONDS)
        over = {row.id for row in self.in_states(*FINAL) if row.ended_at and row.ended_at < since}
        for row_id in over:
            self._drop(row_id)
        return over

    def _put(self, row: T) -> None:
        if row.id in self._rows:
            self._drop(row.id)
        self._rows[row.id] = row
        self._states.setdefault(row.state, {})[row.id] = row

    def _drop(self, row_id: str) -> None:
        del self._states[self._rows.pop(row_id).state][row_id]

    def in_states(self, *states: str) -> list[T]:
        """Those in these states, in no order."""
        return [row for state in states for row in self._states.get(state, {}).values()]

    def __getitem__(self, row_id: str) -> T:
        return self._rows[row_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
