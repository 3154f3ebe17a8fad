"""A cloud as the port `Cloud` shows it: hosts, servers, a quota. What takes Nova time takes a `step` here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace

from vmsvc.cloud.port import Addresses, BootSpec, Flavor, Quota, Server, ServerPage
from vmsvc.domain.errors import Conflict, Locked, NotFound, OutcomeUnknown, QuotaExceeded
from vmsvc.domain.host import Host
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.domain.server_group import ServerGroup

RAM = 1024  # MiB for each VCPU of every flavor


def room(cpus: int) -> Resources:
    """What a server of so many VCPUs claims from its host."""
    return Resources({"VCPU": cpus, "MEMORY_MB": RAM * cpus})


def quota(cpus: int) -> Resources:
    """What it counts for in the project's quota."""
    return Resources({"instances": 1, "cores": cpus, "ram": RAM * cpus})


@dataclass(slots=True)
class Machine:
    """A server. `ours`: of our project; others are seen by what they hold alone."""

    id: str
    cpus: int
    metadata: dict
    created: datetime
    pinned: str | None = None
    ours: bool = True
    status: str = "BUILD"
    task_state: str | None = None
    host: str | None = None
    holds: bool = False  # has an allocation on its host
    locked: bool = False
    launched_at: datetime | None = None
    fault: str | None = None


@dataclass(slots=True)
class Watch:
    """What the test wants to hear of: each is called before it takes effect."""

    removed: Callable[[Machine], None] = lambda machine: None
    claimed: Callable[[Machine, str], None] = lambda machine, host: None


