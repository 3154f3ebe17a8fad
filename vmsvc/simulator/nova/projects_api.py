"""Nova over HTTP: key pairs, limits, quotas and server groups (measured at 2.1 and 2.93)."""

from typing import Any

from vmsvc.simulator.clock import micros_text
from vmsvc.simulator.errors import bad_request, conflict, forbidden, not_allowed, not_found
from vmsvc.simulator.nova import schemas
from vmsvc.simulator.nova.api import ComputeHandler
from vmsvc.simulator.nova.flavors import DEFAULT_QUOTA, KeyPair, keypair_key
from vmsvc.simulator.nova.keys import BadKey, fingerprint, new_private_key
from vmsvc.simulator.nova.servers import Group
from vmsvc.simulator.paging import next_page, page

QUOTAS = ("cores", "instances", "key_pairs", "metadata_items", "ram", "server_group_members", "server_groups")
#: Shown below 2.36, when Nova still spoke of networks.
OLD_QUOTAS = {
    "fixed_ips": -1,
    "floating_ips": -1,
    "security_groups": -1,
    "security_group_rules": -1,
    "injected_files": 5,
    "injected_file_content_bytes": 10240,
    "injected_file_path_bytes": 255,
}
OLD_LIMITS = {
    "maxImageMeta": 128,
    "maxPersonality": 5,
    "maxPersonalitySize": 10240,
    "maxSecurityGroupRules": -1,
    "maxSecurityGroups": -1,
    "maxTotalFloatingIps": -1,
    "totalFloatingIpsUsed": 0,
    "totalSecurityGroupsUsed": 0,
}


class KeyPairHandler(ComputeHandler):
    """Base of the handlers of key pairs: of the user whose token it is, or for an admin from 2.10 on of `user_id`."""

    def user(self, asked: str | None = None) -> str:
        """The id of the user whose key pairs are meant."""
        asked = asked or (self.query.get("user_id") if self.version >= (2, 10) else None)
        if asked is not None and asked != self.token.user_id and not self.token.is_admin:
            raise not_allowed(
                "os_compute_api:os-keypairs:" + {"GET": "index", "POST": "create"}.get(self._method, "delete")
            )
        return asked or self.token.user_id

    @property
    def _method(self) -> str:
        return self.request.method or ""

    def view(self, pair: KeyPair, *more: str) -> dict[str, Any]:
        """A key pair as Nova shows it, with these further fields."""
        view = {"name": pair.name, "public_key": pair.public_key, "fingerprint": pair.fingerprint}
        if self.version >= (2, 2):
            view["type"] = pair.type
        all_fields: dict[str, Any] = {
            "user_id": pair.user_id,
            "deleted": False,
            "id": 1,
            "created_at": micros_text(pair.created),
            "deleted_at": None,
            "updated_at": None,
        }
        return {**view, **{name: all_fields[name] for name in more}}


class KeyPairs(KeyPairHandler):
    """/os-keypairs."""

    def get(self) -> None:
        schemas.check_query(schemas.query_of("keypairs", self.version), self.queries)
        user, query = self.user(), self.query if self.version >= (2, 35) else {}
        mine = sorted(
            (each for each in self.cloud.keypairs.values() if each.user_id == user), key=lambda each: each.name
        )
        shown, full = page(mine, query, lambda each: each.name)
        body: dict[str, Any] = {"keypairs": [{"keypair": self.view(each)} for each in shown]}
        if full and self.version >= (2, 35):
            href = next_page(f"{self.address}/v2.1/os-keypairs", query, shown[-1].name)
            body["keypairs_links"] = [{"rel": "next", "href": href}]
        self.reply(200, body)

    def post(self) -> None:
        """Take a public key, or below 2.92 make a pair and show the private key, once."""
        body = self.body()
        schemas.check(schemas.key_pair(self.version), body)
        values = body["keypair"]
        user, kind = self.user(values.get("user_id")), values.get("type", "ssh")
        name, private = values["name"].strip(), None
        mine = sum(each.user_id == user for each in self.cloud.keypairs.values())
        if 0 <= self.cloud.quotas.limits(self.token.project_id)["key_pairs"] <= mine:
            raise forbidden("Quota exceeded, too many key pairs.")
        if keypair_key(user, name) in self.cloud.keypairs:
            raise conflict(f"Key pair '{name}' already exists.")
        public = values.get("public_key")
        if public is None:
            private, public = new_private_key(kind)
        try:
            shown = fingerprint(public, kind)
        except BadKey:
            raise bad_request("Keypair data is invalid: failed to generate fingerprint") from None
        pair = KeyPair(user, name, public, self.cloud.clock.now(), type=kind, shown=shown)
        self.cloud.keypairs.save(keypair_key(user, name), pair)
        view = self.view(pair, "user_id")
        if private is not None:
            view["private_key"] = private
        self.reply(201 if self.version >= (2, 2) else 200, {"keypair": view})


