"""Server groups: affinity and anti-affinity."""

import uuid
from dataclasses import dataclass, field

from vmsvc.sim.refusal import bad_request, not_found
from vmsvc.sim.servers import Server, Servers
from vmsvc.sim.store import Store

POLICIES = ("anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity")


@dataclass
class Group:
    """A server group of one project."""

    id: str
    name: str
    policy: str
    project_id: str
    user_id: str
    rules: dict[str, int] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)


class Groups:
    """All server groups."""

    def __init__(self, store: Store, servers: Servers):
        self._store = store
        self._servers = servers
        self.all = {key: Group(**body) for key, body in store.load("group")}

    def add(self, name: str, policy: str, project_id: str, user_id: str, rules: dict[str, int]) -> Group:
        """A new group."""
        if policy not in POLICIES:
            raise bad_request(f"Invalid input for field/attribute policy. Value: {policy}. '{policy}' is not one of "
                              f"{list(POLICIES)}")
        group = Group(str(uuid.uuid4()), name, policy, project_id, user_id, rules)
        self.all[group.id] = group
        self._store.put("group", group.id, group)
        return group

    def get(self, group_id: str, project_id: str | None) -> Group:
        """A group that the project (None: anybody) may see, or 404."""
        group = self.all.get(group_id)
        if group is None or project_id not in (None, group.project_id):
            raise not_found(f"Instance group {group_id} could not be found.")
        return group

    def remove(self, group: Group) -> None:
        """Forget it; its servers stay."""
        del self.all[group.id]
        self._store.drop("group", group.id)

    def join(self, group_id: str, server: Server) -> None:
        """Put a new server into its group."""
        self.all[group_id].members.append(server.id)
        self._store.put("group", group_id, self.all[group_id])

    def leave(self, server: Server) -> None:
        """Take a deleted server out."""
        group = self.all.get(server.group_id or "")
        if group is not None and server.id in group.members:
            group.members.remove(server.id)
            self._store.put("group", group.id, group)

    def allows(self, server: Server, host: str) -> bool:
        """The filters for affinity and anti-affinity (soft policies only weigh)."""
        group = self.all.get(server.group_id or "")
        if group is None:
            return True
        hosts = [other.chosen for other in map(self._servers.all.get, group.members)
                 if other is not None and other.id != server.id and other.chosen]
        if group.policy == "affinity":
            return not hosts or host in hosts
        if group.policy == "anti-affinity":
            return hosts.count(host) < group.rules.get("max_server_per_host", 1)
        return True