@dataclass
class ModelCloud:
    """Every call waits at a gate first."""

    mode: str
    gate: Callable
    clock: SimpleNamespace
    sizes: dict[str, int]
    cores: int  # the project's limit
    down: set[str] = field(default_factory=set)
    machines: dict[str, Machine] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)
    project_id: str = "project"
    lose_answers: int = 0  # so many of the next POSTs get no answer
    made: int = 0

    # ------------------------------------------------------------ the world

    def free(self, host: str) -> int:
        """VCPUs that nobody holds there."""
        return self.sizes[host] - sum(each.cpus for each in self.machines.values() if each.holds and each.host == host)

    def add(self, cpus: int, **facts) -> Machine:
        """A server more."""
        self.made += 1
        machine = Machine(f"server-{self.made:03}", cpus, facts.pop("metadata", {}), self.clock.now, **facts)
        self.machines[machine.id] = machine
        return machine

    def busy(self) -> list[Machine]:
        """Servers with which the cloud has something to do."""
        return [
            each
            for each in self.machines.values()
            if each.task_state == "deleting" or (each.status == "BUILD" and each.ours)
        ]

    def step(self, machine: Machine) -> None:
        """The next thing that the cloud does with it."""
        if machine.task_state == "deleting":
            if machine.holds:
                machine.holds = False  # Nova removes the allocation before the record
            else:
                del self.machines[machine.id]
        elif machine.holds:
            machine.status, machine.launched_at = "ACTIVE", self.clock.now
        else:
            self._schedule(machine)

    def _schedule(self, machine: Machine) -> None:
        hosts = [
            host
            for host in self.sizes
            if host not in self.down and machine.pinned in (None, host) and self.free(host) >= machine.cpus
        ]
        if not hosts:
            machine.status, machine.fault = "ERROR", "No valid host was found. There are not enough hosts available."
            return
        host = max(hosts, key=lambda name: (self.free(name), name))
        self.watch.claimed(machine, host)
        machine.host, machine.holds = host, True

    # ------------------------------------------------------------ the port

    def view(self, machine: Machine) -> Server:
        """A server as Nova shows it."""
        operator = self.mode == "operator"
        flavor = Flavor(f"m{machine.cpus}", f"m{machine.cpus}", machine.cpus, RAM * machine.cpus, 0)
        return Server(
            machine.id,
            machine.id,
            machine.status,
            machine.task_state,
            f"id-of-{machine.host}" if machine.host else "",
            machine.host if operator else None,
            "nova",
            machine.locked,
            machine.created,
            machine.launched_at,
            None,
            machine.fault,
            dict(machine.metadata),
            flavor,
            False,
            room(machine.cpus),
            {},
        )

    def shown(self) -> dict[str, Server]:
        """Every server of the project."""
        return {each.id: self.view(each) for each in self.machines.values() if each.ours}

    def _get(self, server_id: str) -> Machine:
        if server_id not in self.machines:
            raise NotFound(f"no server {server_id}")
        return self.machines[server_id]

    async def create_server(self, spec) -> str:
        """POST /servers."""
        await self.gate(f"POST {spec.vmsvc_id}")
        cpus = int(spec.flavor_id)
        used = self._used()
        if used["cores"] + cpus > self.cores:
            raise QuotaExceeded("Quota exceeded for cores")
        machine = self.add(cpus, metadata=dict(spec.metadata), pinned=spec.host)
        if self.lose_answers:
            self.lose_answers -= 1
            raise OutcomeUnknown("no answer")
        return machine.id

    async def find_servers(self, vmsvc_id: str) -> tuple[Server, ...]:
        """By our mark."""
        await self.gate(f"find {vmsvc_id}")
        return tuple(server for server in self.shown().values() if server.vmsvc_id == vmsvc_id)

    async def server(self, server_id: str) -> Server:
        """GET one."""
        await self.gate(f"GET {server_id}")
        return self.view(self._get(server_id))

    async def servers(self, _changes_since=None) -> ServerPage:
        """GET all."""
        await self.gate("list")
        return ServerPage(tuple(self.shown().values()), self.clock.now)

    async def stop(self, server_id: str) -> None:
        """os-stop."""
        await self.gate(f"stop {server_id}")
        machine = self._get(server_id)
        if machine.locked:
            raise Locked("locked")
        if machine.status != "ACTIVE" or machine.task_state:
            raise Conflict("not active")
        self.watch.removed(machine)
        machine.status = "SHUTOFF"

    async def delete(self, server_id: str, _force: bool = False) -> None:
        """DELETE."""
        await self.gate(f"DELETE {server_id}")
        machine = self.machines.get(server_id)
        if machine is None:
            return
        if machine.locked:
            raise Locked("locked")
        self.watch.removed(machine)
        machine.task_state = "deleting"

    async def set_metadata(self, server_id: str, items) -> None:
        """POST metadata."""
        await self.gate(f"metadata {server_id}")
        machine = self._get(server_id)
        if machine.locked:
            raise Locked("locked")
        machine.metadata.update(items)

    async def unset_metadata(self, server_id: str, key: str) -> None:
        """DELETE one key."""
        await self.gate(f"unset {server_id}")
        if server_id in self.machines:
            if self.machines[server_id].locked:
                raise Locked("locked")
            self.machines[server_id].metadata.pop(key, None)

    def _used(self) -> Resources:
        return sum((quota(each.cpus) for each in self.machines.values() if each.ours), Resources())

    async def quota(self) -> Quota:
        """GET /limits."""
        await self.gate("quota")
        return Quota({"instances": 1000, "cores": self.cores, "ram": RAM * 1000}, self._used())

    async def rehearse(self, _spec: BootSpec) -> None:
        """Nova would take any of the requests."""
        await self.gate("rehearse")

    async def server_group(self, group_id: str) -> ServerGroup:
        """Raises NotFound: this cloud has no server groups."""
        raise NotFound(f"there is no server group {group_id}")

    async def ports_left(self) -> None:
        """There is no quota of ports."""

    async def addresses(self, _network_id: str) -> Addresses:
        """There are more than anybody needs."""
        return Addresses(1000, 0)

    def host(self, name: str) -> Host:
        """A host as Placement and Nova have it now."""
        size = self.sizes[name]
        return Host(
            name,
            {"VCPU": Inventory(size, max_unit=size), "MEMORY_MB": Inventory(size * RAM, max_unit=size * RAM)},
            {each.id: room(each.cpus) for each in self.machines.values() if each.holds and each.host == name},
            name not in self.down,
            "nova",
        )