class OneKeyPair(KeyPairHandler):
    """/os-keypairs/{name}."""

    def _pair(self, name: str) -> KeyPair:
        schemas.check_query(schemas.query_of("keypair", self.version), self.queries)
        user = self.user()
        pair = self.cloud.keypairs.get(keypair_key(user, name))
        if pair is None:
            raise not_found(f"Keypair {name} not found for user {user}")
        return pair

    def get(self, name: str) -> None:
        more = ("user_id", "deleted", "id", "created_at", "deleted_at", "updated_at")
        self.reply(200, {"keypair": self.view(self._pair(name), *more)})

    def delete(self, name: str) -> None:
        pair = self._pair(name)
        self.cloud.keypairs.remove(keypair_key(pair.user_id, name))
        self.reply(204 if self.version >= (2, 2) else 202)


class Limits(ComputeHandler):
    """GET /limits (measured)."""

    def get(self) -> None:
        """Limits and usage of the token's project; an admin may name another project."""
        schemas.check_query(schemas.query_of("limits", self.version), self.queries)
        project_id = self.query.get("tenant_id", self.token.project_id)
        if project_id != self.token.project_id and not self.token.is_admin:
            raise not_allowed("os_compute_api:limits:other_project")
        limits, used = self.cloud.quotas.limits(project_id), self.cloud.servers.used(project_id)
        groups = sum(group.project_id == project_id for group in self.cloud.groups.all.values())
        old = {} if self.version >= (2, 57) else dict(OLD_LIMITS)
        if self.version >= (2, 36):
            old = {name: value for name, value in old.items() if "ecurityGroup" not in name and "Floating" not in name}
        if self.version >= (2, 39):
            old.pop("maxImageMeta", None)
        self.reply(
            200,
            {
                "limits": {
                    "rate": [],
                    "absolute": {
                        **old,
                        "maxTotalCores": limits["cores"],
                        "maxTotalInstances": limits["instances"],
                        "maxTotalKeypairs": limits["key_pairs"],
                        "maxServerMeta": limits["metadata_items"],
                        "maxTotalRAMSize": limits["ram"],
                        "maxServerGroups": limits["server_groups"],
                        "maxServerGroupMembers": limits["server_group_members"],
                        "totalRAMUsed": used["ram"],
                        "totalCoresUsed": used["cores"],
                        "totalInstancesUsed": used["instances"],
                        "totalServerGroupsUsed": groups,
                    },
                }
            },
        )


