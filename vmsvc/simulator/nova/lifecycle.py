"""The life of a server: a chain of steps, each of which is due at a time and is stored before a client hears of it.

`Boot` leads from POST to ACTIVE or ERROR, `Deletion` from DELETE to 404, `StateChanges` through stop, start, reboot and
shelving, each in the order that was measured. `Lifecycle` runs their steps, across restarts and dead hosts."""

from collections.abc import Callable

from vmsvc.simulator.clock import seconds_text
from vmsvc.simulator.errors import ApiError, conflict
from vmsvc.simulator.model import Model
from vmsvc.simulator.neutron.model import Network
from vmsvc.simulator.nova import volumes
from vmsvc.simulator.nova.scheduling import ALL_FILTERED, MAX_ATTEMPTS, NoValidHost
from vmsvc.simulator.nova.servers import Server

#: The step of a server that waits for its host, or for another DELETE.
WAITING = "waiting"
Step = Callable[[Server], None]


class Lifecycle:
    """Runs the steps of all servers. The classes below register their steps here by name; a server's next step and its
    time are stored with the server."""

    def __init__(self, model: Model):
        self.model = model
        self.steps: dict[str, Step] = {}

    def resume(self) -> None:
        """Go on with every server's next step after a restart."""
        for server in self.model.servers.all.values():
            if server.step and server.step != WAITING:
                self._set_timer(server)

    def next_step(self, server: Server, step: str, seconds: float) -> None:
        """Set a server's next step, in so many seconds, in the place of one that has not run yet."""
        server.step, server.due = step, self.model.clock.now() + seconds
        self.model.servers.save(server)
        self._set_timer(server)

    def _set_timer(self, server: Server) -> None:
        due, step = server.due, server.step

        def run() -> None:
            if step is not None and server.step == step and server.due == due:
                server.step = None
                self.steps[step](server)

        self.model.clock.at(due, run)

    def hang(self, server: Server) -> None:
        """Let a server wait until its host comes back or a DELETE comes."""
        server.step = WAITING
        self.model.servers.save(server)

    def host_is_silent(self, server: Server) -> bool:
        """True when the server is on a host whose machine is dead."""
        return server.host is not None and not self.model.hosts.works(self.model.hosts.all[server.host])

    def touch(self, server: Server) -> None:
        """Store a server, with `updated` = now."""
        self.model.servers.touch(server, self.model.clock.now())

    def delete_ports(self, server: Server) -> None:
        """Delete the ports that Nova made; those that a user made stay, without a server (read). The server's volumes
        go with it or stay, as its create says."""
        volumes.detach(self.model, server)
        for port in self.model.ports.of(server.id):
            if port.by_user:
                self.model.ports.plug(port, "", "")
            else:
                self.model.ports.remove(port)

    def release(self, server: Server) -> None:
        """Free all that a server holds in Placement: also what a move of it holds on the source."""
        self.model.placement.release(server.id)
        if server.move is not None and server.move["migration"] in self.model.migrations:
            self.model.placement.release(self.model.migrations[server.move["migration"]].uuid)
            server.move = None

    def finish_action(self, server: Server, name: str, message: str | None = None) -> None:
        """Write the end of the newest action of this name into os-instance-actions."""
        for action in reversed(server.actions):
            if action["action"] == name:
                action.update(message=message, updated_at=self.model.clock.now())
                return


class AddressRefused(Exception):
    """Neutron refused an address, and Nova tries the build on another host. Its argument is what Neutron said."""


