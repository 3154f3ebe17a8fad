"""Keystone v3 over HTTP. Shapes as measured on the real bed."""

from datetime import UTC, datetime

from tornado.web import Finish

from vmsvc.sim.handler import ServiceHandler
from vmsvc.sim.identity import Token, User
from vmsvc.sim.refusal import Refused, bad_request, forbidden, not_found

DOMAIN = {"id": "default", "name": "Default"}
SERVICES = (("compute", "nova", "/compute/v2.1"), ("placement", "placement", "/placement"),
            ("identity", "keystone", "/identity/v3"), ("image", "glance", "/image"), ("network", "neutron", "/network"))
TITLES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}
NO_AUTH = ("Expecting to find auth in request body. The server could not comply with the request since it is either "
           "malformed or otherwise incorrect. The client is assumed to be in error.")


class IdentityHandler(ServiceHandler):
    """Shape of errors, and the links."""

    service = "identity"

    def refuse(self, status: int, message: str) -> None:
        self.reply(status, {"error": {"code": status, "message": message, "title": TITLES.get(status, "Error")}})

    def need_admin(self, rule: str) -> None:
        """403 for who is no admin."""
        if not self.token.is_admin:
            raise forbidden(f"You are not authorized to perform the requested action: {rule}.")

    def listing(self, key: str, items: list[dict]) -> None:
        """A list with its links."""
        self.reply(200, {key: items, "links": {"next": None, "self": self.base + self.request.uri, "previous": None}})


class Versions(IdentityHandler):
    """The discovery documents."""

    needs_token = False

    def get(self, version: str | None = None) -> None:
        """/ is 300 with all versions, /v3 is 200 with one."""
        document = {"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
                    "links": [{"rel": "self", "href": f"{self.base}/identity/v3/"}],
                    "media-types": [{"base": "application/json",
                                     "type": "application/vnd.openstack.identity-v3+json"}]}
        if version:
            self.reply(200, {"version": document})
        else:
            self.set_header("Location", f"{self.base}/identity/v3/")
            self.reply(300, {"versions": {"values": [document]}})


class Tokens(IdentityHandler):
    """POST makes, GET and HEAD check, DELETE revokes."""

    needs_token = False

    def post(self) -> None:
        """A token for a user and a project, or an unscoped one."""
        auth = self._auth()
        user = self._user(auth["identity"])
        scope = auth.get("scope")
        project = None
        if isinstance(scope, dict) and "project" in scope:
            project = self.cloud.identity.find(self.cloud.identity.projects, scope["project"])
            if project is None or project.id not in user.roles:
                self.unauthorized()
        token = self.cloud.identity.issue(user, project)
        self.set_header("X-Subject-Token", token.id)
        self.set_header("Vary", "X-Auth-Token")
        self.reply(201, {"token": self._view(token)})

    def _auth(self) -> dict:
        try:
            auth = self.body()["auth"]
            if not isinstance(auth["identity"]["methods"], list):
                raise KeyError("methods")
        except (KeyError, TypeError, Refused):
            raise bad_request(NO_AUTH) from None
        return auth

    def _user(self, identity: dict) -> User:
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

    def _subject(self) -> Token:
        if self.token is None:
            self.unauthorized()
        subject = self.cloud.identity.token(self.request.headers.get("X-Subject-Token"))
        if subject is None:
            raise not_found("Could not recognize Fernet token")
        return subject

    def need_right_to_see(self, subject: Token) -> None:
        """A token may be asked about by its own user, and by an admin (Keystone's rule token_subject)."""
        if subject.user_id != self.token.user_id:
            self.need_admin("identity:validate_token")

    def get(self) -> None:
        """What a token stands for."""
        subject = self._subject()
        self.need_right_to_see(subject)
        self.set_header("X-Subject-Token", subject.id)
        self.reply(200, {"token": self._view(subject)})

    def head(self) -> None:
        """200 when it is valid."""
        self.get()

    def delete(self) -> None:
        """Revoke it."""
        self.cloud.identity.revoke(self._subject().id)
        self.reply(204)

    def _view(self, token: Token) -> dict:
        identity = self.cloud.identity
        user = identity.users[token.user_id]
        view = {"methods": ["password"],
                "user": {"domain": DOMAIN, "id": user.id, "name": user.name, "password_expires_at": None},
                "audit_ids": [token.audit_id], "expires_at": _micros(token.expires_at),
                "issued_at": _micros(token.issued_at)}
        if token.project_id:
            project = identity.projects[token.project_id]
            view["project"] = {"domain": DOMAIN, "id": project.id, "name": project.name}
            view["is_domain"] = False
            view["roles"] = [{"id": identity.role_ids[name], "name": name} for name in token.roles]
            view["catalog"] = catalog(self.base)
        return view


def _micros(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


def catalog(base: str) -> list[dict]:
    """The services and their endpoints, all on this address."""
    return [{"id": f"{name}-service", "type": kind, "name": name,
             "endpoints": [{"id": f"{name}-{interface}", "interface": interface, "region_id": "bed", "region": "bed",
                            "url": base + path} for interface in ("public", "internal", "admin")]}
            for kind, name, path in SERVICES]


class Catalog(IdentityHandler):
    """GET /auth/catalog."""

    def get(self) -> None:
        """The catalog of the token."""
        self.listing("catalog", catalog(self.base))


class Missing(IdentityHandler):
    """Everything else."""

    needs_token = False

    def prepare_missing(self) -> None:
        """404 for any method."""
        self.refuse(404, "The resource could not be found.")
        raise Finish()

    get = post = put = delete = head = patch = prepare_missing


routes = [
    (r"/identity/?", Versions),
    (r"/identity/(v3)/?", Versions),
    (r"/identity/v3/auth/tokens", Tokens),
    (r"/identity/v3/auth/catalog", Catalog),
]
last_routes = [(r"/identity/.*", Missing)]
