"""What clients may ask of the service."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CreateVm:
    """A validated wish. `flavor`, `image` and `network` are ids or names; None is the service's default."""

    is_preemptible: bool
    name: str | None = None
    flavor: str | None = None
    image: str | None = None
    network: str | None = None
    key_name: str | None = None
    user_data: str | None = None        # base64
    metadata: dict[str, str] = field(default_factory=dict)
    availability_zone: str | None = None
    priority: int = 0
    min_run_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final answer to a create: durable, the same for every retry under one Idempotency-Key."""

    ok: bool
    vm: dict
    evicted: tuple[str, ...] = ()
    error: str | None = None            # the slug of a domain error
    message: str = ""
