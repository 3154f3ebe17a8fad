"""What calls return: frozen dataclasses, and `read`, which makes them of JSON.

An answer may have members that are not here, since later releases add some; `read` ignores them. Of a VM and of an
event `body` has all that the service sent.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from vmsvc.client.errors import BadAnswer

T = TypeVar("T")
Amounts = Mapping[str, int | None]


@dataclass(frozen=True, kw_only=True)
class Vm:
    """A server of the project, or a request that has none yet. What vmsvc says of it is None where it did not make the
    server."""

    id: str
    name: str
    vmsvc_id: str | None = None
    is_preemptible: bool | None = None
    state: str | None = None
    priority: int | None = None
    min_run_seconds: int | None = None
    group: str | None = None
    max_unavailable: int | None = None
    owner: str | None = None
    origin: str | None = None
    restarts: int | None = None
    restart_of: str | None = None
    successor: str | None = None
    on_eviction: str | None = None
    max_restarts: int | None = None
    restarts_left: int | None = None
    evict_at: datetime | None = None
    acknowledged_at: datetime | None = None
    wait_until: datetime | None = None
    position: int | None = None
    options: Mapping[str, Any] | None = None
    flavor: str | None = None
    image: str | None = None
    image_name: str | None = None
    network: str | None = None
    host: str | None = None
    created_at: datetime | None = None
    launched_at: datetime | None = None
    ended_at: datetime | None = None
    error: str | None = None
    message: str | None = None
    notice: Mapping[str, Any] | None = None
    lineage: "tuple[Member, ...]" = ()
    body: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses, as far as the cloud tells them."""
        return tuple(one["addr"] for network in (self.body.get("addresses") or {}).values() for one in network)

    @staticmethod
    def prepare(body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The members by vmsvc's names: of a server some have the cloud's, and its flavor and image are objects."""
        named = {
            "created_at": body.get("created"),
            "launched_at": body.get("OS-SRV-USG:launched_at"),
            "host": body.get("OS-EXT-SRV-ATTR:host"),
            "network": next(iter(body.get("addresses") or {}), None),
        }
        own = {name: body[name] for name in body if name not in ("flavor", "image")}
        return named | own | {name: _name_of(body.get(name)) for name in ("flavor", "image")}


def _name_of(reference: object) -> object:
    """The name in the cloud's object, or its id; a text stays as it is. (Booted from a volume: image is "".)"""
    if isinstance(reference, Mapping):
        return reference.get("original_name") or reference.get("name") or reference.get("id")
    return reference or None


@dataclass(frozen=True, kw_only=True)
class Member:
    """A VM of a lineage. `restarts`: 0 for the first, n for the n-th after it; `ended_at`: None while it is there."""

    id: str
    vmsvc_id: str
    restarts: int
    state: str
    created_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class VmList:
    """The servers of the project. `seq` was read before them: the events after it continue the list."""

    vms: tuple[Vm, ...]
    seq: int

    @staticmethod
    def prepare(body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The list is named as Nova names it."""
        return {"vms": body.get("servers"), **body}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a request. `vm`: None when it could not be read. `evicted`: the ids of the VMs that were evicted
    for it. `done` is False when the work still goes on."""

    message: str
    vm: Vm | None = None
    evicted: tuple[str, ...] = ()
    done: bool = True


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Where capacity would be freed."""

    kind: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a create would do now. `result`: placed, evicts, waits or refused; `victims` in the order of eviction."""

    result: str
    reason: str
    victims: tuple[str, ...] = ()
    host: str | None = None
    position: int | None = None
    error: str | None = None
    bin: Bin | None = None
    grace_seconds: float | None = None
    criterion: str | None = None
    cost: Mapping[str, Any] | None = None
    runner_up: Mapping[str, Any] | None = None
    optimal: bool | None = None
    certainty: str | None = None
    evidence: str | None = None
    plans: "tuple[Plan, ...]" = ()
    if_no_host_has_room: "Plan | None" = None


@dataclass(frozen=True, kw_only=True)
class Restart:
    """How an evicted VM is started again."""

    origin: str
    attempt: int
    not_before: datetime


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event. `seq` orders all of them. `type` is create, evict or delete, and `state` the finer step; ignore states
    that you do not know. `body` is the whole CloudEvent."""

    seq: int
    type: str
    state: str
    time: datetime
    subject: str | None = None
    vm: Vm | None = None
    by: str | None = None
    reason: str | None = None
    position: int | None = None
    wait_until: datetime | None = None
    why: str | None = None
    message: str | None = None
    evict_at: datetime | None = None
    grace_seconds: float | None = None
    makes_room_for: str | None = None
    criterion: str | None = None
    delivery: str | None = None
    certainty: str | None = None
    evidence: str | None = None
    simulated: bool | None = None
    evicted: tuple[str, ...] | None = None
    error: str | None = None
    restart: Restart | None = None
    restart_of: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def prepare(body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The members of `data` and those around it."""
        return {**body.get("data", {}), **{name: body.get(name) for name in ("type", "time", "subject")}}


@dataclass(frozen=True, kw_only=True)
class EventPage:
    """Events in their order; `seq` is the `since` of the next page."""

    events: tuple[Event, ...]
    seq: int


@dataclass(frozen=True, kw_only=True)
class Quota:
    """The project's quota, by item; a limit of None is none."""

    limit: Amounts
    used: Amounts
    free: Amounts
    standard: Amounts
    preemptible: Amounts
    reserved: Amounts
    reclaimable: Amounts


@dataclass(frozen=True, kw_only=True)
class Host:
    """A compute host, or what a tenant sees of one, by Placement's resource classes."""

    name: str
    available: bool
    availability_zone: str | None
    capacity: Amounts
    used: Amounts
    free: Amounts
    standard: Amounts
    preemptible: Amounts
    foreign: Amounts
    reserved: Amounts
    reclaimable: Amounts
    host_id: str | None = None
    held: Amounts | None = None
    evidence: tuple[Mapping[str, Any], ...] = ()
    refusals: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class FlavorCapacity:
    """How many more VMs of a flavor fit."""

    name: str
    vcpus: int
    ram: int
    fits_now: int
    fits_after_evictions: int
    fits_by_evidence: int | None = None


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The queue."""

    count: int
    vcpus: int
    oldest: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Mode (tenant or operator), quota, hosts, how many more VMs of each flavor fit, and how many requests wait."""

    mode: str
    quota: Quota
    hosts: tuple[Host, ...]
    flavors: tuple[FlavorCapacity, ...]
    waiting: Waiting


@dataclass(frozen=True, kw_only=True)
class Party:
    """One of the two VMs of an eviction."""

    id: str
    vmsvc_id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Eviction:
    """Which VM was evicted for which request and why, with the time of every step."""

    id: int
    state: str
    reason: str
    simulated: bool
    vm: Party
    owner: str
    request: Party | None
    round: int
    bin: str | None
    criterion: str | None
    cost: Mapping[str, Any]
    runner_up: Mapping[str, Any] | None
    optimal: bool
    certainty: str | None
    evidence: str | None
    wasted: str | None
    delivery: str
    exempt: str | None
    planned_at: datetime
    evict_at: datetime
    noticed_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    reprieved_at: datetime | None
    evicting_at: datetime | None
    stopped_at: datetime | None
    deleted_at: datetime | None
    freed_at: datetime | None
    fulfilled_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class EvictionPage:
    """Evictions, newest first; `before` is that of the next page, or None."""

    evictions: tuple[Eviction, ...]
    before: int | None


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """An endpoint that events are sent to."""

    id: str
    url: str
    types: tuple[str, ...]
    states: tuple[str, ...]
    preemptible: bool | None
    vm: str | None
    description: str
    owner: str
    status: str
    off_reason: str | None
    off_at: datetime | None
    after_seq: int
    pending: int
    failures: int
    failing_since: datetime | None
    last_success_at: datetime | None
    last_code: int | None
    last_error: str | None
    old_secret_until: datetime | None
    created_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class NewSecret:
    """A webhook and its secret, which the service does not show again."""

    webhook: Webhook
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class OneWebhook:
    """A webhook, as the body has it."""

    webhook: Webhook


@dataclass(frozen=True, kw_only=True)
class WebhookList:
    """Webhooks, oldest first."""

    webhooks: tuple[Webhook, ...]


@dataclass(frozen=True, kw_only=True)
class WebhookTest:
    """What became of a test; `code` is the receiver's status."""

    delivered: bool
    code: int | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Replay:
    """How many deliveries will be made once more; `seq` is the `since` of the next replay."""

    count: int
    seq: int


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """An event on its way to a webhook."""

    seq: int
    type: str | None
    state: str | None
    vm: str
    status: str
    attempts: int
    next_at: datetime | None
    waits: bool
    last_code: int | None
    last_error: str | None
    created_at: datetime | None
    done_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class DeliveryPage:
    """Deliveries, the newest event first; `before` is that of the next page, or None."""

    deliveries: tuple[Delivery, ...]
    before: int | None


def read(kind: type[T], body: object) -> T:
    """The body of an answer as this class. Raises BadAnswer when it is something else."""
    try:
        found: T = _read(kind, body)
        return found
    except (TypeError, ValueError, AttributeError) as error:
        raise BadAnswer(f"the answer is no {kind.__name__} of vmsvc: {error}") from error


@functools.cache
def _members(kind: Any) -> list[tuple[str, Any, bool]]:
    """The fields of a dataclass: name, type, and whether the answer has to have it."""
    hints = typing.get_type_hints(kind)
    return [
        (one.name, hints[one.name], one.default is one.default_factory is dataclasses.MISSING)
        for one in dataclasses.fields(kind)
        if one.name not in ("body", "done")
    ]


def _read(kind: Any, value: Any) -> Any:
    """Raises TypeError or ValueError."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _read(next(one for one in arguments if one is not types.NoneType), value)
    match value:
        case list() if origin is tuple:
            return tuple(_read(arguments[0], one) for one in value)
        case dict() if origin is not None and issubclass(origin, Mapping):
            return {name: _read(arguments[1], one) for name, one in value.items()}
        case dict() if dataclasses.is_dataclass(kind):
            return _read_members(kind, value)
    return _read_scalar(kind, value)


def _read_scalar(kind: Any, value: Any) -> Any:
    if kind is datetime and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # Nova writes some without a zone
    allowed = (int, float) if kind is float else kind
    if kind is not Any and (
        not isinstance(allowed, type | tuple)
        or not isinstance(value, allowed)
        or (isinstance(value, bool) and kind is not bool)  # Python's booleans are integers
    ):
        raise TypeError(f"{value!r:.80} is no {getattr(kind, '__name__', kind)}")
    return value


def _read_members(kind: Any, value: dict[str, Any]) -> Any:
    members = kind.prepare(value) if hasattr(kind, "prepare") else value
    found: dict[str, Any] = {}
    for name, member_kind, required in _members(kind):
        if name in members and (required or members[name] is not None):
            found[name] = _read(member_kind, members[name])
        elif required:
            raise ValueError(f"{name!r} is missing")
    if any(one.name == "body" for one in dataclasses.fields(kind)):
        found["body"] = value
    return kind(**found)
