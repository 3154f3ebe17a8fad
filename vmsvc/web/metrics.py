"""What Prometheus may know of the web layer and of the cloud; `/metrics` shows all that is in the registry."""

import asyncio
import functools
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from vmsvc.domain.errors import CloudUnavailable, Forbidden, TooManyRequests, Unauthenticated, Unavailable
from vmsvc.service.hub import Hub
from vmsvc.web.base import Handler, route
from vmsvc.web.describe import Answer, describe
from vmsvc.web.limits import Limits
from vmsvc.web.settings import is_loopback
from vmsvc.web.unsent import Unsent


class CommittedEvent(Protocol):
    """A committed event, as the store tells of it."""

    type: str
    state: str
    is_preemptible: bool
    cause: str | None
    at: datetime
    data: Any


#: Seconds; a POST may wait for an eviction.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


#: Seconds that the loop may be late: 20 ms is where clients begin to notice.
LAG_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 5)


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


class LifeMetrics:
    """What happens to VMs, counted by the replica that commits it: the sum over all replicas is the truth."""

    def __init__(self, registry: CollectorRegistry):
        self._registry = registry
        self._events = Counter("vmsvc_events", "Events committed by this replica", ["type", "state", "kind"],
                               registry=registry)
        self._evictions = Counter("vmsvc_evictions", "Notices given, and how each ended", ["reason", "outcome"],
                                  registry=registry)
        self._notices = Counter("vmsvc_notices", "Evictions that began, by whether the notice was kept: yes, waived "
                                "(the victim said that it may go), no (this must never count)", ["kept"],
                                registry=registry)
        for kept in ("yes", "waived", "no"):
            self._notices.labels(kept)
        self._victims = Histogram("vmsvc_victims", "VMs evicted for one request that got its room",
                                  buckets=(0, 1, 2, 3, 5, 10, 20, 50), registry=registry)
        self._plan = Histogram("vmsvc_plan_seconds", "One pass of decisions, with its transaction",
                               buckets=BUCKETS, registry=registry)

        self._lag = Histogram("vmsvc_loop_lag_seconds", "How late the event loop came to what was due",
                              buckets=LAG_BUCKETS, registry=registry)

    def committed(self, fact: CommittedEvent) -> None:
        """Count an event that was committed."""
        self._events.labels(fact.type, fact.state, "preemptible" if fact.is_preemptible else "standard").inc()
        match fact.type, fact.state:
            case "evict", "noticed" | "reprieved" | "evicted":
                self._evictions.labels(fact.cause, fact.state).inc()
            case "evict", "evicting":
                self._notices.labels(_kept(fact)).inc()
            case "delete", "deleting" | "lost" if fact.cause:       # it went by itself during its notice
                self._evictions.labels(fact.cause, "left").inc()
            case "create", "active" if not fact.is_preemptible:
                self._victims.observe(len(fact.data.get("evicted", ())))

    def planned(self, seconds: float) -> None:
        """Measure a pass of the scheduler."""
        self._plan.observe(seconds)

    def woke(self, seconds: float) -> None:
        """Measure how late the loop was."""
        self._lag.observe(seconds)

    def show(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, text, registry=self._registry).set_function(read)


def _kept(fact: CommittedEvent) -> str:
    vm = fact.data["vm"]
    if vm["acknowledged_at"]:
        return "waived"
    return "yes" if fact.at >= datetime.fromisoformat(vm["evict_at"]) else "no"


class WebMetrics:
    """The web layer's instruments, in a registry that is given: nothing is global."""

    def __init__(self, registry: CollectorRegistry, hub: Hub, limits: Limits, unsent: Unsent):
        self.registry = registry
        requests = Counter("vmsvc_http_requests", "Requests answered", ["route", "method", "status"], registry=registry)
        seconds = Histogram("vmsvc_http_request_seconds", "From the first byte to the answer",
                            ["route", "method"], buckets=BUCKETS, registry=registry)
        # To find the instrument of these labels takes longer than to count.
        self._requests, self._seconds = functools.cache(requests.labels), functools.cache(seconds.labels)
        self._ended = Counter("vmsvc_sockets_ended", "Sockets that the service closed, by close code", ["code"],
                              registry=registry)
        self._gauge("vmsvc_http_requests_in_flight", "API requests without an answer yet", lambda: limits.in_flight)
        self._gauge("vmsvc_http_unsent_bytes", "Of answers that their peers have not taken yet", lambda: unsent.size)
        self._gauge("vmsvc_http_unsent_hung_up", "Peers that were hung up on since their answers were too many bytes",
                    lambda: unsent.hung_up)
        self._gauge("vmsvc_http_refusals_held", "Answers 429 that wait, so that who asks too often asks more slowly",
                    lambda: limits.held)
        self._gauge("vmsvc_tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks()))
        self._gauge("vmsvc_sockets", "Open WebSockets", lambda: len(hub))
        self._gauge("vmsvc_event_seq", "Last event that was fanned out", lambda: hub.last_seq)
        self._gauge("vmsvc_event_lag_seconds", "From the last event's time to its fan-out", lambda: hub.lag_seconds)

    def _gauge(self, name, text, read) -> None:
        Gauge(name, text, registry=self.registry).set_function(read)

    def answered(self, request: HTTPServerRequest, address: str, status: int) -> None:
        """Count a request. Labels are of a bounded number: the route, never the path."""
        method = request.method if request.method in RequestHandler.SUPPORTED_METHODS else "other"
        self._requests(address, method, str(status)).inc()
        if status != 101:
            self._seconds(address, method).observe(request.request_time())

    def ended(self, code: int) -> None:
        """Count a socket that we closed."""
        self._ended.labels(str(code)).inc()


class Exposition(Handler):
    """What Prometheus scrapes."""

    address = "/metrics"

    async def admit(self) -> None:
        """Of use to whoever looks around before he does harm: for this machine itself, else for who may come in."""
        await super().admit()
        # A proxy on this machine comes from loopback too, but passes on the name by which it was called.
        peer = self.request.remote_ip or ""
        if not ((is_loopback(peer) or peer in self.web.local_peers) and is_loopback(self.name or "")):
            await self.settings["auth"].principal(self.request)

    @describe(Answer(200, "All instruments."),
              errors=(Unauthenticated, Forbidden, TooManyRequests, CloudUnavailable, Unavailable), guarded=True)
    def get(self) -> None:
        """All instruments in Prometheus' text format."""
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.settings["metrics"].registry))


routes = [route(Exposition)]
