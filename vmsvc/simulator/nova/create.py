"""POST /servers: the checks in Nova's order and with Nova's messages, then the servers.

The messages of the 400s were measured at microversion 2.93."""

import base64
import re
import secrets
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from vmsvc.simulator.cloud import Cloud
from vmsvc.simulator.errors import ApiError, bad_request, forbidden, not_allowed
from vmsvc.simulator.glance.model import Image
from vmsvc.simulator.keystone.model import Token
from vmsvc.simulator.nova.flavors import Flavor, keypair_key
from vmsvc.simulator.nova.servers import Server

KNOWN = {
    "name",
    "flavorRef",
    "imageRef",
    "networks",
    "metadata",
    "tags",
    "key_name",
    "user_data",
    "availability_zone",
    "min_count",
    "max_count",
    "host",
    "hypervisor_hostname",
    "security_groups",
    "config_drive",
    "description",
    "adminPass",
    "personality",
    "block_device_mapping_v2",
    "accessIPv4",
    "accessIPv6",
    "OS-DCF:diskConfig",
    "return_reservation_id",
    "trusted_image_certificates",
    "hostname",
}
UUID = re.compile(r"^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$", re.I)


def create_servers(
    cloud: Cloud, token: Token, body: dict[str, Any], version: tuple[int, int], request_id: str
) -> list[Server]:
    """Make the servers that a POST requests. Raises ApiError when it makes none."""
    request = _validated(body, version)
    hints = body.get("os:scheduler_hints") or body.get("OS-SCH-HNT:scheduler_hints") or {}
    flavor, image, networks, least_and_most = _look_up(cloud, token, request)
    _check_groups(cloud, request, hints)
    count = _limit_to_quota(cloud, token, least_and_most, {"cores": flavor.vcpus, "ram": flavor.ram})
    reservation, embedded = "r-" + secrets.token_hex(4), flavor.embedded()
    embedded |= {"traits": sorted({*embedded["traits"], *image.traits()}), "image_wants": image.wants()}
    servers = []
    for index in range(count):
        name = request["name"] if count == 1 else f"{request['name']}-{index + 1}"
        server = _new_server(cloud, token, {**request, "name": name}, embedded, networks)
        server.reservation_id, server.launch_index = reservation, index
        server.actions.append(action_entry("create", request_id, token, server))
        if hints.get("group") in cloud.groups.all:
            server.group_id = hints["group"]
            cloud.groups.join(server.group_id, server)
        cloud.boot.begin(server)
        servers.append(server)
    return servers


def _look_up(cloud: Cloud, token: Token, request: dict[str, Any]) -> tuple[Flavor, Image, list[str], tuple[int, int]]:
    """The flavor, image and networks that a request names, and the least and the largest number of servers. Nova checks
    the ports before the key pair, and last whether the image suits the flavor (read, and measured)."""
    count = _count(request)
    _check_destination(cloud, token, request)
    flavor = cloud.flavors.get(str(request["flavorRef"]))
    if flavor is None:
        raise bad_request(f"Flavor {request['flavorRef']} could not be found.")
    image = cloud.images.get(request.get("imageRef", ""))
    if image is None or not image.usable_by(token):
        raise bad_request("Can not find requested image")
    networks = _networks(cloud, token, request)
    count = _limit_to_port_quota(cloud, token, count, len(networks))
    if request.get("key_name") and keypair_key(token.user_id, request["key_name"]) not in cloud.keypairs:
        raise bad_request("Invalid key_name provided.")
    limit = cloud.quotas.limits(token.project_id)["metadata_items"]
    if len(request.get("metadata") or {}) > limit:
        raise forbidden(f"Maximum number of metadata items exceeds {limit}")
    if refusal := image.refuses(flavor, token.is_admin):
        raise ApiError(*refusal)
    return flavor, image, networks, count


def _check_groups(cloud: Cloud, request: dict[str, Any], hints: dict[str, Any]) -> None:
    """Raise ApiError 400 for an unknown server group or security group."""
    if hints.get("group") and not UUID.match(str(hints["group"])):
        raise invalid("group", hints["group"], f"{hints['group']!r} is not valid under any of the given schemas")
    if hints.get("group") and hints["group"] not in cloud.groups.all and not cloud.settings.ignores_groups:
        raise bad_request(f"Instance group {hints['group']} could not be found.")
    for group in request.get("security_groups") or []:
        if group.get("name") != "default":
            raise bad_request(f"Unable to find security_group with name or id '{group.get('name')}'")


