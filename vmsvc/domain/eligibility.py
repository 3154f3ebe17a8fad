"""Which hosts a request could go to, as Nova and Placement will judge: before any question of what is free there."""

from vmsvc.domain.host import Host
from vmsvc.domain.world import Request, World


def eligible(host: Host, request: Request) -> bool:
    """True when the cloud would take the request there, were it empty."""
    return host.name not in request.avoid and host.name not in request.cooling and would_take(host, request)


def would_take(host: Host, request: Request) -> bool:
    """The same as far as Nova and Placement can be foreseen, whatever was tried before."""
    return (host.available and host.admits(request.room)
            and request.availability_zone in (None, host.availability_zone) and request.traits.allow(host.traits)
            and request.requirements.unmet(host.hypervisor, host.traits) is None)


def why_none(request: Request, world: World) -> str:
    """Why there is no host to think of."""
    said = [why for name, why in sorted(request.cooling.items())
            if name in world.hosts and would_take(world.hosts[name], request)]
    if said:
        return f"every host that could take it has refused such VMs lately ({said[0]})"
    if any(would_take(world.hosts[name], request) for name in request.avoid if name in world.hosts):
        return f"every host that could take it has refused it ({request.said or 'the cloud does not say why'})"
    return _what_all_lack(request, world) or "no host could take it, even were it empty"


def _what_all_lack(request: Request, world: World) -> str | None:
    """The one reason that excludes every host, where an image, a flavor or a zone does; None when there is no such
    one."""
    hosts = world.hosts.values()
    unmet = {request.requirements.unmet(host.hypervisor, host.traits) for host in hosts}
    if len(unmet) == 1 and None not in unmet:
        return f"no host could take it: {unmet.pop()}"
    missing = sorted(trait for trait in request.traits.required if not any(trait in host.traits for host in hosts))
    if hosts and missing:
        return f"no host could take it: none has the trait {', '.join(missing)} that its image or flavor requires"
    zones = {host.availability_zone for host in hosts}
    if request.availability_zone is not None and request.availability_zone not in zones:
        return f"no host could take it: there is none in the availability zone {request.availability_zone}"
    return None
