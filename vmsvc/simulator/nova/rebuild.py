"""Nova's action rebuild: a server gets an image anew, and keeps its id, host and ports (measured)."""

from typing import Any

from vmsvc.simulator.cloud import Cloud
from vmsvc.simulator.errors import ApiError, bad_request, forbidden
from vmsvc.simulator.keystone.model import Token
from vmsvc.simulator.nova.flavors import keypair_key
from vmsvc.simulator.nova.servers import Server

#: The field of the body -> that of the server.
_FIELDS = {
    "name": "name",
    "description": "description",
    "metadata": "metadata",
    "key_name": "key_name",
    "user_data": "user_data",
    "hostname": "hostname",
    "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6",
    "OS-DCF:diskConfig": "disk_config",
}


def rebuild(cloud: Cloud, token: Token, server: Server, values: dict[str, Any]) -> None:
    """Check the request and start. Raises ApiError. A stopped server is stopped again in the end."""
    image = cloud.images.get(values["imageRef"])
    if image is None or not image.usable_by(token):
        raise bad_request("Cannot find image for rebuild")
    flavor = cloud.flavors.get(server.flavor["id"])
    if flavor is not None and (refusal := image.refuses(flavor, True)):
        raise ApiError(*refusal)
    limit = cloud.quotas.limits(server.project_id)["metadata_items"]
    if 0 <= limit < len(values.get("metadata", {})):
        raise forbidden(f"Maximum number of metadata items exceeds {limit}")
    if values.get("key_name") and keypair_key(token.user_id, values["key_name"]) not in cloud.keypairs:
        raise bad_request("Invalid key_name provided.")
    for name, attribute in _FIELDS.items():
        if name in values:
            setattr(server, attribute, values[name])
    server.image_id = image.id
    stopped = server.vm_state == "stopped"
    tasks = ("rebuilding", "rebuild_spawning", *(["powering-off"] if stopped else []))
    cloud.state_changes.begin(server, tasks, *(("stopped", 4) if stopped else ("active", 1)), "rebuild")
