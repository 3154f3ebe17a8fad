"""The web layer's instruments for Prometheus."""

import asyncio
import functools
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from vmsvc.service.events.hub import Hub
from vmsvc.web.http.limits import Limits
from vmsvc.web.http.server import UnsentResponses

#: Seconds; a POST may wait for an eviction.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class WebMetrics:
    """Requests, responses and WebSockets, in the registry that is given: nothing is global. `refresh` brings up to date
    what is read only for a scrape."""

    def __init__(
        self,
        registry: CollectorRegistry,
        hub: Hub,
        limits: Limits,
        unsent: UnsentResponses,
        refresh: Callable[[], Awaitable[None]],
    ):
        self.registry = registry
        self.refresh = refresh
        requests = Counter(
            "vmsvc_http_requests", "HTTP requests that were answered", ["route", "method", "status"], registry=registry
        )
        seconds = Histogram(
            "vmsvc_http_request_seconds",
            "Seconds from a request's first byte to its response",
            ["route", "method"],
            buckets=BUCKETS,
            registry=registry,
        )
        # To find the instrument of these labels takes longer than to count.
        self._requests, self._seconds = functools.cache(requests.labels), functools.cache(seconds.labels)
        self._closed = Counter(
            "vmsvc_sockets_ended",
            "WebSockets and event streams that the service closed, by close code",
            ["code"],
            registry=registry,
        )
        self._gauge(
            "vmsvc_http_requests_in_flight", "API requests whose responses have not left yet", lambda: limits.in_flight
        )
        self._gauge("vmsvc_http_unsent_bytes", "Bytes of responses that peers have not taken yet", lambda: unsent.size)
        self._gauge(
            "vmsvc_http_unsent_hung_up",
            "Connections that the service closed because unsent responses were too many bytes",
            lambda: unsent.closed_connections,
        )
        self._gauge(
            "vmsvc_http_refusals_held",
            "Responses 429 that are delayed, so that clients that ask too often ask more slowly",
            lambda: limits.delayed_refusals,
        )
        self._gauge("vmsvc_tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks()))
        self._gauge("vmsvc_sockets", "Open WebSockets and event streams", lambda: len(hub))
        self._gauge("vmsvc_event_seq", "Seq of the last event that the hub has published", lambda: hub.last_seq)
        self._gauge(
            "vmsvc_event_lag_seconds",
            "Seconds from the last event's time to its publishing by the hub",
            lambda: hub.lag_seconds,
        )

    def _gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        Gauge(name, text, registry=self.registry).set_function(read)

    def count_response(self, request: HTTPServerRequest, address: str, status: int) -> None:
        """Count a request and measure its time. `address` is the route, never the path: labels have to be few."""
        method = request.method if request.method in RequestHandler.SUPPORTED_METHODS else "other"
        self._requests(address, method, str(status)).inc()
        if status != 101:
            self._seconds(address, method).observe(request.request_time())

    def count_close(self, code: int) -> None:
        """Count a WebSocket that the service closed."""
        self._closed.labels(str(code)).inc()
