"""Our VMs with the questions that scheduling asks of them answered by index: who is on a host, who builds, who leaves.

A question about one host costs what is on that host, whatever the number of VMs.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from vmsvc.domain.lifecycle import State
from vmsvc.domain.vm import VmFacts

_NONE: Mapping[str, VmFacts] = {}


class Roster(Mapping[str, VmFacts]):
    """VMs by id. `put` is the only way to change one."""

    def __init__(self, vms: Iterable[VmFacts]):
        self._all: dict[str, VmFacts] = {}
        self._hosts: dict[str, dict[str, VmFacts]] = {}
        self._moving: dict[str, dict[str, VmFacts]] = {}
        self._building: dict[str, VmFacts] = {}
        self._leaving: dict[str, VmFacts] = {}
        self._unseen: dict[str, VmFacts] = {}
        self._victims: dict[str, dict[str, VmFacts]] = {}
        for vm in vms:
            self.put(vm)

    def put(self, vm: VmFacts) -> None:
        """Add a VM, or replace what was known of it."""
        before = self._all.get(vm.id)
        if before is not None:
            self._forget(before)
        self._all[vm.id] = vm
        if vm.host is not None:
            self._hosts.setdefault(vm.host, {})[vm.id] = vm
        if vm.state is State.BUILDING:
            self._building[vm.id] = vm
        if vm.leaves:
            self._leaving[vm.id] = vm
        if vm.unseen:
            self._unseen[vm.id] = vm
        if vm.host is not None and (vm.leaves or vm.state is State.BUILDING):
            self._moving.setdefault(vm.host, {})[vm.id] = vm
        if vm.evicted_for is not None:
            self._victims.setdefault(vm.evicted_for, {})[vm.id] = vm

    def _forget(self, vm: VmFacts) -> None:
        self._building.pop(vm.id, None)
        self._leaving.pop(vm.id, None)
        self._unseen.pop(vm.id, None)
        for index, key in ((self._hosts, vm.host), (self._moving, vm.host), (self._victims, vm.evicted_for)):
            index.get(key, {}).pop(vm.id, None)

    def at(self, host: str) -> Collection[VmFacts]:
        """Those whose server is on a host or is to be built there."""
        return self._hosts.get(host, _NONE).values()

    def moving(self, host: str) -> Collection[VmFacts]:
        """Those of them that are being built or leave: what a look at the host alone does not tell."""
        return self._moving.get(host, _NONE).values()

    @property
    def building(self) -> Collection[VmFacts]:
        """Those that are being built."""
        return self._building.values()

    @property
    def leaving(self) -> Collection[VmFacts]:
        """Those whose room will be free without our doing more."""
        return self._leaving.values()

    @property
    def unseen(self) -> Collection[VmFacts]:
        """Those so new that the cloud's answer may not count them."""
        return self._unseen.values()

    def victims_of(self, vm_id: str) -> Collection[VmFacts]:
        """Who is to go, or has gone, for a request."""
        return self._victims.get(vm_id, _NONE).values()

    def __getitem__(self, vm_id: str) -> VmFacts:
        return self._all[vm_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)
