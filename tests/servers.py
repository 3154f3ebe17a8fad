"""Servers as the cloud shows them, for tests that need no cloud."""

from datetime import UTC, datetime
from typing import Any

from vmsvc.cloud.port import Server
from vmsvc.domain.flavors import Flavor
from vmsvc.domain.resources import Resources

SHOWN_AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
_FACTS: dict[str, Any] = {
    "name": "any",
    "status": "ACTIVE",
    "task_state": None,
    "host_id": "hash",
    "host": "sim-1",
    "availability_zone": "nova",
    "locked": False,
    "created": SHOWN_AT,
    "launched_at": SHOWN_AT,
    "updated": SHOWN_AT,
    "fault": None,
    "metadata": {},
    "flavor": Flavor("m1.tiny", "m1.tiny", 1, 1024, 1),
    "boot_from_volume": False,
    "resources": Resources({"VCPU": 1}),
    "body": {},
}


def server_of(server_id: str, **facts: Any) -> Server:
    """An ACTIVE server of one vCPU on `sim-1`, except for what these facts say."""
    return Server(id=server_id, **{**_FACTS, **facts})
