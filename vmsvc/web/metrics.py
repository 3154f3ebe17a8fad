"""What Prometheus may know of the web layer and of the cloud; `/metrics` shows all that is in the registry."""

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from tornado.web import RequestHandler

from vmsvc.domain.errors import Forbidden
from vmsvc.service.hub import Hub
from vmsvc.web.base import Handler, route
from vmsvc.web.describe import Answer, describe
from vmsvc.web.limits import Limits

#: Seconds; a POST may wait for an eviction.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class CloudMetrics:
    """The cloud adapter's instruments."""

    def __init__(self, registry: CollectorRegistry):
        self._calls = Counter("vmsvc_cloud_calls", "Requests to the cloud, by what came of them",
                              ["operation", "outcome"], registry=registry)
        self._seconds = Histogram("vmsvc_cloud_call_seconds", "From the request to its answer", ["operation"],
                                  buckets=BUCKETS, registry=registry)

    def called(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a request: `outcome` is 'ok' or the slug of the error."""
        self._calls.labels(operation, outcome).inc()
        self._seconds.labels(operation).observe(seconds)


class WebMetrics:
    """The web layer's instruments, in a registry that is given: nothing is global."""

    def __init__(self, registry: CollectorRegistry, hub: Hub, limits: Limits):
        self.registry = registry
        self._requests = Counter("vmsvc_http_requests", "Requests answered", ["route", "method", "status"],
                                 registry=registry)
        self._seconds = Histogram("vmsvc_http_request_seconds", "From the first byte to the answer",
                                  ["route", "method"], buckets=BUCKETS, registry=registry)
        self._ended = Counter("vmsvc_sockets_ended", "Sockets that the service closed, by close code", ["code"],
                              registry=registry)
        self._gauge("vmsvc_http_requests_in_flight", "API requests without an answer yet", lambda: limits.in_flight)
        self._gauge("vmsvc_tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks()))
        self._gauge("vmsvc_sockets", "Open WebSockets", lambda: len(hub))
        self._gauge("vmsvc_event_seq", "Last event that was fanned out", lambda: hub.last_seq)
        self._gauge("vmsvc_event_lag_seconds", "From the last event's time to its fan-out", lambda: hub.lag_seconds)

    def _gauge(self, name, text, read) -> None:
        Gauge(name, text, registry=self.registry).set_function(read)

    def answered(self, handler: RequestHandler) -> None:
        """Count a request. Labels are of a bounded number: the route, never the path."""
        address = getattr(handler, "address", "unknown")
        method = handler.request.method if handler.request.method in handler.SUPPORTED_METHODS else "other"
        self._requests.labels(address, method, str(handler.get_status())).inc()
        if handler.get_status() != 101:
            self._seconds.labels(address, method).observe(handler.request.request_time())

    def ended(self, code: int) -> None:
        """Count a socket that we closed."""
        self._ended.labels(str(code)).inc()


class Exposition(Handler):
    """What Prometheus scrapes."""

    address = "/metrics"

    @describe(Answer(200, "All instruments."), errors=(Forbidden,))
    def get(self) -> None:
        """All instruments in Prometheus' text format."""
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.settings["metrics"].registry))


routes = [route(Exposition)]
