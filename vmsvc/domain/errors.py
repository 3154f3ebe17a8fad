"""What can go wrong, by meaning. The HTTP status of each is the business of `web.base`.

The message is for the person who made the request: it says what is wrong and what to do. It never carries a
credential or a stack trace.
"""


class VmsvcError(Exception):
    """Base of all that vmsvc raises on purpose. `slug` is the stable word that clients see as `error`."""

    slug = "internal"

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message


class InvalidRequest(VmsvcError):
    """The request itself is wrong; `field` names the part to mend."""

    slug = "invalid_request"

    def __init__(self, message: str, field: str | None = None):
        super().__init__(message)
        self.field = field


class Unauthenticated(VmsvcError):
    """Nobody said who is asking, or it could not be verified."""

    slug = "unauthenticated"


class Forbidden(VmsvcError):
    """Who asks is known and may not do this (also: the cloud's policy refuses it to our credentials)."""

    slug = "forbidden"


class QuotaExceeded(VmsvcError):
    """The project's quota has no room, and no eviction would make it."""

    slug = "quota_exceeded"


class NotFound(VmsvcError):
    """There is no such thing, here or in the cloud."""

    slug = "not_found"


class NoCapacity(VmsvcError):
    """No host has room, and no eviction would make it."""

    slug = "no_capacity"


class Conflict(VmsvcError):
    """The thing is in a state in which this cannot be done to it."""

    slug = "conflict"


class Locked(Conflict):
    """The server is locked in the cloud; only who locked it (or an admin) can touch it."""


class HistoryGone(VmsvcError):
    """The events asked for are older than the history that is kept; `oldest` is the first seq that still is."""

    slug = "history_gone"

    def __init__(self, oldest: int):
        super().__init__(f"events before {oldest} are no longer kept: read the list of VMs and go on from its seq")
        self.oldest = oldest


class IdempotencyMismatch(VmsvcError):
    """The Idempotency-Key was used before with another body."""

    slug = "idempotency_mismatch"


class TooManyRequests(VmsvcError):
    """A limit on requests was reached; try again after `retry_after` seconds."""

    slug = "too_many_requests"

    def __init__(self, message: str, retry_after: float = 1.0):
        super().__init__(message)
        self.retry_after = retry_after


class CloudError(VmsvcError):
    """The cloud answered with something that it should not have."""

    slug = "cloud_error"


class Garbled(CloudError):
    """An answer that the cloud did not write, or that something on the way has spoiled: a proxy's page, half a body. It
    says nothing about what was asked, whatever its status; the next one may be whole."""


class CloudUnavailable(VmsvcError):
    """The cloud does not answer now; nothing was done. Try again after `retry_after` seconds."""

    slug = "cloud_unavailable"

    def __init__(self, message: str, retry_after: float = 5.0):
        super().__init__(message)
        self.retry_after = retry_after


class OutcomeUnknown(CloudUnavailable):
    """A write was sent and no answer came: it may or may not have taken effect. Look before repeating it."""


class Unavailable(VmsvcError):
    """vmsvc itself cannot answer now: its database does not answer, or vmsvc is stopping; the message says which.
    Nothing was done. Try again after `retry_after` seconds."""

    slug = "unavailable"

    def __init__(self, message: str, retry_after: float = 5.0):
        super().__init__(message)
        self.retry_after = retry_after


class Timeout(VmsvcError):
    """It did not happen within the time allowed."""

    slug = "timeout"
