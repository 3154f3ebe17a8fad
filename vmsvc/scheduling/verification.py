"""What the cloud has to confirm before a decision is applied; Nova or Neutron may object: then it is a refusal."""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from vmsvc.domain.acceptance import Objection, Verdict
from vmsvc.domain.boot_options import new_ports
from vmsvc.domain.flavors import Traits
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Request, RequestClass, class_of
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.decisions import Decision, Evict, Place, Postpone, Queued, Refuse, Reprieve, Wait, needs_victims
from vmsvc.scheduling.free_capacity import free_on_host
from vmsvc.scheduling.queue_order import QueueKey
from vmsvc.scheduling.world import HOST, World

#: For so long before its first victim leaves, every pass asks the cloud about the request again.
_LAST_CHECK = timedelta(seconds=2)
#: What Nova says of a build whose network gave it no address.
UNPLUGGED = "Failed to allocate the network"

Need = tuple[Resources, Traits]


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """A request that waits, with the further facts about it that a pass needs. `boot`: what its create asks of the
    cloud; `key`: equal for requests that Nova judges alike; `first_end`: when the first of its noticed victims is to
    leave; `had_victims`: a VM was evicted for it; `turn`: its place in the queue's order; `shape`: of a request in the
    queue, equal for those that fit together or not at all; `overdue`: of another one, that it waits for longer than it
    may be overtaken; `more_behind`: the pass does not know the next one of its shape."""

    request: Request
    boot: Mapping[str, Any]
    key: str
    first_end: datetime | None = None
    had_victims: bool = False
    turn: QueueKey = (False, 0, 0.0, 0.0, "")
    shape: Hashable = None
    overdue: bool = False
    more_behind: bool = False

    @property
    def request_class(self) -> RequestClass:
        """The class of the request: see `class_of`."""
        return class_of(self.boot)


@dataclass(frozen=True, slots=True)
class Verified:
    """What the cloud has been asked since the snapshot began."""

    fresh: frozenset[str] = frozenset()  # hosts that Placement was asked about ...
    counted: frozenset[str] = frozenset()  # ... and of which it was asked at least who holds what there
    uncertain: frozenset[str] = frozenset()  # hosts of which it is known that Placement may say something else
    sought: frozenset[Need] = frozenset()  # needs for which Placement was asked which hosts have the capacity
    ordered: bool = True  # the project's servers were read after the quota
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)  # about requests, by `WaitingRequest.key`


@dataclass(frozen=True, slots=True)
class Verification:
    """What is to be asked: Placement about `hosts`, and which hosts have the capacity for `needs`; the project's
    servers once more, if they were not read in `order`; Nova whether it takes requests, capacity apart (`boots`, by
    key)."""

    hosts: frozenset[str] = frozenset()
    needs: frozenset[Need] = frozenset()
    order: bool = False
    boots: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __or__(self, other: "Verification") -> "Verification":
        return Verification(
            self.hosts | other.hosts, self.needs | other.needs, self.order or other.order, {**self.boots, **other.boots}
        )

    def __bool__(self) -> bool:
        return bool(self.hosts or self.needs or self.order or self.boots)


def unverified_facts(request: Request, decision: Decision, world: World, verified: Verified) -> Verification:
    """The facts of the cloud that the decision rests on and that were not verified yet.

    Before a VM is noticed: its host, and which hosts have the capacity; the latter also before a request is refused,
    for vmsvc may not know of a host. Before a create: the host, if it is uncertain or nearly full as far as vmsvc
    knows; for that it is enough to have read who holds what there. In either mode the servers have to be read in order,
    unless the request is placed while nothing is reserved for others. That a request stays in the queue needs no proof:
    the next pass looks again."""
    if isinstance(decision, Queued) and request.queued:
        return Verification()
    order = not verified.ordered and (not isinstance(decision, Place) or bool(world.reservations.keys() - {request.id}))
    if not world.operator:
        return Verification(order=order)
    hosts, needs = set(), set()
    match decision:
        case Evict(kind=kind, bin=name, victims=victims) if victims:
            hosts |= {name} if kind == HOST else set()
            needs.add((request.resources, request.traits))
        case Refuse(error="no_capacity") | Queued(error="no_capacity"):
            needs.add((request.resources, request.traits))
        case Place(host=str() as name):
            left = free_on_host(world, world.hosts[name], request).now - request.resources
            # Where a victim's end was carried out a moment ago nothing but who came in its place can have changed.
            sure = left.covers(request.resources) and name not in verified.uncertain
            hosts |= set() if sure or name in verified.counted else {name}
    return Verification(frozenset(hosts - verified.fresh), frozenset(needs - verified.sought), order)


