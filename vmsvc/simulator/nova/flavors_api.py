"""Nova over HTTP: flavors, key pairs, limits, quotas and server groups (measured at 2.1 and 2.93)."""

import re
from typing import Any

from vmsvc.simulator.clock import micros_text
from vmsvc.simulator.errors import bad_request, conflict, forbidden, not_allowed, not_found
from vmsvc.simulator.nova.api import ComputeHandler
from vmsvc.simulator.nova.flavors import DEFAULT_QUOTA, Flavor, KeyPair, keypair_key
from vmsvc.simulator.nova.servers import Group

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


class Flavors(ComputeHandler):
    """GET /flavors, /flavors/detail, /flavors/{id}."""

    def get(self, flavor_id: str | None = None) -> None:
        flavors = self.cloud.flavors
        if flavor_id not in (None, "detail"):
            if flavor_id not in flavors:
                raise not_found(f"Flavor {flavor_id} could not be found.")
            self.reply(200, {"flavor": self._whole(flavors[flavor_id])})
            return
        show = self._whole if flavor_id else self._brief
        self.reply(200, {"flavors": [show(each) for each in flavors.values()]})

    def post(self) -> None:
        """For admins. The simulator takes the name for the id."""
        self.require_admin("os_compute_api:os-flavor-manage:create")
        body = self.body()["flavor"]
        if body["name"] in self.cloud.flavors:
            raise conflict(f"Flavor with name {body['name']} already exists.")
        flavor = Flavor(body["name"], int(body["vcpus"]), int(body["ram"]), int(body["disk"]))
        self.cloud.flavors.save(flavor.id, flavor)
        self.reply(200, {"flavor": self._whole(flavor)})

    def delete(self, flavor_id: str) -> None:
        self.require_admin("os_compute_api:os-flavor-manage:delete")
        if flavor_id not in self.cloud.flavors:
            raise not_found(f"Flavor {flavor_id} could not be found.")
        self.cloud.flavors.remove(flavor_id)
        self.reply(202)

    def _brief(self, flavor: Flavor) -> dict[str, Any]:
        view: dict[str, Any] = {"id": flavor.id, "name": flavor.id, "links": self.links("flavors", flavor.id)}
        if self.version >= (2, 55):
            view["description"] = None
        return view

    def _whole(self, flavor: Flavor) -> dict[str, Any]:
        swap = flavor.swap if flavor.swap or self.version >= (2, 75) else ""
        view = {
            **self._brief(flavor),
            "ram": flavor.ram,
            "disk": flavor.disk,
            "swap": swap,
            "vcpus": flavor.vcpus,
            "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral,
            "OS-FLV-DISABLED:disabled": False,
            "os-flavor-access:is_public": True,
            "rxtx_factor": 1.0,
        }
        if self.version >= (2, 61):
            view["extra_specs"] = flavor.extra_specs
        return view


class ExtraSpecs(ComputeHandler):
    """GET /flavors/{id}/os-extra_specs."""

    def get(self, flavor_id: str) -> None:
        if flavor_id not in self.cloud.flavors:
            raise not_found(f"Flavor {flavor_id} could not be found.")
        self.reply(200, {"extra_specs": self.cloud.flavors[flavor_id].extra_specs})


class KeyPairs(ComputeHandler):
    """/os-keypairs and /os-keypairs/{name}, of the user whose token it is."""

    def get(self, name: str | None = None) -> None:
        pairs = self.cloud.keypairs
        if name is None:
            self.reply(
                200,
                {
                    "keypairs": [
                        {"keypair": self._view(pair)} for pair in pairs.values() if pair.user_id == self.token.user_id
                    ]
                },
            )
            return
        pair = pairs.get(keypair_key(self.token.user_id, name))
        if pair is None:
            raise not_found(f"Keypair {name} not found for user {self.token.user_id}")
        self.reply(
            200,
            {
                "keypair": {
                    **self._view(pair),
                    "user_id": pair.user_id,
                    "deleted": False,
                    "id": 1,
                    "created_at": micros_text(pair.created),
                    "deleted_at": None,
                    "updated_at": None,
                }
            },
        )

    def post(self) -> None:
        body = self.body().get("keypair") or {}
        if not body.get("name"):
            raise bad_request("'name' is a required property")
        if keypair_key(self.token.user_id, body["name"]) in self.cloud.keypairs:
            raise conflict(f"Key pair '{body['name']}' already exists.")
        pair = KeyPair(
            self.token.user_id, body["name"], body.get("public_key") or "ssh-ed25519 AAAA sim", self.cloud.clock.now()
        )
        self.cloud.keypairs.save(keypair_key(pair.user_id, pair.name), pair)
        self.reply(201 if self.version >= (2, 2) else 200, {"keypair": {**self._view(pair), "user_id": pair.user_id}})

    def delete(self, name: str) -> None:
        if keypair_key(self.token.user_id, name) not in self.cloud.keypairs:
            raise not_found(f"Keypair {name} not found for user {self.token.user_id}")
        self.cloud.keypairs.remove(keypair_key(self.token.user_id, name))
        self.reply(204 if self.version >= (2, 2) else 202)

    @staticmethod
    def _view(pair: KeyPair) -> dict[str, Any]:
        return {"name": pair.name, "public_key": pair.public_key, "fingerprint": pair.fingerprint, "type": "ssh"}


