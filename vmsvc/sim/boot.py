"""From POST to ACTIVE or ERROR, in the order that was measured (sections 1 and 2)."""

from vmsvc.sim.clock import seconds_text
from vmsvc.sim.life import Life
from vmsvc.sim.refusal import Refused
from vmsvc.sim.scheduler import ALL_FILTERED, MAX_ATTEMPTS, NoValidHost
from vmsvc.sim.servers import Server


class Boot:
    """The steps of a boot."""

    def __init__(self, life: Life):
        self._life = life
        self._model = life.model
        life.steps.update({"schedule": self._schedule, "claimed": self._claimed, "networking": self._networking,
                           "spawning": self._spawning, "booted": self._booted})

    def begin(self, server: Server) -> None:
        """A new server, as its POST leaves it: BUILD/scheduling, without host, port and allocation."""
        self._life.then(server, "schedule", self._model.settings.schedule_seconds)

    def _after(self, server: Server, step: str, share: float) -> None:
        """The next step, after a share of the boot's time."""
        if server.delete_asked:
            server.task_state = "deleting"  # BUILD/deleting: the build runs to its end (measured, section 4)
        self._life.touch(server)
        self._life.then(server, step, self._model.settings.boot_seconds * share)

    def _schedule(self, server: Server) -> None:
        """BUILD/scheduling with an allocation, or ERROR."""
        try:
            if self._model.troubles.strike("no_valid_host", server):
                raise NoValidHost(ALL_FILTERED)
            host = self._model.scheduler.place(server)
        except NoValidHost as error:
            self.fail(server, "Exceeded maximum number of retries. Exhausted all hosts available for retrying build "
                      f"failures for instance {server.id}." if server.tried_hosts else str(error))
            return
        server.chosen = host.name
        if self._model.hosts.works(host) and not self._model.troubles.strike("build_hangs", server):
            self._after(server, "claimed", 0.1)
        else:
            self._life.touch(server)
            self._life.hang(server)  # An allocation and no hostId, for good (measured, section 2: host died).

    def _claimed(self, server: Server) -> None:
        """BUILD/None with an allocation."""
        server.task_state, server.az = None, self._model.hosts.all[server.chosen].az
        self._after(server, "networking", 0.1)

    def _networking(self, server: Server) -> None:
        """BUILD/networking with its hostId."""
        server.task_state, server.host = "networking", server.chosen
        self._after(server, "spawning", 0.2)

    def _spawning(self, server: Server) -> None:
        """BUILD/spawning with its ports."""
        if self._life.host_is_silent(server):
            self._life.hang(server)
            return
        try:
            self._plug(server)
        except Refused:
            self._life.drop_ports(server)
            self._model.placement.release(server.id)
            self.fail(server, f"Build of instance {server.id} aborted: Failed to allocate the network(s) with error No "
                      f"fixed IP addresses available for network: {server.network_ids[0]}, not rescheduling.")
            return
        server.task_state = "spawning"
        self._after(server, "booted", 0.6)

    def _plug(self, server: Server) -> None:
        for network_id in server.network_ids:
            self._model.ports.add(self._model.catalog.networks[network_id], server.project_id, server.id, server.host,
                                  self._model.clock.now())

    def _booted(self, server: Server) -> None:
        if self._life.host_is_silent(server):
            self._life.hang(server)
            return
        trouble = self._model.troubles.strike("spawn_fails", server)
        if trouble is not None:
            self._retry(server, trouble.text)
            return
        self._activate(server)
        self._life.finish_action(server, "create")
        self._life.touch(server)
        if server.delete_asked:  # ACTIVE/None for about 0.1 s after a DELETE during BUILD (measured, section 4).
            self._life.then(server, "teardown", 0.1)

    def _activate(self, server: Server) -> None:
        server.vm_state, server.task_state, server.power_state = "active", None, 1
        server.launched_at = self._model.clock.now()

    def _retry(self, server: Server, text: str) -> None:
        """The spawn failed: another host, up to three; hostId blanks meanwhile (measured, section 2)."""
        self._life.drop_ports(server)
        self._model.placement.release(server.id)
        server.tried_hosts.append(server.chosen)
        server.chosen = server.host = None
        server.task_state = "scheduling"
        if len(server.tried_hosts) >= MAX_ATTEMPTS:
            self.fail(server, f"Exceeded maximum number of retries. Exceeded max scheduling attempts {MAX_ATTEMPTS} "
                      f"for instance {server.id}. Last exception: {text}"[:255])
            return
        self._life.touch(server)
        self._life.then(server, "schedule", self._model.settings.schedule_seconds)

    def fail(self, server: Server, message: str) -> None:
        """ERROR without host, allocation or port; the fault shows a little later (measured, section 2)."""
        now = self._model.clock.now()
        server.vm_state, server.task_state, server.power_state = "error", None, 0
        server.chosen = server.host = None
        server.fault = {"code": 500, "created": seconds_text(now), "message": message}
        server.fault_seen_from = now + self._model.settings.fault_lag_seconds
        self._life.finish_action(server, "create", "Error")
        self._life.touch(server)
        if server.delete_asked:
            self._life.then(server, "purge", 0.0)

    def settle(self, server: Server, host_name: str | None) -> bool:
        """Make a new server ACTIVE at once on a host (None: any); False when there is no room."""
        server.asked_host = host_name
        try:
            host = self._model.scheduler.place(server)
        except NoValidHost:
            return False
        server.host, server.chosen, server.az = host.name, host.name, host.az
        self._activate(server)
        self._plug(server)
        self._life.touch(server)
        return True