class QuotaSets(ComputeHandler):
    """/os-quota-sets/{project}, /detail, /defaults."""

    def get(self, project_id: str, part: str | None = None) -> None:
        """A member reads the quota of the own project, an admin that of any."""
        if project_id != self.token.project_id and not self.token.is_admin and part != "defaults":
            raise not_allowed("os_compute_api:os-quota-sets:" + ("detail" if part else "show"))
        if project_id not in self.cloud.identity.projects:
            raise bad_request(f"Project ID {project_id} is not a valid project.")
        limits = DEFAULT_QUOTA if part == "defaults" else self.cloud.quotas.limits(project_id)
        used = self.cloud.servers.used(project_id)
        shown: dict[str, Any] = {name: limits[name] for name in QUOTAS}
        shown.update(self._old())
        if part == "detail":
            shown = {
                name: {"limit": limit, "in_use": used.get(name, 0), "reserved": 0} for name, limit in shown.items()
            }
        self.reply(200, {"quota_set": {"id": project_id, **shown}})

    def _old(self) -> dict[str, int]:
        """The limits that only older microversions show."""
        if self.version >= (2, 57):
            return {}
        files = self.version >= (2, 36)
        return {name: value for name, value in OLD_QUOTAS.items() if not files or name.startswith("injected")}

    def put(self, project_id: str, _part: str | None = None) -> None:
        body = self.body()
        schemas.check(schemas.quota_set(self.version), body)
        self.require_admin("os_compute_api:os-quota-sets:update")
        if project_id not in self.cloud.identity.projects:
            raise bad_request(f"Project ID {project_id} is not a valid project.")
        values = body["quota_set"]
        used, force = self.cloud.servers.used(project_id), values.get("force")
        changes = {}
        for name, value in values.items():
            if name == "force":
                continue
            if not force and 0 <= int(value) < used.get(name, 0):
                raise bad_request(
                    f"Quota limit {value} for {name} must be greater than or equal to already used and "
                    f"reserved {used[name]}."
                )
            changes[name] = int(value)
        self.cloud.quotas.set(project_id, changes)
        limits = self.cloud.quotas.limits(project_id)
        self.reply(200, {"quota_set": {**{name: limits[name] for name in QUOTAS}, **self._old()}})

    def delete(self, project_id: str, _part: str | None = None) -> None:
        self.require_admin("os_compute_api:os-quota-sets:delete")
        self.cloud.quotas.reset(project_id)
        self.reply(202)


class ServerGroups(ComputeHandler):
    """/os-server-groups and one of them, in the form of 2.64 and later."""

    def get(self, group_id: str | None = None) -> None:
        if group_id is not None:
            self.reply(200, {"server_group": self._view(self._group(group_id))})
            return
        schemas.check_query(schemas.query_of("server_groups", self.version), self.queries)
        everybody = "all_projects" in self.query and self.token.is_admin
        found = [
            self._view(group)
            for group in self.cloud.groups.all.values()
            if everybody or group.project_id == self.token.project_id
        ]
        first = int(self.query.get("offset") or 0)
        last = first + int(self.query["limit"]) if self.query.get("limit") else None
        self.reply(200, {"server_groups": found[first:last]})

    def _group(self, group_id: str) -> Group:
        return self.cloud.groups.get(group_id, None if self.token.is_admin else self.token.project_id)

    def post(self) -> None:
        body = self.body()
        schemas.check(schemas.server_group(self.version), body)
        body = body["server_group"]
        policy = body.get("policy") or body["policies"][0]
        rules = {name: int(value) for name, value in body.get("rules", {}).items()}
        if rules and policy != "anti-affinity":
            raise bad_request("Only anti-affinity policy supports rules.")
        limit = self.cloud.quotas.limits(self.token.project_id)["server_groups"]
        if 0 <= limit <= sum(group.project_id == self.token.project_id for group in self.cloud.groups.all.values()):
            raise forbidden("Quota exceeded, too many server groups.")
        group = self.cloud.groups.add(body["name"], policy, self.token.project_id, self.token.user_id, rules)
        self.reply(200, {"server_group": self._view(group)})

    def delete(self, group_id: str) -> None:
        self.cloud.groups.remove(self._group(group_id))
        self.reply(204)

    def _view(self, group: Group) -> dict[str, Any]:
        view = {"id": group.id, "name": group.name, "members": group.members}
        if self.version >= (2, 13):
            view.update(project_id=group.project_id, user_id=group.user_id)
        if self.version >= (2, 64):
            return {**view, "policy": group.policy, "rules": group.rules}
        return {**view, "policies": [group.policy], "metadata": {}}


routes = [
    (r"/compute/v2\.1/os-keypairs", KeyPairs),
    (r"/compute/v2\.1/os-keypairs/([^/]+)", OneKeyPair),
    (r"/compute/v2\.1/limits", Limits),
    (r"/compute/v2\.1/os-quota-sets/([^/]+)", QuotaSets),
    (r"/compute/v2\.1/os-quota-sets/([^/]+)/(detail|defaults)", QuotaSets),
    (r"/compute/v2\.1/os-server-groups", ServerGroups),
    (r"/compute/v2\.1/os-server-groups/([^/]+)", ServerGroups),
]
