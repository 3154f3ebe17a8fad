"""Nova's servers with their indexes, server groups, and the metadata that guests read."""

import bisect
import hashlib
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from vmsvc.simulator.clock import Clock, Settings
from vmsvc.simulator.errors import bad_request, not_found
from vmsvc.simulator.store import LATER, Store

STATUS = {
    "building": "BUILD",
    "active": "ACTIVE",
    "stopped": "SHUTOFF",
    "paused": "PAUSED",
    "suspended": "SUSPENDED",
    "error": "ERROR",
    "deleted": "DELETED",
    "soft-delete": "SOFT_DELETED",
    "shelved": "SHELVED",
    "shelved_offloaded": "SHELVED_OFFLOADED",
    "rescued": "RESCUE",
    "resized": "VERIFY_RESIZE",
}
_RESIZING = dict.fromkeys(("resize_prep", "resize_migrating", "resize_migrated", "resize_finish"), "RESIZE")
_REBUILDING = dict.fromkeys(("rebuilding", "rebuild_block_device_mapping", "rebuild_spawning"), "REBUILD")
_REBOOTING = {
    **dict.fromkeys(("rebooting", "reboot_pending", "reboot_started"), "REBOOT"),
    **dict.fromkeys(("rebooting_hard", "reboot_pending_hard", "reboot_started_hard"), "HARD_REBOOT"),
}
#: The statuses that a task gives to a server in a state (read: nova/api/openstack/common.py).
TASK_STATUS = {
    (state, task): status
    for state, tasks in {
        "active": {**_REBOOTING, **_REBUILDING, **_RESIZING, "updating_password": "PASSWORD", "migrating": "MIGRATING"},
        "stopped": {**_RESIZING, **_REBUILDING},
        "resized": {"resize_reverting": "REVERT_RESIZE"},
        "paused": {"migrating": "MIGRATING"},
        "error": _REBUILDING,
    }.items()
    for task, status in tasks.items()
}
#: The policies that a server group can have.
POLICIES = ("anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity")


@dataclass
class Server:  # pylint: disable=too-many-instance-attributes
    """A server as Nova's database has it. Times are seconds of the cloud's clock. The fields are stored by their names,
    so a field that is renamed cannot be read from an earlier release's folder."""

    id: str
    number: int
    name: str
    project_id: str
    user_id: str
    flavor: dict[str, Any]
    image_id: str
    network_ids: list[str]
    created: float
    updated: float
    metadata: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    vm_state: str = "building"
    task_state: str | None = "scheduling"
    power_state: int = 0
    host: str | None = None  # the host that clients see, and the source of hostId
    chosen: str | None = None  # the host that has its allocation, known before `host`
    az: str = ""
    asked_az: str | None = None
    asked_host: str | None = None
    asked_node: str | None = None
    launched_at: float | None = None
    terminated_at: float | None = None
    fault: dict[str, Any] | None = None
    fault_seen_from: float = 0.0
    locked_by: str | None = None  # 'owner' or 'admin'
    locked_reason: str | None = None
    key_name: str | None = None
    user_data: str | None = None
    description: str | None = None
    hostname: str = ""
    reservation_id: str = ""
    admin_pass: str = ""
    launch_index: int = 0
    delete_asked: bool = False
    delete_tries: int = 0
    tried_hosts: list[str] = field(default_factory=list)
    step: str | None = None  # the next step of its life, at `due`
    due: float = 0.0
    pending: dict[str, Any] | None = None  # the end of the action that is under way
    actions: list[dict[str, Any]] = field(default_factory=list)
    group_id: str | None = None
    hints: dict[str, list[Any]] = field(default_factory=dict, metadata=LATER)  # the scheduler's, each a list
    access_ip_v4: str = field(default="", metadata=LATER)
    access_ip_v6: str = field(default="", metadata=LATER)
    disk_config: str = field(default="MANUAL", metadata=LATER)
    config_drive: bool = field(default=False, metadata=LATER)
    groups: list[str] = field(default_factory=list, metadata=LATER)  # security groups; [] stands for the default one
    #: The network interfaces that the create named, as Nova takes them (`uuid`, `port`, `fixed_ip`), in their order;
    #: without them there is one in each of `network_ids`.
    nics: list[dict[str, str]] = field(default_factory=list, metadata=LATER)
    by_admin: bool = field(default=False, metadata=LATER)  # an admin made it
    certificates: list[str] | None = field(default=None, metadata=LATER)  # trusted_image_certificates
    devices: list[dict[str, Any]] = field(default_factory=list, metadata=LATER)  # block_device_mapping_v2
    shelved_image: str | None = field(default=None, metadata=LATER)
    move: dict[str, Any] | None = field(default=None, metadata=LATER)  # see nova.moves

    @property
    def status(self) -> str:
        """The `status` that clients see."""
        if self.task_state is None:
            return STATUS[self.vm_state]
        return TASK_STATUS.get((self.vm_state, self.task_state), STATUS[self.vm_state])

    @property
    def gone(self) -> bool:
        """True once GET answers 404. Only changes-since shows it then, and a list of deleted servers for an admin."""
        return self.vm_state == "deleted" and self.step is None

    @property
    def host_id(self) -> str:
        """The hostId that clients see: sha224(project_id + host), '' without a host (measured)."""
        return _host_id(self.project_id, self.host) if self.host else ""

    @property
    def counts(self) -> bool:
        """True while the server counts against the quota, as in ERROR, and not in SOFT_DELETED (read)."""
        return self.vm_state not in ("deleted", "soft-delete")


