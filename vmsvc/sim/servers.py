"""Nova's servers and the indexes that keep a request's cost apart from their number."""

import bisect
import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from vmsvc.sim.store import Store

STATUS = {"building": "BUILD", "active": "ACTIVE", "stopped": "SHUTOFF", "paused": "PAUSED", "suspended": "SUSPENDED",
          "error": "ERROR", "deleted": "DELETED", "soft-delete": "SOFT_DELETED", "shelved": "SHELVED",
          "shelved_offloaded": "SHELVED_OFFLOADED", "rescued": "RESCUE", "resized": "VERIFY_RESIZE"}
REBOOTS = {"rebooting": "REBOOT", "reboot_pending": "REBOOT", "reboot_started": "REBOOT",
           "rebooting_hard": "HARD_REBOOT"}


@dataclass
class Server:  # pylint: disable=too-many-instance-attributes
    """A server as Nova's database has it. Times are seconds of the cloud's clock."""

    id: str
    number: int
    name: str
    project_id: str
    user_id: str
    flavor: dict
    image_id: str
    network_ids: list[str]
    created: float
    updated: float
    metadata: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    vm_state: str = "building"
    task_state: str | None = "scheduling"
    power_state: int = 0
    host: str | None = None             # shown, and hashed into hostId
    chosen: str | None = None           # where its allocation is; set before `host`
    az: str = ""
    asked_az: str | None = None
    asked_host: str | None = None
    asked_node: str | None = None
    launched_at: float | None = None
    terminated_at: float | None = None
    fault: dict | None = None
    fault_seen_from: float = 0.0
    locked_by: str | None = None        # 'owner' or 'admin'
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
    step: str | None = None             # what happens next to it, at `due`
    due: float = 0.0
    pending: dict | None = None         # what an action that is under way ends in
    actions: list[dict] = field(default_factory=list)
    group_id: str | None = None

    @property
    def status(self) -> str:
        """What `status` shows."""
        if self.vm_state == "active" and self.task_state in REBOOTS:
            return REBOOTS[self.task_state]
        return STATUS[self.vm_state]

    @property
    def gone(self) -> bool:
        """True once GET says 404; only changes-since and admins who ask for deleted ones see it then."""
        return self.vm_state == "deleted" and self.step is None

    @property
    def host_id(self) -> str:
        """sha224(project_id + host), '' without a host (measured, section 1)."""
        return _host_id(self.project_id, self.host) if self.host else ""

    @property
    def counts(self) -> bool:
        """True while quota counts it: also an ERROR in cell0, not a soft-deleted one (read)."""
        return self.vm_state not in ("deleted", "soft-delete")


@lru_cache(4096)
def _host_id(project_id: str, host: str) -> str:
    return hashlib.sha224((project_id + host).encode()).hexdigest()


class Servers:
    """Every server; live ones in order of creation, all in order of change."""

    def __init__(self, store: Store, deleted_kept: int):
        self._store = store
        self._deleted_kept = deleted_kept
        self.all: dict[str, Server] = {}
        self._numbers: dict[str | None, list[int]] = {None: []}     # live ones, by project and over all
        self._by_number: dict[int, Server] = {}
        self._changes: dict[str | None, OrderedDict[str, None]] = {None: OrderedDict()}
        self.on_host: dict[str, dict[str, None]] = {}
        self.tagged: dict[str, dict[str, None]] = {}
        self.usage: dict[str, dict[str, int]] = {}
        self._counted: dict[str, tuple[int, int]] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self._places: dict[str, tuple[str | None, tuple[str, ...]]] = {}
        self.last_number = 0
        shared: dict[str, dict] = {}  # One dictionary per flavor, as before the restart.
        for server in sorted((Server(**body) for _, body in store.load("server")), key=lambda each: each.updated):
            server.flavor = shared.setdefault(repr(server.flavor), server.flavor)
            self._index(server)

    def __len__(self) -> int:
        return len(self._numbers[None])

    def next_number(self) -> int:
        """The next in the order of creation."""
        self.last_number += 1
        return self.last_number

    def save(self, server: Server) -> None:
        """Keep a server after any change, without calling it updated."""
        self._index(server)
        self._store.put("server", server.id, server)

    def touch(self, server: Server, now: float) -> None:
        """Keep a server after a change that moves `updated`."""
        server.updated = now
        for changes in (self._changes[None], self._changes.setdefault(server.project_id, OrderedDict())):
            changes[server.id] = None
            changes.move_to_end(server.id)
        self.save(server)

    def live(self, project_id: str | None, older_than: int | None = None) -> Iterator[Server]:
        """Not yet deleted servers of a project (None: of all), newest first, from below a number on."""
        numbers = self._numbers.get(project_id, [])
        start = len(numbers) if older_than is None else bisect.bisect_left(numbers, older_than)
        for index in range(start - 1, -1, -1):
            yield self._by_number[numbers[index]]

    def changed_since(self, project_id: str | None, since: float) -> list[Server]:
        """All that changed at or after a time, deleted ones too, newest created first. Costs what it returns."""
        found = []
        for server_id in reversed(self._changes.get(project_id, {})):
            server = self.all[server_id]
            if int(server.updated) < int(since):
                break
            found.append(server)
        return sorted(found, key=lambda each: -each.number)

    def deleted(self, project_id: str | None) -> list[Server]:
        """Deleted ones that are still known, newest first."""
        return [server for server in map(self.all.__getitem__, reversed(self._deleted))
                if project_id in (None, server.project_id)]

    def used(self, project_id: str) -> dict[str, int]:
        """What counts against a project's quota: instances, cores, ram."""
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
        self._place(server)

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

    def _place(self, server: Server) -> None:
        old_host, old_tags = self._places.get(server.id, (None, ()))
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
            self._places.pop(server.id, None)
        else:
            self._places[server.id] = (host, tags)