class Boot:
    """From POST to ACTIVE or ERROR."""

    def __init__(self, lifecycle: Lifecycle):
        self._lifecycle = lifecycle
        self._model = lifecycle.model
        lifecycle.steps.update(
            {
                "schedule": self._schedule,
                "claimed": self._claimed,
                "networking": self._networking,
                "spawning": self._spawning,
                "booted": self._booted,
            }
        )

    def begin(self, server: Server) -> None:
        """Start the build of a server that a POST has just made: BUILD/scheduling, without host, port and
        allocation."""
        self._lifecycle.next_step(server, "schedule", self._model.settings.schedule_seconds)

    def _after(self, server: Server, step: str, share: float) -> None:
        """Set the next step of a build, after a share of `boot_seconds`."""
        if server.delete_asked:
            server.task_state = "deleting"  # BUILD/deleting: Nova finishes the build first (measured)
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, step, self._model.settings.boot_seconds * share)

    def _schedule(self, server: Server) -> None:
        """Choose a host: BUILD/scheduling with an allocation, or ERROR."""
        try:
            if self._model.server_faults.take("no_valid_host", server):
                raise NoValidHost(ALL_FILTERED)
            host = self._model.scheduler.place(server)
        except NoValidHost as error:
            self.fail(
                server,
                "Exceeded maximum number of retries. Exhausted all hosts available for retrying build "
                f"failures for instance {server.id}."
                if server.tried_hosts
                else str(error),
            )
            return
        server.chosen = host.name
        if self._model.hosts.works(host) and not self._model.server_faults.take("build_hangs", server):
            self._after(server, "claimed", 0.1)
        else:
            self._lifecycle.touch(server)
            self._lifecycle.hang(server)  # An allocation and no hostId, for ever (measured).

    def _claimed(self, server: Server) -> None:
        """The host has accepted the server: BUILD/None with an allocation."""
        server.task_state, server.az = None, self._model.hosts.all[server.chosen or ""].az
        self._after(server, "networking", 0.1)

    def _networking(self, server: Server) -> None:
        """BUILD/networking with its hostId."""
        server.task_state, server.host = "networking", server.chosen
        self._after(server, "spawning", 0.2)

    def _spawning(self, server: Server) -> None:
        """BUILD/spawning with its ports."""
        if self._lifecycle.host_is_silent(server):
            self._lifecycle.hang(server)
            return
        try:
            self._plug(server)
            volumes.attach(self._model, server)
        except AddressRefused as error:
            self._retry(server, str(error))
            return
        except ApiError as error:
            self._lifecycle.delete_ports(server)
            self._model.placement.release(server.id)
            self.fail(server, f"Build of instance {server.id} aborted: {error.message}")
            return
        server.task_state = "spawning"
        self._after(server, "booted", 0.6)

    def _plug(self, server: Server) -> None:
        """Attach the ports that the user made, and make one in each network. Raises ApiError with the end of Nova's
        message, and AddressRefused."""
        ports, host = self._model.ports, server.host or ""
        for nic in server.nics or [{"uuid": network_id} for network_id in server.network_ids]:
            if nic.get("port"):
                own = ports.all.get(nic["port"])
                if own is None or own.device_id:
                    raise conflict("Failed to allocate the network(s), not rescheduling.")
                ports.plug(own, server.id, host)
                continue
            network = self._model.networks[nic["uuid"]]
            self._check_address(server, network, nic.get("fixed_ip"))
            try:
                now = self._model.clock.now()
                port = ports.add(network, server.project_id, server.id, host, now, nic.get("fixed_ip"))
            except ApiError:
                raise conflict(
                    "Failed to allocate the network(s) with error No fixed IP addresses available for network: "
                    f"{network.id}, not rescheduling."
                ) from None
            if server.groups:
                port.groups = list(server.groups)
                ports.save(port)

    def _check_address(self, server: Server, network: Network, address: str | None) -> None:
        """Raise AddressRefused for an address that Neutron does not let the project choose, or that is taken, and
        ApiError for one that the network does not have (measured)."""
        if not address:
            return
        if not server.by_admin and network.owner != server.project_id:
            raise AddressRefused(
                "((rule:create_port and (rule:create_port:fixed_ips and (rule:create_port:fixed_ips:ip_address))) and "
                "rule:create_port:fixed_ips) is disallowed by policy"
            )
        if not network.has(address):
            raise conflict(
                f"Invalid input received: Fixed IP {address} is not a valid ip address for network {network.id}."
            )
        if address in self._model.ports.addresses.get(network.id, ()):
            raise AddressRefused(f"Fixed IP {address} is already in use.")

    def _booted(self, server: Server) -> None:
        if self._lifecycle.host_is_silent(server):
            self._lifecycle.hang(server)
            return
        fault = self._model.server_faults.take("spawn_fails", server)
        if fault is not None:
            self._retry(server, fault.text)
            return
        self._activate(server)
        self._lifecycle.finish_action(server, "create")
        self._lifecycle.touch(server)
        if server.delete_asked:  # ACTIVE/None for about 0.1 s after a DELETE during BUILD (measured).
            self._lifecycle.next_step(server, "teardown", 0.1)

    def _activate(self, server: Server) -> None:
        server.vm_state, server.task_state, server.power_state = "active", None, 1
        server.launched_at = self._model.clock.now()

    def _retry(self, server: Server, text: str) -> None:
        """Try another host after a failed spawn, three hosts at most. hostId is empty meanwhile (measured)."""
        self._lifecycle.delete_ports(server)
        self._model.placement.release(server.id)
        server.tried_hosts.append(server.chosen or "")
        server.chosen = server.host = None
        server.task_state = "scheduling"
        if len(server.tried_hosts) >= MAX_ATTEMPTS:
            self.fail(
                server,
                f"Exceeded maximum number of retries. Exceeded max scheduling attempts {MAX_ATTEMPTS} "
                f"for instance {server.id}. Last exception: {text}"[:255],
            )
            return
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, "schedule", self._model.settings.schedule_seconds)

    def fail(self, server: Server, message: str) -> None:
        """Set ERROR, without host, allocation and ports. Clients see the fault a little later (measured)."""
        now = self._model.clock.now()
        server.vm_state, server.task_state, server.power_state = "error", None, 0
        server.chosen = server.host = None
        server.fault = {"code": 500, "created": seconds_text(now), "message": message}
        server.fault_seen_from = now + self._model.settings.fault_lag_seconds
        self._lifecycle.finish_action(server, "create", "Error")
        self._lifecycle.touch(server)
        if server.delete_asked:
            self._lifecycle.next_step(server, "purge", 0.0)

    def activate_at_once(self, server: Server, host_name: str | None) -> bool:
        """Make a new server ACTIVE at once on a host (None: any). False when no host has capacity."""
        server.asked_host = host_name
        try:
            host = self._model.scheduler.place(server)
        except NoValidHost:
            return False
        server.host, server.chosen, server.az = host.name, host.name, host.az
        self._activate(server)
        self._plug(server)
        self._lifecycle.touch(server)
        return True


