"""When an eviction would not help although the plan fits: the cloud refuses the request for another cause.

Nova says "No valid host" whatever the cause. A condition that the request's flavor, image or zone sets (an
architecture, a trait, an aggregate) can exclude every host. `eligibility` judges some of these beforehand; for the
others this module looks at what became of this request and of earlier ones.
"""

from vmsvc.domain.conditions import zone_condition
from vmsvc.domain.decisions import Refuse, Wait
from vmsvc.domain.world import EVIDENCE_SECONDS, FUTILE_SECONDS, Request, World


def why_futile(request: Request, world: World) -> Refuse | Wait | None:
    """What to decide instead of an eviction; None when a lack of capacity may be the cause."""
    known = request.precedents
    if known.futile_error is not None:
        minutes = max(0, world.now - known.futile_at) // 60
        return Refuse(known.futile_error,
                      f"nobody is evicted for it: {minutes} min ago VMs were evicted for a VM of the same flavor, "
                      f"image, network and zone, and the cloud refused it all the same ({known.futile_reason}). An "
                      f"eviction is tried again {FUTILE_SECONDS // 60} min after that")
    if request.refused_rounds and request.refused_with_room:
        return Refuse("no_capacity", f"the cloud refused it although the capacity that was freed for it was there: "
                                     f"{_said(request)}")
    if known.accepted or not _open_conditions(request, world):
        return None
    return _untried(request, world)


def _open_conditions(request: Request, world: World) -> list[str]:
    """The request's conditions for which no VM of ours shows that a host meets them. A VM of ours in the zone shows
    it for the zone, whether its request named the zone or not."""
    zone = request.availability_zone
    is_shown = zone is not None and any(vm.present and vm.zone == zone for vm in world.vms.values())
    return [one for one in request.conditions if not (is_shown and one == zone_condition(zone))]


def _untried(request: Request, world: World) -> Refuse | Wait | None:
    """For a request with conditions under which the cloud has never built a VM of ours."""
    asked = ", ".join(_open_conditions(request, world))
    what = f"it asks for {asked}, and no VM of vmsvc's that asked for that was ever built"
    if request.refused_rounds:
        return Refuse("no_capacity", f"the cloud refused it after VMs had been evicted for it ({_said(request)}); "
                                     f"{what}")
    if request.refused_with_room:
        return Refuse("no_capacity", f"the cloud refused it on a host that had room for it ({_said(request)}); {what}")
    if request.refusal == "no_capacity" and _had_room(request, world):
        return Refuse("no_capacity", f"the cloud refused it ({_said(request)}) a short while after a VM of at least "
                                     f"its size was built, so a lack of capacity may not be the cause: {what}")
    if known_to_be_tried(request, world):
        return Wait("another request with the same conditions on its host is tried first", True)
    return None


def known_to_be_tried(request: Request, world: World) -> bool:
    """True while another request with the same conditions has a reservation: its outcome will show whether a host meets
    them."""
    return request.precedents.being_tried or any(
        kept.conditions == request.conditions for kept in world.reservations.values() if kept.vm_id != request.id)


def _had_room(request: Request, world: World) -> bool:
    """True when a VM of at least this size was built lately, and none that is no larger has been refused since."""
    built = (vm.since for vm in world.vms.values()
             if vm.ran and vm.room.covers(request.room) and request.availability_zone in (None, vm.zone))
    latest = max(built, default=0)
    return latest > max(world.now - EVIDENCE_SECONDS, request.precedents.refused_at or 0)


def _said(request: Request) -> str:
    return request.said or "it does not say why"
