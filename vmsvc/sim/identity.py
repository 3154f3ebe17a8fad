"""Keystone's model: users, projects, roles and tokens."""

import secrets
import uuid
from dataclasses import dataclass, field

from vmsvc.sim.clock import Clock
from vmsvc.sim.settings import Settings
from vmsvc.sim.store import Store

#: Of every user but the admin, who may do all in the cloud: his is made when the cloud is.
PASSWORD = "sim"
#: An admin has every role that it implies (measured on the real bed's tokens).
IMPLIED = {"admin": ("member", "admin", "manager", "reader"), "member": ("member", "reader"), "reader": ("reader",)}


@dataclass
class Project:
    """A project of the Default domain."""

    id: str
    name: str
    description: str = ""


@dataclass
class User:
    """A user of the Default domain; `roles` by project id."""

    id: str
    name: str
    password: str = PASSWORD
    roles: dict[str, str] = field(default_factory=dict)


@dataclass
class Token:
    """What a token stands for. `project_id` is None when it is unscoped."""

    id: str
    user_id: str
    project_id: str | None
    roles: list[str]
    issued_at: float
    expires_at: float
    audit_id: str

    @property
    def is_admin(self) -> bool:
        """True for who may do everything in every project."""
        return "admin" in self.roles


class Identity:
    """Who there is and which tokens are valid."""

    def __init__(self, store: Store, clock: Clock, settings: Settings):
        self._store = store
        self._clock = clock
        self._settings = settings
        self.projects = {key: Project(**body) for key, body in store.load("project")}
        self.users = {key: User(**body) for key, body in store.load("user")}
        self.tokens = {key: Token(**body) for key, body in store.load("token")}
        self.role_ids = {key: body["id"] for key, body in store.load("role")}

    def seed(self) -> None:
        """The two users and projects of the real bed."""
        for name in ("member", "reader", "manager", "admin"):
            self.role_ids[name] = uuid.uuid4().hex
            self._store.put("role", name, {"id": self.role_ids[name]})
        admin = self.add_project("admin", "Bootstrap project for initializing the cloud.")
        demo = self.add_project("demo")
        self.add_user("admin", {admin.id: "admin"}, secrets.token_urlsafe(24))
        self.add_user("demo", {demo.id: "member"})

    def add_project(self, name: str, description: str = "") -> Project:
        """A new project."""
        project = Project(uuid.uuid4().hex, name, description)
        self.projects[project.id] = project
        self._store.put("project", project.id, project)
        return project

    def add_user(self, name: str, roles: dict[str, str], password: str = PASSWORD) -> User:
        """A new user with a role in each of some projects."""
        user = User(uuid.uuid4().hex, name, password, roles)
        self.users[user.id] = user
        self._store.put("user", user.id, user)
        return user

    def grant(self, user: User, project: Project, role: str) -> None:
        """Give a user a role in a project."""
        user.roles[project.id] = role
        self._store.put("user", user.id, user)

    def find(self, kind: dict, wanted: dict):
        """The user or project that `{"id": …}` or `{"name": …}` means, or None."""
        if "id" in wanted:
            return kind.get(wanted["id"])
        return next((each for each in kind.values() if each.name == wanted.get("name")), None)

    def issue(self, user: User, project: Project | None) -> Token:
        """A new token."""
        now = self._clock.now()
        roles = list(IMPLIED[user.roles[project.id]]) if project else []
        token = Token(f"gAAAAAB{secrets.token_urlsafe(60)}", user.id, project.id if project else None, roles, now,
                      now + self._settings.token_seconds, secrets.token_urlsafe(16))
        self.tokens[token.id] = token
        self._store.put("token", token.id, token)
        if len(self.tokens) > 5000:
            self._drop_expired()
        return token

    def token(self, token_id: str | None) -> Token | None:
        """The token if it is valid now."""
        token = self.tokens.get(token_id or "")
        if token is None or token.expires_at <= self._clock.now():
            return None
        return token

    def revoke(self, token_id: str) -> None:
        """End one token."""
        if self.tokens.pop(token_id, None) is not None:
            self._store.drop("token", token_id)

    def revoke_all(self) -> int:
        """End every token, as a rotation of keys without overlap does; how many there were."""
        count = len(self.tokens)
        for token_id in list(self.tokens):
            self.revoke(token_id)
        return count

    def _drop_expired(self) -> None:
        for token in [token for token in self.tokens.values() if token.expires_at <= self._clock.now()]:
            self.revoke(token.id)
