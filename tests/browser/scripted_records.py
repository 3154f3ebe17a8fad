"""More of the scripted service: the cloud's lists, use over time, the record of evictions, practice and letting go."""

import json

from tests.browser.scripted_handlers import Base

CATALOG = {
    "flavors": [
        {"id": f"f-{number}", "name": f"m1.{size}", "vcpus": number, "ram": 1024 * number, "disk": 1}
        for number, size in enumerate(("tiny", "small", "medium"), start=1)
    ],
    "images": [{"id": "i-1", "name": "bed-image"}, {"id": "i-2", "name": "<b>debian</b>"}],
    "networks": [{"id": "n-1", "name": "bed-net"}],
    "availability_zones": ["nova"],
    "key_names": ["mine"],
    "defaults": {"flavor": "m1.tiny", "image": "bed-image", "network": "bed-net"},
}


class Catalog(Base):
    """`/api/v1/catalog`."""

    async def get(self) -> None:
        """The cloud's lists, or what the script says."""
        if self.api.catalog_failure:
            self.fail(*self.api.catalog_failure)
        else:
            self.finish(self.api.catalog)


class Usage(Base):
    """`/api/v1/usage`."""

    async def get(self) -> None:
        """As scripted."""
        hours = int(self.get_query_argument("hours", "6"))
        self.finish(
            {
                "since": self.api.instant(-3600 * hours),
                "until": self.api.instant(),
                "step_seconds": 3600 * hours // len(self.api.usage["standard"]),
                **self.api.usage,
            }
        )


class Evictions(Base):
    """`/api/v1/evictions`."""

    async def get(self) -> None:
        """A page of all records; or those of a VM, as the victim, or as who needed the capacity."""
        found = self.api.records
        for party in ("vm", "request"):
            if wanted := self.get_query_argument(party, None):
                found = [record for record in found if (record[party] or {}).get("vmsvc_id") == wanted]
                self.finish({"evictions": found, "before": None})
                return
        before, limit = int(self.get_query_argument("before", "1000000")), int(self.get_query_argument("limit"))
        older = [record for record in reversed(found) if record["id"] < before]
        rest = older[limit:]
        self.finish({"evictions": older[:limit], "before": older[limit - 1]["id"] if rest else None})


class Release(Base):
    """`/api/v1/vm/{id}/ack`."""

    async def post(self, vm_id: str) -> None:
        """It goes at once."""
        vm = self.api.find(vm_id)
        self.api.tell("evict", "evicting", {**vm, "acknowledged_at": self.api.instant()})
        self.finish({"code": "200", "message": "it goes", "vm": vm})


class Practice(Base):
    """`/api/v1/vm/{id}/evict`."""

    async def post(self, vm_id: str) -> None:
        """It is noticed, unless the script says why not."""
        if self.api.practice_failure:
            self.fail(*self.api.practice_failure)
            return
        evict_at = self.api.instant(20)
        vm = {**self.api.find(vm_id), "evict_at": evict_at}
        self.api.tell(
            "evict",
            "noticed",
            vm,
            evict_at=evict_at,
            grace_seconds=20,
            reason="simulated by its owner",
            makes_room_for=None,
            simulated=True,
            **json.loads(self.request.body),
        )
        self.set_status(202)
        self.finish({"code": "202", "message": "it was noticed", "vm": vm})
