"""Which hosts a request could go to, as Nova and Placement will judge: before any question of what is free there."""

from vmsvc.domain.host import Host
from vmsvc.domain.world import Request, World


def eligible(host: Host, request: Request) -> bool:
    """True when the cloud would take the request there, were it empty."""
    return host.name not in request.avoid and host.name not in request.cooling and would_take(host, request)


def would_take(host: Host, request: Request) -> bool:
    """The same as far as Nova and Placement can be foreseen, whatever was tried before."""
    return (host.available and host.admits(request.room)
            and request.availability_zone in (None, host.availability_zone) and request.traits.allow(host.traits))


def why_none(request: Request, world: World) -> str:
    """Why there is no host to think of."""
    said = [why for name, why in sorted(request.cooling.items())
            if name in world.hosts and would_take(world.hosts[name], request)]
    if said:
        return f"every host that could take it has refused such VMs lately ({said[0]})"
    if any(would_take(world.hosts[name], request) for name in request.avoid if name in world.hosts):
        return f"every host that could take it has refused it ({request.said or 'the cloud does not say why'})"
    return "no host could take it, even were it empty"
