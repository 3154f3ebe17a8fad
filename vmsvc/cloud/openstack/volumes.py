"""Volumes in Cinder, where the cloud has it: what a server may boot from, and how much more the quota allows.

Read in Cinder's API reference, and tried on the simulated cloud alone.
"""

from functools import partial
from urllib.parse import quote

from vmsvc.cloud.openstack import parse
from vmsvc.cloud.openstack.calls import Caller
from vmsvc.cloud.openstack.exchange import CloudRequest, Json
from vmsvc.domain.catalog import Volume, VolumesLeft

SERVICE = "block-storage"


class VolumeCalls(Caller):
    """The calls on volumes. Every one raises CloudUnavailable and CloudError."""

    async def volume(self, volume_id: str) -> Volume:
        """One volume. Raises NotFound."""
        return await self._calls.send(
            CloudRequest("volume", SERVICE, "GET", f"/volumes/{quote(volume_id, safe='')}"),
            partial(parse.whole, "a volume", lambda body: _volume(body["volume"])),
        )

    async def volumes_left(self) -> VolumesLeft:
        """How many more volumes and GiB of them the project may have."""
        return await self._calls.send(
            CloudRequest("volumes_left", SERVICE, "GET", "/limits"),
            partial(parse.whole, "the quota of volumes", lambda body: _left(body["limits"]["absolute"])),
        )


def _volume(raw: Json) -> Volume:
    return Volume(
        raw["id"],
        raw.get("name") or "",
        raw["status"],
        int(raw["size"]),
        raw.get("bootable") in (True, "true"),
        dict(raw.get("volume_image_metadata") or {}),
    )


def _left(absolute: Json) -> VolumesLeft:
    def left(most: str, used: str) -> int | None:
        return None if absolute[most] < 0 else absolute[most] - absolute[used]

    return VolumesLeft(
        left("maxTotalVolumes", "totalVolumesUsed"), left("maxTotalVolumeGigabytes", "totalGigabytesUsed")
    )
