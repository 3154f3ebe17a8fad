"""The Tornado application and its HTTP server: one place where bootstrap and tests build them alike."""

import functools
import logging
from typing import Any

from prometheus_client import CollectorRegistry
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from vmsvc.service.hub import Hub
from vmsvc.web import assets, channel, metrics, openapi, room, status, vms
from vmsvc.web.auth import Auth, NoAuth
from vmsvc.web.base import Unknown
from vmsvc.web.evictions import routes as eviction_routes
from vmsvc.web.limits import Limits
from vmsvc.web.settings import MAX_DRAIN, WebSettings

access_log = logging.getLogger("vmsvc.access")

ROUTES = [*vms.routes, *eviction_routes, *channel.routes, *room.routes, *status.routes, *metrics.routes,
          *openapi.routes]


def log_request(handler: RequestHandler) -> None:
    """Count the request, and write one line; never a body, never a query (a ticket may be in it)."""
    handler.settings["metrics"].answered(handler)
    request = handler.request
    notable = request.method not in ("GET", "HEAD") or handler.get_status() >= 400
    access_log.log(logging.INFO if notable else logging.DEBUG, "%s %s %d %.1f ms %s %s", request.method,
                   request.path, handler.get_status(), 1000 * request.request_time(), request.remote_ip,
                   getattr(handler, "request_id", "-"))


@functools.cache
def api_document() -> dict[str, Any]:
    """The OpenAPI document of all routes."""
    return openapi.document(handler for _, handler in ROUTES)


def make_app(commands: Any, hub: Hub, settings: WebSettings, auth: Auth | None = None, *, evictions: Any,
             registry: CollectorRegistry | None = None) -> Application:
    """The application. `commands` and `evictions` are the service (see `service.commands`, `service.evictions`),
    `hub` what its feed publishes to; `registry` is where `/metrics` reads, for instruments of other layers too."""
    limits = Limits(settings.max_in_flight, settings.write_rate, settings.write_burst)
    return Application(
        [*ROUTES, *assets.routes(settings)],
        default_handler_class=Unknown,
        commands=commands,
        evictions=evictions,
        hub=hub,
        web=settings,
        auth=auth or NoAuth(),
        limits=limits,
        metrics=metrics.WebMetrics(registry or CollectorRegistry(), hub, limits),
        document=api_document(),
        log_function=log_request,
        cross_origin_protection=True,
        trusted_origins=settings.trusted_origins,
        websocket_max_message_size=4096,
    )


def make_server(app: Application) -> HTTPServer:
    """A server with limits on the time and the size of what a peer may send; it does not listen yet."""
    settings: WebSettings = app.settings["web"]
    return HTTPServer(app, max_header_size=32 * 1024, max_body_size=MAX_DRAIN,
                      idle_connection_timeout=settings.header_timeout, body_timeout=settings.body_timeout)
