"""How the service is: `/healthz` and `/readyz`."""

from vmsvc import __version__
from vmsvc.web import answers
from vmsvc.web.base import Handler, route
from vmsvc.web.describe import Answer, describe


class Probe(Handler):
    """A probe calls us by whatever address it knows and learns no secret, so its Host is not checked."""

    def check_host(self) -> None:
        """Any."""


class Health(Probe):
    """Is the loop alive?"""

    address = "/healthz"

    @describe(Answer(200, "It is.", answers.HealthView, {"status": "ok", "version": __version__}))
    async def get(self) -> None:
        """Answer at once, touching nothing but the loop, and say which release runs."""
        self.finish({"status": "ok", "version": __version__})


class Ready(Probe):
    """May traffic come here?"""

    address = "/readyz"

    @describe(Answer(200, "All parts work.", answers.ReadyView,
                     {"status": "ready", "parts": {"cloud": "ok", "feed": "ok"}}),
              Answer(503, "A part does not.", answers.ReadyView,
                     {"status": "not ready", "parts": {"feed": "ok", "cloud": "no answer since 12:00:03"}}))
    async def get(self) -> None:
        """Say of each part whether it works, in words; 503 when one does not. After `ok;` a part
        says how it is impaired, though it works."""
        commands = self.settings["commands"]
        parts, notes = commands.readiness(), commands.notes()
        ready = not any(parts.values())
        self.set_status(200 if ready else 503)
        self.finish({"status": "ready" if ready else "not ready",
                     "parts": {name: trouble or ("ok; " + notes[name] if name in notes else "ok")
                               for name, trouble in parts.items()}})


routes = [route(Health), route(Ready)]