def unverified_request(waiting: WaitingRequest, decision: Decision, verified: Verified, now: datetime) -> Verification:
    """The request itself, if Nova was not asked yet whether it takes it: before a VM is noticed for it, and again
    shortly before its first victim leaves. What it names may have been deleted during the notice, and the ports and
    addresses that were free may have been taken."""
    if waiting.key in verified.verdicts:
        return Verification()
    ends = waiting.first_end is not None and waiting.first_end - now <= _LAST_CHECK
    return Verification(boots={waiting.key: waiting.boot}) if needs_victims(decision) or ends else Verification()


@dataclass(frozen=True, slots=True)
class Networks:
    """What is known of networks besides the verdicts. `of_vms`: how many ports each VM that builds or waits gets in
    which network; `unplugged`: by network, the message of the last build that got no address there."""

    of_vms: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    unplugged: Mapping[str, str | None] = field(default_factory=dict)

    def after_refusal(self, network: str | None, message: str) -> "Networks":
        """The same when a request for that network was refused with this message."""
        if network is None or UNPLUGGED not in message:
            return self
        return replace(self, unplugged={**self.unplugged, network: message})


def by_verdict(
    waiting: WaitingRequest, decision: Decision, world: World, verdict: Verdict | None, networks: Networks
) -> Decision:
    """The decision, or a refusal where the cloud has said that the request cannot be carried out though its victims
    have left: those of a new plan, or those that have their notice already. `verdict`: None when the cloud was not
    asked."""
    request = waiting.request
    victims = _victims(request, decision, world) if verdict else frozenset()
    if verdict is None or not victims:
        return decision
    if verdict.unanswered:
        return (
            Postpone(f"the cloud does not say whether it takes the request: {verdict.unanswered}", frozenset())
            if isinstance(decision, Evict)
            else decision
        )
    leaving = {
        vm.cloud_id
        for vm in (*map(world.vms.__getitem__, victims), *world.vms.leaving)
        if vm.cloud_id
        and not vm.keeps_ports
        and (vm.id in victims or vm.state is State.DELETING or (request.id and vm.evicted_for == request.id))
    }
    objection = _plugging(waiting, world, verdict, networks, leaving)
    return Refuse(objection.error, objection.message) if objection else decision


def _plugging(
    waiting: WaitingRequest, world: World, verdict: Verdict, networks: Networks, leaving: Collection[str]
) -> Objection | None:
    """Why the request cannot be plugged into one of its networks; None when it can. `leaving`: the servers, by the
    cloud's ids, that give their ports back before."""
    wanted = new_ports(waiting.boot)
    if not wanted:  # it brings all its ports
        return verdict.objection
    for network, count in wanted.items():
        addresses = verdict.addresses_of.get(network, verdict.addresses)
        claims = 0
        if verdict.counts:
            holders = addresses.holders if addresses else frozenset()
            taking = {vm.id for vm in world.vms.building if vm.cloud_id not in holders} | world.reservations.keys()
            claims = sum(networks.of_vms.get(vm_id, {}).get(network, 0) for vm_id in taking - {waiting.request.id})
        of_network = replace(verdict, addresses=addresses, unplugged=networks.unplugged.get(network))
        if objection := of_network.object_to(leaving, claims, count, wanted.total()):
            return objection
    return None


def _victims(request: Request, decision: Decision, world: World) -> frozenset[str]:
    """The victims by this decision whose eviction has not begun."""
    match decision:
        case Evict(victims=victims):
            return frozenset(victims)
        case Wait() | Reprieve() if request.id:
            reprieved = decision.victims if isinstance(decision, Reprieve) else ()
            return frozenset(vm.id for vm in world.victims_of(request.id, State.NOTICED)) - {*reprieved}
    return frozenset()
