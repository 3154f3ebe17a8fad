"""What a project's own servers show of the capacity of a host whose size nobody tells: pure values and rules.

A host here is a `hostId`. See docs/explanation/decisions/capacity-by-evidence.md.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from vmsvc.domain.resources import Resources

#: How certain a plan is. SURE: all that it counts on is known. LIKELY: it counts on capacity for which there is
#: evidence.
SURE, LIKELY = "sure", "likely"
#: How many vectors, and how many refusals, are kept for one host; the oldest are left out.
MOST = 8
#: The moment of what is declared: any refusal is younger.
EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Held:
    """What the project's servers held on a host together at one moment; `at` is the latest such moment. (EVER: nobody
    has seen it, it is declared.)"""

    resources: Resources
    at: datetime

    @property
    def is_declared(self) -> bool:
        """True for what VMSVC_HOST_CAPACITY says."""
        return self.at == EVER


@dataclass(frozen=True, slots=True)
class Refusal:
    """The cloud refused a request for so much (`need`) although it fitted on a host by the evidence. `total`: what did
    not fit there together, the request and what the project's servers held, in the classes that may be the cause: those
    that were scarcest, and of which the host has not held so much since."""

    need: Resources
    total: Resources
    at: datetime

    def contradicts(self, held: Held, need: Resources) -> bool:
        """True when this vector does not count any more for a request for so much: the request is as large as the one
        that was refused, and the host has not held the vector since."""
        return held.at <= self.at and need.covers(self.need)

    def after_seeing(self, held: Held) -> "Refusal | None":
        """The same when the host is seen to hold so much; None when nobody can be in the way as at the refusal, because
        the host has held as much of every class since."""
        if held.at <= self.at:
            return self
        left = {name: amount for name, amount in self.total.items() if held.resources[name] < amount}
        return replace(self, total=Resources(left)) if left else None


@dataclass(frozen=True, slots=True)
class HostEvidence:
    """All evidence for one host."""

    held: tuple[Held, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def counting(self, need: Resources) -> list[Held]:
        """The vectors that count for a request for so much, in no order."""
        return [one for one in self.held if not any(refusal.contradicts(one, need) for refusal in self.refusals)]

    def with_declared(self, declared: Resources) -> "HostEvidence":
        """The same with what is declared for each host; an empty vector declares nothing."""
        return replace(self, held=(Held(declared, EVER), *self.held)) if declared else self

    def after_seeing(self, resources: Resources, at: datetime, refresh: timedelta) -> "HostEvidence":
        """The evidence when the project's servers held so much there at this moment. It is the same object when that
        shows nothing new. `refresh`: from this age on, the moment of a vector that still stands is new."""
        seen = Held(resources, at)
        refusals = tuple(filter(None, (one.after_seeing(seen) for one in self.refusals)))
        if not resources or any(self._shows(one, seen, refresh) for one in self.held):
            return self if refusals == self.refusals else replace(self, refusals=refusals)
        rest = [one for one in self.held if one.at > at or not resources.covers(one.resources)]
        return HostEvidence(_newest([*rest, seen]), refusals)

    def _shows(self, known: Held, seen: Held, refresh: timedelta) -> bool:
        """True when `known` shows all that `seen` would show."""
        if not known.resources.covers(seen.resources):
            return False
        if any(known.at <= refusal.at < seen.at for refusal in self.refusals):
            return False
        return known.resources != seen.resources or seen.at - known.at < refresh

    def after_refusal(self, refusal: Refusal) -> "HostEvidence":
        """The evidence when the cloud has refused a request that fitted by it."""
        rest = [
            one
            for one in self.refusals
            if one.at > refusal.at or not (one.need.covers(refusal.need) and refusal.total.covers(one.total))
        ]
        return replace(self, refusals=_newest([*rest, refusal]))

    def since(self, oldest: datetime) -> "HostEvidence":
        """Without what is older than this."""
        return HostEvidence(
            tuple(one for one in self.held if one.at >= oldest),
            tuple(one for one in self.refusals if one.at >= oldest),
        )


_T = TypeVar("_T", Held, Refusal)


def _newest(items: list[_T]) -> tuple[_T, ...]:
    return tuple(sorted(items, key=lambda one: one.at)[-MOST:])
