"""A network, as far as it decides whether a server can get a port there."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Network:
    """`subnets` are their ids."""

    id: str
    name: str
    subnets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a network's pools, for the IP version that has fewest left: how many there are, and how many are
    known to be used. `holders` are the servers that use them and give them back when they go. A tenant sees the ports
    of other projects only on its own networks: elsewhere more than `used` may be in use."""

    total: int
    used: int
    holders: frozenset[str] = frozenset()

    @property
    def free(self) -> int:
        """How many are left, at most."""
        return max(0, self.total - self.used)
