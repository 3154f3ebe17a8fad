"""The errors that a call may end with: one tree, whose root is `ClientError`.

Each has `status` (None: no answer came), `code` (the stable word), `message` and `request_id` (which the service's log
has too). No error holds a token. All members but the message have defaults, so that errors can be pickled.
"""

from collections.abc import Mapping


class ClientError(Exception):
    """The root of all errors of `vmsvc.client`. `idempotency_key` is that of a create: with the same key and the same
    fields a new `create` makes no second VM."""

    code = "client_error"
    idempotency_key: str | None = None

    def __init__(self, message: str, *, status: int | None = None, code: str = "", request_id: str | None = None):
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code or self.code
        self.request_id = request_id

    def __str__(self) -> str:
        where = f", request {self.request_id}" if self.request_id else ""
        return f"{self.message} ({self.code}{where})"


class Unreachable(ClientError):
    """No answer came: the service is away, the address is wrong, or its certificate is not trusted."""

    code = "unreachable"


class OutcomeUnknown(Unreachable):
    """The request was sent and no answer came, so it may have taken effect. Look before you repeat it."""

    code = "outcome_unknown"


class BadAnswer(ClientError):
    """The answer did not come from vmsvc, but from a proxy or another program."""

    code = "bad_answer"


class StillPending(ClientError):
    """The time of a wait is over, and the work goes on. `vm_id` names the VM. After a create, a new `create` with the
    error's `idempotency_key` and the same fields waits for the same VM."""

    code = "still_pending"

    def __init__(self, message: str, *, vm_id: str = ""):
        super().__init__(message)
        self.vm_id = vm_id


class ServiceError(ClientError):
    """The service refused. `field` names the part of the request to correct, where there is one; `retry_after` is in
    seconds."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str | None = None,
        field: str | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message, status=status, code=code, request_id=request_id)
        self.field = field
        self.retry_after = retry_after


class InvalidRequest(ServiceError):
    """The request itself is wrong."""

    code = "invalid_request"


class Unauthenticated(ServiceError):
    """There was no token, or one that is not valid."""

    code = "unauthenticated"


class Forbidden(ServiceError):
    """The token's owner may not do this."""

    code = "forbidden"


class QuotaExceeded(ServiceError):
    """The request does not fit the project's quota, and evictions cannot free enough of it."""

    code = "quota_exceeded"


class NotFound(ServiceError):
    """There is no such VM, eviction or webhook."""

    code = "not_found"


class NoCapacity(ServiceError):
    """No host has the capacity, and evictions would not help; the message says why."""

    code = "no_capacity"


class Conflict(ServiceError):
    """The VM, or another thing that the request names, is in a state that does not allow the action."""

    code = "conflict"


class HistoryGone(ServiceError):
    """The service no longer keeps events as old as `since`: read the list, and continue from its `seq`."""

    code = "history_gone"


class IdempotencyMismatch(ServiceError):
    """The `Idempotency-Key` was used before with another request."""

    code = "idempotency_mismatch"


class TooManyRequests(ServiceError):
    """A limit on requests was reached, and waiting for `Retry-After` did not help within the time."""

    code = "too_many_requests"


class CloudError(ServiceError):
    """The cloud gave an answer that the service does not understand, or failed to build the VM."""

    code = "cloud_error"


class CloudUnavailable(ServiceError):
    """The cloud does not answer."""

    code = "cloud_unavailable"


class Unavailable(ServiceError):
    """The service cannot answer now."""

    code = "unavailable"


class Timeout(ServiceError):
    """The action did not end within the service's own time."""

    code = "timeout"


#: The class of each `error` that the service may answer; an unknown one is a plain ServiceError.
BY_CODE: Mapping[str, type[ServiceError]] = {kind.code: kind for kind in ServiceError.__subclasses__()}
