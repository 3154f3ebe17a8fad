"""One look at the cloud for scheduling, and its join with the database into a `World`.

The order of reading matters. The quota and other projects' servers are read before our own: a build that starts in
between is then not counted twice. Whether the quota counts it is sure only if its server was there before. What leaves
is counted as leaving when the cloud showed it before or after: at worst a request waits for one more look.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from vmsvc.cloud.fleet import Fleet
from vmsvc.cloud.mirror import Mirror
from vmsvc.cloud.port import MARK, Cloud, Quota, Server
from vmsvc.domain.flavors import Traits
from vmsvc.domain.groups import budgets, limits
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import QUOTA_ITEMS, Resources
from vmsvc.domain.roster import Roster
from vmsvc.domain.vm import VmFacts
from vmsvc.domain.world import UNLIMITED, Request, Reserved, World
from vmsvc.store import vms
from vmsvc.store.models import Reservation, Vm

#: Statuses in which a server's room on its host is given back though the server is still there.
_HOLDS_NO_ROOM = frozenset({"SHELVED_OFFLOADED", "ERROR", "SOFT_DELETED"})
_NEWS_SECONDS = 0.0    # how old the changes of other projects' servers may be: one call a pass, however many hosts


#: (flavor id, image id) -> the hosts that refused such VMs lately, and what the cloud said.
Cooling = Mapping[tuple[str, str], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the cloud said, in plain values."""

    began: float                       # time.monotonic()
    quota: Quota
    before: frozenset[str]             # servers that were there before the quota was read
    servers: Mapping[str, Server]      # ... and after
    hosts: Mapping[str, Host]
    fresh: frozenset[str]              # hosts that Placement was asked about since it began
    doubted: frozenset[str]            # hosts of which it is known that Placement may say something else


@dataclass(frozen=True, slots=True)
class Policy:
    """How victims are chosen: the order of criterion 3, its price for owners who lost VMs, and how many at most; and
    for how many seconds a request waits for the budget of an eviction group."""

    name: str = "least_lost"
    owner_cost: int = 0
    max_victims: int = 20
    patience: float = 600.0

    @property
    def words(self) -> str:
        """What criterion 3 is called where it decided."""
        return "less lost work" if self.name == "least_lost" else self.name.replace("_", " ")

    def lost_work(self, vcpus: int, age: int, lost: int) -> int:
        """The cost of criterion 3: what the victim loses, or, by the other policies, how old it is."""
        age = max(0, age)
        worth = {"least_lost": vcpus * age, "oldest_first": -age, "newest_first": age}[self.name]
        return worth + lost * self.owner_cost


async def look(cloud: Cloud, mirror: Mirror, fleet: Fleet, traits: Collection[str] = ()) -> Snapshot:
    """Read the cloud now. `traits` are those that requests name. Raises what the cloud raises."""
    began, before = time.monotonic(), frozenset(mirror.servers)
    quota = await cloud.quota()
    await fleet.refresh(_NEWS_SECONDS, traits)
    await mirror.refresh()
    return _snapshot(began, quota, before, mirror, fleet)


async def look_again(mirror: Mirror, fleet: Fleet, snapshot: Snapshot, names: Collection[str]) -> Snapshot:
    """The snapshot with some hosts read anew from Placement, without those that have gone. Raises what the cloud
    raises."""
    await fleet.read(names)
    await mirror.refresh()
    return _snapshot(snapshot.began, snapshot.quota, snapshot.before, mirror, fleet)


def _snapshot(began: float, quota: Quota, before: frozenset[str], mirror: Mirror, fleet: Fleet) -> Snapshot:
    return Snapshot(began, quota, before, dict(mirror.servers), fleet.hosts(), fleet.read_since(began),
                    frozenset(fleet.claims.doubted))


