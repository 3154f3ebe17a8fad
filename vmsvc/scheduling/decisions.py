"""What can be decided for a request: the values that `decide`, `review` and `decide_batch` return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from vmsvc.domain.evidence import SURE
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.world import Basis


@dataclass(frozen=True, slots=True)
class Place:
    """Create its server now, on this host (operator mode) or wherever the cloud chooses. Victims of the request that
    are only noticed stay."""

    host: str | None = None


@dataclass(frozen=True, slots=True)
class Evict:
    """Reserve this bin's capacity for the request and give its victims notice. Without victims: the capacity is being
    freed already. `members`, of a host group: what each VM held there when the first plan was made, if this plan adds
    to it; None: what each holds now."""

    kind: str
    bin: str
    victims: tuple[str, ...]
    criterion: str
    optimal: bool
    cost: Mapping[str, Any] = field(default_factory=dict)
    runner_up: Mapping[str, Any] | None = None
    members: Mapping[str, Resources] | None = None
    basis: Basis | None = None

    @property
    def certainty(self) -> str:
        """SURE or LIKELY. What a plan for the quota or for a known host counts on is known."""
        return self.basis.certainty if self.basis else SURE

    @property
    def evidence(self) -> str | None:
        """What a likely plan counts on, in words."""
        return self.basis.words if self.basis else None


@dataclass(frozen=True, slots=True)
class Reprieve:
    """These victims are no longer needed: they stay."""

    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing now, because of something that is under way. `for_others`: because of another request that has a
    reservation. `brief`: the next look at the cloud ends it."""

    why: str
    for_others: bool = False
    brief: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse the request; nobody is evicted for it. `error` is the slug that the client sees. `final`: it would not
    help the request to wait, because it cannot fit however much becomes free."""

    error: str
    message: str
    final: bool = False

    @property
    def lacks_capacity(self) -> bool:
        """True when the request would be placed if more were free."""
        return self.error in ("no_capacity", "quota_exceeded") and not self.final


@dataclass(frozen=True, slots=True)
class Queued:
    """There is no capacity for the request now, and it may wait: it waits in the queue, without a reservation. `error`
    is the slug with which it would be refused if it could not wait."""

    error: str
    why: str


@dataclass(frozen=True, slots=True)
class Postpone:
    """Decide again later: the request would fit if the budgets of these eviction groups were not used up. Its
    reservation is released, and its noticed victims are reprieved."""

    why: str
    groups: frozenset[str]


Decision = Place | Evict | Reprieve | Wait | Postpone | Refuse | Queued


def needs_victims(decision: Decision) -> TypeGuard[Evict]:
    """True when the decision has victims."""
    return isinstance(decision, Evict) and bool(decision.victims)