def action_entry(name: str, request_id: str, token: Token, server: Server) -> dict[str, Any]:
    """An entry for os-instance-actions, which has not ended."""
    return {
        "action": name,
        "request_id": request_id,
        "user_id": token.user_id,
        "project_id": token.project_id or "",
        "start_time": server.created,
        "updated_at": server.created,
        "message": None,
    }


def _new_server(
    cloud: Cloud, token: Token, request: dict[str, Any], flavor: dict[str, Any], networks: list[str]
) -> Server:
    now = cloud.clock.now()
    zone, _, host = (request.get("availability_zone") or "").partition(":")
    server = Server(
        id=str(uuid.uuid4()),
        number=cloud.servers.next_number(),
        name=request["name"],
        project_id=token.project_id,
        user_id=token.user_id,
        flavor=flavor,
        image_id=request.get("imageRef", ""),
        network_ids=networks,
        port_ids=_ports(request),
        created=now,
        updated=now,
        metadata=dict(request.get("metadata") or {}),
        tags=list(dict.fromkeys(request.get("tags") or [])),
        asked_az=zone or None,
        asked_host=request.get("host") or host or None,
        asked_node=request.get("hypervisor_hostname"),
        key_name=request.get("key_name"),
        user_data=request.get("user_data"),
        description=request.get("description"),
        hostname=request.get("hostname") or re.sub(r"[^A-Za-z0-9.-]+", "-", request["name"]).strip("-.").lower()[:63],
    )
    server.admin_pass = request.get("adminPass") or secrets.token_urlsafe(9)
    return server


def _validated(body: dict[str, Any], version: tuple[int, int]) -> dict[str, Any]:
    """The part `server` of a body. Raises ApiError 400 for what Nova's JSON schema refuses."""
    if "server" not in body:
        raise bad_request("'server' is a required property")
    if not isinstance(body["server"], dict):
        raise invalid("server", body["server"], f"{body['server']} is not of type 'object'")
    request: dict[str, Any] = body["server"]
    required = ["name", "flavorRef"] + (["networks"] if version >= (2, 37) else [])
    for name in required:
        if name not in request:
            raise invalid("server", request, f"'{name}' is a required property")
    known = KNOWN if version >= (2, 74) else KNOWN - {"host", "hypervisor_hostname"}
    for name in request:
        if name not in (known if version >= (2, 52) else known - {"tags"}):
            raise invalid("server", request, f"Additional properties are not allowed ('{name}' was unexpected)")
    check_name("name", request["name"])
    if request.get("availability_zone") is not None:
        check_name("availability_zone", request["availability_zone"])
    if not request.get("imageRef") and not request.get("block_device_mapping_v2"):
        raise bad_request("Missing imageRef attribute")
    if not UUID.match(str(request.get("imageRef"))):
        raise invalid(
            "imageRef", request["imageRef"], f"{request['imageRef']!r} is not valid under any of the given schemas"
        )
    _check_user_data(request.get("user_data", ""))
    check_metadata(request.get("metadata") or {})
    if len(request.get("tags") or []) > 50:
        raise invalid("tags", request["tags"], f"{request['tags']} is too long")
    for index, tag in enumerate(request.get("tags") or []):
        check_tag(tag, partial(invalid, str(index), tag))
    return request


def invalid(field: str, value: object, text: str) -> ApiError:
    """A 400 with the message of Nova's JSON schema."""
    return bad_request(f"Invalid input for field/attribute {field}. Value: {value}. {text}")


def _check_user_data(value: object) -> None:
    """Require base64 of up to 65535 characters. Ends of lines are ignored."""
    try:
        if not isinstance(value, str):
            raise ValueError("no text")
        base64.b64decode("".join(value.split()), validate=True)
    except ValueError:
        raise invalid("user_data", value, f"{value!r} is not a 'base64'") from None
    if len(value) > 65535:
        raise invalid("user_data", value, f"{value!r} is too long")


def check_name(field: str, value: object) -> None:
    """Require a string of 1 to 255 characters."""
    if not isinstance(value, str):
        raise invalid(field, value, f"{value!r} is not of type 'string'")
    if not value:
        raise invalid(field, value, "'' should be non-empty")
    if len(value) > 255:
        raise invalid(field, value, f"{value!r} is too long")


def check_metadata(items: dict[str, Any]) -> None:
    """Require keys and values of up to 255 characters. The 400 names the key."""
    for key, value in items.items():
        if not isinstance(value, str):
            raise invalid(key, value, f"{value!r} is not of type 'string'")
        if len(value) > 255:
            raise invalid(key, value, f"{value!r} is too long")
        if not 0 < len(key) <= 255 or not re.fullmatch(r"[a-zA-Z0-9-_:. ]{1,255}", key):
            raise invalid(
                "metadata", items, f"'{key}' does not match any of the regexes: '^[a-zA-Z0-9-_:. ]{{1,255}}$'"
            )


