"""Make rows for servers of ours that have none, since the database was restored from a backup.

The server's marks and the cloud give the columns of its row. Its owner, priority, group and promised running time were
in the lost row alone. All functions but `reset_after_restore` may run beside a running service.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vmsvc.cloud.port import EVICT_AT, EVICT_REASON, KIND, KINDS, MARK, ORIGIN, OWNER, RESTARTS, Cloud, Server
from vmsvc.domain.catalog import Image
from vmsvc.domain.errors import Conflict
from vmsvc.domain.flavors import Flavor, quota_request, traits_of
from vmsvc.domain.lifecycle import FINAL, State
from vmsvc.service.scheduling.apply import fail, reprieve
from vmsvc.service.scheduling.rehearsals import is_left_over
from vmsvc.store import intents, ledger, outbox, vms
from vmsvc.store.db import Lock, Unit, reading, unit
from vmsvc.store.models import Vm

_MARK_KEYS = frozenset({MARK, OWNER, KIND, RESTARTS, ORIGIN, EVICT_AT, EVICT_REASON})
#: The form of a row's id, as `commands.create` makes it. The server's owner can write any text into the mark. With such
#: an id a row could not be found, or would be found in the place of another.
_ID_FORM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RESTORED = "the database was restored from a backup"


@dataclass(frozen=True, slots=True)
class ServerWithoutRow:
    """A server that carries our mark and has no row. `problem`: why it cannot be adopted as it is, and what a person
    has to do; None when it can."""

    server: Server
    problem: str | None

    @property
    def kind(self) -> str:
        """Standard or preemptible, from the server's metadata; empty where that is missing."""
        return self.server.metadata.get(KIND, "")


@dataclass(frozen=True, slots=True)
class CloudCatalog:
    """The cloud's flavors and images, for the names and ids that a server's body does not contain."""

    flavors: Mapping[str, Flavor]  # by name
    images: Mapping[str, Image]  # by id


async def read_catalog(cloud: Cloud) -> CloudCatalog:
    """Read flavors and images from the cloud. Raises what the cloud raises."""
    return CloudCatalog(
        {flavor.name: flavor for flavor in await cloud.flavors()}, {image.id: image for image in await cloud.images()}
    )


def marked_servers(servers: Iterable[Server], deployment: str) -> list[Server]:
    """The servers that carry the mark of this deployment, without those that its rehearsals made."""
    return [
        server
        for server in servers
        if MARK in server.metadata and server.metadata.get(OWNER) == deployment and not is_left_over(server, deployment)
    ]


def servers_without_row(ours: Collection[Server]) -> list[ServerWithoutRow]:
    """Those of our servers that have no row, oldest first. In the database pool."""
    marks = {server.metadata[MARK] for server in ours}
    with reading():
        rows = {row.id for row in vms.of_ids(marks)}
        used_ids = {row.server_id for row in vms.of_servers(marks)} | {server.id for server in ours}
        named = {
            row.cloud_id for row in vms.of_servers([server.id for server in ours]) if State(row.state) not in FINAL
        }
    carriers = Counter(server.metadata[MARK] for server in ours)
    return [
        ServerWithoutRow(server, adoption_problem(server, carriers[server.metadata[MARK]], used_ids))
        for server in sorted(ours, key=lambda server: (server.created, server.id))
        if server.metadata[MARK] not in rows and server.id not in named
    ]


def adoption_problem(server: Server, carriers: int, used_ids: Collection[str] = ()) -> str | None:
    """Why a server cannot be adopted as it is, None when it can. `carriers`: how many servers carry its mark;
    `used_ids`: the cloud's ids of servers, which cannot be the id of a row too."""
    if problem := _mark_problem(server, carriers, used_ids):
        return problem
    if server.metadata.get(KIND) not in KINDS.values():
        return (
            f"its {KIND} is {server.metadata.get(KIND)!r}: set its kind (openstack server set --property "
            f"{KIND}=standard {server.id}, or preemptible)"
        )
    if server.task_state == "deleting" or server.status in ("DELETED", "SOFT_DELETED"):
        return "it is being deleted"
    if server.status in ("BUILD", "UNKNOWN"):
        return f"it is {server.status} now: try again later"
    if server.launched_at is None:
        return f"it is {server.status} and never ran: delete it (openstack server delete {server.id})"
    return None


def _mark_problem(server: Server, carriers: int, used_ids: Collection[str]) -> str | None:
    mark = server.metadata[MARK]
    if mark in used_ids or not _ID_FORM.fullmatch(mark):
        return (
            f"its {MARK} is {mark!r}, which vmsvc did not write: remove it (openstack server unset "
            f"--property {MARK} {server.id}), or set it to a new UUID"
        )
    if carriers > 1:
        return f"{carriers} servers carry its mark: delete those that nobody wants (openstack server delete)"
    return None


