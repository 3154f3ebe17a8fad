"""The VMs of vmsvc as scheduling sees them: each row joined with its server."""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from datetime import datetime

from vmsvc.cloud.port import METADATA_ITEMS, Server
from vmsvc.domain.boot_options import options_of
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.candidates import Policy
from vmsvc.scheduling.vms import VmFacts, VmIndex
from vmsvc.service.server_rows import ServerRows
from vmsvc.store.vm_cache import VmRow

#: Statuses in which a server's claim on its host is released though the server is still there.
_HOLDS_NO_ROOM = frozenset({"SHELVED_OFFLOADED", "ERROR", "SOFT_DELETED"})
#: Those in which a tenant may rely on that. A server in ERROR that has a host may hold its capacity still.
_HOLDS_NOTHING = _HOLDS_NO_ROOM - {"ERROR"}


class Locations(Mapping[str, str]):
    """By the cloud's id, the host of each server that is on one; its hostId for a tenant. It changes with `servers`."""

    def __init__(self, servers: Mapping[str, Server], operator: bool):
        self._servers = servers
        self._operator = operator

    def __getitem__(self, server_id: str) -> str:
        server = self._servers[server_id]
        if place := (server.host if self._operator else server.host_id):
            return place
        raise KeyError(server_id)

    def __iter__(self) -> Iterator[str]:
        return (server_id for server_id, server in self._servers.items() if server.host or server.host_id)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class VmJoin:
    """Rows and servers joined, in `vms`. A VM is joined again when its row or its server changes. `foreign`, in tenant
    mode: by hostId ("" for a server that builds and has none yet) and server, what no VM of `vms` accounts for."""

    def __init__(self, policy: Policy):
        self.vms = VmIndex(())
        self.foreign: dict[str, dict[str, Resources]] = {}
        self._foreign_at: dict[str, str] = {}  # server -> its key in `foreign`
        self._touched: set[str] = set()  # servers whose place in `foreign` may have changed
        self._policy = policy
        self._rows: Mapping[str, VmRow] = {}
        self._index = ServerRows()
        self._uncertain: Set[str] = frozenset()
        self._exempt: Set[str] = frozenset()
        self._operator, self._metadata_items = False, METADATA_ITEMS

    def put_servers(self, servers: Mapping[str, Server | None]) -> set[str]:
        """These servers changed; None has gone. Returns the ids of the rows that may be affected, for `update`."""
        affected: set[str] = set()
        self._touched |= servers.keys()
        for server_id, server in servers.items():
            affected |= self._index.put_server(server_id, server)
            if (row_id := self._index.row_naming(server_id)) is not None:
                affected.add(row_id)
        return affected

    @property
    def locations(self) -> Mapping[str, str]:
        """Where servers of the project are, by the cloud's ids: hosts, for a tenant hostIds."""
        return Locations(self._index.servers, self._operator)

    def forget(self) -> set[str]:
        """Forget the rows. Returns the ids of the rows that servers name, for `update`."""
        self.vms = VmIndex(())
        self._touched |= self._index.servers.keys()
        self._index.forget_rows()
        return self._index.marks()

    def update(
        self,
        rows: Mapping[str, VmRow],
        affected: Iterable[str],
        *,
        added: Set[str],
        removed: Set[str],
        exempt: Set[str],
        operator: bool,
        metadata_items: int,
    ) -> None:
        """Join the affected rows again. `added`, `removed`: the servers that were not yet, or no longer, there when the
        quota was read; `exempt`: the ids of VMs that could not be evicted lately; `metadata_items`: how many a server
        may have."""
        uncertain = added | removed
        again = {*affected, *(exempt ^ self._exempt)}
        if metadata_items != self._metadata_items:
            again.update(rows)
        self._operator, self._metadata_items = operator, metadata_items
        self._exempt = exempt
        for server_id in uncertain | self._uncertain:
            again.update(filter(None, (self._index.row_naming(server_id), self._index.mark_of(server_id))))
        self._uncertain = uncertain
        for row_id in again:
            self._join(row_id, rows.get(row_id), added, removed)
            self._touched.update(self._index.carrying(row_id))
        touched, self._touched = self._touched, set()
        for server_id in () if operator else touched:
            self._note_foreign(server_id)

    def _note_foreign(self, server_id: str) -> None:
        """Note what this server holds beyond what its VM accounts for: all of it, if it has no VM."""
        before = self._foreign_at.pop(server_id, None)
        if before is not None:
            del self.foreign[before][server_id]
            if not self.foreign[before]:
                del self.foreign[before]
        server = self._index.servers.get(server_id)
        if server is None or server.status in _HOLDS_NOTHING or not (server.host_id or server.status == "BUILD"):
            return
        row_id = self._index.row_naming(server_id) or self._index.mark_of(server_id)
        vm = self.vms.get(row_id) if row_id else None
        held = server.resources
        if vm is not None and vm.cloud_id == server_id:
            held = (server.resources - vm.resources).floored()
        if held:
            self.foreign.setdefault(server.host_id, {})[server_id] = held
            self._foreign_at[server_id] = server.host_id

    def _join(self, row_id: str, row: VmRow | None, added: Set[str], removed: Set[str]) -> None:
        """Join one row. A request that waits for capacity is no VM yet."""
        self._touched |= self._index.put_row(row_id, row and row.cloud_id)
        if row is None or row.state == State.PENDING:
            self.vms.drop(row_id)
            return
        server = self._server(row)
        known = server.id if server is not None else row.cloud_id
        was_there = known is not None and (known in removed or server is not None and known not in added)
        takes_notice = server is None or not server.runs or server.takes_notice(self._metadata_items)
        # A tenant's VM whose guest cannot read a notice is no candidate. An operator's guests must not make themselves
        # immune by filling their metadata: the event alone delivers their notice.
        unable = not (takes_notice or self._operator) and self._policy.notices
        facts = replace(
            _facts(row, server, was_there, self._policy, row_id in self._exempt or unable), takes_notice=takes_notice
        )
        if self.vms.get(row_id) != facts:
            self.vms.put(facts)

    def _server(self, row: VmRow) -> Server | None:
        """The server of a row. While the answer to its create is out, only the server's mark names the row."""
        servers = self._index.servers
        if row.cloud_id:
            return servers.get(row.cloud_id)
        marked = map(servers.__getitem__, self._index.carrying(row.id))
        return next((server for server in marked if server.status != "ERROR"), None)


