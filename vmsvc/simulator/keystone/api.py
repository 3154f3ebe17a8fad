"""Keystone v3 over HTTP, as far as clients need it (measured)."""

from datetime import UTC, datetime
from typing import Any

from tornado.web import Finish

from vmsvc.simulator.errors import ApiError, bad_request, forbidden, not_found
from vmsvc.simulator.http import ServiceHandler
from vmsvc.simulator.keystone.model import Project, Token, User

DOMAIN = {"id": "default", "name": "Default"}
TITLES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}
NO_AUTH = (
    "Expecting to find auth in request body. The server could not comply with the request since it is either "
    "malformed or otherwise incorrect. The client is assumed to be in error."
)


class IdentityHandler(ServiceHandler):
    """Base of Keystone's handlers: the form of errors and of lists."""

    service = "identity"

    def refuse(self, status: int, message: str) -> None:
        self.reply(status, {"error": {"code": status, "message": message, "title": TITLES.get(status, "Error")}})

    def require_admin(self, rule: str) -> None:
        """Raise ApiError 403 when the user is no admin."""
        if not self.token.is_admin:
            raise forbidden(f"You are not authorized to perform the requested action: {rule}.")

    def listing(self, key: str, items: list[dict[str, Any]]) -> None:
        self.reply(200, {key: items, "links": {"next": None, "self": self.base + self.request.uri, "previous": None}})


class Versions(IdentityHandler):
    """GET / and the versions: the discovery documents."""

    requires_token = False

    def get(self, version: str | None = None) -> None:
        """/ answers 300 with all versions, /v3 answers 200 with one."""
        document = {
            "id": "v3.14",
            "status": "stable",
            "updated": "2020-04-07T00:00:00Z",
            "links": [{"rel": "self", "href": f"{self.base}/identity/v3/"}],
            "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
        }
        if version:
            self.reply(200, {"version": document})
        else:
            self.set_header("Location", f"{self.base}/identity/v3/")
            self.reply(300, {"versions": {"values": [document]}})


class Tokens(IdentityHandler):
    """/auth/tokens: POST makes a token, GET and HEAD validate one, DELETE revokes one."""

    requires_token = False

    def post(self) -> None:
        """Answer with a token for a project, or with an unscoped one."""
        auth = self._auth()
        user = self._user(auth["identity"])
        scope = auth.get("scope")
        project = None
        if isinstance(scope, dict) and "project" in scope:
            project = self.cloud.identity.find(self.cloud.identity.projects, scope["project"])
            if project is None or project.id not in user.roles:
                self.unauthorized()
        token = self.cloud.identity.issue(user, project, self._rescoped(auth["identity"]))
        self.set_header("X-Subject-Token", token.id)
        self.set_header("Vary", "X-Auth-Token")
        self.reply(201, {"token": self._view(token)})

    def _auth(self) -> dict[str, Any]:
        try:
            auth: dict[str, Any] = self.body()["auth"]
            if not isinstance(auth["identity"]["methods"], list):
                raise KeyError("methods")
        except (KeyError, TypeError, ApiError):
            raise bad_request(NO_AUTH) from None
        return auth

    def _user(self, identity: dict[str, Any]) -> User:
        users = self.cloud.identity
        if "token" in identity["methods"]:
            token = users.token(identity.get("token", {}).get("id"))
            user = users.users.get(token.user_id) if token else None
        else:
            given = identity.get("password", {}).get("user", {})
            user = users.find(users.users, given)
            if user is not None and given.get("password") != user.password:
                user = None
        if user is None:
            self.unauthorized()
        return user

    def _rescoped(self, identity: dict[str, Any]) -> float | None:
        """When the token ends that was shown in the place of a password: the new one ends then too (measured)."""
        given = identity.get("token", {}).get("id") if "token" in identity["methods"] else None
        token = self.cloud.identity.token(given)
        return token.expires_at if token else None

    def _subject(self) -> Token:
        _ = self.token  # a call without one is refused first
        subject = self.cloud.identity.token(self.request.headers.get("X-Subject-Token"))
        if subject is None:
            raise not_found("Could not recognize Fernet token")
        return subject

    def require_right_to_see(self, subject: Token) -> None:
        """Raise ApiError 403 unless the token belongs to this user or the user is an admin (Keystone's rule
        token_subject)."""
        if subject.user_id != self.token.user_id:
            self.require_admin("identity:validate_token")

    def get(self) -> None:
        subject = self._subject()
        self.require_right_to_see(subject)
        self.set_header("X-Subject-Token", subject.id)
        self.reply(200, {"token": self._view(subject)})

    def head(self) -> None:
        self.get()

    def delete(self) -> None:
        self.cloud.identity.revoke(self._subject().id)
        self.reply(204)

    def _view(self, token: Token) -> dict[str, Any]:
        identity = self.cloud.identity
        user = identity.users[token.user_id]
        view: dict[str, Any] = {
            "methods": ["password"],
            "user": {"domain": DOMAIN, "id": user.id, "name": user.name, "password_expires_at": None},
            "audit_ids": [token.audit_id],
            "expires_at": _micros(token.expires_at),
            "issued_at": _micros(token.issued_at),
        }
        if token.project_id:
            project = identity.projects[token.project_id]
            view["project"] = {"domain": DOMAIN, "id": project.id, "name": project.name}
            view["is_domain"] = False
            view["roles"] = [{"id": identity.role_ids[name], "name": name} for name in token.roles]
            if "nocatalog" not in self.query:
                view["catalog"] = identity.catalog.view(self.base)
        return view


