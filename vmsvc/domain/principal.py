"""Who makes a request: a principal of vmsvc, and what Keystone says of a token."""

from dataclasses import dataclass, field

READER, MEMBER = "reader", "member"
ROLES = (READER, MEMBER)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request. A reader may read; a member may create and delete too.

    `name` is for display: two users of Keystone can have the same. `identity` identifies the user where the name does
    not (else it is empty). Ownership, limits and Idempotency-Keys go by `id`.
    `credential` is the SHA-256 of the token, in hex: enough to ask later whether the token is still valid, and no
    secret. It is empty where authentication is off.
    `acts_for_others`: may release other owners' VMs early.
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

    @property
    def is_admin(self) -> bool:
        """True when Keystone says that the principal has an admin's role. A token file knows no such role."""
        return bool(self.identity) and self.acts_for_others

    def owns(self, owner_id: str | None, owner: str) -> bool:
        """True when this principal owns a row with these two columns. A row that an older release wrote has no
        `owner_id`: there the name `owner` decides."""
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
