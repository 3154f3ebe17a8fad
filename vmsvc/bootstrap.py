"""Builds all parts from the settings, and passes each to the parts that need it. Tests build them the same way."""

import asyncio
import contextlib
import errno
import functools
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prometheus_client import CollectorRegistry
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from vmsvc import tuning
from vmsvc.access import auth_of, tls_of, web_settings
from vmsvc.cloud.cache.host_allocations import HostAllocations
from vmsvc.cloud.cache.host_cache import HostCache
from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.openstack.adapter import OpenStack
from vmsvc.cloud.port import Cloud
from vmsvc.config import ConfigError, Settings, authority, listed
from vmsvc.domain.timing import Timing
from vmsvc.metrics import CloudMetrics, DeploymentMetrics, ServiceMetrics
from vmsvc.scheduling.candidates import Policy
from vmsvc.service.acting.create_server import CreateServer
from vmsvc.service.acting.notice import NoticeWriter
from vmsvc.service.acting.remove_server import RemoveServer
from vmsvc.service.acting.worker import Worker
from vmsvc.service.catalog import Catalog
from vmsvc.service.commands import Commands
from vmsvc.service.deployment_figures import DeploymentFigures
from vmsvc.service.events.feed import Feed
from vmsvc.service.events.hub import Hub
from vmsvc.service.events.listener import Listener
from vmsvc.service.events.waiters import Waiters
from vmsvc.service.evictions.lifetimes import Lifetimes
from vmsvc.service.evictions.record import Evictions
from vmsvc.service.identity.tickets import Tickets
from vmsvc.service.listing.list_cache import ListCache
from vmsvc.service.loop_lag import LoopLag
from vmsvc.service.reconciler import Reconciler
from vmsvc.service.retention import Retention
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.deadlines import Deadlines
from vmsvc.service.scheduling.evidence import EvidenceWatch
from vmsvc.service.scheduling.rehearsals import Rehearsals
from vmsvc.service.scheduling.scheduler import Observers, Scheduler
from vmsvc.service.scheduling.snapshot import Snapshots
from vmsvc.service.scheduling.verdicts import Verdicts
from vmsvc.service.scheduling.world_cache import WorldCache
from vmsvc.service.webhooks.dispatcher import Dispatcher
from vmsvc.service.webhooks.endpoints import WebhookPolicy, Webhooks
from vmsvc.simulator.embedded import Embedded
from vmsvc.store import db, intents, preflight, schema
from vmsvc.tracing import NoTraces, Traces, traces_to
from vmsvc.web.app import api_document, make_app, make_metrics_app, make_server
from vmsvc.web.channel.frames import text_frame
from vmsvc.web.http.limits import Limits
from vmsvc.web.outgoing.client import OutgoingClient

log = logging.getLogger(__name__)

_MIGRATE_SECONDS = 20.0  # how long to wait for another replica's migrations, where `migrate` has not run before
_BACKLOG = 1024  # connections that wait to be accepted
_FINISH_SECONDS = 5.0  # in which steps that are under way may end when the service is to stop
_ANSWER_SECONDS = 2.0  # and then its answers


@dataclass(frozen=True)
class Listening:
    """Where a replica listens: on sockets that it shares with others (None: on its own), as which of them."""

    sockets: Sequence[socket.socket] | None = None
    number: int = 1


