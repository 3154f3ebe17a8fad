"""The Tornado application and its HTTP server: one place where `bootstrap` and tests build them alike."""

import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ssl import SSLContext
from typing import Any, cast

from prometheus_client import CollectorRegistry
from tornado.http1connection import HTTP1ServerConnection
from tornado.httputil import HTTPServerRequest
from tornado.web import Application as TornadoApplication, RequestHandler, stream_request_body

from vmsvc.service.commands import Commands
from vmsvc.service.events.hub import Hub
from vmsvc.service.evictions.record import Evictions
from vmsvc.service.identity.tickets import Tickets
from vmsvc.service.webhooks.endpoints import Webhooks
from vmsvc.web.api import capacity, evictions as record, identity, monitoring, vms, webhooks as webhook_api
from vmsvc.web.channel import handlers as channel
from vmsvc.web.http import proxies, static_files
from vmsvc.web.http.auth import Auth, NoAuth
from vmsvc.web.http.handler import SAFE, Dependencies, Handler, ServerOptions, Traced, UnknownAddress
from vmsvc.web.http.limits import Limits
from vmsvc.web.http.metrics import WebMetrics
from vmsvc.web.http.request import normalize_target, shorten
from vmsvc.web.http.server import Connections, UnsentResponses, WebServer
from vmsvc.web.http.settings import MAX_DRAIN, WebSettings
from vmsvc.web.openapi import document

access_log = logging.getLogger("vmsvc.access")

#: The headers of a request with a body. (Tornado parses an empty body by its Content-Type.)
_BODY_HEADERS = ("Content-Length", "Transfer-Encoding", "Content-Type")

_WATCHERS = 50  # connections to the metrics' own port

#: The most frequent request first: Tornado tries one rule after the other.
ROUTES = [
    *vms.routes,
    *record.routes,
    *channel.routes,
    *webhook_api.routes,
    *capacity.routes,
    *identity.routes,
    *monitoring.routes,
    *document.routes,
]


@functools.cache
def api_document() -> dict[str, Any]:
    """The OpenAPI document of all routes."""
    return document.document(handler for _, handler in ROUTES)


class Application(TornadoApplication):
    """Writes the client's address into each request before anything is decided about it, and streams bodies."""

    def __init__(self, dependencies: Dependencies, rules: list[Any]):
        settings = dependencies.settings
        super().__init__(
            [*rules, (r"\*", ServerOptions)],
            default_handler_class=UnknownAddress,
            dependencies=dependencies,
            document=api_document(),
            log_function=self._record,
            cross_origin_protection=True,
            trusted_origins=settings.trusted_origins,
            websocket_max_message_size=4096,
        )

    @property
    def dependencies(self) -> Dependencies:
        """What the handlers work with."""
        found: Dependencies = self.settings["dependencies"]
        return found

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Tornado's hook: the headers of a request have come."""
        dependencies = self.dependencies
        dependencies.connections.request_received(cast(HTTP1ServerConnection, request.server_connection).stream)
        normalize_target(request)
        proxies.apply_forwarded_headers(request, dependencies.settings.trusted_proxies)
        return super().find_handler(request, **kwargs)

    def get_handler_delegate(
        self, request: HTTPServerRequest, target_class: type[RequestHandler], *args: Any, **kwargs: Any
    ) -> Any:
        """Tornado's hook. A stream costs two more turns of the loop, so a request without a body is not streamed."""
        if any(name in request.headers for name in _BODY_HEADERS):
            target_class = _streaming(target_class)  # type: ignore[arg-type]  # mypy: its classes are not Hashable
        return super().get_handler_delegate(request, target_class, *args, **kwargs)

    def _record(self, handler: RequestHandler) -> None:
        """Count a response and write one log line; never a body, never a query (a ticket may be in it)."""
        request, status, address = handler.request, handler.get_status(), getattr(handler, "address", "unknown")
        duration_ms = round(1000 * request.request_time(), 1)
        self.dependencies.metrics.count_response(request, address, status)
        if isinstance(handler, Handler) and address.startswith("/api/"):
            self.dependencies.traced(handler.request_id, request.method or "", address, status, request.request_time())
        level = logging.INFO if request.method not in SAFE or status >= 400 else logging.DEBUG
        if access_log.isEnabledFor(level):
            access_log.log(
                level,
                "%s %s %d %.1f ms %s %s %s",
                request.method,
                shorten(request.path, 200),
                status,
                duration_ms,
                request.remote_ip,
                getattr(getattr(handler, "principal", None), "name", "-"),
                getattr(handler, "request_id", "-"),
                extra={
                    "fields": {
                        "method": request.method,
                        "route": address,
                        "status": status,
                        "duration_ms": duration_ms,
                        "vm": _vm_of(handler, address),
                    }
                },
            )


def _vm_of(handler: RequestHandler, address: str) -> str | None:
    """What the path names as the VM; None where it names none, and where it is no UTF-8 (Tornado then has no arguments
    of it)."""
    arguments = getattr(handler, "path_args", None)
    return shorten(arguments[0], 40) if arguments and address.startswith("/api/v1/vm/{") else None


@functools.cache
def _streaming(handler: type[RequestHandler]) -> type[RequestHandler]:
    return stream_request_body(type(handler.__name__, (handler,), {"__module__": handler.__module__}))


async def _nothing() -> None:
    pass


def make_app(
    commands: Commands,
    hub: Hub,
    settings: WebSettings,
    auth: Auth | None = None,
    *,
    evictions: Evictions,
    tickets: Tickets,
    webhooks: Webhooks,
    registry: CollectorRegistry | None = None,
    refresh_metrics: Callable[[], Awaitable[None]] = _nothing,
    traced: Traced = lambda request_id, method, route, status, seconds: None,
) -> Application:
    """The application. `registry` is what `/metrics` shows; other layers may have instruments in it too, and
    `refresh_metrics` is awaited before it is shown."""
    limits = Limits(
        settings.max_in_flight, settings.write_rate, settings.write_burst, settings.read_rate, settings.read_burst
    )
    unsent = UnsentResponses(settings.max_unsent)
    dependencies = Dependencies(
        settings=settings,
        commands=commands,
        evictions=evictions,
        tickets=tickets,
        webhooks=webhooks,
        hub=hub,
        auth=auth or NoAuth(),
        limits=limits,
        connections=Connections(settings.max_connections, settings.answer_timeout),
        unsent=unsent,
        metrics=WebMetrics(registry or CollectorRegistry(), hub, limits, unsent, refresh_metrics),
        traced=traced,
    )
    return Application(dependencies, [*ROUTES, *static_files.routes(settings.static_path), *document.swagger_routes])


def make_metrics_app(app: Application, address: str) -> Application:
    """What serves on `address` beside `app`: its metrics and probes alone, for everybody who can connect there. It has
    connections of its own, so that clients cannot keep those who watch the service out."""
    settings = replace(app.dependencies.settings, address=address, hosts=frozenset())
    connections = Connections(_WATCHERS, settings.answer_timeout)
    return Application(
        replace(app.dependencies, settings=settings, auth=NoAuth(), connections=connections), [*monitoring.routes]
    )


def make_server(app: Application, tls: SSLContext | None = None) -> WebServer:
    """A server with limits on the number of peers, and on the time and the size of what each may send. It does not
    listen yet."""
    settings = app.dependencies.settings
    return WebServer(
        app,
        app.dependencies.connections,
        ssl_options=tls,
        max_header_size=32 * 1024,
        max_body_size=MAX_DRAIN,
        idle_connection_timeout=settings.header_timeout,
        body_timeout=settings.body_timeout,
    )
