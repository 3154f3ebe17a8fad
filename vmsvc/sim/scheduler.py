"""Where a server goes: Placement's room first, then Nova's filters, then the weigher."""

from vmsvc.sim.catalog import Catalog
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

    def __init__(self, hosts: Hosts, placement: Placement, catalog: Catalog, groups: Groups):
        self._hosts = hosts
        self._placement = placement
        self._catalog = catalog
        self._groups = groups

    def place(self, server: Server) -> Host:
        """Claim room for the server and return its host. Raises NoValidHost."""
        request = server.flavor["request"]
        offered = [host for host in self._asked(server) if self._has_room(host, server, request)]
        if not offered:
            raise NoValidHost(NO_CANDIDATES)
        passed = [host for host in offered if self._hosts.takes_servers(host) and host.name not in server.tried_hosts
                  and self._groups.allows(server, host.name)]
        if not passed:
            raise NoValidHost(ALL_FILTERED)
        best = min(passed, key=self._weight)
        claim = Consumer(server.id, server.project_id, server.user_id, {best.provider_id: dict(request)})
        if not self._placement.claim(claim):
            raise NoValidHost(ALL_FILTERED)
        return best

    def _asked(self, server: Server) -> list[Host]:
        """The hosts that the request leaves: a pin, a zone, or all."""
        if server.asked_host or server.asked_node:
            return [host for host in self._hosts.all.values()
                    if server.asked_host in (None, host.name) and server.asked_node in (None, host.node)]
        return [host for host in self._hosts.all.values() if server.asked_az in (None, host.az)]

    def _has_room(self, host: Host, server: Server, request: dict[str, int]) -> bool:
        provider = self._placement.providers[host.provider_id]
        return self._placement.fits(provider, request) and set(server.flavor["traits"]) <= set(provider.traits)

    def _weight(self, host: Host) -> tuple[int, int, int]:
        """Nova's RAM weigher: most free memory first. Ties go to free VCPUs, then to the oldest host."""
        provider, used = self._placement.providers[host.provider_id], self._placement.used[host.provider_id]
        free_ram = provider.capacity("MEMORY_MB") - used.get("MEMORY_MB", 0)
        free_vcpus = provider.capacity("VCPU") - used.get("VCPU", 0)
        return (-free_ram, -free_vcpus, host.number)
