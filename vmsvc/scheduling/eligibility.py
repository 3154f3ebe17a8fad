"""Which hosts a request could go to if they were empty, as Nova and Placement will judge."""

from vmsvc.domain.host import Host
from vmsvc.domain.request import Request
from vmsvc.scheduling.host_rules import rules_in_words
from vmsvc.scheduling.world import World

#: Why a request gets no capacity though there is some.
KEPT = "the capacity that is left is kept together for requests that have waited for longer"


def eligible(host: Host, request: Request) -> bool:
    """True when the cloud would take the request on this host if it were empty."""
    refused = host.name in request.avoid or host.name in request.cooling
    return not refused and host.name not in request.kept and request.may_be_at(host.name) and _would_take(host, request)


def _would_take(host: Host, request: Request) -> bool:
    """As `eligible`, by what Nova and Placement check, whether or not the request was tried on this host before."""
    return host.available and could_take(host, request)


def could_take(host: Host, request: Request) -> bool:
    """As `_would_take`, were the host up."""
    return (
        host.admits(request.resources)
        and request.availability_zone in (None, host.availability_zone)
        and request.traits.allow(host.traits)
        and not _unknown(host, request)
        and request.requirements.unmet(host.hypervisor, host.traits) is None
    )


def _unknown(host: Host, request: Request) -> set[str]:
    """The traits that the request forbids and that do not exist (the hosts' cache marks them): Placement refuses such a
    query, so that Nova finds no host, whatever is evicted."""
    return {trait for trait in request.traits.forbidden if f"!{trait}" in host.traits}


def why_no_host(request: Request, world: World) -> str:
    """Why no host is eligible, as the end of a sentence."""
    refusals = [
        why
        for name, why in sorted(request.cooling.items())
        if name in world.hosts and _would_take(world.hosts[name], request)
    ]
    if refusals:
        return f"every host that could take it has refused such VMs lately ({refusals[0]})"
    if any(_would_take(world.hosts[name], request) for name in request.avoid if name in world.hosts):
        return f"every host that could take it has refused it ({request.cloud_message or 'the cloud does not say why'})"
    if any(_would_take(world.hosts[name], request) for name in request.kept if name in world.hosts):
        return KEPT
    if any(_would_take(host, request) for host in world.hosts.values() if not request.may_be_at(host.name)):
        return f"no host that could take it is allowed by {rules_in_words(request, world)}"
    return _what_all_lack(request, world) or "no host could take it, even were it empty"


def _what_all_lack(request: Request, world: World) -> str | None:
    """The one requirement, trait or zone that excludes every host; None when there is no such one."""
    hosts = world.hosts.values()
    unmet = {request.requirements.unmet(host.hypervisor, host.traits) for host in hosts}
    if len(unmet) == 1 and None not in unmet:
        return f"no host could take it: {unmet.pop()}"
    missing = sorted(trait for trait in request.traits.required if not any(trait in host.traits for host in hosts))
    if hosts and missing:
        return f"no host could take it: none has the trait {', '.join(missing)} that its image or flavor requires"
    unknown = sorted({trait for host in hosts for trait in _unknown(host, request)})
    if unknown:
        return f"no host could take it: Placement knows no trait {', '.join(unknown)}, which its flavor forbids"
    zones = {host.availability_zone for host in hosts}
    if request.availability_zone is not None and request.availability_zone not in zones:
        return f"no host could take it: there is none in the availability zone {request.availability_zone}"
    return None