def _micros(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


class Missing(IdentityHandler):
    """Any other path: 404."""

    requires_token = False

    def prepare_missing(self) -> None:
        self.refuse(404, "The resource could not be found.")
        raise Finish()

    get = post = put = delete = head = patch = prepare_missing


class UsersHandler(IdentityHandler):
    """Base of the handlers of projects and users."""

    def project_view(self, project: Project) -> dict[str, Any]:
        return {
            "id": project.id,
            "name": project.name,
            "domain_id": "default",
            "description": project.description,
            "enabled": True,
            "parent_id": "default",
            "is_domain": False,
            "tags": [],
            "options": {},
            "links": {"self": f"{self.base}/identity/v3/projects/{project.id}"},
        }

    def user_view(self, user: User) -> dict[str, Any]:
        return {
            "id": user.id,
            "name": user.name,
            "domain_id": "default",
            "enabled": True,
            "password_expires_at": None,
            "options": {},
            "links": {"self": f"{self.base}/identity/v3/users/{user.id}"},
        }


class OwnProjects(UsersHandler):
    """GET /auth/projects and /users/{id}/projects: the projects in which the user has a role."""

    requires_token = False

    def get(self, user_id: str | None = None) -> None:
        caller = self.token
        user = self.cloud.identity.users[user_id or caller.user_id]
        self.listing("projects", [self.project_view(self.cloud.identity.projects[each]) for each in user.roles])


class Projects(UsersHandler):
    """GET /projects and /projects/{id}."""

    def get(self, project_id: str | None = None) -> None:
        """An admin lists all, with `name` as a filter; a member reads the own project by its id."""
        projects = self.cloud.identity.projects
        if project_id is None:
            self.require_admin("identity:list_projects")
            self.listing(
                "projects",
                [self.project_view(each) for each in projects.values() if self.query.get("name") in (None, each.name)],
            )
            return
        if project_id != self.token.project_id:
            self.require_admin("identity:get_project")
        if project_id not in projects:
            raise not_found(f"Could not find project: {project_id}.")
        self.reply(200, {"project": self.project_view(projects[project_id])})


class Users(UsersHandler):
    """GET /users and /users/{id}."""

    def get(self, user_id: str | None = None) -> None:
        """An admin lists all, with `name` as a filter; a member reads the own user by its id."""
        users = self.cloud.identity.users
        if user_id is None:
            self.require_admin("identity:list_users")
            self.listing(
                "users",
                [self.user_view(each) for each in users.values() if self.query.get("name") in (None, each.name)],
            )
            return
        if user_id != self.token.user_id:
            self.require_admin("identity:get_user")
        if user_id not in users:
            raise not_found(f"Could not find user: {user_id}.")
        self.reply(200, {"user": self.user_view(users[user_id])})


class Domains(UsersHandler):
    """GET /domains and /domains/{id}: the domain Default."""

    def get(self, domain_id: str | None = None) -> None:
        domain = {
            **DOMAIN,
            "description": "The default domain",
            "enabled": True,
            "tags": [],
            "options": {},
            "links": {"self": f"{self.base}/identity/v3/domains/default"},
        }
        if domain_id is None:
            self.require_admin("identity:list_domains")
            self.listing("domains", [domain] if self.query.get("name") in (None, "Default") else [])
        elif domain_id != "default":
            self.require_admin("identity:get_domain")
            raise not_found(f"Could not find domain: {domain_id}.")
        else:
            self.reply(200, {"domain": domain})


class Roles(UsersHandler):
    """GET /roles and /roles/{id}, for admins."""

    def get(self, role_id: str | None = None) -> None:
        self.require_admin("identity:" + ("get_role" if role_id else "list_roles"))
        names = {key: name for name, key in self.cloud.identity.role_ids.items()}
        if role_id is None:
            found = [self._view(key, name) for key, name in names.items() if self.query.get("name") in (None, name)]
            self.listing("roles", found)
        elif role_id not in names:
            raise not_found(f"Could not find role: {role_id}.")
        else:
            self.reply(200, {"role": self._view(role_id, names[role_id])})

    def _view(self, role_id: str, name: str) -> dict[str, Any]:
        return {
            "id": role_id,
            "name": name,
            "domain_id": None,
            "description": None,
            "options": {"immutable": True},
            "links": {"self": f"{self.base}/identity/v3/roles/{role_id}"},
        }


class RoleAssignments(UsersHandler):
    """GET /role_assignments, for admins: who has which role in which project."""

    def get(self) -> None:
        self.require_admin("identity:list_role_assignments")
        identity, query = self.cloud.identity, self.query
        self.listing(
            "role_assignments",
            [
                self._view(user, project_id, identity.role_ids[name])
                for user in identity.users.values()
                for project_id, name in user.roles.items()
                if query.get("user.id") in (None, user.id)
                and query.get("scope.project.id") in (None, project_id)
                and query.get("role.id") in (None, identity.role_ids[name])
            ],
        )

    def _view(self, user: User, project_id: str, role_id: str) -> dict[str, Any]:
        path = f"{self.base}/identity/v3/projects/{project_id}/users/{user.id}/roles/{role_id}"
        return {
            "links": {"assignment": path},
            "scope": {"project": {"id": project_id}},
            "user": {"id": user.id},
            "role": {"id": role_id},
        }


routes = [
    (r"/identity/?", Versions),
    (r"/identity/(v3)/?", Versions),
    (r"/identity/v3/auth/tokens", Tokens),
    (r"/identity/v3/auth/projects", OwnProjects),
    (r"/identity/v3/users/([^/]+)/projects", OwnProjects),
    (r"/identity/v3/projects", Projects),
    (r"/identity/v3/projects/([^/]+)", Projects),
    (r"/identity/v3/users", Users),
    (r"/identity/v3/users/([^/]+)", Users),
    (r"/identity/v3/roles", Roles),
    (r"/identity/v3/roles/([^/]+)", Roles),
    (r"/identity/v3/role_assignments", RoleAssignments),
    (r"/identity/v3/domains", Domains),
    (r"/identity/v3/domains/([^/]+)", Domains),
]
last_routes = [(r"/identity/.*", Missing)]
