"""Neutron's security groups and their rules, which filter nothing here: there are no packets."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from vmsvc.simulator.clock import Clock
from vmsvc.simulator.errors import ApiError, bad_request, conflict, not_found
from vmsvc.simulator.neutron.model import Port, Ports, default_group
from vmsvc.simulator.store import Store, Table


@dataclass
class SecurityGroup:
    """A security group of a project. `rules` are as Neutron shows them."""

    id: str
    name: str
    project_id: str
    description: str
    created: float
    updated: float
    stateful: bool = True
    revision: int = 1
    rules: list[dict[str, Any]] = field(default_factory=list)


class SecurityGroups:
    """All security groups. The default group of a project is made when somebody first looks at it."""

    def __init__(self, store: Store, ports: Ports, clock: Clock):
        self._clock = clock
        self._ports = ports
        self.all = Table(store, "security_group", SecurityGroup)

    def default(self, project_id: str) -> SecurityGroup:
        """The project's default group."""
        found = self.all.get(default_group(project_id))
        if found is not None:
            return found
        group = self.new("default", project_id, "Default security group", default_group(project_id))
        for kind in ("IPv4", "IPv6"):
            self.add_rule(group, direction="ingress", ethertype=kind, remote_group_id=group.id)
        return group

    def new(self, name: str, project_id: str, description: str, group_id: str | None = None) -> SecurityGroup:
        """Make a group that lets everything out."""
        now = self._clock.now()
        group = SecurityGroup(group_id or str(uuid.uuid4()), name, project_id, description, now, now)
        for kind in ("IPv4", "IPv6"):
            self.add_rule(group, direction="egress", ethertype=kind)
        return group

    def add_rule(self, group: SecurityGroup, **values: Any) -> dict[str, Any]:
        """Add a rule. Its fields are Neutron's."""
        rule = {
            "id": str(uuid.uuid4()),
            "project_id": group.project_id,
            "tenant_id": group.project_id,
            "security_group_id": group.id,
            "ethertype": "IPv4",
            "direction": "ingress",
            "protocol": None,
            "port_range_min": None,
            "port_range_max": None,
            "remote_ip_prefix": None,
            "remote_address_group_id": None,
            "remote_group_id": None,
            "normalized_cidr": values.get("remote_ip_prefix"),
            "description": "",
            "belongs_to_default_sg": group.name == "default",
            "created": self._clock.now(),
            **values,
        }
        group.rules.append(rule)
        self.save(group)
        return rule

    def save(self, group: SecurityGroup) -> None:
        """Store what was changed of a group."""
        group.updated, group.revision = self._clock.now(), group.revision + 1
        self.all.save(group.id, group)

    def remove(self, group: SecurityGroup) -> None:
        """Delete a group. Raises ApiError 409 while a port uses it."""
        if any(group.id in self.of_port(port) for port in self._ports.all.values()):
            raise conflict(f"Security Group {group.id} in use.")
        self.all.remove(group.id)

    def of_port(self, port: Port) -> list[str]:
        """The ids of the groups of a port."""
        return [self.default(port.project_id).id] if port.groups is None else port.groups

    def find(self, project_id: str, key: str) -> SecurityGroup | None:
        """The group of a project with this id or name."""
        self.default(project_id)
        mine = [group for group in self.all.values() if group.project_id == project_id]
        return next((group for group in mine if key in (group.id, group.name)), None)

    def is_ambiguous(self, project_id: str, key: str) -> bool:
        """True for a name that several groups of a project have."""
        mine = [group for group in self.all.values() if group.project_id == project_id]
        return not any(group.id == key for group in mine) and sum(group.name == key for group in mine) > 1

    def of_server(self, project_id: str, key: str) -> SecurityGroup:
        """The group that Nova's actions name. Raises ApiError 404 (measured)."""
        group = self.find(project_id, key)
        if group is None:
            raise not_found(f"Security group {key} is not found for project {project_id}")
        return group

    def plug(self, server_id: str, group: SecurityGroup) -> None:
        """Add a group to all ports of a server. Raises ApiError 400 where it is already (measured)."""
        for port in self._ports.of(server_id):
            groups = self.of_port(port)
            if group.id in groups:
                raise bad_request(
                    f"Invalid input for security_groups. Reason: Duplicate items in the list: '{group.id}'."
                )
            port.groups = [*groups, group.id]
            self._ports.save(port)

    def unplug(self, server_id: str, group: SecurityGroup) -> None:
        """Remove a group from all ports of a server. Raises ApiError 404 where it is on none."""
        found = [port for port in self._ports.of(server_id) if group.id in self.of_port(port)]
        if not found:
            raise ApiError(404, f"Security group {group.id} not associated with the instance {server_id}")
        for port in found:
            port.groups = [each for each in self.of_port(port) if each != group.id]
            self._ports.save(port)
