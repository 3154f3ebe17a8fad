"""How the model says no. Each service's handlers give it that service's shape."""


class Refused(Exception):
    """A request that the cloud refuses, with the HTTP status and the sentence of the real service."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


def bad_request(message: str) -> Refused:
    """400."""
    return Refused(400, message)


def forbidden(message: str) -> Refused:
    """403."""
    return Refused(403, message)


def not_allowed(rule: str) -> Refused:
    """403 by policy, in Nova's words (measured, section 3)."""
    return Refused(403, f"Policy doesn't allow {rule} to be performed.")


def not_found(message: str) -> Refused:
    """404."""
    return Refused(404, message)


def conflict(message: str) -> Refused:
    """409."""
    return Refused(409, message)
