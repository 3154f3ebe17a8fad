"""How the service is: `/healthz`, `/readyz`, and `/api/v1/capacity`."""

from vmsvc.web.api import ApiHandler
from vmsvc.web.base import Handler, route


class Probe(Handler):
    """A probe calls us by whatever address it knows and learns no secret, so its Host is not checked."""

    def check_host(self) -> None:
        """Any."""


class Health(Probe):
    """Is the loop alive?"""

    address = "/healthz"

    async def get(self) -> None:
        """Answer at once, touching nothing but the loop."""
        self.finish({"status": "ok"})


class Ready(Probe):
    """May traffic come here?"""

    address = "/readyz"

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

    async def get(self) -> None:
        """Show mode, quota, host room, and how many of each flavor fit now and after evictions."""
        self.finish(await self.commands.capacity())


routes = [route(Health), route(Ready), route(Capacity)]
