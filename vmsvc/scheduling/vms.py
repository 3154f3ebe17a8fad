"""The VMs of vmsvc as scheduling sees them, with indexes: which are on a host, which build, which leave.

A question about one host costs what is on that host, whatever the number of VMs.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from vmsvc.domain.lifecycle import LEAVING, State
from vmsvc.domain.resources import Resources


@dataclass(frozen=True, slots=True)
class VmFacts:
    """One VM: its row and its server together. Moments are seconds since the epoch unless they are datetimes."""

    id: str
    state: State
    is_preemptible: bool
    quota: Resources  # what it counts for in the project's quota
    resources: Resources  # what it claims from its host
    priority: int = 0
    cloud_id: str | None = None
    host: str | None = None  # operator mode: where it is, or where it is to be built
    host_id: str = ""  # the host group (hostId) that Nova shows a tenant
    present: bool = False  # the cloud's answer counted its server
    uncounted: bool = False  # it stays, and its server came so late that the quota may not count it yet
    untouchable: bool = False  # no candidate: locked, changing, exempt, or (tenant) unable to read a notice
    protected_until: int = 0  # no candidate before: its owner was promised so much running time
    ran: bool = True
    lost_work: int = 0  # what its eviction costs by the policy at the moment `since` ...
    rate: int = 0  # ... and how much more each second later
    since: int = 0
    owner: str = ""  # World.surcharges adds what the owner lost lately
    evicted_for: str | None = None  # the request that it is a victim of
    ended_at: datetime | None = None
    group: str | None = None  # eviction group
    running: bool = True  # its guest runs, so that it can read a notice
    takes_notice: bool = True  # if the guest runs, the cloud lets vmsvc write a notice for it
    locked: bool = False  # only who locked the server can delete it
    zone: str | None = None  # availability zone of its host
    server_group: str | None = None  # of Nova, that its request named
    claims: frozenset[str] = frozenset()  # ports and addresses that it alone can have, in words
    keeps_ports: bool = False  # its ports stay when it leaves

    @property
    def is_leaving(self) -> bool:
        """True when the capacity that it still holds will become free without a further decision. A noticed VM whose
        server is locked does not leave."""
        goes = self.state in LEAVING and not (self.state is State.NOTICED and self.locked)
        return self.present and (goes or self.ended)

    @property
    def ended(self) -> bool:
        """True when it has ended. A VM that is also `present` ended after the cloud was read."""
        return self.state in (State.EVICTED, State.DELETED, State.LOST, State.FAILED)


_NONE: Mapping[str, VmFacts] = {}


class VmIndex(Mapping[str, VmFacts]):
    """VMs by id. Only `put` and `drop` change them. The index notes the hosts on which something changed."""

    def __init__(self, vms: Iterable[VmFacts]):
        self._changed: set[str] = set()
        self._all: dict[str, VmFacts] = {}
        self._hosts: dict[str, dict[str, VmFacts]] = {}
        self._in_transition: dict[str, dict[str, VmFacts]] = {}
        self._owners: dict[str, dict[str, VmFacts]] = {}
        self._victims: dict[str, dict[str, VmFacts]] = {}
        self._server_groups: dict[str, dict[str, VmFacts]] = {}
        self._building: dict[str, VmFacts] = {}
        self._leaving: dict[str, VmFacts] = {}
        self._uncounted: dict[str, VmFacts] = {}
        self._before: list[tuple[str, VmFacts | None]] = []
        self._trials = 0
        for vm in vms:
            self.put(vm)

    def put(self, vm: VmFacts) -> None:
        """Add a VM, or replace its facts."""
        self._change(vm.id, vm)

    def drop(self, vm_id: str) -> None:
        """Remove a VM, if it is there."""
        if vm_id in self._all:
            self._change(vm_id, None)

    def mark_changed(self, hosts: Iterable[str]) -> None:
        """Note that something about these hosts changed."""
        self._changed.update(hosts)

    def take_changed(self) -> set[str]:
        """The hosts on which something changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    @contextmanager
    def trial(self) -> Iterator[None]:
        """In this context VMs may be changed; at its end all are as before."""
        begun = len(self._before)
        self._trials += 1
        try:
            yield
        finally:
            self._trials -= 1
            changed, self._before[begun:] = self._before[begun:], []
            for vm_id, before in dict(reversed(changed)).items():
                self._set(vm_id, before)

    def _change(self, vm_id: str, vm: VmFacts | None) -> None:
        if self._trials:
            self._before.append((vm_id, self._all.get(vm_id)))
        self._set(vm_id, vm)

    def _set(self, vm_id: str, vm: VmFacts | None) -> None:
        before = self._all.pop(vm_id, None)
        if before is not None:
            for index in (self._building, self._leaving, self._uncounted):
                index.pop(vm_id, None)
            for groups, key in self._keys(before):
                del groups[key][vm_id]
                if not groups[key]:
                    del groups[key]
        if vm is not None:
            self._all[vm_id] = vm
            for index, belongs in (
                (self._building, vm.state is State.BUILDING),
                (self._leaving, vm.is_leaving),
                (self._uncounted, vm.uncounted),
            ):
                if belongs:
                    index[vm_id] = vm
            for groups, key in self._keys(vm):
                groups.setdefault(key, {})[vm_id] = vm
        self.mark_changed(one.host for one in (before, vm) if one is not None and one.host is not None)

    def _keys(self, vm: VmFacts) -> Iterator[tuple[dict[str, dict[str, VmFacts]], str]]:
        """The indexes that hold the VM, each with its key there."""
        if vm.host is not None:
            yield self._hosts, vm.host
            if vm.is_leaving or vm.state is State.BUILDING:
                yield self._in_transition, vm.host
        if vm.is_preemptible:
            yield self._owners, vm.owner
        if vm.evicted_for is not None:
            yield self._victims, vm.evicted_for
        if vm.server_group is not None:
            yield self._server_groups, vm.server_group

    def at(self, host: str) -> Collection[VmFacts]:
        """The VMs whose server is on a host or is to be built there."""
        return self._hosts.get(host, _NONE).values()

    def in_transition(self, host: str) -> Collection[VmFacts]:
        """Of the VMs on a host, those that build or leave: what the host's allocations alone do not show."""
        return self._in_transition.get(host, _NONE).values()

    @property
    def owners(self) -> Mapping[str, Mapping[str, VmFacts]]:
        """By owner, the preemptible VMs."""
        return self._owners

    @property
    def building(self) -> Collection[VmFacts]:
        """The VMs that build."""
        return self._building.values()

    @property
    def leaving(self) -> Collection[VmFacts]:
        """The VMs whose capacity will become free without a further decision."""
        return self._leaving.values()

    @property
    def uncounted(self) -> Collection[VmFacts]:
        """The VMs whose servers are so new that the cloud's answer may not count them."""
        return self._uncounted.values()

    def victims_of(self, vm_id: str) -> Collection[VmFacts]:
        """The VMs that leave, or have left, for a request."""
        return self._victims.get(vm_id, _NONE).values()

    def in_server_group(self, group_id: str) -> Collection[VmFacts]:
        """The VMs whose requests named this server group."""
        return self._server_groups.get(group_id, _NONE).values()

    def __getitem__(self, vm_id: str) -> VmFacts:
        return self._all[vm_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)
