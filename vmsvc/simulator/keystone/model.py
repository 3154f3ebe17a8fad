"""Keystone without HTTP: users, projects, roles and tokens."""

import secrets
import uuid
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vmsvc.simulator.clock import Clock, Settings
from vmsvc.simulator.keystone.catalog import Catalog
from vmsvc.simulator.store import Store, Table

#: The password of every user but the admin, whose password is made together with the cloud.
PASSWORD = "sim"
#: The roles that a role implies (measured).
IMPLIED = {"admin": ("member", "admin", "manager", "reader"), "member": ("member", "reader"), "reader": ("reader",)}
_MANY_TOKENS = 5000  # above which a new token removes the expired ones


@dataclass
class Project:
    """A project of the Default domain."""

    id: str
    name: str
    description: str = ""


@dataclass
class User:
    """A user of the Default domain. `roles` has one role for each project id."""

    id: str
    name: str
    password: str = PASSWORD
    roles: dict[str, str] = field(default_factory=dict)


@dataclass
class Token:
    """A token. `project_id` is empty when the token is unscoped; times are seconds of the cloud's clock."""

    id: str
    user_id: str
    project_id: str
    roles: list[str]
    issued_at: float
    expires_at: float
    audit_id: str

    @property
    def is_admin(self) -> bool:
        """True when the user may do everything, in every project."""
        return "admin" in self.roles


Member = TypeVar("Member", User, Project)


class Identity:
    """The users, projects and tokens of the cloud."""

    def __init__(self, store: Store, clock: Clock, settings: Settings):
        self._store = store
        self._clock = clock
        self._settings = settings
        self.projects = Table(store, "project", Project)
        self.users = Table(store, "user", User)
        self.tokens = Table(store, "token", Token)
        self.catalog = Catalog(store)
        self.role_ids = {key: body["id"] for key, body in store.load("role")}

    def add_first_users(self) -> None:
        """Add the roles, and the users admin and demo, each with a project of the same name."""
        for name in ("member", "reader", "manager", "admin"):
            self.role_ids[name] = uuid.uuid4().hex
            self._store.put("role", name, {"id": self.role_ids[name]})
        admin = self.add_project("admin", "Bootstrap project for initializing the cloud.")
        demo = self.add_project("demo")
        self.add_user("admin", {admin.id: "admin"}, secrets.token_urlsafe(24))
        self.add_user("demo", {demo.id: "member"})

    def add_project(self, name: str, description: str = "") -> Project:
        project = Project(uuid.uuid4().hex, name, description)
        self.projects.save(project.id, project)
        return project

    def add_user(self, name: str, roles: dict[str, str], password: str = PASSWORD) -> User:
        user = User(uuid.uuid4().hex, name, password, roles)
        self.users.save(user.id, user)
        return user

    def grant(self, user: User, project: Project, role: str) -> None:
        """Give a user a role in a project, instead of the one that the user has there."""
        user.roles[project.id] = role
        self.users.save(user.id, user)

    def find(self, table: Table[Member], reference: dict[str, Any]) -> Member | None:
        """The user or the project that `{"id": …}` or `{"name": …}` refers to, or None."""
        if "id" in reference:
            return table.get(reference["id"])
        return next((each for each in table.values() if each.name == reference.get("name")), None)

    def project_named(self, name: str) -> Project | None:
        return self.find(self.projects, {"name": name})

    def project_id(self, name: str) -> str:
        """The id of a project that there is."""
        return next(each.id for each in self.projects.values() if each.name == name)

    def user_named(self, name: str) -> User | None:
        return self.find(self.users, {"name": name})

    def issue(self, user: User, project: Project | None, ends_at: float | None = None) -> Token:
        """Make a token, unscoped without a project, that ends at a time or after `token_seconds`."""
        now = self._clock.now()
        roles = list(IMPLIED[user.roles[project.id]]) if project else []
        token = Token(
            f"gAAAAAB{secrets.token_urlsafe(60)}",
            user.id,
            project.id if project else "",
            roles,
            now,
            ends_at or now + self._settings.token_seconds,
            secrets.token_urlsafe(16),
        )
        self.tokens.save(token.id, token)
        if len(self.tokens) > _MANY_TOKENS:
            self._remove_expired()
        return token

    def token(self, token_id: str | None) -> Token | None:
        """The token with this id if it is valid now, else None."""
        token = self.tokens.get(token_id or "")
        if token is None or token.expires_at <= self._clock.now():
            return None
        return token

    def revoke(self, token_id: str) -> None:
        """End a token. A token that is not known is no error."""
        if token_id in self.tokens:
            self.tokens.remove(token_id)

    def revoke_all(self) -> int:
        """End every token, as a rotation of Keystone's keys without overlap does. Returns how many there were."""
        count = len(self.tokens)
        for token_id in list(self.tokens):
            self.revoke(token_id)
        return count

    def _remove_expired(self) -> None:
        for token in [token for token in self.tokens.values() if token.expires_at <= self._clock.now()]:
            self.revoke(token.id)
