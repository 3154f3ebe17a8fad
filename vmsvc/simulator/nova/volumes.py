"""What Nova does with the volumes of a server: checks them in the create, attaches them, and lets them go.

The checks are read in nova/compute/api.py; a create by volume was not measured, because the real cloud has no Cinder.
"""

from typing import Any

from vmsvc.simulator.errors import ApiError, bad_request
from vmsvc.simulator.glance.model import Image
from vmsvc.simulator.keystone.model import Token
from vmsvc.simulator.model import Model
from vmsvc.simulator.nova.servers import Server


def of_request(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The block devices of a create that are volumes. (`openstack server create` names the local root disk too.)"""
    devices = request.get("block_device_mapping_v2") or []
    return [device for device in devices if "volume" in (device.get("destination_type"), device["source_type"])]


def boots(devices: list[dict[str, Any]]) -> bool:
    """True when the server boots from one of these volumes."""
    return any(str(device.get("boot_index")) == "0" for device in devices)


def root_image(cloud: Model, token: Token, devices: list[dict[str, Any]]) -> Image:
    """What stands for the image of a server that boots from one of these. Raises ApiError 400."""
    root = next(device for device in devices if str(device.get("boot_index")) == "0")
    if root["source_type"] == "image":
        image = cloud.images.get(root["uuid"])
        if image is None or not image.usable_by(token):
            raise bad_request(f"Block Device Mapping is Invalid: failed to get image {root['uuid']}.")
        return image
    volume = cloud.volumes.all.get(root.get("uuid", ""))
    if volume is None or not (token.is_admin or volume.project_id == token.project_id):
        raise bad_request(f"Block Device Mapping is Invalid: failed to get volume {root.get('uuid')}.")
    if not volume.bootable:
        raise bad_request(f"Block Device {volume.id} is not bootable.")
    own = ("image_id", "image_name", "min_ram")
    properties = {name: value for name, value in volume.image.items() if name not in own}
    return Image("", "", volume.created, min_ram=int(volume.image.get("min_ram", 0)), size=0, properties=properties)


def check(cloud: Model, token: Token, devices: list[dict[str, Any]]) -> None:
    """Raise ApiError 400 for a volume that is not there or in use. Nova checks that last, after the server group."""
    for device in devices:
        if device["source_type"] == "volume":
            volume = cloud.volumes.all.get(device["uuid"])
            if volume is None or not (token.is_admin or volume.project_id == token.project_id):
                raise bad_request(f"Block Device Mapping is Invalid: failed to get volume {device['uuid']}.")
            if volume.server_id:
                raise bad_request(
                    f"Invalid volume: volume {volume.id} status must be 'available'. Currently in '{volume.status}'"
                )
        elif not device.get("volume_size"):
            raise bad_request(
                "Block Device Mapping is Invalid: Images with destination_type 'volume' need to have a non-zero size "
                "specified"
            )


def attach(model: Model, server: Server) -> None:
    """Attach the volumes of a server that spawns; new ones are made. Raises ApiError."""
    for number, device in enumerate(server.devices):
        if device["source_type"] == "volume":
            volume = model.volumes.all.get(device["uuid"])
            if volume is None or volume.server_id:
                raise ApiError(409, f"Volume {device['uuid']} is not available")
        else:
            image = model.images.get(device.get("uuid", ""))
            kept = {"image_id": image.id, "min_ram": str(image.min_ram), **image.properties} if image else None
            size, now = int(device["volume_size"]), model.clock.now()
            volume = model.volumes.add(server.project_id, server.user_id, now, size, image=kept)
        model.volumes.attach(volume, server.id, f"/dev/vd{chr(ord('a') + number)}")
        device["made"] = volume.id


def detach(model: Model, server: Server) -> None:
    """Let the volumes of a server go, and delete those that are to end with it."""
    ending = {device.get("made") for device in server.devices if device.get("delete_on_termination") in (True, "true")}
    for volume in model.volumes.of_server(server.id):
        if volume.id in ending:
            model.volumes.all.remove(volume.id)
        else:
            model.volumes.attach(volume, "")