class Limits(ComputeHandler):
    """GET /limits (measured)."""

    def get(self) -> None:
        """Limits and usage of the token's project; an admin may name another project."""
        project_id = self.query.get("tenant_id", self.token.project_id)
        if project_id != self.token.project_id and not self.token.is_admin:
            raise not_allowed("os_compute_api:limits:other_project")
        limits, used = self.cloud.quotas.limits(project_id), self.cloud.servers.used(project_id)
        groups = sum(group.project_id == project_id for group in self.cloud.groups.all.values())
        old = OLD_LIMITS if self.version < (2, 36) else {}
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
        if self.version < (2, 36):
            shown.update(OLD_QUOTAS)
        if part == "detail":
            shown = {
                name: {"limit": limit, "in_use": used.get(name, 0), "reserved": 0} for name, limit in shown.items()
            }
        self.reply(200, {"quota_set": {"id": project_id, **shown}})

    def put(self, project_id: str, _part: str | None = None) -> None:
        self.require_admin("os_compute_api:os-quota-sets:update")
        values = self.body().get("quota_set")
        if not isinstance(values, dict):
            raise bad_request("'quota_set' is a required property")
        used, force = self.cloud.servers.used(project_id), values.get("force")
        changes = {}
        for name, value in values.items():
            if name in ("force", "tenant_id"):
                continue
            if name not in QUOTAS:
                raise bad_request(
                    f"Invalid input for field/attribute quota_set. Value: {values}. Additional "
                    f"properties are not allowed ('{name}' was unexpected)"
                )
            if not re.fullmatch("-?[0-9]+", str(value)):
                raise bad_request(
                    f"Invalid input for field/attribute {name}. Value: {value}. {value!r} does not match '^-?[0-9]+$'"
                )
            if not force and 0 <= int(value) < used.get(name, 0):
                raise bad_request(
                    f"Quota limit {value} for {name} must be greater than or equal to already used and "
                    f"reserved {used[name]}."
                )
            changes[name] = int(value)
        self.cloud.quotas.set(project_id, changes)
        limits = self.cloud.quotas.limits(project_id)
        self.reply(200, {"quota_set": {name: limits[name] for name in QUOTAS}})

    def delete(self, project_id: str, _part: str | None = None) -> None:
        self.require_admin("os_compute_api:os-quota-sets:delete")
        self.cloud.quotas.reset(project_id)
        self.reply(202)


class ServerGroups(ComputeHandler):
    """/os-server-groups and one of them, in the form of 2.64 and later."""

    def get(self, group_id: str | None = None) -> None:
        if group_id is None:
            self.reply(
                200,
                {
                    "server_groups": [
                        self._view(group)
                        for group in self.cloud.groups.all.values()
                        if group.project_id == self.token.project_id
                    ]
                },
            )
            return
        self.reply(200, {"server_group": self._view(self._group(group_id))})

    def _group(self, group_id: str) -> Group:
        return self.cloud.groups.get(group_id, None if self.token.is_admin else self.token.project_id)

    def post(self) -> None:
        body = self.body().get("server_group") or {}
        policy = body.get("policy") or next(iter(body.get("policies") or []), "")
        limit = self.cloud.quotas.limits(self.token.project_id)["server_groups"]
        if 0 <= limit <= sum(group.project_id == self.token.project_id for group in self.cloud.groups.all.values()):
            raise forbidden("Quota exceeded, too many server groups.")
        group = self.cloud.groups.add(
            str(body.get("name")), policy, self.token.project_id, self.token.user_id, body.get("rules") or {}
        )
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
    (r"/compute/v2\.1/flavors", Flavors),
    (r"/compute/v2\.1/flavors/([^/]+)", Flavors),
    (r"/compute/v2\.1/flavors/([^/]+)/os-extra_specs", ExtraSpecs),
    (r"/compute/v2\.1/os-keypairs", KeyPairs),
    (r"/compute/v2\.1/os-keypairs/([^/]+)", KeyPairs),
    (r"/compute/v2\.1/limits", Limits),
    (r"/compute/v2\.1/os-quota-sets/([^/]+)", QuotaSets),
    (r"/compute/v2\.1/os-quota-sets/([^/]+)/(detail|defaults)", QuotaSets),
    (r"/compute/v2\.1/os-server-groups", ServerGroups),
    (r"/compute/v2\.1/os-server-groups/([^/]+)", ServerGroups),
]