class Deletion:
    """From DELETE to 404. `on_theft(project name, server, host name)` is called when a fault of the kind thief
    applies."""

    def __init__(self, lifecycle: Lifecycle, on_theft: Callable[[str, Server, str | None], None]):
        self._lifecycle = lifecycle
        self._model = lifecycle.model
        self._on_theft = on_theft
        lifecycle.steps.update(
            {"teardown": self._teardown, "destroyed": self._destroyed, "purge": self.purge, "reclaim": self.begin}
        )

    def begin(self, server: Server) -> None:
        """Start the delete. Another DELETE of the same server changes nothing, unless the first one hangs."""
        server.delete_tries += 1
        under_way = server.step not in (None, WAITING)
        if server.vm_state == "deleted" or (server.delete_asked and under_way):
            self._model.servers.save(server)
            return
        server.delete_asked, server.task_state = True, "deleting"
        self._lifecycle.touch(server)
        if server.chosen is None and server.step == "schedule":
            self._lifecycle.next_step(server, "purge", 0.05)  # Nova drops a request that is not scheduled yet.
        elif server.vm_state == "building" and under_way:
            return  # Nova finishes the build first (measured).
        elif server.host is None:
            # In cell0 (measured: 10 ms), offloaded, or on a host that never answered.
            self._lifecycle.next_step(server, "purge", 0.01)
        elif not self._model.hosts.is_up(self._model.hosts.all[server.host]):
            # Nova calls the host down and deletes without it (measured).
            self._lifecycle.next_step(server, "destroyed", 0.3)
        else:
            self._lifecycle.next_step(server, "teardown", self._model.settings.delete_seconds)

    def _teardown(self, server: Server) -> None:
        """The end of ACTIVE/deleting: delete the ports."""
        server.task_state = "deleting"
        host = self._model.hosts.all[server.host or ""]
        hangs = server.delete_tries < 2 and self._model.server_faults.take("delete_hangs", server)
        if hangs or (not self._model.hosts.works(host) and self._model.hosts.is_up(host)):
            self._lifecycle.hang(server)
            return
        if self._model.server_faults.take("delete_fails", server):
            self._fail(server)
            return
        self._lifecycle.delete_ports(server)
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, "destroyed", 0.1)

    def _fail(self, server: Server) -> None:
        """Set ERROR. The server keeps its host and its allocation."""
        server.delete_asked, server.vm_state, server.task_state = False, "error", None
        server.fault = {"code": 500, "created": seconds_text(self._model.clock.now()), "message": "Teardown failed"}
        self._lifecycle.touch(server)

    def _destroyed(self, server: Server) -> None:
        """Delete the allocation. Clients see DELETED for a moment (measured)."""
        self._lifecycle.delete_ports(server)
        server.vm_state, server.task_state, server.power_state = "deleted", None, 0
        server.terminated_at = self._model.clock.now()
        self._lifecycle.release(server)
        fault = self._model.server_faults.take("thief", server)
        if fault is not None:
            self._on_theft(fault.project, server, server.chosen)
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, "purge", 0.1)

    def purge(self, server: Server) -> None:
        """End a server, whatever its state is: from now on GET answers 404, and only changes-since still shows it."""
        self._lifecycle.delete_ports(server)
        self._lifecycle.release(server)
        self._model.groups.leave(server)
        self._lifecycle.finish_action(server, "delete")
        server.vm_state, server.task_state, server.power_state, server.step = "deleted", None, 0, None
        server.terminated_at = server.terminated_at or self._model.clock.now()
        self._lifecycle.touch(server)

    def resume_on_host(self, host_name: str) -> None:
        """Go on with the servers that wait for a host that has come back."""
        for server_id in list(self._model.servers.on_host.get(host_name, ())):
            server = self._model.servers.all[server_id]
            if server.step != WAITING:
                continue
            if server.vm_state == "building":
                step = "claimed" if server.host is None else "booted" if self._model.ports.of(server_id) else "spawning"
                self._lifecycle.next_step(server, step, 0.1)
            elif server.delete_asked:
                self._lifecycle.next_step(server, "teardown", 0.1)
            else:
                self._lifecycle.next_step(server, "settle", 0.1)


