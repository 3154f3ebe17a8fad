"""One look at the cloud for scheduling, and its join with the database into a `World`.

The order of reading matters. The quota and the hosts are read before the servers: a build that starts in between is
then not counted twice. Whether the quota counted it is not known: it does when the server was there before. What leaves is counted as leaving
when the cloud showed it before or after: at worst a request waits for one more look.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from vmsvc.cloud.mirror import Mirror
from vmsvc.cloud.port import MARK, Cloud, Host, Quota, Server
from vmsvc.domain.errors import NotFound
from vmsvc.domain.groups import budgets
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import QUOTA_ITEMS, Resources
from vmsvc.domain.world import UNLIMITED, HostFacts, Request, Reserved, VmFacts, World
from vmsvc.store import vms
from vmsvc.store.models import Reservation, Vm

#: Statuses in which a server's room on its host is given back though the server is still there.
_HOLDS_NO_ROOM = frozenset({"SHELVED_OFFLOADED", "ERROR", "SOFT_DELETED"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the cloud said, in plain values."""

    quota: Quota
    before: frozenset[str]             # servers that were there before the quota was read
    servers: Mapping[str, Server]      # ... and after
    hosts: tuple[Host, ...]
    fresh: frozenset[str] = frozenset()    # hosts whose inventories were read now; the others' may be a minute old


@dataclass(frozen=True, slots=True)
class Policy:
    """How victims are chosen: the order of criterion 3, its price for owners who lost VMs, and how many at most."""

    name: str = "least_lost"
    owner_cost: int = 0
    max_victims: int = 20

    def lost_work(self, vcpus: int, age: int, lost: int) -> int:
        """The cost of criterion 3: what the victim loses, or, by the other policies, how old it is."""
        age = max(0, age)
        worth = {"least_lost": vcpus * age, "oldest_first": -age, "newest_first": age}[self.name]
        return worth + lost * self.owner_cost


async def look(cloud: Cloud, mirror: Mirror) -> Snapshot:
    """Read the cloud now. Raises what the cloud raises."""
    before = frozenset(mirror.servers)
    quota = await cloud.quota()
    hosts = await cloud.hosts() if cloud.mode == "operator" else ()
    await mirror.refresh()
    return Snapshot(quota, before, dict(mirror.servers), hosts)


async def look_again(cloud: Cloud, mirror: Mirror, snapshot: Snapshot, name: str) -> Snapshot:
    """The snapshot with one host read anew as a whole, or without it if it has gone. Raises what the cloud raises."""
    (chosen,) = (host for host in snapshot.hosts if host.name == name)
    others = tuple(host for host in snapshot.hosts if host is not chosen)
    try:
        hosts = (*others, await cloud.host(chosen.provider_id))
    except NotFound:
        hosts = others
    await mirror.refresh()
    return replace(snapshot, hosts=hosts, servers=dict(mirror.servers), fresh=snapshot.fresh | {name})


def world_of(snapshot: Snapshot, rows: list[Vm], reservations: list[Reservation], *, now: datetime, operator: bool,
             policy: Policy, lost: Mapping[str, int]) -> World:
    """Join the two. `rows` are the open VMs and those that ended a short while ago, `now` is the database's clock,
    `lost` how many VMs each owner lost to evictions lately."""
    by_id = {row.id: row for row in rows}
    marked = {server.vmsvc_id: server for server in snapshot.servers.values() if server.status != "ERROR"}
    return World(
        operator=operator, quota_limit=_limit(snapshot.quota.limit), quota_used=snapshot.quota.used,
        hosts={host.name: _host(host) for host in snapshot.hosts if host.name},
        vms={row.id: _facts(row, snapshot, marked, now, policy, lost.get(row.principal, 0))
             for row in rows if row.state != State.PENDING},
        reservations={kept.vm_id: _reserved(kept, by_id[kept.vm_id]) for kept in reservations if kept.vm_id in by_id},
        budgets=budgets(vms.row_of(row) for row in rows), max_victims=policy.max_victims)


def request_of(row: Vm, ended_since: datetime | None) -> Request:
    """A row that waits. `ended_since`: when the newest VM ended, to see whether trying again is worth it."""
    refusal = row.refusal or {}
    refused_at = datetime.fromisoformat(refusal["at"]) if refusal else None
    return Request(
        row.id, row.is_preemptible, Resources(row.quota), Resources(row.room),
        availability_zone=row.boot.get("availability_zone"), refusal=refusal.get("error"),
        refusals=refusal.get("count", 0), avoid=frozenset(row.avoid), rounds=row.rounds,
        freed_since=bool(refused_at and ended_since and ended_since > refused_at))


def _limit(limit: Mapping[str, int]) -> Resources:
    """A limit that is missing is none."""
    return Resources({item: limit.get(item, UNLIMITED) for item in QUOTA_ITEMS})


def _host(host: Host) -> HostFacts:
    return HostFacts(host.name, host.inventories, host.allocations, host.available, host.availability_zone)


def _reserved(kept: Reservation, row: Vm) -> Reserved:
    """While the request builds, its build claims the room; the reservation then only keeps others waiting."""
    waits = row.state == State.PENDING
    return Reserved(kept.vm_id, kept.bin_kind, kept.bin, Resources(row.quota if waits else {}),
                    Resources(row.room if waits else {}),
                    {member: Resources(held) for member, held in kept.members.items()})


def _facts(row: Vm, snapshot: Snapshot, marked: Mapping[str | None, Server], now: datetime, policy: Policy,
           lost: int) -> VmFacts:
    state = _state(row)
    # The cloud may have made its server while we do not know the id yet: then only the mark tells.
    server = snapshot.servers.get(row.cloud_id) if row.cloud_id else marked.get(row.id)
    present = server is not None or (state is not State.BUILDING and row.cloud_id in snapshot.before)
    age = int((now - row.launched_at).total_seconds()) if row.launched_at else 0
    holds = server is None or server.status not in _HOLDS_NO_ROOM
    host = server.host if server is not None and server.host else row.host
    cloud_id = row.cloud_id or (server.id if server else None)
    return VmFacts(
        row.id, state, row.is_preemptible, Resources(row.quota), Resources(row.room if holds else {}),
        priority=row.priority, cloud_id=cloud_id, host=host,
        host_id=(server.host_id if server is not None else row.host_id) or "", present=present,
        unseen=state in (State.BUILDING, State.ACTIVE) and cloud_id not in snapshot.before,
        untouchable=_untouchable(row, server, age), ran=row.launched_at is not None,
        lost_work=policy.lost_work(int(row.quota.get("cores", 0)), age, lost), evicted_for=row.evicted_for,
        group=row.group_name, running=server is not None and server.status == "ACTIVE")


def _state(row: Vm) -> State:
    """A VM that only practises its notice stays: its room is not on its way."""
    return State.ACTIVE if (row.notice or {}).get("notice_only") else State(row.state)


def _untouchable(row: Vm, server: Server | None, age: int) -> bool:
    """Never a victim: who is locked, too young, being changed by others, or no longer carries our mark."""
    if row.state == State.BUILDING:
        return row.min_run_seconds > 0
    return (server is None or row.state != State.ACTIVE or server.locked or age < row.min_run_seconds
            or server.metadata.get(MARK) != row.id or server.task_state is not None)
