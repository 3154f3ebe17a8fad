"""When evictions would not help: the cloud refuses the request for another cause, or the quota is too small.

Nova says "No valid host" whatever the cause. A condition that the request's flavor, image or zone sets (an
architecture, a trait, an aggregate) can exclude every host. `eligibility` judges some of these beforehand; for the
others this module looks at what became of this request and of earlier ones.
"""

from vmsvc.domain.request import EVIDENCE_SECONDS, FUTILE_SECONDS, Request
from vmsvc.domain.requirements import zone_condition
from vmsvc.domain.resources import Resources, total
from vmsvc.planner import NoPlan, plan
from vmsvc.scheduling.bins import quota_bin
from vmsvc.scheduling.candidates import candidate_vms
from vmsvc.scheduling.decisions import Refuse, Wait
from vmsvc.scheduling.eviction_groups import within_budgets
from vmsvc.scheduling.world import World

_UNITS = {"ram": " MiB of ram"}


def why_futile(request: Request, world: World) -> Refuse | Wait | None:
    """What to decide instead of an eviction; None when a lack of capacity may be the cause of the refusal."""
    precedents = request.precedents
    if precedents.futile_error is not None:
        minutes = max(0, world.now - precedents.futile_at) // 60
        return Refuse(
            precedents.futile_error,
            f"nobody is evicted for it: {minutes} min ago VMs were evicted for a VM of the same flavor, "
            f"image, network and zone, and the cloud refused it all the same ({precedents.futile_reason}). "
            f"An eviction is tried again {FUTILE_SECONDS // 60} min after that",
        )
    if request.refused_rounds and request.refused_with_capacity:
        return Refuse(
            "no_capacity",
            f"the cloud refused it although the capacity that was freed for it was there: {_cloud_message(request)}",
        )
    if precedents.accepted or not _open_conditions(request, world):
        return None
    return _untried(request, world)


def shows_futility(error: str, refused: bool, with_capacity: bool, untried: bool) -> bool:
    """True when a request that fails with this `error`, after VMs were evicted for it, shows that evictions do not help
    such requests: it did not fail because others took the capacity, or the quota, that was freed for it. `refused`: the
    cloud has refused it, `with_capacity`: though the capacity was there; `untried`: no VM with its conditions was ever
    built."""
    if error != "no_capacity":
        return error != "quota_exceeded"
    return refused and (with_capacity or untried)


def is_foreseen(error: str) -> bool:
    """True for a refusal that the cloud announces before any VM is noticed: it says nothing about evictions."""
    return error not in ("no_capacity", "cloud_error")


def _open_conditions(request: Request, world: World) -> list[str]:
    """The request's conditions for which no VM shows that a host meets them. A VM in the zone shows it for the zone,
    whether its own request named the zone or not."""
    zone = request.availability_zone
    shown = zone is not None and any(vm.present and vm.zone == zone for vm in world.vms.values())
    met = zone_condition(zone) if zone is not None and shown else None
    return [one for one in request.conditions if one != met]


def _untried(request: Request, world: World) -> Refuse | Wait | None:
    """`why_futile` for a request with conditions under which the cloud has never built a VM for vmsvc."""
    conditions = ", ".join(_open_conditions(request, world))
    what = f"it asks for {conditions}, and no VM of vmsvc's that asked for that was ever built"
    if request.refused_rounds:
        return Refuse(
            "no_capacity", f"the cloud refused it after VMs had been evicted for it ({_cloud_message(request)}); {what}"
        )
    if request.refused_with_capacity:
        return Refuse(
            "no_capacity", f"the cloud refused it on a host that had room for it ({_cloud_message(request)}); {what}"
        )
    if request.refusal == "no_capacity" and _had_capacity(request, world):
        return Refuse(
            "no_capacity",
            f"the cloud refused it ({_cloud_message(request)}) a short while after a VM of at "
            f"least its size was built, so a lack of capacity may not be the cause: {what}",
        )
    if _is_being_tried(request, world):
        return Wait("another request with the same conditions on its host is tried first", True)
    return None


def _is_being_tried(request: Request, world: World) -> bool:
    """True while another request with the same conditions has a reservation: its outcome will show whether a host meets
    them."""
    return request.precedents.being_tried or any(
        reserved.conditions == request.conditions
        for reserved in world.reservations.values()
        if reserved.vm_id != request.id
    )


def _had_capacity(request: Request, world: World) -> bool:
    """True when a VM of at least this size was built lately, and the cloud has refused no request for a VM of at most
    this size since."""
    built = (
        vm.since
        for vm in world.vms.values()
        if vm.ran and vm.resources.covers(request.resources) and request.availability_zone in (None, vm.zone)
    )
    latest = max(built, default=0)
    return latest > max(world.now - EVIDENCE_SECONDS, request.precedents.refused_at or 0)


def _cloud_message(request: Request) -> str:
    return request.cloud_message or "it does not say why"


def quota_shortage(request: Request, world: World) -> str | None:
    """Why the request does not fit the project's quota whatever is evicted, as the end of a sentence; None when
    evictions could lower the usage far enough. A quota may be below what is used: then the excess has to leave too, for
    Nova compares usage and request together with the limit."""
    quota = quota_bin(request, world, False)
    if not quota.deficit:
        return None
    outcome = plan([quota], max_victims=world.max_victims, now=world.now, budgets=world.full_budgets)
    if not isinstance(outcome, NoPlan):
        return None
    freed = (
        Resources()
        if request.is_preemptible
        else total(vm.quota for vm in within_budgets(candidate_vms(world, False), world.full_budgets))
    )
    lacking = [
        _item_shortage(item, request, world, freed[item])
        for item in sorted(quota.deficit)
        if quota.free[item] + freed[item] < quota.need[item]
    ]
    return "; ".join(lacking) or f"it does not fit the project's quota: {outcome.reason}"


def _item_shortage(item: str, request: Request, world: World, freed: int) -> str:
    unit, limit = _UNITS.get(item, f" {item}"), world.quota_limit[item]
    if request.quota[item] > limit:
        return f"it needs {request.quota[item]}{unit}, and the project's quota is {limit}"
    return (
        f"it needs {request.quota[item]}{unit}, of the project's quota of {limit} {world.quota_used[item]} are in "
        f"use, and evicting all preemptible VMs that may go would free {freed}"
    )
