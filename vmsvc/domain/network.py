"""A network, as far as it decides whether a server can be plugged in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Network:
    """`subnets` are their ids."""

    id: str
    name: str
    subnets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Addresses:
    """How many addresses a network's pools have, of the IP version that has fewest left, and how many of them are known
    to be used; `holders` are servers that use them, and give them back when they go. A tenant sees the ports of others
    on networks of its own alone: elsewhere `used` is what it is at least."""

    total: int
    used: int
    holders: frozenset[str] = frozenset()

    @property
    def free(self) -> int:
        """So many are left, at most."""
        return max(0, self.total - self.used)
