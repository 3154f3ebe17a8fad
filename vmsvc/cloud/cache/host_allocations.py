"""The allocations on each host: as Placement answered when the host was read, corrected by the servers' changes since.

Each host is read from Placement seldom. In between, a server that appears on a host counts with its flavor's claim,
and one that is gone no longer counts. Placement's amounts hold until a server changes its host or its size; consumers
that are no servers (migrations) stay until their host is read again. Where a change does not tell all (a server that
moved holds capacity on two hosts for a while), the host is doubted: it should be read soon.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vmsvc.cloud.port import Occupant
from vmsvc.domain.resources import Resources

_GONE = frozenset({"DELETED"})
#: The server is there and its host is not: what it held is given back.
_GIVEN_BACK = frozenset({"SHELVED_OFFLOADED", "ERROR"})
#: It holds, or held a moment ago, room elsewhere too.
_MOVING = frozenset({"MIGRATING", "RESIZE", "VERIFY_RESIZE", "REVERT_RESIZE"})


class HostAllocations:
    """Which consumer holds how much on each host, as lists of servers and reads of Placement show it; without I/O.
    `doubted` are hosts that should be read soon, because a list did not tell what a server holds there now."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, Resources]] = {}  # host -> consumer -> amounts
        self._places: dict[str, tuple[str, ...]] = {}  # consumer -> hosts
        self._seen: dict[str, tuple[str | None, Resources, bool]] = {}  # server -> its last (host, room, moving)
        self._meanwhile: list[set[str]] = []
        self.doubted: set[str] = set()
        self._changed: set[str] = set()

    def of(self, host: str) -> Mapping[str, Resources]:
        """What is held on a host, by consumer."""
        return self._held.get(host, {})

    def take_changed(self) -> set[str]:
        """The hosts on which something changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def saw(self, server: Occupant) -> None:
        """A server as a list showed it. Seeing it again unchanged changes nothing."""
        for meanwhile in self._meanwhile:
            meanwhile.add(server.id)
        if server.status in _GONE:
            self.gone(server.id)
            return
        if server.status == "UNKNOWN":  # its cell is down: nothing is known of it now
            return
        claim = server.host, server.room, server.status in _MOVING
        before, self._seen[server.id] = self._seen.get(server.id), claim
        if before == claim:
            return
        if server.host is not None:
            self._place(server, before)
        elif server.status in _GIVEN_BACK:
            self._remove(server.id)

    def gone(self, server_id: str) -> None:
        """Remove a server that the cloud has deleted."""
        for meanwhile in self._meanwhile:
            meanwhile.add(server_id)
        self._seen.pop(server_id, None)
        self._remove(server_id)

    @contextmanager
    def reading(self) -> Iterator[set[str]]:
        """To be entered while a host is read: gives the set of servers that change meanwhile."""
        meanwhile: set[str] = set()
        self._meanwhile.append(meanwhile)
        try:
            yield meanwhile
        finally:
            # By identity: two readings in which nothing has changed are equal.
            self._meanwhile = [other for other in self._meanwhile if other is not meanwhile]

    def told(self, host: str, allocations: Mapping[str, Resources], meanwhile: set[str]) -> None:
        """Take Placement's answer for a host, except for servers that changed meanwhile: there the list is newer."""
        before = self._held.get(host, {})
        now = {consumer: held for consumer, held in allocations.items() if consumer not in meanwhile}
        for consumer in meanwhile:
            if consumer in before:
                now[consumer] = before[consumer]
            elif consumer in self._seen and self._seen[consumer][0] == host:
                now[consumer] = self._seen[consumer][1]
        for consumer in before.keys() - now.keys():
            self._leave(consumer, host)
        for consumer in now.keys() - before.keys():
            self._places[consumer] = (*self._places.get(consumer, ()), host)
        self._held[host] = now
        self.doubted.discard(host)
        self._changed.add(host)

    def forget(self, host: str) -> None:
        """There is no such host any more."""
        for consumer in self._held.pop(host, {}):
            self._leave(consumer, host)
        self.doubted.discard(host)

    def _place(self, server: Occupant, before: tuple[str | None, Resources, bool] | None) -> None:
        host = server.host
        if host not in self._held:
            return  # not read yet; the reading will show it
        held = self._held[host].get(server.id)
        if held is None:
            self._places[server.id] = (*self._places.get(server.id, ()), host)
        if held is None or before is not None and before[:2] != (host, server.room):
            self._held[host][server.id] = server.room
            self._changed.add(host)
        elsewhere = {place for place in self._places[server.id] if place != host}
        self.doubted |= elsewhere
        if server.status in _MOVING or (before is not None and before[2]) or held not in (None, server.room):
            self.doubted.add(host)

    def _remove(self, consumer: str) -> None:
        for host in self._places.pop(consumer, ()):
            del self._held[host][consumer]
            self._changed.add(host)

    def _leave(self, consumer: str, host: str) -> None:
        places = tuple(place for place in self._places[consumer] if place != host)
        if places:
            self._places[consumer] = places
        else:
            del self._places[consumer]
