"""Who asks: a principal of ours, and what the cloud's Keystone says of a token."""

from dataclasses import dataclass, field

READER, MEMBER = "reader", "member"
ROLES = (READER, MEMBER)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. A reader may look, a member may create and delete too.

    `name` is for display: two of Keystone's users can have the same. `identity` identifies the user where the name does
    not (else it is empty). Ownership, limits and Idempotency-Keys go by `id`.
    `credential` is the SHA-256 of what was shown, in hex: enough to ask later whether it is still good, and no secret.
    Nobody showed anything where nobody has to log in: then it is empty.
    `acts_for_others`: may end the notices of other owners' VMs early.
    """

    name: str
    may_write: bool
    credential: str = field(default="", repr=False)
    identity: str = ""
    acts_for_others: bool = True

    @property
    def id(self) -> str:
        """What identifies the principal; it never changes."""
        return self.identity or self.name

    def owns(self, owner_id: str | None, owner: str) -> bool:
        """True when this principal owns a row: its `owner_id` is ours, or, in a row without one (an older release wrote
        it), its name `owner` is."""
        return self.id == owner_id if owner_id is not None else self.name == owner


#: The principal of every request where authentication is off.
ANYBODY = Principal("anonymous", may_write=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a token of the cloud stands for. `user` is a name for showing, `user_id` is Keystone's id of the user.
    `project_id` is None for a token without a project; `seconds_left` is how long it is still valid, by the cloud's own
    clock."""

    user: str
    project_id: str | None
    roles: frozenset[str]
    seconds_left: float
    user_id: str = ""
