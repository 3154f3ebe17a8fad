"""What scheduling decides on: the cloud as it was read, joined with what the database has promised.

Quota items (`instances`, `cores`, `ram`) and resource classes (`VCPU`, `MEMORY_MB`, ...) have different names. So the
sum of a quota vector and a resource vector is one vector, in which both shortages can be seen at once.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from vmsvc.domain.evidence import SURE, HostEvidence
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources
from vmsvc.domain.server_group import ServerGroup
from vmsvc.scheduling.vms import VmFacts, VmIndex

QUOTA, HOST, HOST_GROUP = "quota", "host", "host_id"  # kinds of bin, as the database stores them
PROJECT = "project"  # the id of the one bin of kind QUOTA
UNLIMITED = 2**53  # stands for a quota without a limit: no request reaches it


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan in a host group counts on besides the capacity of its victims. `free`: what it takes to be free there
    when the plan is made; below 0 where the servers hold more of a class than the evidence shows. `foreign`: what
    servers of the project that no VM accounts for held there then. `words`: the evidence; None for a sure plan."""

    certainty: str = SURE
    free: Resources = Resources()
    foreign: Mapping[str, Resources] = field(default_factory=dict)
    words: str | None = None


@dataclass(frozen=True, slots=True)
class ReservedCapacity:
    """Capacity that is reserved for a request. Of a host group: what each VM held there when the plan was made
    (`members`), and what else the plan counts on (`basis`; None in a reservation of an earlier release)."""

    vm_id: str
    kind: str
    bin: str
    quota: Resources
    resources: Resources
    members: Mapping[str, Resources] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()
    basis: Basis | None = None
    server_group: str | None = None
    claims: frozenset[str] = frozenset()


