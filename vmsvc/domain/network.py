"""A network, as far as it decides whether a server can be plugged in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Network:
    """`subnets` are their ids."""

    id: str
    name: str
    subnets: tuple[str, ...] = ()
    external: bool = False


@dataclass(frozen=True, slots=True)
class Addresses:
    """How many IPv4 addresses a network's pools have and how many of them are known to be used; `holders` are the
    servers that use them (each gives its address back when it goes). A tenant sees the ports of others only on networks
    of its own: then `used` is what it is at least."""

    total: int
    used: int
    holders: frozenset[str] = frozenset()

    @property
    def free(self) -> int:
        """So many are left, at most."""
        return max(0, self.total - self.used)