class Service:
    """One replica. `start()` when the loop runs, `stop()` before it ends."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        cloud: Cloud,
        registry: CollectorRegistry | None = None,
        listening: Listening = Listening(),
        timing: Timing = Timing(),
        traces: Traces = NoTraces(),
    ):
        self.settings = settings
        self._timing = timing
        self._listening = listening
        self._traces = traces
        self._registry = registry or CollectorRegistry()
        self.cloud = cloud
        self.runtime = Runtime(timing)
        metrics = ServiceMetrics(self._registry)
        self._database = db.open_database(database_url, self.runtime.threads + 2, metrics.observe_commit)
        self.hub = Hub(text_frame)
        self._waiters = Waiters()
        self._listener = Listener(self.runtime, settings.listen_url or database_url)
        allocations = HostAllocations()
        self._host_cache = HostCache(cloud, allocations, timing)
        self._server_cache = ServerCache(cloud, allocations, timing)
        self._catalog = Catalog(cloud, timing, flavor=settings.flavor, image=settings.image, network=settings.network)
        self._deployment = ""  # read from the database at the start
        self._verdicts = Verdicts(cloud, Rehearsals(cloud, lambda: self._deployment), timing)
        self._scheduler = self._new_scheduler(metrics)
        list_cache = ListCache(self.runtime, self._server_cache, self._listener.wakeup(), lambda: self.hub.last_seq)
        self.evictions = Evictions(
            self.runtime, self._server_cache, self._listener.wake, list_cache.invalidate, settings.grace_seconds
        )
        self.commands = self._new_commands(list_cache)
        self._evidence: EvidenceWatch | None = None  # in tenant mode
        self._worker: Worker | None = None
        self._reconciler: Reconciler | None = None
        self._servers: list[HTTPServer] = []
        self._limits: Limits | None = None
        self._connected = False
        self._auth = auth_of(settings, cloud)
        self._tls = tls_of(settings)
        self.port = 0
        self._loop_lag = LoopLag(metrics.observe_loop_lag)
        self._outgoing = OutgoingClient(settings.allowed_networks, timing.webhook_timeout)
        self._dispatcher = self._new_dispatcher(metrics)
        self._retention = Retention(self.runtime, settings.event_retention_hours, settings.evidence_hours)
        figures = DeploymentMetrics(self._registry)
        self._figures = DeploymentFigures(self.runtime, self._scheduler, figures.observe_figures)
        self._add_gauges(metrics)

    def _new_scheduler(self, metrics: ServiceMetrics) -> Scheduler:
        world_cache = WorldCache(_policy(self.settings, self._timing), self._timing)
        return Scheduler(
            self.runtime,
            self.cloud,
            self._server_cache,
            world_cache,
            Snapshots(self.cloud, self._server_cache, self._host_cache, self._verdicts, world_cache.add_changes),
            self._listener.wakeup(),
            self._listener.wake,
            self._timing,
            grace_seconds=self.settings.grace_seconds,
            observers=Observers(metrics.observe_pass, self._traces.decision),
        )

    def _new_commands(self, list_cache: ListCache) -> Commands:
        return Commands(
            self.runtime,
            self.cloud,
            self._server_cache,
            list_cache,
            self._catalog,
            self._scheduler,
            self._waiters,
            self._listener.wake,
            verdicts=self._verdicts,
            min_run_seconds=self.settings.min_run_seconds,
        )

    def _add_gauges(self, metrics: ServiceMetrics) -> None:
        """Add the gauges of this replica: what waits, what is under way, and which parts do not work."""
        metrics.add_gauge("vmsvc_requests_waiting", lambda: self._scheduler.waiting)
        metrics.add_gauge("vmsvc_intents_under_way", lambda: self._worker.under_way if self._worker else 0)
        metrics.add_gauge("vmsvc_database_calls", lambda: self.runtime.offloaded)
        metrics.add_gauge(
            "vmsvc_servers_without_row", lambda: len(self._reconciler.without_row) if self._reconciler else 0
        )
        metrics.add_gauge("vmsvc_webhooks_off", lambda: self._dispatcher.off)
        metrics.add_gauge("vmsvc_webhook_deliveries_pending", lambda: self._dispatcher.pending)
        metrics.add_gauge("vmsvc_oldest_event_age_seconds", self._retention.oldest_event_age)
        metrics.add_gauge("vmsvc_event_retention_seconds", lambda: 3600 * self.settings.event_retention_hours)
        metrics.add_gauge(
            "vmsvc_parts_not_ready", lambda: sum(problem is not None for problem in self.runtime.problems.values())
        )

    async def start(self) -> None:
        """Bring the schema up to date, start the loops and listen. A cloud that is away only delays readiness."""
        self.runtime.supervise("pulse", self._loop_lag.run)
        self.runtime.supervise("doorbell", self._listener.run)
        applied = await self.runtime.offload(schema.migrate, self._database, _MIGRATE_SECONDS)
        if applied:
            log.info("database: applied %s", ", ".join(applied))
        deployment = self._deployment = await self.runtime.offload(db.deployment_id)
        feed = Feed(self.runtime, self.hub, self._waiters, self._listener.wakeup())
        await feed.begin()
        self.runtime.supervise("feed", feed.run)
        self.runtime.supervise("retention", self._retention.run)
        self.runtime.supervise("webhooks", self._dispatcher.run)
        self.runtime.supervise("deadlines", Deadlines(self.runtime, self._listener.wake, self._timing).run)
        self.runtime.supervise("cloud", lambda: self._with_cloud(deployment), "not connected yet")
        self._listen()

    async def _with_cloud(self, deployment: str) -> None:
        """Connect, then start all that needs the cloud. Called again after a failure, it goes on from there."""
        if not self._connected:
            await self.cloud.connect()
            self._connected = True
        await self._catalog.refresh()
        await self._server_cache.refresh()
        if self._server_cache.as_of is not None:
            await self._host_cache.start(self._server_cache.as_of)
        self.runtime.mark_ready("cloud")
        self.runtime.supervise("catalog", lambda: self._catalog.run(lambda: self.runtime.mark_ready("catalog")))
        self.runtime.supervise("mirror", lambda: self._server_cache.run(lambda: self.runtime.mark_ready("mirror")))
        if self.cloud.mode == "operator":
            self.runtime.supervise("fleet", lambda: self._host_cache.run(lambda: self.runtime.mark_ready("fleet")))
        else:
            self._evidence = self._evidence or EvidenceWatch(
                self.runtime, self._server_cache, self.settings.evidence_hours
            )
            self.runtime.supervise("evidence", self._evidence.run)
        self.runtime.supervise("scheduler", self._scheduler.run)
        self._worker = self._new_worker(deployment)
        self.runtime.supervise("actuator", self._worker.run)
        self.runtime.supervise("leases", self._worker.renew)
        lifetimes = Lifetimes(
            self.runtime,
            self._server_cache,
            self._timing,
            self.settings.max_lifetime_seconds,
            self.settings.grace_seconds,
        )
        self.runtime.supervise("lifetimes", lifetimes.run)
        self._reconciler = Reconciler(self.runtime, self.cloud, self._server_cache, self._timing, deployment)
        self.runtime.supervise("reconciler", self._reconciler.run)
        tuning.settle_collector()
        log.info("ready in %s mode, project %s, deployment %s", self.cloud.mode, self.cloud.project_id, deployment)

    def _new_worker(self, deployment: str) -> Worker:
        stop_first = self.settings.evict_action == "stop-delete"
        remove_server = RemoveServer(self.runtime, self.cloud, self._server_cache, self._timing, stop_first)
        notice_writer = NoticeWriter(self.runtime, self.cloud, stop_first)
        create_server = CreateServer(
            self.runtime,
            self.cloud,
            self._server_cache,
            self._host_cache,
            remove_server,
            self._verdicts,
            deployment,
            self._timing,
        )
        return Worker(
            self.runtime,
            {
                intents.BOOT: create_server.perform,
                intents.NOTICE: notice_writer.perform,
                intents.REPRIEVE: notice_writer.perform,
                intents.EVICT: remove_server.evict,
                intents.DELETE: remove_server.delete,
            },
            self._listener.wakeup(intents_only=True),
            self._timing,
        )

    def _message_prefix(self) -> str:
        """With what the id of each message to a webhook begins."""
        return f"vmsvc_{self._deployment}"

    def _new_dispatcher(self, metrics: ServiceMetrics) -> Dispatcher:
        return Dispatcher(
            self.runtime,
            self._outgoing,
            self._message_prefix,
            self._listener.wakeup(),
            self._timing,
            lambda result, outcome: metrics.count_delivery(outcome),
        )

    def _new_webhooks(self) -> Webhooks:
        policy = WebhookPolicy(
            self.settings.webhooks_per_owner,
            frozenset(name.lower() for name in listed(self.settings.webhook_hosts)),
            min(self.settings.host_names, default="vmsvc"),
        )
        return Webhooks(self.runtime, self._outgoing, policy, self._message_prefix, self._listener.wake)

    def _listen(self) -> None:
        web = web_settings(self.settings)
        self.runtime.supervise("proxies", web.trusted_proxies.run)
        app = make_app(
            self.commands,
            self.hub,
            web,
            self._auth,
            evictions=self.evictions,
            tickets=Tickets(self.runtime),
            webhooks=self._new_webhooks(),
            registry=self._registry,
            refresh_metrics=self._figures.refresh,
            traced=self._traces.response,
        )
        self._limits = app.dependencies.limits
        server = make_server(app, self._tls)
        sockets = self._listening.sockets or listening_sockets(self.settings)
        self.port = sockets[0].getsockname()[1]
        self._serve(server, sockets)
        if self.settings.metrics_port:
            port = self.settings.metrics_port + self._listening.number - 1
            address = self.settings.metrics_address
            self._serve(make_server(make_metrics_app(app, address)), _bound(address, port, "VMSVC_METRICS"))

    def _serve(self, server: HTTPServer, sockets: Iterable[socket.socket]) -> None:
        server.add_sockets(sockets)
        self._servers.append(server)

    async def stop(self) -> None:
        """Take no new connection; let what is under way end, for some seconds; tell those who still wait to come back,
        give the leases back, end the loops and close everything."""
        for server in self._servers:
            server.stop()
        self.hub.close()
        workers = [self._worker.stop(_FINISH_SECONDS)] if self._worker else []
        await asyncio.gather(*workers, self._dispatcher.stop())
        self._waiters.close()
        await self._drain_requests()
        await self.runtime.stop()
        self._outgoing.close()
        await self._verdicts.stop()
        for server in self._servers:
            await asyncio.wait_for(server.close_all_connections(), 5)
        await self.cloud.close()
        self._database.close_all()
        await asyncio.to_thread(self._traces.close)

    async def _drain_requests(self) -> None:
        """Wait until every request has its answer, but not for long."""
        deadline = asyncio.get_running_loop().time() + _ANSWER_SECONDS
        while self._limits and self._limits.in_flight and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)


def _policy(settings: Settings, timing: Timing) -> Policy:
    """The policy by which the planner chooses victims."""
    return Policy(
        settings.victim_policy,
        settings.owner_eviction_cost,
        settings.max_victims,
        patience=2 * settings.grace_seconds + timing.removal,
        notices=settings.grace_seconds > 0,
        declared=settings.declared_capacity,
        likely=settings.tenant_eviction == "likely",
        evidence_hours=settings.evidence_hours,
        max_waiting=settings.max_waiting,
    )


def migrate(database_url: str, patience: float = preflight.PATIENCE) -> list[str]:
    """Wait `patience` seconds for the database and bring its schema up to date; returns the names of the migrations
    that were applied. Raises store.schema.Unfit for a database that the service cannot work with."""
    return preflight.prepare(database_url, patience)


def openapi() -> dict[str, Any]:
    """The OpenAPI document."""
    return api_document()


def listening_sockets(settings: Settings) -> list[socket.socket]:
    """The sockets that all replicas share. Raises ConfigError when they are taken or are not this machine's."""
    return _bound(settings.address, settings.port, "VMSVC")


