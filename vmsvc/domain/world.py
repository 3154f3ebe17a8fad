"""What scheduling looks at: the cloud as it was read, joined with what the database says that we have promised.

Quota items (`instances`, `cores`, `ram`) and resource classes (`VCPU`, `MEMORY_MB`, ...) have different names, so the
sum of a quota vector and a room vector is one vector in which both shortages can be seen at once.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from vmsvc.domain.acceptance import Objection
from vmsvc.domain.flavors import Traits
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.requirements import Requirements
from vmsvc.domain.resources import Resources
from vmsvc.domain.roster import Roster
from vmsvc.domain.vm import VmFacts

QUOTA, HOST, HOST_ID = "quota", "host", "host_id"    # kinds of bin
PROJECT = "project"                                  # the one bin of kind QUOTA
UNLIMITED = 2**53                                    # stands for a quota without a limit: no request reaches it
EVIDENCE_SECONDS = 600      # how long a built VM counts as evidence that there is capacity for another of its size
FUTILE_SECONDS = 3600       # how long nobody is evicted for a class of requests after an eviction for it did not help


@dataclass(frozen=True, slots=True)
class Precedents:
    """What became of earlier requests, as evidence for this one. Moments are seconds since the epoch."""

    accepted: bool = True                  # a VM with the same conditions was built: there are hosts for it
    being_tried: bool = False              # another one with the same conditions has a reservation now
    refused_at: int | None = None          # when the cloud last refused one without conditions that was no larger
    futile_at: int = 0                     # when evictions for one of its class did not help ...
    futile_error: str | None = None        # ... with this error; None: not lately
    futile_reason: str = ""                # ... and in the cloud's words


@dataclass(frozen=True, slots=True)
class Request:
    """A VM that waits for room."""

    id: str
    is_preemptible: bool
    quota: Resources
    room: Resources
    availability_zone: str | None = None
    traits: Traits = Traits()                  # of the flavor and of the image
    requirements: Requirements = Requirements()   # what else they ask of a host; empty for most
    invalid: Objection | None = None           # why Nova refuses it whatever room there is
    refusal: str | None = None                 # what the cloud said last: no_capacity, quota_exceeded
    refusals: int = 0
    refused_at: datetime | None = None
    freed_since: bool = False                  # room was freed after that refusal: trying again is worth it
    said: str | None = None                    # ... in its own words
    avoid: frozenset[str] = frozenset()        # hosts that refused it
    cooling: Mapping[str, str] = field(default_factory=dict)   # hosts that refused others like it lately, and how
    rounds: int = 0
    waited: float = 0.0                        # seconds since it came, or came back refused
    conditions: tuple[str, ...] = ()           # what else than room it asks of its host, in words
    precedents: Precedents = Precedents()
    refused_rounds: int = 0                    # the rounds that it had had when the cloud refused it last
    refused_with_room: bool = False            # ... on a host that had room for it, as far as is known


@dataclass(frozen=True, slots=True)
class Reserved:
    """Room kept for a request. `members`: what each server of a hostId group held when the plan was made."""

    vm_id: str
    kind: str
    bin: str
    quota: Resources
    room: Resources
    members: Mapping[str, Resources] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()


@dataclass(slots=True)
class World:
    """All of it. It may be kept and brought up to date: whoever changes something about a host says so by `touch`.
    `placed`, `reserved` and the like keep it true while several requests are decided, inside a `trial`."""

    operator: bool
    quota_limit: Resources
    quota_used: Resources
    hosts: dict[str, Host]
    vms: Roster
    reservations: dict[str, Reserved]
    budgets: dict[str, int] = field(default_factory=dict)    # group -> how many more of it may be noticed
    limits: dict[str, int] = field(default_factory=dict)     # ... and how many when nobody of it is away
    patience: float = 600.0                                  # seconds for which a request waits for a budget
    surcharges: Mapping[str, int] = field(default_factory=dict)    # owner -> what it lost lately, as a cost ...
    usual: int = 0                   # ... of which this much is left out of all plans: it decides nothing
    max_victims: int = 20
    now: int = 0                                             # seconds since the epoch
    cost_words: str = "less lost work"                       # what criterion 3 is called, by the policy
    survey: object = field(default=None, repr=False)         # see domain.survey

    def touch(self, host: str) -> None:
        """Something about this host is not as it was."""
        self.vms.touched.add(host)

    def victims_of(self, vm_id: str, *states: State) -> list[VmFacts]:
        """Who is to go for a request, in these states."""
        return [vm for vm in self.vms.victims_of(vm_id) if vm.state in states]

    @contextmanager
    def trial(self) -> Iterator[None]:
        """What is decided inside is undone at the end: what was written comes back with what is read next."""
        reservations, budgets = self.reservations, self.budgets
        self.reservations, self.budgets = dict(reservations), dict(budgets)
        try:
            with self.vms.trial():
                yield
        finally:
            self.keep(reservations)
            self.budgets = budgets

    def keep(self, reservations: dict[str, Reserved]) -> None:
        """These are all the reservations there are now."""
        before, self.reservations = self.reservations, reservations
        for vm_id in before.keys() | reservations.keys():
            kept = [found for found in (before.get(vm_id), reservations.get(vm_id)) if found]
            if len(kept) < 2 or kept[0] != kept[1]:
                self.vms.touched.update(each.bin for each in kept if each.kind == HOST)

    def placed(self, request: Request, host: str | None) -> None:
        """The request builds now: what it needs is taken although the cloud does not count it yet, and what was kept
        for it is its own."""
        self.vms.put(VmFacts(request.id, State.BUILDING, request.is_preemptible, request.quota, request.room,
                             host=host))
        kept = self.reservations.get(request.id)
        if kept is not None:
            self._reserve(replace(kept, quota=Resources(), room=Resources()))

    def reserved(self, request: Request, kind: str, bin_id: str, victims: tuple[str, ...],
                 members: Mapping[str, Resources]) -> None:
        """Room is kept for the request and its victims are told."""
        self.settled(request.id)
        self._reserve(Reserved(request.id, kind, bin_id, request.quota, request.room, members, request.conditions))
        for victim in victims:
            known = self.vms[victim]
            if known.group and known.state is not State.NOTICED:
                self.budgets[known.group] -= 1
            self.vms.put(replace(known, state=State.NOTICED, evicted_for=request.id))

    def _reserve(self, kept: Reserved) -> None:
        self.reservations[kept.vm_id] = kept
        if kept.kind == HOST:
            self.touch(kept.bin)

    def reprieved(self, victims: tuple[str, ...]) -> None:
        """These stay after all."""
        for victim in victims:
            spared = replace(self.vms[victim], state=State.ACTIVE, evicted_for=None)
            self.vms.put(spared)
            if spared.group:
                self.budgets[spared.group] += 1

    @contextmanager
    def unnoticed(self, request_id: str) -> Iterator[None]:
        """Inside, all is as if no room had been kept for this request yet and nobody noticed: for making its plan
        again."""
        noticed = self.victims_of(request_id, State.NOTICED)
        with self.trial():
            self.settled(request_id)
            self.reprieved(tuple(vm.id for vm in noticed))
            for vm in noticed:
                self.vms.put(replace(self.vms[vm.id], untouchable=vm.locked))
            yield

    def held_back(self, groups: Iterable[str]) -> None:
        """An earlier request waits for the budgets of these: nobody later in the order uses what is left of them."""
        self.budgets.update(dict.fromkeys(groups, 0))

    def settled(self, vm_id: str) -> None:
        """The request no longer holds room."""
        kept = self.reservations.pop(vm_id, None)
        if kept is not None and kept.kind == HOST:
            self.touch(kept.bin)
