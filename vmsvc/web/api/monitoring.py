"""What monitoring asks: `/healthz`, `/readyz` and `/metrics`."""

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from vmsvc import __version__
from vmsvc.domain.errors import CloudUnavailable, Forbidden, TooManyRequests, Unauthenticated, Unavailable
from vmsvc.web.http.handler import Handler, route
from vmsvc.web.http.settings import is_loopback
from vmsvc.web.openapi import responses
from vmsvc.web.openapi.operations import Response, describe


class ProbeHandler(Handler):
    """A probe's Host header is not checked: it calls by whatever address it knows, and learns no secret."""

    tag = "status"

    def check_host(self) -> None:
        """Never raises."""


class HealthHandler(ProbeHandler):
    """Liveness."""

    address = "/healthz"

    @describe(Response(200, "The service is alive.", responses.HealthView, {"status": "ok", "version": __version__}))
    async def get(self) -> None:
        """Show that the event loop answers, and which release runs."""
        self.finish({"status": "ok", "version": __version__})


class ReadyHandler(ProbeHandler):
    """Readiness."""

    address = "/readyz"

    @describe(
        Response(
            200, "All parts work.", responses.ReadyView, {"status": "ready", "parts": {"cloud": "ok", "feed": "ok"}}
        ),
        Response(
            503,
            "A part does not work.",
            responses.ReadyView,
            {"status": "not ready", "parts": {"feed": "ok", "cloud": "no answer since 12:00:03"}},
        ),
    )
    async def get(self) -> None:
        """Show for each part of the service whether it works.

        503 when a part does not work. `ok; …` means that a part works and how it is impaired."""
        commands = self.dependencies.commands
        parts, notes = commands.readiness(), commands.notes()
        ready = not any(parts.values())
        self.set_status(200 if ready else 503)
        self.finish(
            {
                "status": "ready" if ready else "not ready",
                "parts": {
                    name: problem or ("ok; " + notes[name] if name in notes else "ok")
                    for name, problem in parts.items()
                },
            }
        )


class ExpositionHandler(Handler):
    """What Prometheus scrapes."""

    address = "/metrics"
    tag = "metrics"

    async def admit(self) -> None:
        """Metrics help an attacker, so only this machine itself gets them without showing who it is."""
        await super().admit()
        # A proxy on this machine connects from loopback too, but passes on the name by which it was called.
        peer = self.request.remote_ip or ""
        local_peers = self.dependencies.settings.local_peers
        if not ((is_loopback(peer) or peer in local_peers) and is_loopback(self.host_name or "")):
            await self.dependencies.auth.principal(self.request)

    @describe(
        Response(200, "All instruments."),
        errors=(Unauthenticated, Forbidden, TooManyRequests, CloudUnavailable, Unavailable),
        guarded=True,
    )
    async def get(self) -> None:
        """All instruments in Prometheus' text format."""
        await self.dependencies.metrics.refresh()
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.dependencies.metrics.registry))


routes = [route(HealthHandler), route(ReadyHandler), route(ExpositionHandler)]
