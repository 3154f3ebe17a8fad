"""A stand-in for the service behind the web layer: it keeps VMs and events in memory and notes every call."""

import json

from vmsvc.domain.errors import HistoryGone, InvalidRequest, NotFound
from vmsvc.domain.principal import ANYBODY, Principal
from vmsvc.service.commands import Outcome
from vmsvc.service.create_vm import CreateVm
from vmsvc.service.listing.encoded_list import ListPage, page_of
from vmsvc.web.api.webhooks import WEBHOOK

#: Of the first, the second, ... VM: the cloud's id and ours.
CLOUD_ID, OWN_ID = "c1000000-0000-4000-8000-%012d", "0a000000-0000-4000-8000-%012d"
CLOUD_1, CLOUD_2, CLOUD_8, CLOUD_9 = (CLOUD_ID % number for number in (1, 2, 8, 9))
OWN_1, OWN_2 = (OWN_ID % number for number in (1, 2))


#: The headers with which a client asks for a WebSocket.
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def event(seq: int, kind: str = "create", vm: str = "vm-1", padding: str = "", preemptible: bool = True) -> dict:
    """A CloudEvents object as the feed publishes it."""
    return {
        "specversion": "1.0",
        "id": str(seq),
        "source": "vmsvc",
        "type": kind,
        "subject": vm,
        "time": "2026-11-23T12:00:00Z",
        "datacontenttype": "application/json",
        "data": {
            "seq": seq,
            "state": "active",
            "padding": padding,
            "vm": {"id": vm, "name": "x", "vmsvc_id": f"own-{vm}", "is_preemptible": preemptible},
        },
    }


class Service:
    """`outcome_of` is what creates end with; None: they do not end in time. `calls` is every call, in order."""

    def __init__(self):
        self.calls: list[tuple] = []
        self.log: list[dict] = []
        self.kept_from = 1
        self.ends = True
        self.error: Exception | None = None
        self.refusal: tuple[str, str] | None = None
        self.deletes_in_time = True
        self.evicts: tuple[str, ...] = ()
        self.parts: dict[str, str | None] = {"database": None, "cloud": None}
        self.remarks: dict[str, str] = {}
        self.vm_rows: dict[str, dict] = {}

    def _note(self, *call):
        self.calls.append(call)
        if self.error:
            raise self.error

    async def create(self, request: CreateVm, *, client, idempotency_key=None, principal=ANYBODY) -> str:
        """The same id comes in `outcome`."""
        del client
        self._note("create", request, idempotency_key, principal.name)
        if request.flavor == "no-such-flavor":
            raise InvalidRequest("there is no flavor no-such-flavor", field="flavor")
        number = len(self.vm_rows) // 2 + 1
        row = {
            "id": CLOUD_ID % number,
            "name": request.name or "standart",
            "vmsvc_id": OWN_ID % number,
            "links": [],
            "is_preemptible": request.is_preemptible,
            "state": "active",
            "evict_at": None,
        }
        self.vm_rows[row["id"]] = self.vm_rows[row["vmsvc_id"]] = row
        return row["vmsvc_id"]

    async def outcome(self, vmsvc_id: str, timeout: float) -> Outcome | None:
        """What it ended with."""
        self._note("outcome", vmsvc_id, timeout)
        if not self.ends:
            return None
        if self.refusal:
            return Outcome(False, self.vm_rows[vmsvc_id], (), *self.refusal)
        return Outcome(True, self.vm_rows[vmsvc_id], self.evicts)

    async def dry_run(self, request: CreateVm, count: int = 1, *, client: str, principal: Principal = ANYBODY) -> dict:
        del client, principal
        self._note("dry_run", request, count)
        return {"result": "placed", "reason": "host one has room for it", "host": "one", "victims": []}

    async def delete(self, ref: str, timeout: float, *, principal: Principal = ANYBODY) -> dict | None:
        """Gone, or not yet."""
        del principal
        self._note("delete", ref, timeout)
        row = await self.vm(ref)
        return row if self.deletes_in_time else None

    async def change(
        self, ref: str, *, ends_restarts: bool, is_preemptible: bool | None, principal: Principal = ANYBODY
    ) -> dict:
        """Record the call, change nothing, and show the VM as it is."""
        del principal
        self._note("change", ref, ends_restarts, is_preemptible)
        return await self.vm(ref)

    async def vms(self) -> ListPage:
        self._note("vms")
        return self.page()

    def page(self) -> ListPage:
        """The VMs of `vm_rows`, each once though two ids lead to it."""
        return page_of(
            [json.dumps(row).encode() for key, row in self.vm_rows.items() if key == row["id"]], len(self.log)
        )

    async def vm(self, ref: str) -> dict:
        """By either id."""
        self._note("vm", ref)
        if ref not in self.vm_rows:
            raise NotFound(f"there is no vm {ref}")
        return self.vm_rows[ref]

    async def events(
        self, *, since: int, limit: int, types: frozenset, vm: str | None, preemptible: bool | None
    ) -> tuple[list[dict], int]:
        """A page of the log."""
        self._note("events", since, limit, types, vm, preemptible)
        if since + 1 < self.kept_from:
            raise HistoryGone(self.kept_from)
        found = [
            one
            for one in self.log
            if one["data"]["seq"] > since
            and (not types or one["type"] in types)
            and vm in (None, one["subject"], one["data"]["vm"]["vmsvc_id"])
            and preemptible in (None, one["data"]["vm"]["is_preemptible"])
        ][:limit]
        if len(found) == limit:
            return found, found[-1]["data"]["seq"]
        return found, self.log[-1]["data"]["seq"] if self.log else 0

    async def capacity(self) -> dict:
        self._note("capacity")
        quota = {name: {} for name in ("used", "free", "standard", "preemptible", "reserved", "reclaimable")}
        return {
            "mode": "tenant",
            "quota": {"limit": {"cores": 4, "ram": None}, **quota},
            "hosts": [],
            "flavors": [],
            "waiting": {"count": 0, "vcpus": 0, "oldest": None},
        }

    async def advice(self, flavor: str | None, hours: float) -> dict:
        self._note("advice", flavor, hours)
        few = {"n": 3, "too_few": True}
        return {
            "flavor": flavor or "m1.tiny",
            "since": "2026-11-22T12:00:00.000Z",
            "until": "2026-11-23T12:00:00.000Z",
            "eviction_rate": {"per_hour": None, "evicted": 1, **few},
            "expected_uptime_seconds": {"p10": None, "p50": None, "longest": 12.5, **few},
            "wait_seconds": {"p50": None, "p90": None, **few},
        }

    async def usage(self, hours: float) -> dict:
        self._note("usage", hours)
        return {
            "since": "2026-11-23T11:00:00.000Z",
            "until": "2026-11-23T12:00:00.000Z",
            "step_seconds": 1800,
            "standard": [0, 4],
            "preemptible": [8, 4],
            "evictions": [0, 4],
        }

    def notes(self) -> dict[str, str]:
        """Of parts that work, though not as they should."""
        return self.remarks

    def readiness(self) -> dict[str, str | None]:
        return self.parts

    def catalog(self) -> dict:
        self._note("catalog")
        return {
            "flavors": [{"id": "1", "name": "m1.tiny", "vcpus": 1, "ram": 512, "disk": 1}],
            "images": [],
            "networks": [{"id": "n", "name": "private"}],
            "availability_zones": ["nova"],
            "key_names": ["mine"],
            "defaults": {"flavor": "m1.tiny", "image": None, "network": "private"},
        }

    def wrote(self) -> bool:
        """True when something was asked for that changes the world."""
        return any(call[0] in ("create", "change", "delete") for call in self.calls)


