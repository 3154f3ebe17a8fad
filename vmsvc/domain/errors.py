"""The errors of vmsvc, by meaning. `web.http.handler` maps each to an HTTP status.

The first paragraph of a docstring is for clients too: docs/reference/errors.md shows it.

The message is for the person who made the request: it says what is wrong and what to do. It never carries a
credential or a stack trace.
"""


class VmsvcError(Exception):
    """Base of all errors that vmsvc raises on purpose. `slug` is the stable word that clients see as `error`."""

    slug = "internal"

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message


class InvalidRequest(VmsvcError):
    """The request itself is wrong; `field` names the part to correct."""

    slug = "invalid_request"

    def __init__(self, message: str, field: str | None = None):
        super().__init__(message)
        self.field = field


class Unauthenticated(VmsvcError):
    """The request has no token, or one that is not valid."""

    slug = "unauthenticated"


class Forbidden(VmsvcError):
    """The principal may not do this, or the cloud's policy does not allow it to the service's own credentials, or
    vmsvc is not served under the name in `Host`."""

    slug = "forbidden"


class QuotaExceeded(VmsvcError):
    """The request does not fit the project's quota, and evictions cannot free enough of it."""

    slug = "quota_exceeded"


class NotFound(VmsvcError):
    """There is no such VM, eviction, webhook or address."""

    slug = "not_found"


class NoCapacity(VmsvcError):
    """No host has the capacity that the request needs, and evictions would not help or are not allowed; the message
    says why."""

    slug = "no_capacity"


class Conflict(VmsvcError):
    """The VM, or whatever the request names, is in a state that does not allow the action."""

    slug = "conflict"


class Locked(Conflict):
    """The server is locked in the cloud; only the user who locked it, or an admin, can change or delete it."""


class HistoryGone(VmsvcError):
    """vmsvc has removed events as old as `since`: read the list and continue from its `seq`.

    `oldest` is the first seq that is kept."""

    slug = "history_gone"

    def __init__(self, oldest: int):
        super().__init__(f"events before {oldest} are no longer kept: read the list of VMs and go on from its seq")
        self.oldest = oldest


class IdempotencyMismatch(VmsvcError):
    """The `Idempotency-Key` was used before with another body."""

    slug = "idempotency_mismatch"


class TooManyRequests(VmsvcError):
    """A limit on requests was reached, or as many requests of this principal wait in the queue as may; try again
    later, after `Retry-After` seconds where the answer has them."""

    slug = "too_many_requests"

    def __init__(self, message: str, retry_after: float = 1.0):
        super().__init__(message)
        self.retry_after = retry_after


class CloudError(VmsvcError):
    """The cloud gave an answer that vmsvc does not understand, or failed to build the VM."""

    slug = "cloud_error"


class Garbled(CloudError):
    """An answer that the cloud did not write, or that something on the way has spoiled: a proxy's page, half a body. It
    says nothing about what was asked, whatever its status; the next one may be whole."""


class CloudUnavailable(VmsvcError):
    """The cloud does not answer now; nothing was done. Try again after `Retry-After` seconds."""

    slug = "cloud_unavailable"

    def __init__(self, message: str, retry_after: float = 5.0):
        super().__init__(message)
        self.retry_after = retry_after


class OutcomeUnknown(CloudUnavailable):
    """A write was sent to the cloud and no answer came, so it may have taken effect. Look before repeating it."""


class Unavailable(VmsvcError):
    """vmsvc itself cannot answer now: its database does not answer, vmsvc is stopping, or it has too many connections;
    the message says which. Nothing was done. Try again after `Retry-After` seconds."""

    slug = "unavailable"

    def __init__(self, message: str, retry_after: float = 5.0):
        super().__init__(message)
        self.retry_after = retry_after


class Timeout(VmsvcError):
    """The action did not end within the time allowed."""

    slug = "timeout"