def _bound(address: str, port: int, setting: str) -> list[socket.socket]:
    """The sockets of this address and port; `::` stands for every address, IPv4 and IPv6. `setting`: with what the
    names of the settings of both begin. Raises ConfigError when it is taken or is not this machine's."""
    # After a restart all clients come back at once.
    bind = functools.partial(bind_sockets, backlog=_BACKLOG)
    try:
        if address != "::":
            return bind(port, address)
        # A socket for each family, so that an IPv4 client's address is shown as one. (Tornado's IPv6 sockets are for
        # IPv6 alone.)
        sockets = _where_there_is_ipv6(lambda: bind(port, "::"))
        return sockets + bind(sockets[0].getsockname()[1] if sockets else port, "0.0.0.0")
    except OSError as error:
        place = authority(address, port)
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"{place} is in use; stop who listens there or set {setting}_PORT") from None
        raise ConfigError(f"cannot listen on {place}: {error.strerror} ({setting}_ADDRESS, {setting}_PORT)") from None


def _where_there_is_ipv6(bind: Callable[[], list[socket.socket]]) -> list[socket.socket]:
    """What `bind` returns; nothing on a machine whose kernel has no IPv6."""
    try:
        sockets = bind()
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and not isinstance(error, socket.gaierror):
            raise
        sockets = []
    if not sockets:
        log.warning("this machine has no IPv6: VMSVC_ADDRESS=:: listens on IPv4 alone")
    return sockets