class Evictions:
    """A stand-in for the service's evictions. `error` is raised by every call; `calls` is every call, in order."""

    def __init__(self):
        self.calls: list[tuple] = []
        self.error: Exception | None = None
        self.vm = {
            "id": CLOUD_ID % 1,
            "name": "preemptible",
            "vmsvc_id": OWN_ID % 1,
            "state": "noticed",
            "evict_at": "2026-11-23T12:00:30.000Z",
        }
        self.found: list[dict] = []
        self.next: int | None = None

    def _note(self, *call):
        self.calls.append(call)
        if self.error:
            raise self.error

    async def acknowledge(self, ref: str, *, principal: Principal = ANYBODY) -> dict:
        del principal
        self._note("acknowledge", ref)
        return self.vm

    async def practise(self, ref: str, notice_only: bool, *, principal: Principal = ANYBODY) -> dict:
        del principal
        self._note("practise", ref, notice_only)
        return self.vm

    async def record(self, **query) -> tuple[list[dict], int | None]:
        self._note("record", query)
        return self.found, self.next

    async def one(self, eviction_id: int) -> dict:
        self._note("one", eviction_id)
        return self.found[0]


class Webhooks:
    """A stand-in for the service's webhooks: the same one by every id."""

    async def mine(self, principal: Principal) -> list[dict]:
        del principal
        return [WEBHOOK]

    async def one(self, webhook_id: str, principal: Principal) -> dict:
        """The one webhook that there is, whatever the id."""
        del webhook_id, principal
        return WEBHOOK

    async def deliveries(self, webhook_id: str, *query: object) -> tuple[list[dict], int | None]:
        """No delivery, on a page that is the last."""
        del webhook_id, query
        return [], None