class StateChanges:
    """What changes a server's state between boot and delete: stop, start, reboot and the like, and shelving."""

    def __init__(self, lifecycle: Lifecycle):
        self._lifecycle = lifecycle
        self._model = lifecycle.model
        lifecycle.steps.update(
            {
                "settle": self._settle,
                "shelved": self._shelved,
                "offloaded": self._offloaded,
                "unshelve_spawn": self._unshelve_spawn,
                "unshelved": self._unshelved,
            }
        )

    def begin(self, server: Server, tasks: tuple[str, ...], outcome: str, power: int, action: str) -> None:
        """Start an action: `tasks` are its task_states one after another, `outcome` and `power` the vm_state and the
        power_state in the end. Host, allocation and ports stay (measured)."""
        server.task_state = tasks[0]
        server.pending = {
            "tasks": list(tasks[1:]),
            "seconds": self._model.settings.stop_seconds / len(tasks),
            "vm_state": outcome,
            "power_state": power,
            "action": action,
        }
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, "settle", server.pending["seconds"])

    def _settle(self, server: Server) -> None:
        if self._lifecycle.host_is_silent(server):
            self._lifecycle.hang(server)
            return
        pending = server.pending or {}
        if pending.get("tasks"):
            server.task_state = pending["tasks"].pop(0)
            self._lifecycle.touch(server)
            self._lifecycle.next_step(server, "settle", pending["seconds"])
            return
        if server.pending is not None:
            server.vm_state, server.power_state = pending["vm_state"], pending["power_state"]
            self._lifecycle.finish_action(server, pending["action"])
            server.pending = None
        server.task_state = None
        if server.vm_state == "active":
            server.fault = None
        self._lifecycle.touch(server)

    def shelve(self, server: Server) -> None:
        """Start shelving: ACTIVE/shelving, SHELVED/shelving_offloading, then SHELVED_OFFLOADED (measured)."""
        server.task_state = "shelving"
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, "shelved", self._model.settings.stop_seconds / 2)

    def _shelved(self, server: Server) -> None:
        server.vm_state, server.task_state, server.power_state = "shelved", "shelving_offloading", 4
        self._lifecycle.finish_action(server, "shelve")
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, "offloaded", self._model.settings.stop_seconds / 2)

    def _offloaded(self, server: Server) -> None:
        """Give up host and allocation. The ports stay, unbound (measured)."""
        self._model.placement.release(server.id)
        server.vm_state, server.task_state, server.power_state = "shelved_offloaded", None, 4
        server.host = server.chosen = None
        for port in self._model.ports.of(server.id):
            port.status, port.host = "DOWN", ""
            self._model.ports.save(port)
        self._lifecycle.touch(server)

    def unshelve(self, server: Server, host: str | None) -> None:
        """Start unshelving, which needs a host: this one, or with None any."""
        server.task_state, server.pending = "unshelving", {"host": host}
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, "unshelve_spawn", self._model.settings.schedule_seconds)

    def _unshelve_spawn(self, server: Server) -> None:
        """Claim a host. In a full cloud the server stays offloaded without a fault; only its action says Error
        (measured)."""
        try:
            if server.host is None:
                host = self._model.scheduler.place(server, host=(server.pending or {}).get("host"))
                server.host = server.chosen = host.name
                server.az = host.az
        except NoValidHost:
            server.task_state = server.pending = None
            self._lifecycle.finish_action(server, "unshelve", "Error")
            self._lifecycle.touch(server)
            return
        server.task_state = "spawning"
        self._lifecycle.touch(server)
        self._lifecycle.next_step(server, "unshelved", self._model.settings.boot_seconds)

    def _unshelved(self, server: Server) -> None:
        server.task_state = server.pending = None
        server.vm_state, server.power_state, server.launched_at = "active", 1, self._model.clock.now()
        self._lifecycle.finish_action(server, "unshelve")
        if server.shelved_image in self._model.images:
            self._model.images.remove(server.shelved_image or "")
        server.shelved_image = None
        for port in self._model.ports.of(server.id):
            port.status, port.host = ("ACTIVE", server.host) if server.host else ("DOWN", "")
            self._model.ports.save(port)
        self._lifecycle.touch(server)
