"""The disks of a create: which volumes a server may have, judged before anybody is noticed.

Nova looks at the volumes of a create when it has taken all else, and Cinder's quota is not looked at before the build.
So neither a rehearsal nor the create itself would say it in time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vmsvc.cloud.port import Cloud
from vmsvc.domain.acceptance import Objection
from vmsvc.domain.boot_options import options_in
from vmsvc.domain.catalog import Image, Volume
from vmsvc.domain.errors import InvalidRequest, NotFound
from vmsvc.service.catalog import Catalog

FIELD = "block_device_mapping_v2"
_GIB = 1024**3


async def resolve(
    cloud: Cloud, catalog: Catalog, devices: Sequence[Mapping[str, Any]]
) -> tuple[tuple[dict[str, Any], ...], Image]:
    """The devices as Nova takes them, and what stands for the image of the root disk: it decides where the server may
    be. Raises InvalidRequest that names the field."""
    if not cloud.has_volumes:
        raise InvalidRequest("the cloud has no Cinder", FIELD)
    found: list[dict[str, Any]] = []
    root: Image | None = None
    for device in devices:
        kept = {"destination_type": "volume", **device}
        image = await _source(cloud, catalog, kept)
        if kept.get("boot_index") == 0:
            root = image
        found.append(kept)
    if root is None:
        raise InvalidRequest("the device with boot_index 0 needs a volume or an image", FIELD)
    if objection := await _objection(cloud, found):
        raise InvalidRequest(objection.message, FIELD)
    return tuple(found), root


async def objection_to(cloud: Cloud, boot: Mapping[str, Any]) -> Objection | None:
    """Why a request with this `boot` cannot have its volumes now; None when it can, or has none."""
    devices = options_in(boot).block_devices
    return await _objection(cloud, devices) if devices else None


async def _source(cloud: Cloud, catalog: Catalog, device: dict[str, Any]) -> Image | None:
    """What is on the disk, as an image; None for an empty one. A name becomes an id."""
    if device["source_type"] == "image":
        image = await catalog.find_image(device["uuid"], FIELD)
        device["uuid"] = image.id
        size = int(device["volume_size"])
        if size < image.min_disk_gb or size * _GIB < image.size_bytes:
            raise InvalidRequest(f"a volume of {size} GiB is too small for the image {image.name}", FIELD)
        return image.on_volume()
    if device["source_type"] == "volume":
        volume = await _volume(cloud, device["uuid"])
        if device.get("boot_index") == 0 and not volume.bootable:
            raise InvalidRequest(f"the volume {volume.id} is not bootable", FIELD)
        return volume.as_image()
    return None


async def _volume(cloud: Cloud, volume_id: str) -> Volume:
    try:
        return await cloud.volume(volume_id)
    except NotFound:
        raise InvalidRequest(f"there is no volume {volume_id}", FIELD) from None


async def _objection(cloud: Cloud, devices: Sequence[Mapping[str, Any]]) -> Objection | None:
    """Why these volumes cannot be had now: one is in use, or Cinder's quota does not allow those that are made."""
    try:
        for device in devices:
            if device["source_type"] == "volume":
                volume = await _volume(cloud, device["uuid"])
                if volume.status != "available":
                    return Objection(f"the volume {volume.id} is {volume.status}, not available", FIELD)
    except InvalidRequest as error:
        return Objection(error.message, FIELD)
    sizes = [int(device["volume_size"]) for device in devices if device["source_type"] != "volume"]
    if not sizes:
        return None
    left = await cloud.volumes_left()
    for amount, most, unit in ((len(sizes), left.count, "volumes"), (sum(sizes), left.gib, "GiB of volumes")):
        if most is not None and amount > most:
            return Objection(f"it needs {amount} {unit}, and Cinder's quota allows {max(0, most)} more", FIELD)
    return None
