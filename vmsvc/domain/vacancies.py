"""Hosts that have room, kept in order for every need that is asked for.

What a need would leave free on a host is that host's room less the need: the order is the same for all needs, and
only who is in it differs.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from vmsvc.domain.resources import Resources

#: How many needs are remembered; the one that was not asked for longest goes.
NEEDS = 32


class Vacancies:
    """Room by host. Not for two threads at once."""

    def __init__(self):
        self._rooms: dict[str, Resources] = {}
        self._lists: dict[Resources, _List] = {}    # the last one used is last

    def put(self, host: str, room: Resources) -> None:
        """A host, with all the room it has now."""
        if self._rooms.get(host) != room:
            self._rooms[host] = room
            self._mark(host)

    def drop(self, host: str) -> None:
        """Forget a host; one that is not there counts as forgotten."""
        if self._rooms.pop(host, None) is not None:
            self._mark(host)

    def _mark(self, host: str) -> None:
        for each in self._lists.values():
            each.stale.add(host)

    def of(self, need: Resources) -> Iterator[str]:
        """The hosts with so much room, the one first where least would stay free."""
        found = self._lists[need] = self._lists.pop(need, None) or _List(need, self._rooms)
        if len(self._lists) > NEEDS:
            del self._lists[next(iter(self._lists))]
        found.update(self._rooms)
        return (host for _, host in found.order)


class _List:
    """The hosts with room for one need; `stale` are those whose room has changed since."""

    def __init__(self, need: Resources, hosts: dict[str, Resources]):
        self._need = need
        self.stale = set(hosts)
        self.order: list[tuple[int, str]] = []
        self._places: dict[str, tuple[int, str]] = {}

    def update(self, rooms: dict[str, Resources]) -> None:
        """Bring it up to date."""
        for host in self.stale:
            place = self._places.pop(host, None)
            if place is not None:
                del self.order[bisect_left(self.order, place)]
            room = rooms.get(host)
            if room is not None and room.covers(self._need):
                place = self._places[host] = sum(room.values()), host
                insort(self.order, place)
        self.stale.clear()
