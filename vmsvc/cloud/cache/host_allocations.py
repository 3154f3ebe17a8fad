"""The allocations on each host: as Placement answered when the host was read, corrected by the servers' changes since.

Each host is read from Placement seldom. In between, a server that appears on a host counts with its flavor's claim,
and one that is deleted no longer counts. Placement's amounts hold until a server changes its host or its size;
consumers that are no servers (migrations) stay until their host is read again. Where a change does not show everything
(a server that moved holds capacity on two hosts for a while), the host is uncertain: it should be read soon.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vmsvc.cloud.port import Occupant
from vmsvc.domain.resources import Resources

_DELETED = frozenset({"DELETED"})
#: The server is there and its host is not: what it held is given back.
_WITHOUT_HOST = frozenset({"SHELVED_OFFLOADED", "ERROR"})
#: It holds, or held a moment ago, capacity of another host too.
_MOVING = frozenset({"MIGRATING", "RESIZE", "VERIFY_RESIZE", "REVERT_RESIZE"})


class HostAllocations:
    """Which consumer holds how much on each host, as lists of servers and reads of Placement show it; without I/O.
    `uncertain` are hosts that should be read soon, because a list did not show what a server holds there now."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, Resources]] = {}  # host -> consumer -> amounts
        self._hosts_of: dict[str, tuple[str, ...]] = {}  # consumer -> hosts
        self._claims: dict[str, tuple[str | None, Resources, bool]] = {}  # server -> its last (host, resources, moving)
        self._readings: list[set[str]] = []
        self.uncertain: set[str] = set()
        self._changed: set[str] = set()

    def of(self, host: str) -> Mapping[str, Resources]:
        """What is held on a host, by consumer."""
        return self._held.get(host, {})

    def take_changed(self) -> set[str]:
        """The hosts on which something changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def update_server(self, server: Occupant) -> None:
        """Take a server as a list showed it. An unchanged server changes nothing."""
        for changed_meanwhile in self._readings:
            changed_meanwhile.add(server.id)
        if server.status in _DELETED:
            self.remove_server(server.id)
            return
        if server.status == "UNKNOWN":  # its cell is down: nothing is known of it now
            return
        claim = server.host, server.resources, server.status in _MOVING
        before, self._claims[server.id] = self._claims.get(server.id), claim
        if before == claim:
            return
        if server.host is not None:
            self._put_on_host(server, before)
        elif server.status in _WITHOUT_HOST:
            self._release(server.id)

    def remove_server(self, server_id: str) -> None:
        """Remove a server that the cloud has deleted."""
        for changed_meanwhile in self._readings:
            changed_meanwhile.add(server_id)
        self._claims.pop(server_id, None)
        self._release(server_id)

    @contextmanager
    def reading(self) -> Iterator[set[str]]:
        """To be entered while a host is read: gives the set of servers that change meanwhile."""
        changed_meanwhile: set[str] = set()
        self._readings.append(changed_meanwhile)
        try:
            yield changed_meanwhile
        finally:
            # By identity: two readings in which nothing has changed are equal.
            self._readings = [other for other in self._readings if other is not changed_meanwhile]

    def update_host(self, host: str, allocations: Mapping[str, Resources], changed_meanwhile: set[str]) -> None:
        """Take Placement's answer for a host, except for servers that changed meanwhile: there the list is newer."""
        before = self._held.get(host, {})
        now = {consumer: amounts for consumer, amounts in allocations.items() if consumer not in changed_meanwhile}
        for consumer in changed_meanwhile:
            if consumer in before:
                now[consumer] = before[consumer]
            elif consumer in self._claims and self._claims[consumer][0] == host:
                now[consumer] = self._claims[consumer][1]
        for consumer in before.keys() - now.keys():
            self._forget_host_of(consumer, host)
        for consumer in now.keys() - before.keys():
            self._hosts_of[consumer] = (*self._hosts_of.get(consumer, ()), host)
        self._held[host] = now
        self.uncertain.discard(host)
        self._changed.add(host)

    def forget(self, host: str) -> None:
        """Remove a host that no longer exists."""
        for consumer in self._held.pop(host, {}):
            self._forget_host_of(consumer, host)
        self.uncertain.discard(host)

    def _put_on_host(self, server: Occupant, before: tuple[str | None, Resources, bool] | None) -> None:
        host = server.host
        if host not in self._held:
            return  # not read yet; the reading will show it
        amounts = self._held[host].get(server.id)
        if amounts is None:
            self._hosts_of[server.id] = (*self._hosts_of.get(server.id, ()), host)
        if amounts is None or before is not None and before[:2] != (host, server.resources):
            self._held[host][server.id] = server.resources
            self._changed.add(host)
        self.uncertain |= {other_host for other_host in self._hosts_of[server.id] if other_host != host}
        if server.status in _MOVING or (before is not None and before[2]) or amounts not in (None, server.resources):
            self.uncertain.add(host)

    def _release(self, consumer: str) -> None:
        for host in self._hosts_of.pop(consumer, ()):
            del self._held[host][consumer]
            self._changed.add(host)

    def _forget_host_of(self, consumer: str, host: str) -> None:
        hosts = tuple(other_host for other_host in self._hosts_of[consumer] if other_host != host)
        if hosts:
            self._hosts_of[consumer] = hosts
        else:
            del self._hosts_of[consumer]
