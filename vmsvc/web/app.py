"""The Tornado application and its HTTP server: one place where bootstrap and tests build them alike."""

import functools
import logging
import re
from ssl import SSLContext
from typing import Any

from prometheus_client import CollectorRegistry
from tornado.httputil import HTTPInputError, HTTPServerRequest, split_host_and_port
from tornado.web import Application, RequestHandler, stream_request_body

from vmsvc.service.hub import Hub
from vmsvc.web import assets, channel, metrics, openapi, proxies, room, status, vms
from vmsvc.web.auth import Auth, NoAuth
from vmsvc.web.base import SAFE, Unknown, WholeServer
from vmsvc.web.body import shorten
from vmsvc.web.evictions import routes as eviction_routes
from vmsvc.web.lane import Lane
from vmsvc.web.limits import Limits
from vmsvc.web.server import Server
from vmsvc.web.settings import MAX_DRAIN, WebSettings
from vmsvc.web.tickets import routes as ticket_routes
from vmsvc.web.unsent import Unsent

access_log = logging.getLogger("vmsvc.access")

#: A target in absolute form (RFC 9112, 3.2.2): its authority, and its path.
_ABSOLUTE = re.compile(r"(?i:https?)://([^/?#]*)(.*)")
_AUTHORITY = re.compile(r"[0-9A-Za-z._~!$&'()*+;=%:\[\]-]+")

#: The headers of a request with a body. (Tornado tries to understand an empty one by its Content-Type.)
_OF_BODIES = ("Content-Length", "Transfer-Encoding", "Content-Type")

ROUTES = [*vms.routes, *eviction_routes, *channel.routes, *ticket_routes, *room.routes, *status.routes, *metrics.routes,
          *openapi.routes]


def note(counted: metrics.WebMetrics, request: HTTPServerRequest, address: str, code: int, principal: str,
         request_id: str) -> None:
    """Count the request, and write one line; never a body, never a query (a ticket may be in it)."""
    counted.answered(request, address, code)
    notable = request.method not in SAFE or code >= 400
    level = logging.INFO if notable else logging.DEBUG
    if access_log.isEnabledFor(level):
        access_log.log(level, "%s %s %d %.1f ms %s %s %s", request.method, shorten(request.path, 200), code,
                       1000 * request.request_time(), request.remote_ip, principal, request_id)


def log_request(handler: RequestHandler) -> None:
    """Tornado's hook for the end of a handler."""
    note(handler.settings["metrics"], handler.request, getattr(handler, "address", "unknown"), handler.get_status(),
         getattr(getattr(handler, "principal", None), "name", "-"), getattr(handler, "request_id", "-"))


def read_target(request: HTTPServerRequest) -> None:
    """A target in absolute form, as a client sends it to what it takes for a proxy, means the same as its path, and its
    authority counts instead of the Host header. Raises HTTPInputError when that is none."""
    found = _ABSOLUTE.fullmatch(request.uri or "")
    if found is None:
        return
    host, rest = found.groups()
    if not _AUTHORITY.fullmatch(host):
        raise HTTPInputError("the target's authority is no host")
    if not rest and request.method == "OPTIONS":
        rest = "*"
    request.uri = rest if rest.startswith(("/", "*")) else f"/{rest}"
    request.path = request.uri.partition("?")[0]
    request.headers["Host"] = request.host = host
    request.host_name = split_host_and_port(host.lower())[0]


@functools.cache
def api_document() -> dict[str, Any]:
    """The OpenAPI document of all routes."""
    return openapi.document(handler for _, handler in ROUTES)


class Front(Application):
    """Knows who a request is from before anything is decided about it, and streams bodies."""

    server: Server | None = None
    lane: Lane

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """As Tornado's."""
        if self.server is not None:
            self.server.asked(request.server_connection)
        read_target(request)
        proxies.look_behind(request, self.settings["web"].trusted_proxies)
        return self.lane.take(request) or super().find_handler(request, **kwargs)

    def get_handler_delegate(self, request: HTTPServerRequest, target_class: type[RequestHandler],
                             *args: Any, **kwargs: Any) -> Any:
        """As Tornado's. A stream costs two more turns of the loop, so one that brings nothing is not waited for."""
        brings = any(name in request.headers for name in _OF_BODIES)
        return super().get_handler_delegate(request, _streaming(target_class) if brings else target_class,
                                            *args, **kwargs)


@functools.cache
def _streaming(handler: type[RequestHandler]) -> type[RequestHandler]:
    return stream_request_body(type(handler.__name__, (handler,), {"__module__": handler.__module__}))


def make_app(commands: Any, hub: Hub, settings: WebSettings, auth: Auth | None = None, *, evictions: Any,
             tickets: Any = None, registry: CollectorRegistry | None = None) -> Front:
    """The application. `commands`, `evictions` and `tickets` are the service (see the modules of these names),
    `hub` what its feed publishes to; `registry` is where `/metrics` reads, for instruments of other layers too."""
    limits = Limits(settings.max_in_flight, settings.write_rate, settings.write_burst, settings.read_rate,
                    settings.read_burst)
    unsent = Unsent(settings.max_unsent)
    counted = metrics.WebMetrics(registry or CollectorRegistry(), hub, limits, unsent)
    auth = auth or NoAuth()
    app = Front(
        [*ROUTES, *assets.routes(settings), (r"\*", WholeServer)],
        default_handler_class=Unknown,
        commands=commands,
        evictions=evictions,
        hub=hub,
        web=settings,
        auth=auth,
        tickets=tickets,
        limits=limits,
        unsent=unsent,
        metrics=counted,
        document=api_document(),
        log_function=log_request,
        cross_origin_protection=True,
        trusted_origins=settings.trusted_origins,
        websocket_max_message_size=4096,
    )
    app.lane = Lane(commands, settings, auth, limits, unsent, functools.partial(note, counted))
    return app


def make_server(app: Front, tls: SSLContext | None = None) -> Server:
    """A server with limits on the number of peers, and on the time and the size of what each may send; it does not
    listen yet."""
    settings: WebSettings = app.settings["web"]
    app.server = Server(app, ssl_options=tls, max_header_size=32 * 1024, max_body_size=MAX_DRAIN,
                        idle_connection_timeout=settings.header_timeout, body_timeout=settings.body_timeout)
    return app.server
