"""What a list shows: the cloud's servers and our requests, joined."""

from collections.abc import Iterable
from typing import Any

from vmsvc.cloud.port import Server
from vmsvc.domain.events import view
from vmsvc.domain.lifecycle import FINAL, State
from vmsvc.store import vms
from vmsvc.store.models import Vm

_OURS = ("vmsvc_id", "is_preemptible", "state", "priority", "min_run_seconds", "group", "max_unavailable", "owner",
         "evict_at", "acknowledged_at")


def joined(servers: Iterable[Server], rows: Iterable[Vm]) -> list[dict[str, Any]]:
    """Every server once, ours with what we know of it, then the requests that have no server yet.

    A server that is new is found by its mark: its id may not have been written down yet. One that has ended for us
    is left out, though the cloud may show it for a moment.
    """
    rows = list(rows)
    by_server = {row.cloud_id: row for row in rows if row.cloud_id}
    without = {row.id: row for row in rows if not row.cloud_id}
    found = [(server, by_server.get(server.id) or without.pop(server.vmsvc_id, None)) for server in servers]
    return ([shown(server, row) for server, row in found if row is None or not _over(row)]
            + [awaited(row) for row in without.values() if not _over(row)])


def _over(row: Vm) -> bool:
    return State(row.state) in FINAL


def shown(server: Server, row: Vm | None) -> dict[str, Any]:
    """The cloud's own body, and ours beside it. Of a server in a cell that is down the cloud says no name."""
    if row is None:
        return {"name": server.name, **server.body}
    ours = view(vms.row_of(row))
    return {"name": row.name, **server.body, **{name: ours[name] for name in _OURS},
            **({"notice": ours["notice"]} if "notice" in ours else {})}


def awaited(row: Vm) -> dict[str, Any]:
    """A request without a server: what we know of it."""
    known = view(vms.row_of(row))
    known["status"] = None      # the cloud does not know it
    known["links"] = [{"rel": "self", "href": f"/api/v1/vm/{row.id}"}]
    if row.outcome and not row.outcome["ok"]:
        known["error"], known["message"] = row.outcome["error"], row.outcome["message"]
    return known
