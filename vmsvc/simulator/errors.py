"""How the simulated services refuse a request. The HTTP handlers of a service give the refusal that service's form."""


class ApiError(Exception):
    """A refusal, with the HTTP status and the message of the real service."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


def bad_request(message: str) -> ApiError:
    return ApiError(400, message)


def forbidden(message: str) -> ApiError:
    return ApiError(403, message)


def not_allowed(rule: str) -> ApiError:
    """Nova's 403 for a request that a rule of its policy forbids (measured)."""
    return ApiError(403, f"Policy doesn't allow {rule} to be performed.")


def not_found(message: str) -> ApiError:
    return ApiError(404, message)


def conflict(message: str) -> ApiError:
    return ApiError(409, message)
