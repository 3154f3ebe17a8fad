"""Where a server goes: Placement's room first, then Nova's filters, then the weigher."""

from collections.abc import Iterator

from vmsvc.sim.groups import Groups
from vmsvc.sim.hosts import Host, Hosts
from vmsvc.sim.placement import Consumer, Placement
from vmsvc.sim.servers import Server

#: Placement had no candidate. The space at the end is real (measured, section 2).
NO_CANDIDATES = "No valid host was found. "
#: Placement offered some, and filters or a race took them all (measured, section 2).
ALL_FILTERED = "No valid host was found. There are not enough hosts available."
MAX_ATTEMPTS = 3


class NoValidHost(Exception):
    """No host for this server; the message is the fault's."""


class Scheduler:
    """Chooses a host and claims the room on it."""

    def __init__(self, hosts: Hosts, placement: Placement, groups: Groups):
        self._hosts = hosts
        self._placement = placement
        self._groups = groups

    def place(self, server: Server) -> Host:
        """Claim room for the server and return its host. Raises NoValidHost."""
        request, offered = server.flavor["request"], False
        for host in self._by_weight(server, request):
            shares = self._shares(host, server, request)
            if shares is None:
                continue
            offered = True
            if self._passes(host, server):
                claim = Consumer(server.id, server.project_id, server.user_id, shares)
                if self._placement.claim(claim):
                    return host
        raise NoValidHost(ALL_FILTERED if offered else NO_CANDIDATES)

    def _by_weight(self, server: Server, request: dict[str, int]) -> Iterator[Host]:
        """The hosts that the request leaves (a pin, a zone, or all), the best first."""
        if server.asked_host or server.asked_node:
            yield from self._hosts.matching(server.asked_host, server.asked_node)
            return
        for uuid in self._placement.room.with_ram(request.get("MEMORY_MB", 0)):
            host = self._hosts.by_provider.get(uuid)
            if host is not None and server.asked_az in (None, host.az):
                yield host

    def _shares(self, host: Host, server: Server, request: dict[str, int]) -> dict[str, dict[str, int]] | None:
        """What each provider of the host's tree would give, None when there is no room or a trait is wrong."""
        traits = {trait for part in self._placement.tree(host.provider_id) for trait in part.traits}
        if not set(server.flavor["traits"]) <= traits or traits & set(server.flavor.get("forbidden", ())):
            return None
        return self._placement.shares(host.provider_id, request)

    def _passes(self, host: Host, server: Server) -> bool:
        """Nova's filters: the service, the hosts tried before, the image's properties, the server's group."""
        wanted = server.flavor.get("image_wants", ("", "", ""))
        return (self._hosts.takes_servers(host) and host.name not in server.tried_hosts
                and all(want in ("", has) for want, has in zip(wanted, (host.arch, "fake", "hvm")))
                and self._groups.allows(server, host.name))
