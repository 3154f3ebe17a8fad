"""The client of the API, for Python programs: `Client`, with blocking calls, and `AsyncClient`.

In: the service's address, a token, and what to do. Out: frozen dataclasses (`results`), or an error of one tree
(`errors`). Nothing else of vmsvc is imported here. Begin with `core`: it has a flow for each call, without input or
output. `clients` makes methods of them; `steps` is the seam between the two; `http` is how requests go through httpx.
"""

from vmsvc.client.clients import AsyncClient, Client
from vmsvc.client.core import VmFields
from vmsvc.client.errors import (
    BadAnswer,
    ClientError,
    CloudError,
    CloudUnavailable,
    Conflict,
    Forbidden,
    HistoryGone,
    IdempotencyMismatch,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    QuotaExceeded,
    ServiceError,
    StillPending,
    Timeout,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from vmsvc.client.http import TokenSource
from vmsvc.client.results import (
    Capacity,
    Delivery,
    Event,
    Eviction,
    FlavorCapacity,
    NewSecret,
    Outcome,
    Plan,
    Replay,
    Vm,
    VmList,
    Webhook,
    WebhookTest,
)

__all__ = [
    "AsyncClient",
    "BadAnswer",
    "Capacity",
    "Client",
    "ClientError",
    "CloudError",
    "CloudUnavailable",
    "Conflict",
    "Delivery",
    "Event",
    "Eviction",
    "FlavorCapacity",
    "Forbidden",
    "HistoryGone",
    "IdempotencyMismatch",
    "InvalidRequest",
    "NewSecret",
    "NoCapacity",
    "NotFound",
    "Outcome",
    "OutcomeUnknown",
    "Plan",
    "QuotaExceeded",
    "Replay",
    "ServiceError",
    "StillPending",
    "Timeout",
    "TokenSource",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "Vm",
    "VmFields",
    "VmList",
    "Webhook",
    "WebhookTest",
]
