"""The instruments of the service and of the cloud adapter for Prometheus.

The web layer has its own. `/metrics` shows all that are in the registry."""

from collections.abc import Callable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vmsvc.store.db import CommittedEvent
from vmsvc.web.http.metrics import BUCKETS

#: Seconds that the loop may be late: 20 ms is where clients begin to notice.
LAG_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 5)
#: Gauges that the parts of the service read when Prometheus asks: name -> help text.
GAUGES = {
    "vmsvc_requests_waiting": "Requests that wait for capacity, in the whole deployment",
    "vmsvc_intents_under_way": "Intents that this replica has claimed",
    "vmsvc_database_calls": "Calls to the database that are under way or wait for a thread",
    "vmsvc_servers_without_row": "Servers that carry vmsvc's mark and have no row: run `vmsvc adopt`",
    "vmsvc_oldest_event_age_seconds": "Age in seconds of the oldest event in the database",
    "vmsvc_webhooks_off": "Webhooks that are switched off, in the whole deployment",
    "vmsvc_webhook_deliveries_pending": "Deliveries of webhooks that are still to be made, in the whole deployment",
    "vmsvc_parts_not_ready": "Parts of this replica that do not work now (see /readyz)",
}


class CloudMetrics:
    """The cloud adapter's calls."""

    def __init__(self, registry: CollectorRegistry):
        self._calls = Counter(
            "vmsvc_cloud_calls",
            "Requests to the cloud, by what came of them",
            ["operation", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "vmsvc_cloud_call_seconds",
            "Seconds from a request to the cloud to its answer",
            ["operation"],
            buckets=BUCKETS,
            registry=registry,
        )

    def observe_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a request to the cloud. `outcome` is "ok" or the slug of the error."""
        self._calls.labels(operation, outcome).inc()
        self._seconds.labels(operation).observe(seconds)


class ServiceMetrics:
    """What happens to VMs. Each event is counted by the replica that commits it: the sum over all replicas is the
    truth."""

    def __init__(self, registry: CollectorRegistry):
        self._registry = registry
        self._events = Counter(
            "vmsvc_events", "Events committed by this replica", ["type", "state", "kind"], registry=registry
        )
        self._evictions = Counter(
            "vmsvc_evictions", "Notices given, and how each ended", ["reason", "outcome"], registry=registry
        )
        self._notices = Counter(
            "vmsvc_notices",
            "Evictions that began, by whether the victim had its whole notice: "
            "yes, waived (the victim acknowledged it), no (this must never count)",
            ["kept"],
            registry=registry,
        )
        for kept in ("yes", "waived", "no"):
            self._notices.labels(kept)
        self._deliveries = Counter(
            "vmsvc_webhook_deliveries",
            "Attempts to deliver an event, by what the delivery is then: done, failed, or pending (it is tried again)",
            ["outcome"],
            registry=registry,
        )
        self._victims = Histogram(
            "vmsvc_victims",
            "VMs evicted for one standard VM that became active",
            buckets=(0, 1, 2, 3, 5, 10, 20, 50),
            registry=registry,
        )
        self._pass = Histogram(
            "vmsvc_plan_seconds",
            "Seconds of one pass of the scheduler, with its transaction",
            buckets=BUCKETS,
            registry=registry,
        )
        self._lag = Histogram(
            "vmsvc_loop_lag_seconds",
            "Seconds by which the event loop was late for a timer",
            buckets=LAG_BUCKETS,
            registry=registry,
        )

    def observe_commit(self, event: CommittedEvent) -> None:
        """Count an event that this replica has committed."""
        self._events.labels(event.type, event.state, "preemptible" if event.is_preemptible else "standard").inc()
        match event.type, event.state:
            case "evict", "noticed" | "reprieved" | "evicted":
                self._evictions.labels(event.cause, event.state).inc()
            case "evict", "evicting":
                self._notices.labels(_was_kept(event)).inc()
            case "delete", "deleting" | "lost" if event.cause:  # it left by itself during its notice
                self._evictions.labels(event.cause, "left").inc()
            case "create", "active" if not event.is_preemptible:
                self._victims.observe(len(event.data.get("evicted", ())))

    def count_delivery(self, outcome: str) -> None:
        """Count an attempt to deliver an event to a webhook."""
        self._deliveries.labels(outcome).inc()

    def observe_pass(self, seconds: float) -> None:
        """Measure a pass of the scheduler."""
        self._pass.observe(seconds)

    def observe_loop_lag(self, seconds: float) -> None:
        """Measure by how many seconds the event loop was late."""
        self._lag.observe(seconds)

    def add_gauge(self, name: str, read: Callable[[], float]) -> None:
        """Add one of `GAUGES`; `read()` is called for each scrape."""
        Gauge(name, GAUGES[name], registry=self._registry).set_function(read)


def _was_kept(event: CommittedEvent) -> str:
    vm = event.data["vm"]
    if vm["acknowledged_at"]:
        return "waived"
    return "yes" if event.at >= datetime.fromisoformat(vm["evict_at"]) else "no"
