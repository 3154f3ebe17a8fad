"""One VM as clients get it: the cloud's server with the fields of its row, or a request that has no server.

A row has the columns of the VM, and those of its lineage that say how it is started again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vmsvc.cloud.port import Server
from vmsvc.domain.boot_options import FIELDS
from vmsvc.domain.events import instant, view
from vmsvc.domain.lifecycle import State
from vmsvc.domain.lineage import END, RESTART
from vmsvc.service.acting.await_build import build_message
from vmsvc.store.models import Vm

_FIELDS = (
    "vmsvc_id",
    "is_preemptible",
    "state",
    "priority",
    "min_run_seconds",
    "group",
    "max_unavailable",
    "owner",
    "origin",
    "restarts",
    "restart_of",
    "successor",
    "evict_at",
    "acknowledged_at",
    "wait_until",
)


def server_view(server: Server, row: Mapping[str, Any] | None) -> dict[str, Any]:
    """The cloud's own body with the fields of the row (None: the server is not ours). For a server in a cell that is
    down the cloud gives no name."""
    if row is None:
        return {"name": server.name, **server.body}
    ours = view(row)
    if row["state"] == State.BUILDING and server.status == "BUILD":
        ours["message"] = build_message(server)
    return {
        "name": row["name"],
        **server.body,
        **{name: ours[name] for name in _FIELDS},
        **restarts_view(row),
        "image_name": row["image"],
        "network": row["network"],
        **{name: ours[name] for name in ("notice", "message") if name in ours},
    }


def request_view(row: Mapping[str, Any], position: int | None = None) -> dict[str, Any]:
    """A request without a server: the fields of its row, with no status, as the cloud does not know it. `position`: in
    the queue; None when it does not wait there."""
    body = view(row)
    body["status"] = None
    body["links"] = [{"rel": "self", "href": f"/api/v1/vm/{row['id']}"}]
    if row["outcome"] and not row["outcome"]["ok"]:
        body["error"], body["message"] = row["outcome"]["error"], row["outcome"]["message"]
    return {**body, **restarts_view(row), "position": position}


def options_view(boot: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a request without a server asks for, as its client named them."""
    asked = boot.get("asked", {})
    return {"options": {name: asked[name] for name in FIELDS if asked.get(name) is not None}}


def restarts_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """How a VM is started again. `row`: with the columns of its lineage, None or absent for a VM that has none."""
    restarts = row.get("on_eviction") == RESTART and row.get("end_reason") is None
    most = row.get("max_restarts")
    return {
        "on_eviction": RESTART if restarts else END,
        "max_restarts": most,
        "restarts_left": max(0, most - row["attempt"]) if restarts and most is not None else 0,
    }


def lineage_view(members: Sequence[Vm]) -> dict[str, Any]:
    """The VMs of a lineage, where one of them is shown; none for a VM without one."""
    return {
        "lineage": [
            {
                "id": vm.cloud_id or vm.id,
                "vmsvc_id": vm.id,
                "restarts": vm.attempt,
                "state": vm.state,
                "created_at": instant(vm.created_at),
                "ended_at": instant(vm.ended_at),
            }
            for vm in members
        ],
    }