#: The cloud's entry when OS_CLOUD or the OS_* variables name it.
FROM_ENVIRONMENT: Mapping[str, str | None] = {"cloud": None, "config_file": None}


def names_cloud(environ: Mapping[str, str]) -> bool:
    """True when a real cloud is configured."""
    return any(environ.get(name) for name in ("OS_CLOUD", "OS_AUTH_URL"))


@dataclass(frozen=True)
class Backends:
    """What a service runs on: the settings with the defaults that belong to an embedded cloud, the database's URL, and
    the cloud's entry (`cloud` and `config_file`, None for those of the environment)."""

    settings: Settings
    database_url: str
    cloud: Mapping[str, str | None]


@contextlib.contextmanager
def backends(
    settings: Settings, environ: Mapping[str, str], *, database: bool = True, cloud: bool = True
) -> Iterator[Backends]:
    """The configured database and cloud, and embedded ones in the place of those that are wanted and not configured.
    The embedded ones are stopped at the end. Raises PostgresFailed, StartFailed and DataFolderUnusable."""
    size = {"hosts": settings.sim_hosts, "vcpus": settings.sim_vcpus, "ram_mb": settings.sim_ram_mb}
    embedded = Embedded(
        settings.folder,
        database=database and not settings.database_url,
        cloud=size if cloud and not names_cloud(environ) else None,
    )
    try:
        started, entry = embedded.start(), FROM_ENVIRONMENT
        if started.database_url:
            log.info("database: embedded PostgreSQL in %s (VMSVC_DATABASE_URL names another)", settings.folder)
        if started.clouds:
            entry = {"cloud": "sim-admin", "config_file": str(started.clouds)}
            # A request that names no flavor gets the smallest one of the simulated cloud.
            settings = replace(settings, flavor=settings.flavor or "m1.tiny")
            log.info(
                "cloud: simulated, at %s (OS_CLOUD names a real one); to look at it: "
                "OS_CLIENT_CONFIG_FILE=%s OS_CLOUD=sim-admin openstack server list",
                started.cloud_url,
                started.clouds,
            )
        yield Backends(settings, started.database_url or settings.database_url, entry)
    finally:
        embedded.stop()


