"""What takes a moment between boot and delete: stop, start, reboot and the like, and shelving (section 7)."""

from vmsvc.sim.life import Life
from vmsvc.sim.scheduler import NoValidHost
from vmsvc.sim.servers import Server


class Changes:
    """The steps of the actions."""

    def __init__(self, life: Life):
        self._life = life
        self._model = life.model
        life.steps.update({"settle": self._settle, "offloaded": self._offloaded, "unshelved": self._unshelved})

    def begin(self, server: Server, task: str, outcome: str, power: int, action: str) -> None:
        """`task` as task_state now; `outcome` as vm_state in the end. Host, allocation and port stay (measured)."""
        server.task_state = task
        server.pending = {"vm_state": outcome, "power_state": power, "action": action}
        self._life.touch(server)
        self._life.then(server, "settle", self._model.settings.stop_seconds)

    def _settle(self, server: Server) -> None:
        if self._life.host_is_silent(server):
            self._life.hang(server)
            return
        if server.pending is not None:
            server.vm_state, server.power_state = server.pending["vm_state"], server.pending["power_state"]
            self._life.finish_action(server, server.pending["action"])
            server.pending = None
        server.task_state = None
        self._life.touch(server)

    def shelve(self, server: Server) -> None:
        """SHELVED/shelving_offloading, then SHELVED_OFFLOADED (measured)."""
        server.vm_state, server.task_state = "shelved", "shelving_offloading"
        self._life.touch(server)
        self._life.then(server, "offloaded", self._model.settings.stop_seconds)

    def _offloaded(self, server: Server) -> None:
        """Host and allocation go, the ports stay, unbound (measured)."""
        self._model.placement.release(server.id)
        server.vm_state, server.task_state, server.power_state = "shelved_offloaded", None, 4
        server.host = server.chosen = None
        for port in self._model.ports.of(server.id):
            port.status, port.host = "DOWN", ""
            self._model.ports.changed(port)
        self._life.touch(server)

    def unshelve(self, server: Server) -> None:
        """A host again, if there is one."""
        server.task_state = "unshelving"
        self._life.touch(server)
        self._life.then(server, "unshelved", self._model.settings.schedule_seconds + self._model.settings.boot_seconds)

    def _unshelved(self, server: Server) -> None:
        """In a full cloud it stays offloaded, without a fault; only the action says Error (measured)."""
        server.task_state = None
        try:
            if server.host is None:
                server.host = server.chosen = self._model.scheduler.place(server).name
            server.vm_state, server.power_state = "active", 1
            self._life.finish_action(server, "unshelve")
        except NoValidHost:
            self._life.finish_action(server, "unshelve", "Error")
        for port in self._model.ports.of(server.id):
            port.status, port.host = ("ACTIVE", server.host) if server.host else ("DOWN", "")
            self._model.ports.changed(port)
        self._life.touch(server)
