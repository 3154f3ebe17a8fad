"""`python -m vmsvc check`: what is wrong, in words, before anything is started. It reads, and changes nothing.

Each part is checked by itself, so that one run reports all that is wrong.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from vmsvc import COMMAND, access
from vmsvc.cloud.openstack.adapter import OpenStack
from vmsvc.cloud.openstack.servers import MARGIN
from vmsvc.cloud.port import OWNER, Quota, Server
from vmsvc.config import ConfigError, Settings, networks_and_names
from vmsvc.domain.errors import Forbidden, InvalidRequest, VmsvcError
from vmsvc.domain.flavors import quota_request
from vmsvc.domain.timing import Timing
from vmsvc.log import scrubbed
from vmsvc.service.catalog import Catalog
from vmsvc.service.identity.tokens import BadTokenFile
from vmsvc.service.scheduling.rehearsals import is_left_over
from vmsvc.simulator.embedded import DataFolderUnusable, existing_database
from vmsvc.simulator.postgres import PostgresFailed
from vmsvc.store import preflight
from vmsvc.store.db import DATABASE_ERRORS
from vmsvc.store.schema import Unfit
from vmsvc.web.http.proxies import resolve

T = TypeVar("T")

#: Where the documents say what to do about servers without rows.
RESTORED = "docs/how-to/runbook.md, 'The database is lost'"
#: What one replica takes of the database: its pool, and the connection that listens.
CONNECTIONS = 11
#: Seconds by which clocks may differ: the cloud writes its own to the second.
CLOCK_NOTABLE, CLOCK_WRONG = 5.0, 60.0
#: The role that may create servers where nobody has changed the policies.
WRITERS = frozenset({"member", "_member_", "admin"})


class Level(StrEnum):
    """How bad it is."""

    GOOD = "ok"
    NOTABLE = "look"  # it works, perhaps not as meant
    WRONG = "WRONG"  # it will not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    part: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:6} {self.part:12} {scrubbed(' '.join(self.text.split()))}"


async def findings(settings: Settings, cloud: OpenStack | None) -> AsyncIterator[Finding]:
    """Check every part and yield the findings. `cloud` is None for the simulated one."""
    for finding in (*_access(settings), *await asyncio.to_thread(lambda: [*_proxies(settings)])):
        yield finding
    with contextlib.ExitStack() as stack:
        database_url, database_state, found = await asyncio.to_thread(_any_database, settings, stack)
        for finding in found:
            yield finding
        async for finding in _any_cloud(cloud, settings, database_state, database_url):
            yield finding


async def _any_cloud(
    cloud: OpenStack | None, settings: Settings, database_state: preflight.Findings | None, database_url: str
) -> AsyncIterator[Finding]:
    if cloud is None:
        yield Finding(Level.GOOD, "cloud", "none is set (OS_CLOUD, OS_AUTH_URL): the simulated one will run")
        return
    try:
        await cloud.connect()
    except VmsvcError as error:
        yield Finding(Level.WRONG, "credentials", error.message)
        return
    for finding in _rights(cloud):
        yield finding
    async for finding in _cloud(cloud, settings, database_state, database_url):
        yield finding


def _access(settings: Settings) -> Iterator[Finding]:
    try:
        access.require(settings)
    except (ConfigError, BadTokenFile) as error:
        yield Finding(Level.WRONG, "access", str(error))
        return
    if settings.auth == "token":
        yield Finding(Level.GOOD, "access", f"holders of a token in {settings.tokens}")
    elif settings.auth == "keystone":
        yield Finding(
            Level.GOOD,
            "access",
            f"holders of a token of Keystone's for this project: "
            f"{settings.member_roles} may create and delete, {settings.reader_roles} may look",
        )


def _proxies(settings: Settings) -> Iterator[Finding]:
    for name in networks_and_names(settings.trusted_proxies)[1]:
        try:
            found = ", ".join(sorted(map(str, resolve(name))))
        except OSError as error:
            yield Finding(
                Level.NOTABLE,
                "access",
                f"the trusted proxy {name} has no address now ({error.strerror}): "
                "its clients would all count as one (VMSVC_TRUSTED_PROXIES)",
            )
        else:
            yield Finding(Level.GOOD, "access", f"the trusted proxy {name} is {found}")


def _any_database(
    settings: Settings, stack: contextlib.ExitStack
) -> tuple[str, preflight.Findings | None, list[Finding]]:
    """The database's URL, its condition (None where it cannot be examined), and the findings. `stack` stops an embedded
    one."""
    if settings.database_url:
        return settings.database_url, *_database(settings.database_url, settings.listen_url, "VMSVC_DATABASE_URL")
    where = f"an embedded PostgreSQL in {settings.folder}"
    try:
        url = stack.enter_context(existing_database(settings.folder))
    except (DataFolderUnusable, PostgresFailed) as error:
        return "", None, [Finding(Level.WRONG, "database", str(error))]
    if url is None:
        return "", None, [Finding(Level.GOOD, "database", f"none is set: {where} will be made")]
    return url, *_database(url, "", where)


def _database(url: str, listen_url: str, name: str) -> tuple[preflight.Findings | None, list[Finding]]:
    try:
        database_state = preflight.examine(url)
        to_wait = preflight.reason_to_wait(database_state)
        hears = bool(to_wait) or preflight.hears(url, listen_url or url)
    except (Unfit, *DATABASE_ERRORS) as error:
        return None, [Finding(Level.WRONG, "database", f"{error} ({name})")]
    troubles = [*filter(None, [to_wait]), *preflight.reasons_to_refuse(database_state)]
    if database_state.unknown:
        troubles.append(
            f"a newer vmsvc has changed its schema ({', '.join(database_state.unknown)}); "
            "start that release or a newer one"
        )
    found = [Finding(Level.WRONG, "database", f"{trouble} ({name})") for trouble in troubles]
    if not hears:
        found.append(
            Finding(
                Level.NOTABLE,
                "database",
                "notifications do not arrive (a pooler in transaction "
                "mode?), so the service will poll it every 0.2 s; VMSVC_LISTEN_URL can name it without "
                "the pooler",
            )
        )
    if database_state.connections_left < CONNECTIONS:
        found.append(
            Finding(
                Level.NOTABLE,
                "database",
                f"{database_state.connections_left} connections are left and a replica "
                f"takes {CONNECTIONS}; raise max_connections",
            )
        )
    found += _clock("database's", database_state.clock)
    schema = (
        f"{len(database_state.pending)} migrations will be applied"
        if database_state.pending
        else "the schema is up to date"
    )
    return database_state, found or [
        Finding(Level.GOOD, "database", f"PostgreSQL {database_state.release}, {schema} ({name})")
    ]


def _clock(owner: str, clock: datetime) -> list[Finding]:
    ahead = (clock - datetime.now(UTC)).total_seconds()
    if abs(ahead) < CLOCK_NOTABLE:
        return []
    text = (
        f"the {owner} clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's; let NTP "
        "set them: guests read times of notices, and tokens end by the clock"
    )
    return [Finding(Level.WRONG if abs(ahead) >= CLOCK_WRONG else Level.NOTABLE, "clock", text)]


def _rights(cloud: OpenStack) -> Iterator[Finding]:
    what = {
        "operator": "it sees all hosts (Placement)",
        "tenant": "it sees the project alone; hosts and their room are for an operator's credentials",
    }
    yield Finding(Level.GOOD, "credentials", f"{cloud.mode} mode, project {cloud.project_id}: {what[cloud.mode]}")
    if cloud.roles and not cloud.roles & WRITERS:
        yield Finding(
            Level.NOTABLE,
            "rights",
            f"the roles are {', '.join(sorted(cloud.roles))}: to create and delete "
            "servers most clouds ask for the role member",
        )


async def _cloud(
    cloud: OpenStack, settings: Settings, database_state: preflight.Findings | None, database_url: str
) -> AsyncIterator[Finding]:
    page, trouble = await _read(cloud.servers(), "list servers")
    quota, no_quota = await _read(cloud.quota(), "read the quota (limits)")
    catalog = Catalog(cloud, Timing(), flavor=settings.flavor, image=settings.image, network=settings.network)
    _, no_catalog = await _read(catalog.refresh(), "list flavors, images, networks, zones or key pairs")
    for finding in filter(None, (trouble, no_quota, no_catalog)):
        yield finding
    if catalog.loaded:
        for finding in _offer(catalog, settings):
            yield finding
    if catalog.loaded and quota:
        yield _quota(quota, catalog)
    if page:
        clock = _clock("cloud's", page.as_of + MARGIN)
        for finding in (*clock, *await asyncio.to_thread(_ours, page.servers, database_state, database_url)):
            yield finding
        if not clock:
            yield Finding(Level.GOOD, "clock", "this machine, the cloud and the database agree")


async def _read(awaitable: Awaitable[T], what: str) -> tuple[T | None, Finding | None]:
    try:
        return await awaitable, None
    except Forbidden as error:
        return None, Finding(Level.WRONG, "rights", f"the credentials may not {what}: {error.message}")
    except VmsvcError as error:
        return None, Finding(Level.WRONG, "cloud", f"cannot {what}: {error.message}")


def _offer(catalog: Catalog, settings: Settings) -> Iterator[Finding]:
    for kind, find in (("flavor", catalog.flavor), ("image", catalog.image), ("network", catalog.network)):
        try:
            yield Finding(Level.GOOD, kind, f"a request that names none gets {find(None).name}")
        except InvalidRequest as error:
            if getattr(settings, kind):
                yield Finding(Level.WRONG, kind, f"{error.message} (VMSVC_{kind.upper()})")
            else:
                yield Finding(Level.NOTABLE, kind, error.message)


def _quota(quota: Quota, catalog: Catalog) -> Finding:
    smallest = min(catalog.flavors, key=lambda flavor: (flavor.vcpus, flavor.ram_mb), default=None)
    if smallest is None:
        return Finding(Level.WRONG, "quota", "the project may use no flavor")
    needs = quota_request(smallest.vcpus, smallest.ram_mb)
    for item, most in sorted(quota.limit.items()):
        text = f"{quota.used[item]:.0f} of {most:.0f} {item} are in use"
        if needs[item] > most:
            return Finding(Level.WRONG, "quota", f"{text}: not even one {smallest.name} fits")
        if needs[item] + quota.used[item] > most:
            return Finding(Level.NOTABLE, "quota", f"{text}: a {smallest.name} fits only when another server goes")
    used = ", ".join(f"{quota.used[item]:.0f} of {most:.0f} {item}" for item, most in sorted(quota.limit.items()))
    return Finding(Level.GOOD, "quota", used or "unlimited")


def _ours(servers: Sequence[Server], database_state: preflight.Findings | None, database_url: str) -> list[Finding]:
    """Does this database belong to this cloud?"""
    if database_state is None or database_state.deployment is None:
        return []
    found = []
    if database_state.servers and not database_state.servers & {server.id for server in servers}:
        found.append(
            Finding(
                Level.WRONG,
                "cloud",
                f"the database has {len(database_state.servers)} VMs and not one of them is "
                "in this project: started now, the service would write all of them off as lost. Is it the "
                "right cloud, project and database?",
            )
        )
    marked = [
        server
        for server in servers
        if server.vmsvc_id
        and server.id not in database_state.servers
        and not is_left_over(server, database_state.deployment)
    ]
    ours = {
        server.vmsvc_id
        for server in marked
        if server.vmsvc_id and server.metadata.get(OWNER) == database_state.deployment
    }
    forgotten = preflight.without_row(database_url, ours)
    if forgotten:
        found.append(
            Finding(
                Level.NOTABLE,
                "cloud",
                f"{len(forgotten)} servers were made with this database, and it "
                "does not know them (an older backup?): vmsvc keeps them and manages none of them. "
                f"`{COMMAND} adopt` makes rows for them; see {RESTORED}",
            )
        )
    strange = sum(server.metadata.get(OWNER) != database_state.deployment for server in marked)
    if strange:
        found.append(
            Finding(
                Level.NOTABLE,
                "cloud",
                f"{strange} servers were made by a vmsvc with another database, "
                f"and this one will never touch them; see {RESTORED}",
            )
        )
    return found


def passed(found: list[Finding]) -> bool:
    """True when nothing is wrong."""
    return all(finding.level is not Level.WRONG for finding in found)