def service_of(
    settings: Settings,
    database_url: str,
    entry: Mapping[str, str | None],
    listening: Listening = Listening(),
    timing: Timing = Timing(),
) -> Service:
    """A replica that works on the cloud of this entry. Raises ConfigError where traces need packages that are
    missing."""
    registry, traces = CollectorRegistry(), traces_to(settings.traces_url)
    cloud = cloud_of(settings, entry, registry, traces)
    return Service(settings, database_url, cloud, registry, listening, timing, traces)


def cloud_of(
    settings: Settings,
    entry: Mapping[str, str | None],
    registry: CollectorRegistry | None = None,
    traces: Traces = NoTraces(),
) -> OpenStack:
    """The adapter with the settings' limits; its calls are counted in `registry` and told to `traces`. OS_* variables
    are read when it connects."""
    metrics = CloudMetrics(registry or CollectorRegistry())

    def observe(operation: str, outcome: str, seconds: float) -> None:
        metrics.observe_call(operation, outcome, seconds)
        traces.cloud_call(operation, outcome, seconds)

    return OpenStack(
        cloud=entry["cloud"],
        config_file=entry["config_file"],
        workers=settings.cloud_workers,
        rate=settings.cloud_rate,
        timeout=settings.cloud_timeout,
        on_call=observe,
    )


def environment() -> Mapping[str, str]:
    """The process's environment; the only place that reads it."""
    return os.environ
