"""What a list shows of each: the cloud's server with what we know of it, or a request that has none."""

from collections.abc import Mapping
from typing import Any

from vmsvc.cloud.port import Server
from vmsvc.domain.events import view
from vmsvc.domain.lifecycle import State
from vmsvc.service.acting.await_build import under_way

_OURS = (
    "vmsvc_id",
    "is_preemptible",
    "state",
    "priority",
    "min_run_seconds",
    "group",
    "max_unavailable",
    "owner",
    "evict_at",
    "acknowledged_at",
)


def shown(server: Server, row: Mapping[str, Any] | None) -> dict[str, Any]:
    """The cloud's own body, and ours beside it. Of a server in a cell that is down the cloud says no name."""
    if row is None:
        return {"name": server.name, **server.body}
    ours = view(row)
    if row["state"] == State.BUILDING and server.status == "BUILD":
        ours["message"] = under_way(server)
    return {
        "name": row["name"],
        **server.body,
        **{name: ours[name] for name in _OURS},
        **{name: ours[name] for name in ("notice", "message") if name in ours},
    }


def awaited(row: Mapping[str, Any]) -> dict[str, Any]:
    """A request without a server: what we know of it."""
    known = view(row)
    known["status"] = None  # the cloud does not know it
    known["links"] = [{"rel": "self", "href": f"/api/v1/vm/{row['id']}"}]
    if row["outcome"] and not row["outcome"]["ok"]:
        known["error"], known["message"] = row["outcome"]["error"], row["outcome"]["message"]
    return known
