"""Who asks: a principal of ours, and what the cloud's Keystone says of a token."""

from dataclasses import dataclass, field

READER, MEMBER = "reader", "member"
ROLES = (READER, MEMBER)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. A reader may look, a member may create and delete too.

    `name` is for showing: of Keystone's users two may be shown alike. `identity` says who it is, where that is not the
    name; `id` is what ownership, limits and Idempotency-Keys go by.
    `credential` is the SHA-256 of what was shown, in hex: enough to ask later whether it is still good, and no secret.
    Nobody showed anything where nobody has to log in: then it is empty.
    `acts_for_others`: may say for other owners' VMs that they may go before their time.
    """

    name: str
    may_write: bool
    credential: str = field(default="", repr=False)
    identity: str = ""
    acts_for_others: bool = True

    @property
    def id(self) -> str:
        """Who it is, the same for ever."""
        return self.identity or self.name

    def owns(self, owner_id: str | None, owner: str) -> bool:
        """True when this is the owner of a row: `owner_id`, or in a row from before ids were kept the name `owner`."""
        return self.id == owner_id if owner_id is not None else self.name == owner


#: Who asks where nobody has to log in.
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
