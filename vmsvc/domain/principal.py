"""Who asks: a principal of ours, and what the cloud's Keystone says of a token."""

from dataclasses import dataclass, field

READER, MEMBER = "reader", "member"
ROLES = (READER, MEMBER)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. A reader may look, a member may create and delete too.

    `credential` is the SHA-256 of what was shown, in hex: enough to ask later whether it is still good, and no secret.
    Nobody showed anything where nobody has to log in: then it is empty.
    """

    name: str
    may_write: bool
    credential: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a token of the cloud stands for. `project_id` is None for one without a project; `seconds_left` is how long
    it is still valid, by the cloud's own clock."""

    user: str
    project_id: str | None
    roles: frozenset[str]
    seconds_left: float