def check_tag(tag: object, refusal: Callable[[str], ApiError]) -> None:
    """Require up to 60 characters without `/` and `,`. `refusal` makes the error from the text of the schema."""
    if not isinstance(tag, str) or not tag:
        raise refusal(f"{tag!r} is not of type 'string'" if not isinstance(tag, str) else "'' should be non-empty")
    if len(tag) > 60:
        raise refusal(f"{tag!r} is too long")
    if "/" in tag or "," in tag:
        raise refusal(f"{tag!r} does not match '^[^,/]*$'")


def _count(request: dict[str, Any]) -> tuple[int, int]:
    for name in ("min_count", "max_count"):
        value = request.get(name, 1)
        if not re.fullmatch("[0-9]*", str(value)):
            raise invalid(name, value, f"{value!r} does not match '^[0-9]*$'")
        if int(value) < 1:
            raise invalid(name, value, f"{value} is less than the minimum of 1")
    low = int(request.get("min_count", 1))
    high = int(request.get("max_count", low))
    if low > high:
        raise bad_request("min_count must be <= max_count")
    return low, high


def _check_destination(cloud: Cloud, token: Token, request: dict[str, Any]) -> None:
    """Raise ApiError for an unknown zone or host, and for a host that is named by a user who is no admin (measured)."""
    zone, _, forced = (request.get("availability_zone") or "").partition(":")
    if forced and not token.is_admin:
        raise not_allowed("os_compute_api:servers:create:forced_host")
    if request.get("host") or request.get("hypervisor_hostname"):
        if not token.is_admin:
            raise not_allowed("compute:servers:create:requested_destination")
        host, node = request.get("host"), request.get("hypervisor_hostname")
        if not cloud.hosts.matching(host, node):
            raise bad_request(f"Compute host {host or node} could not be found.")
    if zone and zone not in cloud.hosts.zones():
        raise bad_request("The requested availability zone is not available")


def _networks(cloud: Cloud, token: Token, request: dict[str, Any]) -> list[str]:
    wanted = request.get("networks", "auto")
    if wanted == "none":
        return []
    if wanted in ("auto", []):
        return list(cloud.networks)[:1]
    if not isinstance(wanted, list) or not all(
        isinstance(each, dict) and UUID.match(str(each.get("uuid", each.get("port", "")))) for each in wanted
    ):
        raise invalid("networks", wanted, f"{wanted} is not valid under any of the given schemas")
    _check_ports(cloud, token, _ports(request))
    wanted = [each for each in wanted if "uuid" in each]
    for each in wanted:
        network = cloud.networks.get(each["uuid"])
        if network is None or not (network.shared or token.is_admin or network.owner == token.project_id):
            raise bad_request(f"Network {each['uuid']} could not be found.")
        if not network.subnet_id:
            raise bad_request(f"Network {each['uuid']} requires a subnet in order to boot instances on.")
    return [each["uuid"] for each in wanted]


def _ports(request: dict[str, Any]) -> list[str]:
    """The ports that a request names."""
    wanted = request.get("networks", "auto")
    return [each["port"] for each in wanted if "port" in each] if isinstance(wanted, list) else []


def _check_ports(cloud: Cloud, token: Token, port_ids: list[str]) -> None:
    """Raise ApiError 400 for a port that is not there, 409 for one that a server uses (read)."""
    for port_id in port_ids:
        port = cloud.ports.all.get(port_id)
        if port is None or not (token.is_admin or port.project_id == token.project_id):
            raise bad_request(f"Port id {port_id} could not be found.")
        if port.device_id:
            raise ApiError(409, f"Port {port_id} is still in use.")


def _limit_to_port_quota(cloud: Cloud, token: Token, count: tuple[int, int], networks: int) -> tuple[int, int]:
    """Lower max_count to what Neutron's quota has left. Raises ApiError 403 below min_count."""
    low, high = count
    limit = cloud.quotas.port_limit(token.project_id)
    if limit >= 0 and networks:
        high = min(high, (limit - cloud.ports.count.get(token.project_id, 0)) // networks)
        if high < low:
            raise forbidden("Maximum number of ports exceeded")
    return low, high


def _limit_to_quota(cloud: Cloud, token: Token, count: tuple[int, int], size: dict[str, int]) -> int:
    """The number of servers: max_count, lowered to what the quota has left. Raises ApiError 403 below min_count
    (read)."""
    low, high = count
    while True:
        try:
            cloud.quotas.check(token.project_id, {"instances": high, **{k: v * high for k, v in size.items()}})
            break
        except ApiError:
            if high <= low:
                raise
            high -= 1
    return high
