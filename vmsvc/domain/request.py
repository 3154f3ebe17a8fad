"""A VM that waits for capacity, and what became of earlier requests like it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from vmsvc.domain.acceptance import Objection
from vmsvc.domain.flavors import Traits
from vmsvc.domain.requirements import Requirements
from vmsvc.domain.resources import Resources

EVIDENCE_SECONDS = 600      # how long a built VM counts as evidence that there is capacity for another of its size
FUTILE_SECONDS = 3600       # after an eviction that did not help: how long no VM is evicted for such requests


@dataclass(frozen=True, slots=True)
class Precedents:
    """What became of earlier requests, as evidence for this one. Moments are seconds since the epoch."""

    accepted: bool = True                  # a VM with the same conditions was built: there are hosts for it
    being_tried: bool = False              # another one with the same conditions has a reservation now
    refused_at: int | None = None          # when the cloud last refused one without conditions that was no larger
    futile_at: int = 0                     # when evictions for one of its class did not help ...
    futile_error: str | None = None        # ... with this error; None: not lately
    futile_reason: str = ""                # ... and in the cloud's words


@dataclass(frozen=True, slots=True)
class Request:
    """A VM that waits for capacity."""

    id: str
    is_preemptible: bool
    quota: Resources                           # what it will count for in the project's quota
    resources: Resources                       # what it will claim from its host
    availability_zone: str | None = None
    traits: Traits = Traits()                  # of the flavor and of the image
    requirements: Requirements = Requirements()   # what else they ask of a host; empty for most
    invalid: Objection | None = None           # why Nova refuses it however much capacity there is
    refusal: str | None = None                 # the cloud's last refusal, as a slug: no_capacity, quota_exceeded
    refusals: int = 0
    refused_at: datetime | None = None
    freed_since: bool = False                  # capacity was freed after that refusal: trying again is worth it
    cloud_message: str | None = None           # the cloud's last refusal, in its own words
    avoid: frozenset[str] = frozenset()        # hosts that refused it
    cooling: Mapping[str, str] = field(default_factory=dict)   # host -> why it refused a request like this one lately
    rounds: int = 0
    waited: float = 0.0                        # seconds since it came, or came back refused
    conditions: tuple[str, ...] = ()           # what it asks of its host besides capacity, in words
    precedents: Precedents = Precedents()
    refused_rounds: int = 0                    # its `rounds` when the cloud refused it last
    refused_with_capacity: bool = False        # ... on a host with enough free capacity, as far as is known