@dataclass(slots=True)
class World:
    """The quota, hosts, VMs and reservations of one moment. A world may be kept and brought up to date: code that
    changes something about a host calls `mark_changed`. `place`, `reserve` and the like update the world while several
    requests are decided, inside a `trial`."""

    operator: bool  # operator mode: the hosts are known
    quota_limit: Resources
    quota_used: Resources
    hosts: dict[str, Host]
    vms: VmIndex
    reservations: dict[str, ReservedCapacity]
    budgets: dict[str, int] = field(default_factory=dict)  # eviction group -> how many more may be noticed now
    full_budgets: dict[str, int] = field(default_factory=dict)  # ... and how many when all of the group are available
    patience: float = 600.0  # seconds for which a request waits for a budget
    surcharges: Mapping[str, int] = field(default_factory=dict)  # owner -> what the owner lost lately, as a cost
    common_surcharge: int = 0  # is left out of the costs of all plans, because it decides nothing
    max_victims: int = 20
    now: int = 0  # seconds since the epoch
    cost_words: str = "less lost work"  # what the policy calls the criterion "lost work"
    #: Tenant mode: by hostId ("": no host yet) what servers of the project hold that no VM here accounts for, ...
    foreign: Mapping[str, Mapping[str, Resources]] = field(default_factory=dict)
    evidence: Mapping[str, HostEvidence] = field(default_factory=dict)  # ... what is known of its capacity, ...
    declared: Resources = Resources()  # ... what is declared of every host ...
    likely: bool = True  # ... and whether likely plans are made
    #: The server groups that requests name, by id; None for one that is not there. Nova's members are servers ...
    server_groups: Mapping[str, ServerGroup | None] = field(default_factory=dict)
    #: ... and where servers of the project are, by the cloud's ids: hosts, for a tenant hostIds.
    locations: Mapping[str, str] = field(default_factory=dict)

    def mark_changed(self, host: str) -> None:
        """Note that something about this host changed."""
        self.vms.mark_changed([host])

    def victims_of(self, vm_id: str, *states: State) -> list[VmFacts]:
        """The victims of a request that are in these states."""
        return [vm for vm in self.vms.victims_of(vm_id) if vm.state in states]

    @contextmanager
    def trial(self) -> Iterator[None]:
        """In this context decisions may change the world; at its end all is as before. (The next reading of the
        database brings back what was committed.)"""
        reservations, budgets, evidence = self.reservations, self.budgets, self.evidence
        self.reservations, self.budgets = dict(reservations), dict(budgets)
        try:
            with self.vms.trial():
                yield
        finally:
            self.set_reservations(reservations)
            self.budgets, self.evidence = budgets, evidence

    def set_quota(self, limit: Resources, used: Resources, now: int) -> None:
        """Replace what is known of the project's quota; `now` is the world's time, in seconds since the epoch."""
        self.quota_limit, self.quota_used, self.now = limit, used, now

    def set_surcharges(self, surcharges: Mapping[str, int], common: int) -> None:
        """Replace the surcharges by owner, and the part that all plans leave out."""
        self.surcharges, self.common_surcharge = surcharges, common

    def set_reservations(self, reservations: dict[str, ReservedCapacity]) -> None:
        """Replace all reservations."""
        before, self.reservations = self.reservations, reservations
        for vm_id in before.keys() | reservations.keys():
            both = [found for found in (before.get(vm_id), reservations.get(vm_id)) if found]
            if len(both) < 2 or both[0] != both[1]:
                self.vms.mark_changed(each.bin for each in both if each.kind == HOST)

    def place(self, request: Request, host: str | None) -> None:
        """The request builds now. Its need counts as used although the cloud does not count it yet, and its reservation
        holds nothing any more."""
        self.vms.put(
            VmFacts(
                request.id,
                State.BUILDING,
                request.is_preemptible,
                request.quota,
                request.resources,
                host=host,
                server_group=request.server_group,
                claims=request.claims,
            )
        )
        reserved = self.reservations.get(request.id)
        if reserved is not None:
            self._set_reservation(replace(reserved, quota=Resources(), resources=Resources()))

    def reserve(
        self,
        request: Request,
        kind: str,
        bin_id: str,
        victims: tuple[str, ...],
        members: Mapping[str, Resources],
        basis: Basis | None = None,
    ) -> None:
        """Capacity is reserved for the request, and its victims are noticed."""
        self.release(request.id)
        self._set_reservation(
            ReservedCapacity(
                request.id,
                kind,
                bin_id,
                request.quota,
                request.resources,
                members,
                request.conditions,
                basis,
                request.server_group,
                request.claims,
            )
        )
        for victim in victims:
            vm = self.vms[victim]
            if vm.group and vm.state is not State.NOTICED:
                self.budgets[vm.group] -= 1
            self.vms.put(replace(vm, state=State.NOTICED, evicted_for=request.id))

    def _set_reservation(self, reserved: ReservedCapacity) -> None:
        self.reservations[reserved.vm_id] = reserved
        if reserved.kind == HOST:
            self.mark_changed(reserved.bin)

    def reprieve(self, victims: tuple[str, ...]) -> None:
        """These victims stay after all."""
        for victim in victims:
            vm = replace(self.vms[victim], state=State.ACTIVE, evicted_for=None)
            self.vms.put(vm)
            if vm.group:
                self.budgets[vm.group] += 1

    @contextmanager
    def without_reservation(self, request_id: str) -> Iterator[None]:
        """In this context the request has no reservation and no noticed victims, so that its plan can be made again."""
        noticed = self.victims_of(request_id, State.NOTICED)
        with self.trial():
            self.release(request_id)
            self.reprieve(tuple(vm.id for vm in noticed))
            for vm in noticed:
                self.vms.put(replace(self.vms[vm.id], untouchable=vm.locked))
            yield

    @contextmanager
    def without_victims_of(self, group: str | None, servers: Collection[str] = ()) -> Iterator[None]:
        """In this context no plan has a victim of this eviction group, and none of these servers (the cloud's ids) is
        one."""
        budgets, full_budgets = self.budgets, self.full_budgets
        if group is not None:
            self.budgets, self.full_budgets = {**budgets, group: 0}, {**full_budgets, group: 0}
        try:
            with self._untouchable(servers) if servers else nullcontext():
                yield
        finally:
            self.budgets, self.full_budgets = budgets, full_budgets

    @contextmanager
    def _untouchable(self, servers: Collection[str]) -> Iterator[None]:
        with self.trial():
            for vm in [vm for vm in self.vms.values() if vm.cloud_id in servers]:
                self.vms.put(replace(vm, untouchable=True))
            yield

    def use_up_budgets(self, groups: Iterable[str]) -> None:
        """An earlier request waits for the budgets of these groups: no later request may use what is left of them."""
        self.budgets.update(dict.fromkeys(groups, 0))

    def release(self, vm_id: str) -> None:
        """Remove the reservation of a request, if it has one."""
        reserved = self.reservations.pop(vm_id, None)
        if reserved is not None and reserved.kind == HOST:
            self.mark_changed(reserved.bin)
