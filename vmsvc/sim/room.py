"""Providers by free room, kept in order as claims come and go, so that a boot need not look at all hosts."""

import bisect
from collections.abc import Iterator


class Room:
    """The order of Nova's RAM weigher: most free memory first; then free VCPUs, then the older provider."""

    def __init__(self):
        self._order: list[tuple[int, int, int, str]] = []
        self._keys: dict[str, tuple[int, int, int, str]] = {}
        self._ages: dict[str, int] = {}

    def update(self, uuid: str, free_ram: int, free_vcpus: int) -> None:
        """Note what a provider has free now."""
        self.remove(uuid)
        age = self._ages.setdefault(uuid, len(self._ages))
        self._keys[uuid] = (-free_ram, -free_vcpus, age, uuid)
        bisect.insort(self._order, self._keys[uuid])

    def remove(self, uuid: str) -> None:
        """Forget a provider."""
        key = self._keys.pop(uuid, None)
        if key is not None:
            del self._order[bisect.bisect_left(self._order, key)]

    def with_ram(self, least: int) -> Iterator[str]:
        """Providers that have at least so much memory free, in order."""
        for free_ram, _, _, uuid in self._order:
            if -free_ram < least:
                return
            yield uuid
