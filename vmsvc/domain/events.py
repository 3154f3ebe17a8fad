"""What clients read: the view of a VM and the envelope of an event (CloudEvents 1.0, JSON)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, overload

SOURCE = "/vmsvc"
TYPES = frozenset({"create", "evict", "delete"})
#: Fields of a VM's row that clients may see, in the order in which they are shown.
_SHOWN = (
    "name",
    "is_preemptible",
    "state",
    "priority",
    "min_run_seconds",
    "flavor",
    "image",
    "network",
    "host",
    "max_unavailable",
    "created_at",
    "launched_at",
    "evict_at",
    "acknowledged_at",
    "ended_at",
    "wait_until",
)


@overload
def instant(moment: datetime) -> str: ...


@overload
def instant(moment: datetime | None) -> str | None: ...


def instant(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds, as every time in every body is written."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A VM as clients see it: `id` is the cloud's once there is a server, ours before that. The successor is not in the
    row of a VM: a caller that knows it adds it to the row."""
    shown = {"id": row["cloud_id"] or row["id"], "vmsvc_id": row["id"]}
    for name in _SHOWN:
        value = row[name]
        shown[name] = instant(value) if isinstance(value, datetime) else value
    shown["group"] = row["group_name"]
    shown["owner"] = row["principal"]
    shown["origin"] = row["lineage_id"] or row["id"]
    shown["restarts"] = row["attempt"]
    shown["restart_of"] = row["restart_of"]
    shown["successor"] = row.get("successor")
    if row["notice"]:
        shown["notice"] = row["notice"]
    return shown


def envelope(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the outbox as the CloudEvents object that every client gets."""
    return {
        "specversion": "1.0",
        "id": str(row["seq"]),
        "source": SOURCE,
        "type": row["type"],
        "subject": row["subject"],
        "time": instant(row["time"]),
        "datacontenttype": "application/json",
        "data": {"seq": row["seq"], "state": row["state"], **row["data"]},
    }
