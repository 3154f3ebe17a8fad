"""A server group of Nova: how many of its members may be on one host, and whether all have to be on one."""

from dataclasses import dataclass

AFFINITY, ANTI_AFFINITY = "affinity", "anti-affinity"
SOFT_AFFINITY, SOFT_ANTI_AFFINITY = "soft-affinity", "soft-anti-affinity"


@dataclass(frozen=True, slots=True)
class ServerGroup:
    """A server group as Nova shows it. `members`: the ids of its servers that are not deleted; `most`: how many of them
    may be on one host, of an anti-affinity group."""

    id: str
    name: str
    policy: str
    members: frozenset[str] = frozenset()
    most: int = 1
