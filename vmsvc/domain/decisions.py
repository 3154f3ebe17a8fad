"""What can be decided for a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vmsvc.domain.resources import Resources


@dataclass(frozen=True, slots=True)
class Place:
    """Boot it now, on this host (operator) or wherever the cloud likes; NOTICED victims that are left stay."""

    host: str | None = None


@dataclass(frozen=True, slots=True)
class Evict:
    """Keep this bin's room for it and give these notice; no victims: the room is on its way by itself. `members`, of a
    hostId group: what each VM held there when the first plan was made, if this plan adds to it; None: what each holds
    now."""

    kind: str
    bin: str
    victims: tuple[str, ...]
    criterion: str
    optimal: bool
    cost: Mapping[str, Any] = field(default_factory=dict)
    runner_up: Mapping[str, Any] | None = None
    members: Mapping[str, Resources] | None = None


@dataclass(frozen=True, slots=True)
class Reprieve:
    """These victims are no longer needed."""

    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing now: something under way decides first. `for_others`: other requests with reservations are under
    way."""

    why: str
    for_others: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """No: nobody is evicted. `error` is the slug that the client sees."""

    error: str
    message: str


@dataclass(frozen=True, slots=True)
class Postpone:
    """Nothing for a while: it would fit if the budgets of these eviction groups were not used up. It holds no room
    meanwhile, and whoever was noticed for it is spared."""

    why: str
    groups: frozenset[str]


Decision = Place | Evict | Reprieve | Wait | Postpone | Refuse
