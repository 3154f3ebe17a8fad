"""The life of a server inside the cloud: a chain of steps, each due at a time, each kept before it is answered.

What happens in a step is in `boot`, `departure` and `changes`. Here is how one follows the other, across restarts
and silent hosts.
"""

from collections.abc import Callable

from vmsvc.sim.model import Model
from vmsvc.sim.servers import Server

WAITING = "waiting"  # for its host, or for another DELETE
Step = Callable[[Server], None]


class Life:
    """Runs the steps of all servers. The parts of life register theirs by name."""

    def __init__(self, model: Model):
        self.model = model
        self.steps: dict[str, Step] = {}

    def resume(self) -> None:
        """After a restart: everything that was under way goes on when it is due."""
        for server in self.model.servers.all.values():
            if server.step and server.step != WAITING:
                self._wait(server)

    def then(self, server: Server, step: str, seconds: float) -> None:
        """The next step, so many seconds from now; it replaces one that waits."""
        server.step, server.due = step, self.model.clock.now() + seconds
        self.model.servers.save(server)
        self._wait(server)

    def _wait(self, server: Server) -> None:
        due, step = server.due, server.step

        def run() -> None:
            if server.step == step and server.due == due:
                server.step = None
                self.steps[step](server)
        self.model.clock.at(due, run)

    def hang(self, server: Server) -> None:
        """Nothing more happens to it by itself."""
        server.step = WAITING
        self.model.servers.save(server)

    def host_is_silent(self, server: Server) -> bool:
        """True when it has a host that does not do what it is told."""
        return server.host is not None and not self.model.hosts.works(self.model.hosts.all[server.host])

    def touch(self, server: Server) -> None:
        """Keep it, with `updated` now."""
        self.model.servers.touch(server, self.model.clock.now())

    def drop_ports(self, server: Server) -> None:
        """Its ports go."""
        for port in self.model.ports.of(server.id):
            self.model.ports.remove(port)

    def finish_action(self, server: Server, name: str, message: str | None = None) -> None:
        """Write the end of the newest such action into os-instance-actions."""
        for action in reversed(server.actions):
            if action["action"] == name:
                action.update(message=message, updated_at=self.model.clock.now())
                return
