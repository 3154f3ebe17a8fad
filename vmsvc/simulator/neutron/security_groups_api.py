"""Neutron v2.0 over HTTP: security groups (measured)."""

from typing import Any

from vmsvc.simulator.clock import seconds_text
from vmsvc.simulator.errors import bad_request, conflict, not_found
from vmsvc.simulator.neutron.api import NetworkHandler
from vmsvc.simulator.neutron.listing import shown
from vmsvc.simulator.neutron.security_groups import SecurityGroup


class SecurityGroups(NetworkHandler):
    """/security-groups and one of them: those of the own project, for an admin all."""

    def _visible(self) -> list[SecurityGroup]:
        projects = self.cloud.identity.projects if self.token.is_admin else [self.token.project_id]
        for project in projects:
            self.cloud.security_groups.default(project)
        return [each for each in self.cloud.security_groups.all.values() if each.project_id in projects]

    def _group(self, group_id: str) -> SecurityGroup:
        found = [each for each in self._visible() if each.id == group_id]
        if not found:
            raise not_found(f"SecurityGroup {group_id} does not exist")
        return found[0]

    def get(self, group_id: str | None = None) -> None:
        if group_id is None:
            self.filtered("security_groups", [self._view(each) for each in self._visible()])
        else:
            self.reply(200, {"security_group": shown(self._view(self._group(group_id)), self.queries)})

    def post(self) -> None:
        values = self.body().get("security_group")
        if not isinstance(values, dict) or not isinstance(values.get("name", ""), str):
            raise bad_request("Invalid input for security_group")
        if values.get("name") == "default":
            raise conflict("Default security group already exists.")
        owner = values.get("project_id") or values.get("tenant_id") or self.token.project_id
        group = self.cloud.security_groups.new(values.get("name", ""), owner, values.get("description", ""))
        group.stateful = values.get("stateful", True)
        self.reply(201, {"security_group": self._view(group)})

    def put(self, group_id: str) -> None:
        group, values = self._group(group_id), self.body().get("security_group", {})
        for name in ("name", "description", "stateful"):
            setattr(group, name, values.get(name, getattr(group, name)))
        self.cloud.security_groups.save(group)
        self.reply(200, {"security_group": self._view(group)})

    def delete(self, group_id: str) -> None:
        self.cloud.security_groups.remove(self._group(group_id))
        self.reply(204)

    @staticmethod
    def _view(group: SecurityGroup) -> dict[str, Any]:
        return {
            "id": group.id,
            "name": group.name,
            "stateful": group.stateful,
            "tenant_id": group.project_id,
            "project_id": group.project_id,
            "description": group.description,
            "shared": False,
            "security_group_rules": [{**rule_view(rule), "standard_attr_id": 1, "tags": []} for rule in group.rules],
            "tags": [],
            "created_at": seconds_text(group.created),
            "updated_at": seconds_text(group.updated),
            "revision_number": group.revision,
        }


def rule_view(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule of a security group as Neutron shows it."""
    moment = seconds_text(rule["created"])
    view = {name: value for name, value in rule.items() if name != "created"}
    return {**view, "created_at": moment, "updated_at": moment, "revision_number": 0}


routes = [
    (r"/network/v2\.0/security-groups(?:\.json)?", SecurityGroups),
    (r"/network/v2\.0/security-groups/([^/]+)", SecurityGroups),
]
