"""How the service is: `/healthz`, `/readyz`, and `/api/v1/capacity`."""

from vmsvc.domain.errors import CloudError, Timeout
from vmsvc.web import answers
from vmsvc.web.api import ApiHandler
from vmsvc.web.base import Handler, route
from vmsvc.web.describe import Answer, describe


class Probe(Handler):
    """A probe calls us by whatever address it knows and learns no secret, so its Host is not checked."""

    def check_host(self) -> None:
        """Any."""


class Health(Probe):
    """Is the loop alive?"""

    address = "/healthz"

    @describe(Answer(200, "It is.", answers.HealthView, {"status": "ok"}))
    async def get(self) -> None:
        """Answer at once, touching nothing but the loop."""
        self.finish({"status": "ok"})


class Ready(Probe):
    """May traffic come here?"""

    address = "/readyz"

    @describe(Answer(200, "All parts work.", answers.ReadyView,
                     {"status": "ready", "parts": {"database": "ok", "cloud": "ok"}}),
              Answer(503, "A part does not.", answers.ReadyView,
                     {"status": "not ready", "parts": {"database": "ok", "cloud": "no answer since 12:00:03"}}))
    async def get(self) -> None:
        """Say of each part whether it works, in words; 503 when one does not."""
        parts = self.settings["commands"].readiness()
        ready = not any(parts.values())
        self.set_status(200 if ready else 503)
        self.finish({"status": "ready" if ready else "not ready",
                     "parts": {name: trouble or "ok" for name, trouble in parts.items()}})


class Capacity(ApiHandler):
    """What there is room for."""

    address = "/api/v1/capacity"

    @describe(Answer(200, "The room there is.", answers.CapacityView, {
        "mode": "tenant", "quota": {"limit": {"cores": 20}, "used": {"cores": 12}, "free": {"cores": 8}}, "hosts": [],
        "flavors": [{"name": "m1.small", "fits_now": 4, "fits_after_evictions": 7}]}),
              errors=(CloudError, Timeout))
    async def get(self) -> None:
        """Show mode, quota, host room, and how many of each flavor fit now and after evictions."""
        self.finish(await self.commands.capacity())


routes = [route(Health), route(Ready), route(Capacity)]
