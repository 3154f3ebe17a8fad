"""Our VMs with the questions that scheduling asks of them answered by index: who is on a host, who builds, who leaves.

A question about one host costs what is on that host, whatever the number of VMs.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from vmsvc.domain.lifecycle import State
from vmsvc.domain.vm import VmFacts

_NONE: Mapping[str, VmFacts] = {}


class Roster(Mapping[str, VmFacts]):
    """VMs by id. `put` and `drop` are the only ways to change them. `touched` holds the hosts on which something
    changed, for a reader to take note of and to clear."""

    def __init__(self, vms: Iterable[VmFacts]):
        self.touched: set[str] = set()
        self._all: dict[str, VmFacts] = {}
        self._hosts: dict[str, dict[str, VmFacts]] = {}
        self._moving: dict[str, dict[str, VmFacts]] = {}
        self._owners: dict[str, dict[str, VmFacts]] = {}
        self._victims: dict[str, dict[str, VmFacts]] = {}
        self._building: dict[str, VmFacts] = {}
        self._leaving: dict[str, VmFacts] = {}
        self._unseen: dict[str, VmFacts] = {}
        self._before: list[tuple[str, VmFacts | None]] = []
        self._trials = 0
        for vm in vms:
            self.put(vm)

    def put(self, vm: VmFacts) -> None:
        """Add a VM, or replace what was known of it."""
        self._change(vm.id, vm)

    def drop(self, vm_id: str) -> None:
        """Forget a VM; one that is not there counts as forgotten."""
        if vm_id in self._all:
            self._change(vm_id, None)

    @contextmanager
    def trial(self) -> Iterator[None]:
        """What is changed inside is as it was before at the end."""
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
            for index in (self._building, self._leaving, self._unseen):
                index.pop(vm_id, None)
            for groups, key in self._keys(before):
                del groups[key][vm_id]
                if not groups[key]:
                    del groups[key]
        if vm is not None:
            self._all[vm_id] = vm
            for index, belongs in ((self._building, vm.state is State.BUILDING), (self._leaving, vm.leaves),
                                   (self._unseen, vm.unseen)):
                if belongs:
                    index[vm_id] = vm
            for groups, key in self._keys(vm):
                groups.setdefault(key, {})[vm_id] = vm
        self.touched.update(one.host for one in (before, vm) if one is not None and one.host is not None)

    def _keys(self, vm: VmFacts) -> Iterator[tuple[dict[str, dict[str, VmFacts]], str]]:
        """The groups that it is in."""
        if vm.host is not None:
            yield self._hosts, vm.host
            if vm.leaves or vm.state is State.BUILDING:
                yield self._moving, vm.host
        if vm.is_preemptible:
            yield self._owners, vm.owner
        if vm.evicted_for is not None:
            yield self._victims, vm.evicted_for

    def at(self, host: str) -> Collection[VmFacts]:
        """Those whose server is on a host or is to be built there."""
        return self._hosts.get(host, _NONE).values()

    def moving(self, host: str) -> Collection[VmFacts]:
        """Those of them that are being built or leave: what a look at the host alone does not tell."""
        return self._moving.get(host, _NONE).values()

    @property
    def owners(self) -> Mapping[str, Mapping[str, VmFacts]]:
        """The preemptible ones by owner."""
        return self._owners

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
