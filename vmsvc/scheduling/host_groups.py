"""The hosts of a tenant: groups of servers with one hostId.

What the project holds there, what counts as free by evidence, and what a refusal by the cloud shows.

See docs/explanation/decisions/capacity-by-evidence.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from vmsvc.domain.evidence import Held, HostEvidence, Refusal
from vmsvc.domain.lifecycle import REMOVING
from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources, total
from vmsvc.scheduling.world import World

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_FIRST = ("VCPU", "MEMORY_MB", "DISK_GB")
_UNITS = {"VCPU": "vCPU", "DISK_GB": "GB of disk"}


@dataclass(frozen=True, slots=True)
class Slack:
    """What counts as free on a host by one vector of its evidence, in the classes of a request; below 0 where the
    project holds more of a class than the vector has."""

    free: Resources
    shown_by: Held


def held_now(world: World) -> dict[str, Resources]:
    """By hostId, what all servers of the project hold there now, those that leave among them."""
    found: dict[str, list[Resources]] = {
        host_id: [*servers.values()] for host_id, servers in world.foreign.items() if host_id
    }
    for vm in world.vms.values():
        if vm.present and vm.host_id:
            found.setdefault(vm.host_id, []).append(vm.resources)
    return {host_id: total(vectors) for host_id, vectors in found.items()}


def evidence_of(world: World, host_id: str) -> HostEvidence:
    """All that is known of the capacity of a host, with what is declared of every host."""
    return world.evidence.get(host_id, HostEvidence()).with_declared(world.declared)


def slacks(world: World, host_id: str, held: Resources, need: Resources) -> list[Slack]:
    """What counts as free on a host where the project holds so much, for a request for `need`: by each vector that
    counts for it, without those that show no more than another one, or than what is held there now. A plan has to do
    with one of them: what two vectors show did not stand there at one moment."""
    counting = evidence_of(world, host_id).counting(need)
    found = [Slack(Resources({name: one.resources[name] - held[name] for name in need}), one) for one in counting]
    found.sort(key=lambda each: (-sum(each.free.values()), each.shown_by.at))
    kept: list[Slack] = []
    for each in found:
        if not any(_as_much(other, each.free, need) for other in (Resources(), *(one.free for one in kept))):
            kept.append(each)
    return kept


def _as_much(one: Resources, other: Resources, names: Iterable[str]) -> bool:
    return all(one[name] >= other[name] for name in names)


def refuted(request: Request, world: World) -> dict[str, Refusal]:
    """By hostId, what the cloud's refusal of this request shows: somebody else is on the hosts on which it fits by the
    evidence from before. Nothing where what is held has changed since, or may have, and nothing for a request whose
    conditions on its host may be the cause."""
    refused_at = request.refused_at
    if refused_at is None or request.refusal != "no_capacity" or not request.precedents.accepted:
        return {}
    if request.has_host_rules:  # they may be why: Nova names no cause
        return {}
    if request.freed_since or request.id in world.reservations or _moves(request, world):
        return {}
    found, held = {}, held_now(world)
    hosts = world.evidence.keys() | held.keys()
    if request.availability_zone is not None:
        hosts &= {vm.host_id for vm in world.vms.values() if vm.present and vm.zone == request.availability_zone}
    for host_id in hosts:
        there = held.get(host_id, Resources())
        together = Resources({name: amount + there[name] for name, amount in request.resources.items()})
        counting = evidence_of(world, host_id).counting(request.resources)
        fit = [one.resources for one in counting if one.at <= refused_at and one.resources.covers(together)]
        if fit:
            scarcest = _scarcest(together, fit)
            if not request.refused_rounds and scarcest["VCPU"]:
                # It has cost nobody a VM. Of classes that are equally scarce every server holds some VCPU.
                scarcest = Resources({"VCPU": scarcest["VCPU"]})
            found[host_id] = Refusal(request.resources, scarcest, refused_at)
    return found


def _scarcest(together: Resources, vectors: Iterable[Resources]) -> Resources:
    """Of what did not fit together although these vectors have as much: the classes of which they would have least
    left. The least that somebody else holds there explains the refusal by these."""
    names = set()
    for vector in vectors:
        left = {name: (vector[name] - amount) / vector[name] for name, amount in together.items()}
        names |= {name for name in left if left[name] <= min(left.values())}
    return Resources({name: together[name] for name in names})


def _moves(request: Request, world: World) -> bool:
    """True while servers of the project build, or are being removed: what is held now may not be what was held when the
    request was refused. Its own victims had left before."""
    return (
        any(vm.id != request.id for vm in world.vms.building)
        or any(vm.state in REMOVING and vm.evicted_for != request.id for vm in world.vms.values())
        or bool(world.foreign.get(""))
    )


def note_refusals(requests: Iterable[Request], world: World) -> list[tuple[str, Refusal]]:
    """Bring what the refusals of these requests show into the world. Returns it, by hostId, to be written down."""
    found: list[tuple[str, Refusal]] = []
    if world.operator:
        return found
    for request in requests:
        shown = refuted(request, world)
        found += sorted(shown.items(), key=lambda each: each[0])
        if shown:
            changed = {
                host_id: world.evidence.get(host_id, HostEvidence()).after_refusal(refusal)
                for host_id, refusal in shown.items()
            }
            world.evidence = {**world.evidence, **changed}
    return found


# ---------------------------------------------------------------- in words


def amounts_in_words(resources: Mapping[str, int]) -> str:
    """A vector for people: `4 vCPU, 8 GiB and 80 GB of disk`."""
    parts = [
        _memory(amount) if name == "MEMORY_MB" else f"{amount} {_UNITS.get(name, name)}"
        for name, amount in in_order(resources)
        if amount
    ]
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:]))) or "nothing"


def in_order(resources: Mapping[str, int]) -> list[tuple[str, int]]:
    """The amounts of a vector in the order in which people expect them."""
    return sorted(resources.items(), key=lambda item: ((*_FIRST, item[0]).index(item[0]), item[0]))


def _memory(mib: int) -> str:
    return f"{mib // 1024} GiB" if mib % 1024 == 0 else f"{mib} MiB"


def evidence_in_words(held: Held, host: str = "this host") -> str:
    """What a vector of evidence is, for people."""
    amounts = amounts_in_words(held.resources)
    if held.is_declared:
        return f"VMSVC_HOST_CAPACITY says that each host has {amounts} for this project"
    return f"{host} held {amounts} of yours on {_day(held.at)}"


def _day(moment: datetime) -> str:
    at = moment.astimezone(UTC)
    return f"{_DAYS[at.weekday()]}, {at.date().isoformat()}"
