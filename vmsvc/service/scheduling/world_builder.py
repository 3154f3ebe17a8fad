"""Builds the world and keeps it between decisions: an update costs what changed since the last one.

Changes of the cloud are added on the loop, piece by piece. The next `update`, in the thread that decides, brings them
into the world. The world can be lost at any time: then it is built from nothing.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from vmsvc.cloud.port import Quota, Server
from vmsvc.domain.boot_options import options_of
from vmsvc.domain.evidence import HostEvidence
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import QUOTA_ITEMS, Resources
from vmsvc.domain.server_group import ServerGroup
from vmsvc.scheduling.candidates import Policy
from vmsvc.scheduling.eviction_groups import budgets, full_budgets
from vmsvc.scheduling.host_index import IndexedWorld
from vmsvc.scheduling.world import UNLIMITED, Basis, ReservedCapacity
from vmsvc.service.scheduling.vm_join import VmJoin
from vmsvc.store.models import Reservation
from vmsvc.store.vm_cache import VmRow


@dataclass(frozen=True, slots=True)
class CloudChanges:
    """The servers and hosts that changed in the cloud, as of one moment; None for one that has gone."""

    servers: Mapping[str, Server | None]
    hosts: Mapping[str, Host | None]


@dataclass(frozen=True, slots=True)
class Commitments:
    """What the database says, besides the rows. `lost`: how many VMs each owner lost to evictions lately; `exempt`: the
    VMs that could not be evicted lately; `evidence`: in tenant mode, what is known of the capacity of hosts."""

    now: datetime
    reservations: Sequence[Reservation] = ()
    lost: Mapping[str, int] = field(default_factory=dict)
    exempt: Set[str] = frozenset()
    evidence: Mapping[str, HostEvidence] = field(default_factory=dict)


#: The server groups that requests name, as the cloud shows them now, by id; None for one that is not there.
ServerGroups = Mapping[str, ServerGroup | None]


class WorldBuilder:
    """`add_changes` may be called by another thread at any time; the other methods are for one thread at a time."""

    def __init__(self, policy: Policy):
        self._policy = policy
        self._changes: deque[CloudChanges] = deque()
        self._join = VmJoin(policy)
        self._hosts: dict[str, Host] = {}
        self._groups: dict[str, dict[str, VmRow]] = {}
        self._group_of: dict[str, str] = {}
        self._largest = ""  # the owner that had the most preemptible VMs
        self._world: IndexedWorld | None = None
        self._affected: set[str] = set()

    def add_changes(self, changes: CloudChanges) -> None:
        """Keep these for the next `update`."""
        self._changes.append(changes)

    def forget(self) -> None:
        """Forget the world, because an update failed. The next `update` has to name all rows as changed."""
        self._world = None
        self._affected = self._join.forget()
        self._groups, self._group_of = {}, {}

    def update(
        self,
        rows: Mapping[str, VmRow],
        changed: Iterable[str],
        quota: Quota,
        commitments: Commitments,
        *,
        operator: bool,
        added: Set[str] = frozenset(),
        removed: Set[str] = frozenset(),
        server_groups: ServerGroups = MappingProxyType({}),
    ) -> IndexedWorld:
        """The world as it is now. `rows` are the VMs that have not ended and those that ended a short while ago,
        `changed` the ids of those that changed since the last update; for `added` and `removed` see `VmJoin.update`."""
        affected, self._affected = {*self._affected, *changed}, set()
        if self._world is None:
            self._world = self._new_world(operator)
        world = self._world
        affected |= self._apply_changes(world)
        self._join.update(
            rows,
            affected,
            added=added,
            removed=removed,
            exempt=commitments.exempt,
            operator=operator,
            metadata_items=quota.metadata_items,
        )
        self._count_groups(rows, affected, world)
        world.set_quota(_limit(quota.limit), quota.used, int(commitments.now.timestamp()))
        world.set_reservations(
            {kept.vm_id: _reserved(kept, rows[kept.vm_id]) for kept in commitments.reservations if kept.vm_id in rows}
        )
        world.evidence, world.server_groups, world.locations = (
            commitments.evidence,
            server_groups,
            self._join.locations,
        )
        self._charge(world, commitments.lost)
        return world

    def _new_world(self, operator: bool) -> IndexedWorld:
        return IndexedWorld(
            operator,
            Resources(),
            Resources(),
            self._hosts,
            self._join.vms,
            {},
            patience=self._policy.patience,
            max_victims=self._policy.max_victims,
            cost_words=self._policy.words,
            foreign=self._join.foreign,
            declared=self._policy.declared,
            likely=self._policy.likely,
        )

    def _apply_changes(self, world: IndexedWorld) -> set[str]:
        """Bring the changes of the cloud into the world. Returns the ids of the rows that may be affected."""
        affected: set[str] = set()
        while self._changes:
            changes = self._changes.popleft()
            affected |= self._join.put_servers(changes.servers)
            for name, host in changes.hosts.items():
                world.mark_changed(name)
                if host is None:
                    self._hosts.pop(name, None)
                else:
                    self._hosts[name] = host
        return affected

    def _count_groups(self, rows: Mapping[str, VmRow], affected: Iterable[str], world: IndexedWorld) -> None:
        """Count anew how many VMs of each affected eviction group may leave."""
        touched = set()
        for row_id in affected:
            row, before = rows.get(row_id), self._group_of.pop(row_id, None)
            if before is not None:
                touched.add(before)
                del self._groups[before][row_id]
            if row is not None and row.group_name is not None:
                touched.add(row.group_name)
                self._group_of[row_id] = row.group_name
                self._groups.setdefault(row.group_name, {})[row_id] = row
        for group in touched:
            members = [row._asdict() for row in self._groups[group].values()]
            for counts, counted in ((world.budgets, budgets), (world.full_budgets, full_budgets)):
                counts.pop(group, None)
                counts.update(counted(members))
            if not self._groups[group]:
                del self._groups[group]

    def _charge(self, world: IndexedWorld, lost: Mapping[str, int]) -> None:
        """Set what owners lost, as a cost. The surcharge of the owner with most VMs is left out of all plans
        (`common_surcharge`): its VMs are on many hosts, and each of its losses would change them all."""
        owners = world.vms.owners
        most = max(map(len, owners.values()), default=0)
        if 2 * len(owners.get(self._largest, ())) <= most:
            self._largest = max(owners, key=lambda owner: (len(owners[owner]), owner), default="")
        before, usual = world.surcharges, world.common_surcharge
        surcharges = {owner: count * self._policy.owner_cost for owner, count in lost.items()}
        world.set_surcharges(surcharges, surcharges.get(self._largest, 0))
        affected = before.keys() | world.surcharges.keys() if usual == world.common_surcharge else owners.keys()
        for owner in affected:
            if world.surcharges.get(owner, 0) - world.common_surcharge != before.get(owner, 0) - usual:
                world.vms.mark_changed(vm.host for vm in owners.get(owner, {}).values() if vm.host is not None)


def _limit(limit: Mapping[str, int]) -> Resources:
    """The quota's limits; an item that is missing has none."""
    return Resources({item: limit.get(item, UNLIMITED) for item in QUOTA_ITEMS})


def _reserved(kept: Reservation, row: VmRow) -> ReservedCapacity:
    """A reservation as scheduling sees it. While the request builds, its build claims the capacity: then the
    reservation holds nothing, and only keeps others waiting."""
    waits, options = row.state == State.PENDING, options_of(row.options)
    return ReservedCapacity(
        kept.vm_id,
        kept.bin_kind,
        kept.bin,
        Resources(row.quota if waits else {}),
        Resources(row.room if waits else {}),
        {member: Resources(held) for member, held in kept.members.items()},
        basis=basis_of(kept.evidence),
        server_group=options.server_group,
        claims=options.claims,
    )


def basis_of(kept: Mapping[str, Any] | None) -> Basis | None:
    """The basis of a plan as `store.ledger.reserve` keeps it."""
    if kept is None:
        return None
    foreign = {server_id: Resources(held) for server_id, held in kept["foreign"].items()}
    return Basis(kept["certainty"], Resources(kept["free"]), foreign, kept["words"])
