"""A VM that waits for capacity, and what became of earlier requests like it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from vmsvc.domain.acceptance import Objection
from vmsvc.domain.boot_options import kind_of, options_in
from vmsvc.domain.flavors import Traits
from vmsvc.domain.requirements import Requirements
from vmsvc.domain.resources import Resources

EVIDENCE_SECONDS = 600  # how long a built VM counts as evidence that there is capacity for another of its size
FUTILE_SECONDS = 3600  # after an eviction that did not help: how long no VM is evicted for such requests


@dataclass(frozen=True, slots=True)
class Precedents:
    """What became of earlier requests, as evidence for this one. Moments are seconds since the epoch."""

    accepted: bool = True  # a VM with the same conditions was built: there are hosts for it
    being_tried: bool = False  # another one with the same conditions has a reservation now
    refused_at: int | None = None  # when the cloud last refused one without conditions that was no larger
    futile_at: int = 0  # when evictions for one of its class did not help ...
    futile_error: str | None = None  # ... with this error; None: not lately
    futile_reason: str = ""  # ... and in the cloud's words


@dataclass(frozen=True, slots=True)
class Request:
    """A VM that waits for capacity."""

    id: str
    is_preemptible: bool
    quota: Resources  # what it will count for in the project's quota
    resources: Resources  # what it will claim from its host
    availability_zone: str | None = None
    traits: Traits = Traits()  # of the flavor and of the image
    requirements: Requirements = Requirements()  # what else they ask of a host; empty for most
    invalid: Objection | None = None  # why Nova refuses it however much capacity there is
    refusal: str | None = None  # the cloud's last refusal, as a slug: no_capacity, quota_exceeded
    refusals: int = 0
    refused_at: datetime | None = None
    freed_since: bool = False  # capacity was freed after that refusal: trying again is worth it
    cloud_message: str | None = None  # the cloud's last refusal, in its own words
    avoid: frozenset[str] = frozenset()  # hosts that refused it
    cooling: Mapping[str, str] = field(default_factory=dict)  # host -> why it refused a request like this one lately
    rounds: int = 0
    waited: float = 0.0  # seconds since it came, or came back refused
    conditions: tuple[str, ...] = ()  # what it asks of its host besides capacity, in words
    precedents: Precedents = Precedents()
    refused_rounds: int = 0  # its `rounds` when the cloud refused it last
    refused_with_capacity: bool = False  # ... on a host with enough free capacity, as far as is known
    owner: str = ""  # who asked for it
    priority: int = 0
    came: float = 0.0  # when, in seconds since the epoch
    group: str | None = None  # an eviction group of which it evicts nobody: its own, if it was preemptible once
    may_wait: bool = False  # without capacity it waits in the queue ...
    queued: bool = False  # ... where it is already
    has_waited: bool = False  # it was there once; the limit of an owner does not refuse it any more
    patient: bool = False  # nobody is evicted for it yet
    attempt: int = 0  # of its lineage; 0: it is no successor
    kept: frozenset[str] = frozenset()  # hosts whose capacity is kept together for requests before it
    server_group: str | None = None  # of Nova: its policy limits the hosts
    same_host: tuple[str, ...] = ()  # servers of the cloud: only their hosts will do ...
    different_host: tuple[str, ...] = ()  # ... and theirs will not
    claims: frozenset[str] = frozenset()  # ports and addresses that only one server can have, in words
    #: What group and servers leave, in a world: hosts, for a tenant hostIds (`scheduling.host_rules` fills these in).
    only: frozenset[str] | None = None
    forbidden: frozenset[str] = frozenset()

    @property
    def has_host_rules(self) -> bool:
        """True when other servers decide on which hosts it may be."""
        return bool(self.server_group or self.same_host or self.different_host)

    def may_be_at(self, place: str) -> bool:
        """True when its rules allow this host, or hostId."""
        return place not in self.forbidden and (self.only is None or place in self.only)


@dataclass(frozen=True, slots=True)
class Waits:
    """For how long a request waits, as its client asks for it, in seconds after it came. `wait`: for capacity;
    `fallback`: preemptible, then it goes on as a standard one (None: never); `patience`: standard, nobody is evicted
    for it before. Whoever has patience waits for at least so long."""

    wait: int = 0
    fallback: int | None = None
    patience: int = 0

    @property
    def seconds(self) -> int:
        """For how long it waits in all."""
        return max(self.wait, self.patience)

    def columns(self, now: datetime) -> dict[str, datetime | None]:
        """The same as moments, by the names of their columns; `now`: when the request came."""
        return {
            "wait_until": now + timedelta(seconds=self.seconds) if self.seconds else None,
            "fallback_at": now + timedelta(seconds=self.fallback) if self.fallback is not None else None,
            "patience_until": now + timedelta(seconds=self.patience) if self.patience else None,
        }


def too_many_waiting(most: int) -> str:
    """Why no further request of an owner may wait in the queue."""
    return (
        f"{most} requests of this owner wait for capacity already; try again when fewer wait, or without wait_seconds"
    )


#: Flavor, image, network, zone and the other options: what requests of one class have in common.
RequestClass = tuple[str, ...]
#: What a request asks of its host besides capacity, in words.
Conditions = tuple[str, ...]


def class_of(boot: Mapping[str, Any]) -> RequestClass:
    """The class of a request that asks for this `boot`; "" stands for what it does not name. Requests with options have
    the kind of these behind the network: see `store.request_classes`."""
    flavor, image, network, zone = (
        boot.get(name) or "" for name in ("flavor_id", "image_id", "network_id", "availability_zone")
    )
    return flavor, image, f"{network} {kind_of(boot)}".rstrip(), zone


@dataclass(frozen=True, slots=True)
class FutileEviction:
    """VMs were evicted for a request, and the cloud refused it all the same, for another cause than capacity."""

    error: str
    reason: str  # in the cloud's words
    at: int  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class History:
    """What became of earlier requests, as of one moment: `precedents` finds in it what matters for one request.
    `accepted` and `tried_by` cover the conditions of the requests that wait."""

    futile: Mapping[RequestClass, FutileEviction] = field(default_factory=dict)
    accepted: frozenset[Conditions] = frozenset()  # a VM with these conditions was built
    #: The requests that show whether a host meets these conditions: those with a reservation, and those that the cloud
    #: refused after an eviction and that are not decided yet.
    tried_by: Mapping[Conditions, frozenset[str]] = field(default_factory=dict)
    refused: Sequence[tuple[Resources, int]] = ()  # of those without conditions, the need and when; latest first

    def precedents(
        self, vm_id: str, request_class: RequestClass, conditions: Conditions, need: Resources
    ) -> Precedents:
        """The precedents of the request `vm_id`."""
        futile = self.futile.get(request_class)
        known = (
            Precedents(futile_at=futile.at, futile_error=futile.error, futile_reason=futile.reason)
            if futile
            else Precedents()
        )
        if not conditions or conditions in self.accepted:
            return known
        latest = next((at for refused, at in self.refused if need.covers(refused)), None)
        return replace(
            known,
            accepted=False,
            refused_at=latest,
            being_tried=bool(self.tried_by.get(conditions, frozenset()) - {vm_id}),
        )

    def after_refusal(self, vm_id: str, request_class: RequestClass, futile: FutileEviction | None) -> "History":
        """The history when vmsvc has refused the request `vm_id` for good. `futile`: what its evictions have shown, if
        anything."""
        if futile is None and not any(vm_id in ids for ids in self.tried_by.values()):
            return self
        tried_by = {conditions: ids - {vm_id} for conditions, ids in self.tried_by.items()}
        found = {**self.futile, request_class: futile} if futile else self.futile
        return replace(self, futile=found, tried_by=tried_by)


def rules_in(boot: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that its options decide, by name."""
    options = options_in(boot)
    return {name: getattr(options, name) for name in ("server_group", "same_host", "different_host", "claims")}


def traits_in(boot: Mapping[str, Any]) -> Traits:
    """The traits that a request's flavor and image ask for."""
    return Traits(**{kind: frozenset(names) for kind, names in boot.get("traits", {}).items()})


def traits_named(boot: Mapping[str, Any]) -> frozenset[str]:
    """The traits by which hosts are told apart for a request."""
    traits = traits_in(boot)
    return traits.required | traits.forbidden | requirements_in(boot).telling_traits


def requirements_in(boot: Mapping[str, Any]) -> Requirements:
    """What else a request's flavor and image ask of a host."""
    kept = boot.get("requirements", {})
    return Requirements(**{**kept, "capabilities": tuple(map(tuple, kept.get("capabilities", ())))})