def world_of(snapshot: Snapshot, rows: list[Vm], reservations: list[Reservation], *, now: datetime, operator: bool,
             policy: Policy, lost: Mapping[str, int], untold: Collection[str] = ()) -> World:
    """Join the two. `rows` are the open VMs and those that ended a short while ago, `now` is the database's clock,
    `lost` how many VMs each owner lost to evictions lately, `untold` whom the cloud did not let us notice lately."""
    by_id = {row.id: row for row in rows}
    marked = {server.vmsvc_id: server for server in snapshot.servers.values() if server.status != "ERROR"}
    return World(
        operator=operator, quota_limit=_limit(snapshot.quota.limit), quota_used=snapshot.quota.used,
        hosts=snapshot.hosts,
        vms=Roster(_facts(row, snapshot, marked, now, policy, lost.get(row.principal, 0), row.id in untold)
                   for row in rows if row.state != State.PENDING),
        reservations={kept.vm_id: _reserved(kept, by_id[kept.vm_id]) for kept in reservations if kept.vm_id in by_id},
        budgets=budgets(vms.row_of(row) for row in rows), limits=limits(vms.row_of(row) for row in rows),
        patience=policy.patience, max_victims=policy.max_victims, cost_words=policy.words)


def request_of(row: Vm, now: datetime, ended_since: datetime | None,
               cooling: Cooling = MappingProxyType({})) -> Request:
    """A row that waits. `ended_since`: when the newest VM ended, to see whether trying again is worth it."""
    refusal = row.refusal or {}
    refused_at = datetime.fromisoformat(refusal["at"]) if refusal else None
    return Request(
        row.id, row.is_preemptible, Resources(row.quota), Resources(row.room),
        availability_zone=row.boot.get("availability_zone"), traits=traits_in(row.boot), refusal=refusal.get("error"),
        refusals=refusal.get("count", 0), said=refusal.get("message"),
        avoid=frozenset(row.avoid), cooling=cooling.get((row.boot.get("flavor_id"), row.boot.get("image_id")), {}),
        rounds=row.rounds, waited=(now - row.updated_at).total_seconds(),
        refused_at=refused_at,
        freed_since=bool(refused_at and ended_since and ended_since > refused_at))


def traits_in(boot: Mapping[str, Any]) -> Traits:
    """The traits that a request's flavor asks for."""
    return Traits(**{kind: frozenset(names) for kind, names in boot.get("traits", {}).items()})


def _limit(limit: Mapping[str, int]) -> Resources:
    """A limit that is missing is none."""
    return Resources({item: limit.get(item, UNLIMITED) for item in QUOTA_ITEMS})


def _reserved(kept: Reservation, row: Vm) -> Reserved:
    """While the request builds, its build claims the room; the reservation then only keeps others waiting."""
    waits = row.state == State.PENDING
    return Reserved(kept.vm_id, kept.bin_kind, kept.bin, Resources(row.quota if waits else {}),
                    Resources(row.room if waits else {}),
                    {member: Resources(held) for member, held in kept.members.items()})


def _facts(row: Vm, snapshot: Snapshot, marked: Mapping[str | None, Server], now: datetime, policy: Policy,
           lost: int, untold: bool) -> VmFacts:
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
        untouchable=untold or _untouchable(row, server, age), ran=row.launched_at is not None,
        lost_work=policy.lost_work(int(row.quota.get("cores", 0)), age, lost), evicted_for=row.evicted_for,
        ended_at=row.ended_at,
        group=row.group_name, running=server is not None and server.status == "ACTIVE",
        locked=server is not None and server.locked)


def _state(row: Vm) -> State:
    """A VM that only practises its notice stays: its room is not on its way."""
    return State.ACTIVE if (row.notice or {}).get("notice_only") else State(row.state)


def _untouchable(row: Vm, server: Server | None, age: int) -> bool:
    """Never a victim: who is locked, too young, being changed by others, or no longer carries our mark."""
    if row.state == State.BUILDING:
        return row.min_run_seconds > 0
    return (server is None or row.state != State.ACTIVE or server.locked or age < row.min_run_seconds
            or server.metadata.get(MARK) != row.id or server.task_state is not None)
