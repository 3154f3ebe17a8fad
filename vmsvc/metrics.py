"""The instruments of the service and of the cloud adapter for Prometheus.

The web layer has its own. `/metrics` shows all that are in the registry."""

import platform
from collections.abc import Callable
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from vmsvc import __version__
from vmsvc.domain.lifecycle import FINAL, State
from vmsvc.service.deployment_figures import Figures
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
    "vmsvc_event_retention_seconds": "Seconds for which events are kept (VMSVC_EVENT_RETENTION_HOURS)",
    "vmsvc_webhooks_off": "Webhooks that are switched off, in the whole deployment",
    "vmsvc_webhook_deliveries_pending": "Deliveries of webhooks that are still to be made, in the whole deployment",
    "vmsvc_parts_not_ready": "Parts of this replica that do not work now (see /readyz)",
}

#: The moment at which a counter began is a series of its own for each counter, and nobody reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]


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

        build = Gauge(
            "vmsvc_build_info", "1; its labels: what this replica runs", ["version", "python"], registry=registry
        )
        build.labels(__version__, platform.python_version()).set(1)
        ProcessCollector(registry=registry)

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


class DeploymentMetrics:
    """What is true of the whole deployment: each replica shows the same, so take the maximum over all replicas."""

    def __init__(self, registry: CollectorRegistry):
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        self._vms = gauge("vmsvc_vms", "VMs that have not ended, in the whole deployment", "state", "kind")
        self._quota = gauge(
            "vmsvc_quota",
            "The project's quota in instances, cores and ram (MiB). type: limit, used, free, standard, preemptible, "
            "reserved, reclaimable. An item without a limit has no value",
            "item",
            "type",
        )
        self._capacity = gauge(
            "vmsvc_host_capacity",
            "Placement's resource classes, summed over the hosts that are available (tenant mode: by evidence). type: "
            "capacity, used, free, standard, preemptible, foreign, reserved, reclaimable",
            "resource",
            "type",
        )
        self._hosts = gauge("vmsvc_hosts", "Compute hosts by whether they are up and enabled: yes, no", "available")

    def observe_figures(self, figures: Figures | None) -> None:
        """Show these figures alone; None: the database or the cloud does not answer, so there are none."""
        for family in (self._vms, self._quota, self._capacity, self._hosts):
            family.clear()
        if figures is None:
            return
        for state in State:
            for is_preemptible in (True, False) if state not in FINAL else ():
                kind = "preemptible" if is_preemptible else "standard"
                self._vms.labels(state, kind).set(figures.counts.get((state, is_preemptible), 0))
        for family, amounts in ((self._quota, figures.quota), (self._capacity, figures.hosts)):
            for type_, by_name in amounts.items():
                for name, amount in by_name.items():
                    family.labels(name, type_).set(amount)
        for is_available, count in figures.host_counts.items():
            self._hosts.labels("yes" if is_available else "no").set(count)


def _was_kept(event: CommittedEvent) -> str:
    vm = event.data["vm"]
    if vm["acknowledged_at"]:
        return "waived"
    return "yes" if event.at >= datetime.fromisoformat(vm["evict_at"]) else "no"