def _facts(row: VmRow, server: Server | None, was_there: bool, policy: Policy, exempt: bool) -> VmFacts:
    state = _state(row)
    present = server is not None or (state is not State.BUILDING and was_there)
    holds = server is None or server.status not in _HOLDS_NO_ROOM
    launched, options = _seconds(row.launched_at), options_of(row.options)
    return VmFacts(
        row.id,
        state,
        row.is_preemptible,
        Resources(row.quota),
        Resources(row.room if holds else {}),
        priority=row.priority,
        cloud_id=row.cloud_id or (server.id if server else None),
        host=server.host if server is not None and server.host else row.host,
        host_id=(server.host_id if server is not None else row.host_id) or "",
        present=present,
        uncounted=state in (State.BUILDING, State.ACTIVE) and not was_there,
        untouchable=exempt or _untouchable(row, server),
        protected_until=launched + row.min_run_seconds,
        ran=row.launched_at is not None,
        rate=policy.rate(int(row.quota.get("cores", 0))) if launched else 0,
        # Nova's clock may be ahead of the database's: nobody has lost less than nothing.
        since=min(launched, _seconds(row.updated_at)),
        owner=row.principal_id or row.principal,
        evicted_for=row.evicted_for,
        ended_at=row.ended_at,
        group=row.group_name,
        running=server is not None and server.runs,
        locked=server is not None and server.locked,
        zone=server.availability_zone if server is not None else None,
        server_group=options.server_group,
        claims=options.claims,
        keeps_ports=options.keeps_ports,
    )


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment else 0


def _state(row: VmRow) -> State:
    """The state as scheduling sees it. A VM that only practises its notice counts as ACTIVE: it will free no
    capacity."""
    return State.ACTIVE if (row.notice or {}).get("notice_only") else State(row.state)


def _untouchable(row: VmRow, server: Server | None) -> bool:
    """True for a VM that is no candidate: its server is locked or another task changes it, it practises its notice, or
    it still builds and was promised running time. A server without our mark belongs to its row all the same: the
    reconciler restores the mark."""
    if row.state == State.BUILDING:
        return row.min_run_seconds > 0
    return server is None or server.locked or server.task_state is not None or State(row.state) is not _state(row)
