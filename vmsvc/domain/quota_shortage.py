"""Why a request does not fit the project's quota, however much capacity the hosts have free."""

from vmsvc.domain.places import quota_bin
from vmsvc.domain.planner import Refuse, plan
from vmsvc.domain.resources import Resources, total
from vmsvc.domain.victims import eligible_victims, within
from vmsvc.domain.world import Request, World

_UNITS = {"ram": " MiB of ram"}


def quota_shortage(request: Request, world: World) -> str | None:
    """One sentence for the client, or None when evictions could lower the usage so far that the request fits. A quota
    may be below what is used: then the excess has to leave too, for Nova compares usage and request with the limit."""
    quota = quota_bin(request, world, False)
    if not quota.deficit:
        return None
    answer = plan([quota], max_victims=world.max_victims, now=world.now, budgets=world.limits)
    if not isinstance(answer, Refuse):
        return None
    freed = Resources() if request.is_preemptible else total(
        vm.quota for vm in within(eligible_victims(world, False), world.limits))
    lacking = [_words(item, request, world, freed[item]) for item in sorted(quota.deficit)
               if quota.free[item] + freed[item] < quota.need[item]]
    return "; ".join(lacking) or f"it does not fit the project's quota: {answer.reason}"


def _words(item: str, request: Request, world: World, freed: int) -> str:
    unit, limit = _UNITS.get(item, f" {item}"), world.quota_limit[item]
    if request.quota[item] > limit:
        return f"it needs {request.quota[item]}{unit}, and the project's quota is {limit}"
    return (f"it needs {request.quota[item]}{unit}, of the project's quota of {limit} {world.quota_used[item]} are in "
            f"use, and evicting all preemptible VMs that may go would free {freed}")
