"""From DELETE to 404, in the order that was measured (section 4)."""

from collections.abc import Callable

from vmsvc.sim.clock import seconds_text
from vmsvc.sim.life import WAITING, Life
from vmsvc.sim.servers import Server


class Departure:
    """The steps of a delete."""

    def __init__(self, life: Life):
        self._life = life
        self._model = life.model
        self.thief: Callable[[str, Server, str], None] = lambda project, victim, host: None
        life.steps.update({"teardown": self._teardown, "destroyed": self._destroyed, "purge": self.purge,
                           "reclaim": self.begin})

    def begin(self, server: Server) -> None:
        """What a DELETE starts. Asking again changes nothing, unless the first one hangs."""
        server.delete_tries += 1
        under_way = server.step not in (None, WAITING)
        if server.vm_state == "deleted" or (server.delete_asked and under_way):
            self._model.servers.save(server)
            return
        server.delete_asked, server.task_state = True, "deleting"
        self._life.touch(server)
        if server.chosen is None and server.step == "schedule":
            self._life.then(server, "purge", 0.05)  # Not scheduled yet: the request is dropped.
        elif server.vm_state == "building" and under_way:
            return  # The build runs to its end first (measured).
        elif server.host is None:
            self._life.then(server, "purge", 0.01)  # cell0 (measured: 10 ms), offloaded, or its host never answered.
        elif not self._model.hosts.is_up(self._model.hosts.all[server.host]):
            self._life.then(server, "destroyed", 0.3)  # Nova calls the host down and deletes without it (measured).
        else:
            self._life.then(server, "teardown", self._model.settings.delete_seconds)

    def _teardown(self, server: Server) -> None:
        """ACTIVE/deleting; at the end of it the ports are gone."""
        server.task_state = "deleting"
        host = self._model.hosts.all[server.host]
        hangs = server.delete_tries < 2 and self._model.troubles.strike("delete_hangs", server)
        if hangs or (not self._model.hosts.works(host) and self._model.hosts.is_up(host)):
            self._life.hang(server)
            return
        if self._model.troubles.strike("delete_fails", server):
            self._fail(server)
            return
        self._life.drop_ports(server)
        self._life.touch(server)
        self._life.then(server, "destroyed", 0.1)

    def _fail(self, server: Server) -> None:
        """ERROR with its host and its allocation."""
        server.delete_asked, server.vm_state, server.task_state = False, "error", None
        server.fault = {"code": 500, "created": seconds_text(self._model.clock.now()), "message": "Teardown failed"}
        self._life.touch(server)

    def _destroyed(self, server: Server) -> None:
        """DELETED shows for a moment, and the allocation is gone (measured)."""
        self._life.drop_ports(server)
        server.vm_state, server.task_state, server.power_state = "deleted", None, 0
        server.terminated_at = self._model.clock.now()
        self._model.placement.release(server.id)
        theft = self._model.troubles.strike("thief", server)
        if theft is not None:
            self.thief(theft.project, server, server.chosen)
        self._life.touch(server)
        self._life.then(server, "purge", 0.1)

    def purge(self, server: Server) -> None:
        """404 from here on, whatever it was doing; changes-since still shows it."""
        self._life.drop_ports(server)
        self._model.placement.release(server.id)
        self._model.groups.leave(server)
        server.vm_state, server.task_state, server.power_state, server.step = "deleted", None, 0, None
        server.terminated_at = server.terminated_at or self._model.clock.now()
        self._life.touch(server)

    def wake(self, host_name: str) -> None:
        """A host is back: what waited for it goes on."""
        for server_id in list(self._model.servers.on_host.get(host_name, ())):
            server = self._model.servers.all[server_id]
            if server.step != WAITING:
                continue
            if server.vm_state == "building":
                step = "claimed" if server.host is None else "booted" if self._model.ports.of(server_id) else "spawning"
                self._life.then(server, step, 0.1)
            elif server.delete_asked:
                self._life.then(server, "teardown", 0.1)
            else:
                self._life.then(server, "settle", 0.1)
