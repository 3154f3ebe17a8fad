"""The life of a server inside the cloud: a chain of steps, each due at a time, each kept before it is answered.

Order of a boot and of a delete as measured (sections 1, 2 and 4). A step that finds its host silent waits for it.
"""

from collections.abc import Callable

from vmsvc.sim.catalog import Catalog
from vmsvc.sim.clock import Clock, seconds_text
from vmsvc.sim.groups import Groups
from vmsvc.sim.hosts import Hosts
from vmsvc.sim.placement import Placement
from vmsvc.sim.ports import Ports
from vmsvc.sim.scheduler import MAX_ATTEMPTS, NoValidHost, Scheduler
from vmsvc.sim.servers import Server, Servers
from vmsvc.sim.settings import Settings
from vmsvc.sim.troubles import Troubles

WAITING = "waiting"  # for its host, or for another DELETE


class Life:
    """Moves servers from step to step."""

    def __init__(self, clock: Clock, settings: Settings, servers: Servers, hosts: Hosts, placement: Placement,
                 ports: Ports, catalog: Catalog, groups: Groups, troubles: Troubles):
        self._clock = clock
        self._settings = settings
        self._servers = servers
        self._hosts = hosts
        self._placement = placement
        self._ports = ports
        self._catalog = catalog
        self._groups = groups
        self._troubles = troubles
        self._scheduler = Scheduler(hosts, placement, catalog, groups)

    def resume(self) -> None:
        """After a restart: everything that was under way goes on when it is due."""
        for server in self._servers.all.values():
            if server.step and server.step != WAITING:
                self._wait(server)

    def then(self, server: Server, step: str, seconds: float) -> None:
        """The next step, so many seconds from now; it replaces one that waits."""
        server.step, server.due = step, self._clock.now() + seconds
        self._servers.save(server)
        self._wait(server)

    def _wait(self, server: Server) -> None:
        due, step = server.due, server.step

        def run() -> None:
            if server.step == step and server.due == due:
                server.step = None
                self._steps()[step](server)
        self._clock.at(due, run)

    def _steps(self) -> dict[str, Callable[[Server], None]]:
        return {"schedule": self._schedule, "claimed": self._claimed, "networking": self._networking,
                "spawning": self._spawning, "booted": self._booted, "teardown": self._teardown,
                "destroyed": self._destroyed, "purge": self._purge, "settle": self._settle, "reclaim": self.delete,
                "offloaded": self._offloaded, "unshelved": self._unshelved}

    def _touch(self, server: Server) -> None:
        self._servers.touch(server, self._clock.now())

    # Boot

    def begin(self, server: Server) -> None:
        """A new server, as its POST leaves it."""
        self._servers.save(server)
        self.then(server, "schedule", self._settings.schedule_seconds)

    def _schedule(self, server: Server) -> None:
        try:
            trouble = self._troubles.strike("no_valid_host", server)
            if trouble is not None:
                raise NoValidHost("No valid host was found. There are not enough hosts available.")
            host = self._scheduler.place(server)
        except NoValidHost as error:
            self.fail(server, f"Exceeded maximum number of retries. Exhausted all hosts available for retrying build "
                      f"failures for instance {server.id}." if server.tried_hosts else str(error))
            return
        server.chosen = host.name
        self._touch(server)
        if self._hosts.works(host) and self._troubles.strike("build_hangs", server) is None:
            self.then(server, "claimed", self._settings.boot_seconds * 0.1)
        else:
            self._hang(server)  # BUILD/scheduling with an allocation and no hostId (measured, section 2)

    def _claimed(self, server: Server) -> None:
        server.task_state, server.az = None, self._hosts.all[server.chosen].az
        self._touch(server)
        self.then(server, "networking", self._settings.boot_seconds * 0.1)

    def _networking(self, server: Server) -> None:
        server.task_state, server.host = "networking", server.chosen
        self._mark_delete(server)
        self._touch(server)
        self.then(server, "spawning", self._settings.boot_seconds * 0.2)

    def _spawning(self, server: Server) -> None:
        if self._hangs_with_host(server):
            return
        for network_id in server.network_ids:
            self._ports.add(self._catalog.networks[network_id], server.project_id, server.id, server.host,
                            self._clock.now())
        server.task_state = "spawning"
        self._mark_delete(server)
        self._touch(server)
        self.then(server, "booted", self._settings.boot_seconds * 0.6)

    def _booted(self, server: Server) -> None:
        if self._hangs_with_host(server):
            return
        trouble = self._troubles.strike("spawn_fails", server)
        if trouble is not None:
            self._retry(server, trouble.text)
            return
        server.vm_state, server.task_state, server.power_state = "active", None, 1
        server.launched_at = self._clock.now()
        self.finish_action(server, "create")
        self._touch(server)
        if server.delete_asked:  # ACTIVE/None for about 0.1 s after a DELETE during BUILD (measured, section 4)
            self.then(server, "teardown", 0.1)

    def _retry(self, server: Server, text: str) -> None:
        """The spawn failed: another host, up to three (measured, section 2)."""
        self._drop_ports(server)
        self._placement.release(server.id)
        server.tried_hosts.append(server.chosen)
        server.chosen = server.host = None
        server.task_state = "scheduling"
        if len(server.tried_hosts) >= MAX_ATTEMPTS:
            self.fail(server, f"Exceeded maximum number of retries. Exceeded max scheduling attempts {MAX_ATTEMPTS} "
                      f"for instance {server.id}. Last exception: {text}"[:255])
            return
        self._touch(server)
        self.then(server, "schedule", self._settings.schedule_seconds)

    def fail(self, server: Server, message: str) -> None:
        """ERROR without host, allocation or port; the fault shows a little later (measured, section 2)."""
        now = self._clock.now()
        server.vm_state, server.task_state, server.power_state = "error", None, 0
        server.chosen = server.host = None
        server.fault = {"code": 500, "created": seconds_text(now), "message": message}
        server.fault_seen_from = now + self._settings.fault_lag_seconds
        self.finish_action(server, "create", "Error")
        self._touch(server)
        if server.delete_asked:
            self.then(server, "purge", 0.0)

    @staticmethod
    def _mark_delete(server: Server) -> None:
        if server.delete_asked:
            server.task_state = "deleting"  # BUILD/deleting: the build runs to its end (measured, section 4)

    # Delete

    def delete(self, server: Server) -> None:
        """What a DELETE begins. Asking again changes nothing, unless the first one hangs."""
        server.delete_tries += 1
        if server.vm_state == "deleted":
            return
        if server.delete_asked and server.step not in (None, WAITING):
            self._servers.save(server)
            return
        server.delete_asked = True
        building = server.vm_state == "building"
        server.task_state = "deleting"
        self._touch(server)
        if server.chosen is None and server.step == "schedule":
            self.then(server, "purge", 0.05)  # not scheduled yet: the request is dropped
        elif building and server.step not in (None, WAITING):
            return
        elif server.host is None:
            self.then(server, "purge", 0.01)  # cell0, offloaded, or its host never answered
        elif self._is_local(server):
            self.then(server, "destroyed", 0.3)  # Nova calls the host down: it deletes without it (measured)
        else:
            self.then(server, "teardown", self._settings.delete_seconds)

    def _is_local(self, server: Server) -> bool:
        return not self._hosts.is_up(self._hosts.all[server.host])

    def _teardown(self, server: Server) -> None:
        server.task_state = "deleting"
        host = self._hosts.all[server.host]
        hangs = server.delete_tries < 2 and self._troubles.strike("delete_hangs", server)
        if hangs or (not self._hosts.works(host) and self._hosts.is_up(host)):
            self._hang(server)
            return
        if self._troubles.strike("delete_fails", server):
            server.delete_asked, server.vm_state, server.task_state = False, "error", None
            server.fault = {"code": 500, "created": seconds_text(self._clock.now()), "message": "Teardown failed"}
            self._touch(server)
            return
        self._drop_ports(server)
        self._touch(server)
        self.then(server, "destroyed", 0.1)

    def _destroyed(self, server: Server) -> None:
        """DELETED shows for a moment, and the allocation is gone (measured, section 4)."""
        self._drop_ports(server)
        server.vm_state, server.task_state, server.power_state = "deleted", None, 0
        server.terminated_at = self._clock.now()
        self._placement.release(server.id)
        self._touch(server)
        self.then(server, "purge", 0.1)

    def _purge(self, server: Server) -> None:
        """404 from here on; changes-since still shows it."""
        self._drop_ports(server)
        self._placement.release(server.id)
        self._groups.leave(server)
        server.vm_state, server.task_state, server.power_state, server.step = "deleted", None, 0, None
        server.terminated_at = server.terminated_at or self._clock.now()
        self._touch(server)

    # The rest

    def busy(self, server: Server, task: str, outcome: str, power: int, action: str) -> None:
        """An action that takes a moment: `task` now, `outcome` as vm_state in the end."""
        server.task_state = task
        server.pending = {"vm_state": outcome, "power_state": power, "action": action}
        self._touch(server)
        self.then(server, "settle", self._settings.stop_seconds)

    def _settle(self, server: Server) -> None:
        if self._hangs_with_host(server):
            return
        if server.pending is not None:
            server.vm_state, server.power_state = server.pending["vm_state"], server.pending["power_state"]
            self.finish_action(server, server.pending["action"])
            server.pending = None
        server.task_state = None
        self._touch(server)

    def shelve(self, server: Server) -> None:
        """Offload: host and allocation go, ports stay (measured, section 7)."""
        server.task_state = "shelving_offloading"
        server.vm_state = "shelved"
        self._touch(server)
        self.then(server, "offloaded", self._settings.stop_seconds)

    def _offloaded(self, server: Server) -> None:
        self._placement.release(server.id)
        server.vm_state, server.task_state, server.power_state = "shelved_offloaded", None, 4
        server.host = server.chosen = None
        self._touch(server)

    def unshelve(self, server: Server) -> None:
        """A host again, if there is one."""
        server.task_state = "unshelving"
        self._touch(server)
        self.then(server, "unshelved", self._settings.schedule_seconds + self._settings.boot_seconds)

    def _unshelved(self, server: Server) -> None:
        """In a full cloud it stays offloaded, without a fault (measured, section 7)."""
        server.task_state = None
        try:
            if server.host is None:
                server.host = server.chosen = self._scheduler.place(server).name
            server.vm_state, server.power_state = "active", 1
        except NoValidHost:
            self.finish_action(server, "unshelve", "Error")
        self._touch(server)

    def vanish(self, server: Server) -> None:
        """Gone at once, as if an operator had deleted it in the database."""
        self._purge(server)

    def settle(self, server: Server, host_name: str | None) -> bool:
        """Make a new server ACTIVE at once on a host (None: any); False when there is no room."""
        server.asked_host = host_name
        try:
            host = self._scheduler.place(server)
        except NoValidHost:
            return False
        now = self._clock.now()
        server.host = server.chosen = host.name
        server.az, server.vm_state, server.task_state, server.power_state = host.az, "active", None, 1
        server.launched_at = now
        for network_id in server.network_ids:
            self._ports.add(self._catalog.networks[network_id], server.project_id, server.id, host.name, now)
        self._touch(server)
        return True

    def wake(self, host_name: str) -> None:
        """A host is back: what waited for it goes on."""
        for server_id in list(self._servers.on_host.get(host_name, ())):
            server = self._servers.all[server_id]
            if server.step != WAITING:
                continue
            if server.delete_asked and server.vm_state != "building":
                server.delete_tries = max(2, server.delete_tries)
                self.then(server, "teardown", 0.1)
            elif server.vm_state == "building":
                self.then(server, "claimed" if server.host is None else "booted", self._settings.boot_seconds * 0.1)
            else:
                self.then(server, "settle", 0.1)

    def finish_action(self, server: Server, name: str, message: str | None = None) -> None:
        """Write the end of the newest such action into os-instance-actions."""
        for action in reversed(server.actions):
            if action["action"] == name:
                action.update(message=message, updated_at=self._clock.now())
                return

    def _hangs_with_host(self, server: Server) -> bool:
        if server.host is None or self._hosts.works(self._hosts.all[server.host]):
            return False
        self._hang(server)
        return True

    def _hang(self, server: Server) -> None:
        server.step = WAITING
        self._servers.save(server)

    def _drop_ports(self, server: Server) -> None:
        for port in self._ports.of(server.id):
            self._ports.remove(port)