def columns_of(server: Server, catalog: CloudCatalog, owner: str) -> dict[str, Any]:
    """The columns of the row of such a server."""
    size, image = server.flavor, server.body.get("image") or {}
    flavor, image_id = catalog.flavors.get(size.name), str(image.get("id", ""))
    traits = {kind: sorted(names) for kind, names in asdict(traits_of(size.extra_specs)).items()}
    return {
        "name": server.name,
        "is_preemptible": server.metadata[KIND] == KINDS[True],
        "principal": owner,
        "flavor": size.name,
        "image": catalog.images[image_id].name if image_id in catalog.images else image_id,
        "network": next(iter(server.body.get("addresses") or {}), None),
        "boot": {
            "asked": {"adopted": True},
            "request_id": None,
            "flavor_id": flavor.id if flavor else size.id,
            "image_id": image_id,
            "network_id": None,
            "key_name": server.body.get("key_name"),
            "user_data": None,
            "metadata": {name: value for name, value in server.metadata.items() if name not in _MARK_KEYS},
            "availability_zone": None,
            "traits": traits,
        },
        "quota": dict(quota_request(size.vcpus, size.ram_mb)),
        "room": dict(server.resources),
        "host": server.host,
        "host_id": server.host_id,
        "created_at": server.created,
        "launched_at": server.launched_at,
    }


# ---------------------------------------------------------------- in the database pool


def adopt(found: Collection[ServerWithoutRow], catalog: CloudCatalog, owner: str) -> list[Vm]:
    """Make and return rows for the servers that have no problem and still no row."""
    with unit() as work:
        work.lock(Lock.SCHEDULER)  # another `adopt` may run
        servers = {one.server.metadata[MARK]: one.server for one in found if one.problem is None}
        for row in [*vms.of_ids(servers), *vms.of_servers([server.id for server in servers.values()])]:
            servers = {mark: server for mark, server in servers.items() if mark != row.id and server.id != row.cloud_id}
        return [
            _adopt_server(work, mark, server, columns_of(server, catalog, owner)) for mark, server in servers.items()
        ]


def _adopt_server(work: Unit, vm_id: str, server: Server, columns: dict[str, Any]) -> Vm:
    vm = vms.adopt(work, vm_id, server.id, columns, "adopted: it carries our mark and had no row")
    if EVICT_AT in server.metadata:  # of a notice that the database no longer has
        intents.enqueue(work, intents.REPRIEVE, vm_id)
    return vm


class _DryRun(Exception):
    """Rolls back the transaction of a dry run."""


def reset_after_restore(ours: Collection[Server], dry_run: bool) -> list[str]:
    """After a restore, before the service starts: void what the backup promised, for it is out of date. Notices are
    void; a request that waited gets the server that was made for it since, or fails; and the history of events starts
    over, with a `seq` above every one that a client may have seen. Returns a line for each thing done (or, in a
    `dry_run`, that would be done).

    Raises Conflict while a service is connected to the database.
    """
    lines: list[str] = []
    with contextlib.suppress(_DryRun), unit() as work:
        work.lock(Lock.SCHEDULER)
        if outbox.other_sessions():
            raise Conflict("a vmsvc service runs on this database: stop all replicas first")
        outbox.restart_history()
        vms.touch_all()
        lines.append("events: the history starts over, with a seq above every one that clients may have seen")
        lines += _void_commitments(work, ours)
        if dry_run:
            raise _DryRun
    return lines


def _void_commitments(work: Unit, ours: Collection[Server]) -> list[str]:
    lines, marked = [], {server.metadata[MARK]: server for server in ours}
    for row in vms.in_states([State.NOTICED]):
        reprieve(work, row, f"{_RESTORED}: this notice is void")
        lines.append(f"{row.cloud_id} {row.name}: its notice is void")
    for row in vms.in_states([State.PENDING, State.BUILDING]):
        if row.state == State.PENDING and row.id in marked:
            ledger.release_reservation(work, row.id)
            vms.move(work, row, State.BUILDING, host=marked[row.id].host)
            intents.enqueue(work, intents.BOOT, row.id)
            lines.append(f"{row.id} {row.name}: it waited, and its server was made since")
        elif row.cloud_id is None and row.id not in marked:
            fail(work, row, Conflict.slug, f"{_RESTORED}, which does not know what became of this request: ask again")
            lines.append(f"{row.id} {row.name}: it waited, and fails")
    noticed = {server.id for server in ours if EVICT_AT in server.metadata}
    for row in vms.in_states([State.ACTIVE]):
        if row.cloud_id in noticed:  # of a notice that came after the backup
            intents.enqueue(work, intents.REPRIEVE, row.id)
    return lines
