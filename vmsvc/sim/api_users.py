"""Keystone's projects, users and the one domain, as far as clients need them (measured)."""

from vmsvc.sim.api_identity import DOMAIN, IdentityHandler
from vmsvc.sim.identity import Project, User
from vmsvc.sim.refusal import not_found


class UsersHandler(IdentityHandler):
    """How projects and users look."""

    def project_view(self, project: Project) -> dict:
        """A project as JSON."""
        return {"id": project.id, "name": project.name, "domain_id": "default", "description": project.description,
                "enabled": True, "parent_id": "default", "is_domain": False, "tags": [], "options": {},
                "links": {"self": f"{self.base}/identity/v3/projects/{project.id}"}}

    def user_view(self, user: User) -> dict:
        """A user as JSON."""
        return {"id": user.id, "name": user.name, "domain_id": "default", "enabled": True,
                "password_expires_at": None, "options": {},
                "links": {"self": f"{self.base}/identity/v3/users/{user.id}"}}


class OwnProjects(UsersHandler):
    """GET /auth/projects, and /users/{id}/projects."""

    needs_token = False

    def get(self, user_id: str | None = None) -> None:
        """The projects in which the user has a role."""
        if self.token is None:
            self.unauthorized()
        user = self.cloud.identity.users[user_id or self.token.user_id]
        self.listing("projects", [self.project_view(self.cloud.identity.projects[each]) for each in user.roles])


class Projects(UsersHandler):
    """GET /projects and /projects/{id}."""

    def get(self, project_id: str | None = None) -> None:
        """All for the admin, with `name` as a filter; one's own by id."""
        projects = self.cloud.identity.projects
        if project_id is None:
            self.need_admin("identity:list_projects")
            self.listing("projects", [self.project_view(each) for each in projects.values()
                                      if self.query.get("name") in (None, each.name)])
            return
        if project_id != self.token.project_id:
            self.need_admin("identity:get_project")
        if project_id not in projects:
            raise not_found(f"Could not find project: {project_id}.")
        self.reply(200, {"project": self.project_view(projects[project_id])})


class Users(UsersHandler):
    """GET /users and /users/{id}."""

    def get(self, user_id: str | None = None) -> None:
        """All for the admin, with `name` as a filter; oneself by id."""
        users = self.cloud.identity.users
        if user_id is None:
            self.need_admin("identity:list_users")
            self.listing("users", [self.user_view(each) for each in users.values()
                                   if self.query.get("name") in (None, each.name)])
            return
        if user_id != self.token.user_id:
            self.need_admin("identity:get_user")
        if user_id not in users:
            raise not_found(f"Could not find user: {user_id}.")
        self.reply(200, {"user": self.user_view(users[user_id])})


class Domains(UsersHandler):
    """GET /domains and /domains/{id}: the one there is."""

    def get(self, domain_id: str | None = None) -> None:
        """The Default domain."""
        domain = {**DOMAIN, "description": "The default domain", "enabled": True, "tags": [], "options": {},
                  "links": {"self": f"{self.base}/identity/v3/domains/default"}}
        if domain_id is None:
            self.need_admin("identity:list_domains")
            self.listing("domains", [domain] if self.query.get("name") in (None, "Default") else [])
        elif domain_id != "default":
            self.need_admin("identity:get_domain")
            raise not_found(f"Could not find domain: {domain_id}.")
        else:
            self.reply(200, {"domain": domain})


routes = [
    (r"/identity/v3/auth/projects", OwnProjects),
    (r"/identity/v3/users/([^/]+)/projects", OwnProjects),
    (r"/identity/v3/projects", Projects),
    (r"/identity/v3/projects/([^/]+)", Projects),
    (r"/identity/v3/users", Users),
    (r"/identity/v3/users/([^/]+)", Users),
    (r"/identity/v3/domains", Domains),
    (r"/identity/v3/domains/([^/]+)", Domains),
]