@lru_cache(4096)
def _host_id(project_id: str, host: str) -> str:
    return hashlib.sha224((project_id + host).encode()).hexdigest()


class Servers:
    """All servers: those that GET shows in order of creation, all in order of their last change. The indexes keep the
    cost of a request independent of the number of servers."""

    def __init__(self, store: Store, deleted_kept: int):
        self._store = store
        self._deleted_kept = deleted_kept
        self.all: dict[str, Server] = {}
        # The numbers of the servers that GET shows, by project, and of all (None).
        self._numbers: dict[str | None, list[int]] = {None: []}
        self._by_number: dict[int, Server] = {}
        self._changes: dict[str | None, OrderedDict[str, None]] = {None: OrderedDict()}
        self.on_host: dict[str, dict[str, None]] = {}
        self.tagged: dict[str, dict[str, None]] = {}
        self.usage: dict[str, dict[str, int]] = {}
        self._counted: dict[str, tuple[int, int]] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self._indexed_by: dict[str, tuple[str | None, tuple[str, ...]]] = {}
        self.last_number = 0
        shared: dict[str, dict[str, Any]] = {}  # Servers of one flavor share its dictionary, as before the restart.
        for server in sorted((Server(**body) for _, body in store.load("server")), key=lambda each: each.updated):
            server.flavor = shared.setdefault(repr(server.flavor), server.flavor)
            self._index(server)

    def __len__(self) -> int:
        return len(self._numbers[None])

    def next_number(self) -> int:
        self.last_number += 1
        return self.last_number

    def save(self, server: Server) -> None:
        """Store a server after a change that does not move `updated`."""
        self._index(server)
        self._store.put("server", server.id, server)

    def touch(self, server: Server, now: float) -> None:
        """Store a server after a change that moves `updated`."""
        server.updated = now
        for changes in (self._changes[None], self._changes.setdefault(server.project_id, OrderedDict())):
            changes[server.id] = None
            changes.move_to_end(server.id)
        self.save(server)

    def live(self, project_id: str | None, older_than: int | None = None) -> Iterator[Server]:
        """The servers of a project (None: of all) that GET shows, newest first, only those with a number below
        `older_than`."""
        numbers = self._numbers.get(project_id, [])
        start = len(numbers) if older_than is None else bisect.bisect_left(numbers, older_than)
        for index in range(start - 1, -1, -1):
            yield self._by_number[numbers[index]]

    def changed_since(self, project_id: str | None, since: float) -> list[Server]:
        """The servers that changed at or after a time, deleted ones too; those created last come first. The cost grows
        with the number of servers that changed, not with that of all."""
        found = []
        for server_id in reversed(self._changes.get(project_id, {})):
            server = self.all[server_id]
            if int(server.updated) < int(since):
                break
            found.append(server)
        return sorted(found, key=lambda each: -each.number)

    def deleted(self, project_id: str | None) -> list[Server]:
        """The deleted servers that are still known, the last deleted first."""
        return [
            server
            for server in map(self.all.__getitem__, reversed(self._deleted))
            if project_id in (None, server.project_id)
        ]

    def used(self, project_id: str) -> dict[str, int]:
        """What a project uses of its quota: instances, cores, ram."""
        return self.usage.setdefault(project_id, {"instances": 0, "cores": 0, "ram": 0})

    def _index(self, server: Server) -> None:
        if server.id not in self.all:
            self.last_number = max(self.last_number, server.number)
            self.all[server.id] = server
            for project in (None, server.project_id):
                self._changes.setdefault(project, OrderedDict())[server.id] = None
        if server.gone:
            self._unlist(server)
        elif server.number not in self._by_number:
            self._by_number[server.number] = server
            bisect.insort(self._numbers[None], server.number)
            bisect.insort(self._numbers.setdefault(server.project_id, []), server.number)
        self._count(server)
        self._index_host_and_tags(server)

    def _unlist(self, server: Server) -> None:
        if self._by_number.pop(server.number, None) is not None:
            for project in (None, server.project_id):
                numbers = self._numbers[project]
                del numbers[bisect.bisect_left(numbers, server.number)]
        self._deleted[server.id] = None
        while len(self._deleted) > self._deleted_kept:
            purged, _ = self._deleted.popitem(last=False)
            for project in (None, self.all[purged].project_id):
                self._changes[project].pop(purged, None)
            del self.all[purged]
            self._store.drop("server", purged)

    def _count(self, server: Server) -> None:
        before = self._counted.get(server.id, (0, 0))
        after = (server.flavor["vcpus"], server.flavor["ram"]) if server.counts else (0, 0)
        if before == after:
            return
        used = self.used(server.project_id)
        used["instances"] += bool(after[0]) - bool(before[0])
        used["cores"] += after[0] - before[0]
        used["ram"] += after[1] - before[1]
        if any(after):
            self._counted[server.id] = after
        else:
            del self._counted[server.id]

    def _index_host_and_tags(self, server: Server) -> None:
        old_host, old_tags = self._indexed_by.get(server.id, (None, ()))
        host, tags = (None, ()) if server.gone else (server.chosen, tuple(server.tags))
        if old_host != host:
            if old_host:
                self.on_host[old_host].pop(server.id, None)
            if host:
                self.on_host.setdefault(host, {})[server.id] = None
        if old_tags != tags:
            for tag in set(old_tags) - set(tags):
                self.tagged[tag].pop(server.id, None)
            for tag in set(tags) - set(old_tags):
                self.tagged.setdefault(tag, {})[server.id] = None
        if host is None and not tags:
            self._indexed_by.pop(server.id, None)
        else:
            self._indexed_by[server.id] = (host, tags)


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
    """All server groups, by id."""

    def __init__(self, store: Store, servers: Servers):
        self._store = store
        self._servers = servers
        self.all = {key: Group(**body) for key, body in store.load("group")}

    def add(self, name: str, policy: str, project_id: str, user_id: str, rules: dict[str, int]) -> Group:
        """Make a group. Raises ApiError 400 for an unknown policy."""
        if policy not in POLICIES:
            raise bad_request(
                f"Invalid input for field/attribute policy. Value: {policy}. '{policy}' is not one of {list(POLICIES)}"
            )
        group = Group(str(uuid.uuid4()), name, policy, project_id, user_id, rules)
        self.all[group.id] = group
        self._store.put("group", group.id, group)
        return group

    def get(self, group_id: str, project_id: str | None) -> Group:
        """A group of a project (None: of any). Raises ApiError 404."""
        group = self.all.get(group_id)
        if group is None or project_id not in (None, group.project_id):
            raise not_found(f"Instance group {group_id} could not be found.")
        return group

    def remove(self, group: Group) -> None:
        """Delete a group. Its servers stay."""
        del self.all[group.id]
        self._store.drop("group", group.id)

    def join(self, group_id: str, server: Server) -> None:
        """Add a new server to its group."""
        self.all[group_id].members.append(server.id)
        self._store.put("group", group_id, self.all[group_id])

    def leave(self, server: Server) -> None:
        """Remove a deleted server from its group, if it has one."""
        group = self.all.get(server.group_id or "")
        if group is not None and server.id in group.members:
            group.members.remove(server.id)
            self._store.put("group", group.id, group)

    def allows(self, server: Server, host: str) -> bool:
        """True when the server may go to the host by the policy of its group. Soft policies exclude no host."""
        group = self.all.get(server.group_id or "")
        if group is None:
            return True
        hosts = [
            other.chosen
            for other in map(self._servers.all.get, group.members)
            if other is not None and other.id != server.id and other.chosen
        ]
        if group.policy == "affinity":
            return not hosts or host in hosts
        if group.policy == "anti-affinity":
            return hosts.count(host) < group.rules.get("max_server_per_host", 1)
        return True


class MetadataService:
    """What a guest reads of its own server's metadata: what was true at most `metadata_cache_seconds` ago, because
    Nova's metadata service has a cache."""

    def __init__(self, clock: Clock, settings: Settings):
        self._clock = clock
        self._settings = settings
        self._cached: dict[str, tuple[float, dict[str, str]]] = {}

    def read(self, server: Server) -> dict[str, str]:
        """The metadata that the server's guest reads now."""
        now = self._clock.now()
        read_at, meta = self._cached.get(server.id, (float("-inf"), {}))
        if now - read_at >= self._settings.metadata_cache_seconds:
            read_at, meta = now, dict(server.metadata)
            if self._settings.metadata_cache_seconds:
                self._cached[server.id] = read_at, meta
        return meta
