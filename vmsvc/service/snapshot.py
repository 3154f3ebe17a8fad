"""One look at the cloud for scheduling, and its join with the database into a `World`.

The order of reading matters. The quota and the hosts are read before the servers: a build that starts in between is
then not counted twice, and the cloud itself is the judge if that was too hopeful. What leaves is counted as leaving
when the cloud showed it before or after: at worst a request waits for one more look.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from vmsvc.cloud.mirror import Mirror
from vmsvc.cloud.port import MARK, Cloud, Host, Quota, Server
from vmsvc.domain.errors import NotFound
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Resources
from vmsvc.domain.world import HostFacts, Request, Reserved, VmFacts, World
from vmsvc.store.models import Reservation, Vm

#: Statuses in which a server's room on its host is given back though the server is still there.
_HOLDS_NO_ROOM = frozenset({"SHELVED_OFFLOADED", "ERROR", "SOFT_DELETED"})
_UNLIMITED = 2**53


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the cloud said, in plain values."""

    quota: Quota
    before: frozenset[str]             # servers that were there before the quota was read
    servers: Mapping[str, Server]      # ... and after
    hosts: tuple[Host, ...]
    fresh: frozenset[str] = frozenset()    # hosts whose inventories were read now; the others' may be a minute old


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
             max_victims: int, policy: str) -> World:
    """Join the two. `rows` are the open VMs and those that ended a short while ago; `now` the database's clock."""
    by_id = {row.id: row for row in rows}
    marked = {server.vmsvc_id: server for server in snapshot.servers.values() if server.status != "ERROR"}
    return World(
        operator=operator, quota_limit=_limit(snapshot.quota.limit), quota_used=snapshot.quota.used,
        hosts={host.name: _host(host) for host in snapshot.hosts if host.name},
        vms={row.id: _facts(row, snapshot, marked, now, policy) for row in rows if row.state != State.PENDING},
        reservations={kept.vm_id: _reserved(kept, by_id[kept.vm_id]) for kept in reservations if kept.vm_id in by_id},
        max_victims=max_victims)


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
    """A limit that is missing is none: a number that no request reaches stands for it."""
    return Resources({item: limit.get(item, _UNLIMITED) for item in ("instances", "cores", "ram")})


def _host(host: Host) -> HostFacts:
    return HostFacts(host.name, host.inventories, host.allocations, host.available, host.availability_zone)


def _reserved(kept: Reservation, row: Vm) -> Reserved:
    """While the request builds, its build claims the room; the reservation then only keeps others waiting."""
    waits = row.state == State.PENDING
    return Reserved(kept.vm_id, kept.bin_kind, kept.bin, Resources(row.quota if waits else {}),
                    Resources(row.room if waits else {}),
                    {member: Resources(held) for member, held in kept.members.items()})


def _facts(row: Vm, snapshot: Snapshot, marked: Mapping[str | None, Server], now: datetime, policy: str) -> VmFacts:
    state = State(row.state)
    # The cloud may have made its server while we do not know the id yet: then only the mark tells.
    server = snapshot.servers.get(row.cloud_id) if row.cloud_id else marked.get(row.id)
    present = server is not None or (state is not State.BUILDING and row.cloud_id in snapshot.before)
    age = int((now - row.launched_at).total_seconds()) if row.launched_at else 0
    holds = server is None or server.status not in _HOLDS_NO_ROOM
    host = server.host if server is not None and server.host else row.host
    return VmFacts(
        row.id, state, row.is_preemptible, Resources(row.quota), Resources(row.room if holds else {}),
        priority=row.priority, cloud_id=row.cloud_id or (server.id if server else None), host=host,
        host_id=(server.host_id if server is not None else row.host_id) or "", present=present,
        untouchable=_untouchable(row, server, age), ran=row.launched_at is not None,
        lost_work=_lost_work(policy, int(row.quota.get("cores", 0)), age), evicted_for=row.evicted_for)


def _untouchable(row: Vm, server: Server | None, age: int) -> bool:
    """Never a victim: who is locked, too young, being changed by others, or no longer carries our mark."""
    if row.state == State.BUILDING:
        return row.min_run_seconds > 0
    return (server is None or server.locked or age < row.min_run_seconds or server.metadata.get(MARK) != row.id
            or server.task_state is not None)


def _lost_work(policy: str, vcpus: int, age: int) -> int:
    """The cost of criterion 3: what the victims lose, or, by the other policies, how old they are."""
    age = max(0, age)
    if policy == "oldest_first":
        return -age
    return age if policy == "newest_first" else vcpus * age
