"""POST /servers: the checks in Nova's order and with Nova's messages, then the servers.

The messages of the 400s were measured at microversion 2.93."""

import re
import secrets
import uuid
from typing import Any

from vmsvc.simulator.cloud import Cloud
from vmsvc.simulator.errors import ApiError, bad_request, forbidden, not_allowed
from vmsvc.simulator.glance.model import Image
from vmsvc.simulator.keystone.model import Token
from vmsvc.simulator.neutron.model import Network
from vmsvc.simulator.nova import schemas, volumes
from vmsvc.simulator.nova.flavors import Flavor, keypair_key
from vmsvc.simulator.nova.servers import Server

TRUE = (True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes")


def create_servers(
    cloud: Cloud, token: Token, body: dict[str, Any], version: tuple[int, int], request_id: str
) -> list[Server]:
    """Make the servers that a POST requests. Raises ApiError when it makes none."""
    schemas.check(schemas.create(version), body)
    request: dict[str, Any] = body["server"]
    hints = _hints(body)
    if version < (2, 19):
        request.setdefault("description", request["name"])
    flavor, image, networks, least_and_most = _look_up(cloud, token, request)
    _check_server_group(cloud, token, hints)
    devices = volumes.of_request(request)
    volumes.check(cloud, token, devices)
    count = _limit_to_quota(cloud, token, least_and_most, {"cores": flavor.vcpus, "ram": flavor.ram})
    reservation, embedded = "r-" + secrets.token_hex(4), flavor.embedded(volumes.boots(devices))
    embedded |= {"traits": sorted({*embedded["traits"], *image.traits()}), "image_wants": image.wants()}
    servers = []
    for index in range(count):
        name = request["name"] if count == 1 else f"{request['name']}-{index + 1}"
        server = _new_server(cloud, token, {**request, "name": name}, embedded, networks)
        server.reservation_id, server.launch_index, server.hints = reservation, index, hints
        server.actions.append(action_entry("create", request_id, token, server))
        if hints.get("group", [""])[0] in cloud.groups.all:
            server.group_id = hints["group"][0]
            cloud.groups.join(server.group_id, server)
        cloud.boot.begin(server)
        servers.append(server)
    return servers


def _hints(body: dict[str, Any]) -> dict[str, list[Any]]:
    """The scheduler's hints as Nova keeps them: lists."""
    hints = body.get("os:scheduler_hints") or body.get("OS-SCH-HNT:scheduler_hints") or {}
    return {name: value if isinstance(value, list) else [value] for name, value in hints.items()}


def _look_up(cloud: Cloud, token: Token, request: dict[str, Any]) -> tuple[Flavor, Image, list[str], tuple[int, int]]:
    """The flavor, image and networks that a request names, and the least and the largest number of servers. Nova checks
    the ports before the key pair, and last whether the image suits the flavor (read, and measured)."""
    count = _count(request)
    if not request.get("imageRef") and not request.get("block_device_mapping_v2"):
        raise bad_request("Missing imageRef attribute")
    _check_destination(cloud, token, request)
    flavor = cloud.flavors.get(str(request["flavorRef"]))
    if flavor is None or not (flavor.is_public or token.is_admin or token.project_id in flavor.projects):
        raise bad_request(f"Flavor {request['flavorRef']} could not be found.")
    devices = volumes.of_request(request)
    on_volume = volumes.boots(devices)
    image = volumes.root_image(cloud, token, devices) if on_volume else cloud.images.get(request.get("imageRef", ""))
    if image is None or not (on_volume or image.usable_by(token)):
        raise bad_request("Can not find requested image")
    _check_security_groups(cloud, token, request)
    networks = _networks(cloud, token, request)
    count = _limit_to_port_quota(cloud, token, count, len(networks))
    if request.get("key_name") and keypair_key(token.user_id, request["key_name"]) not in cloud.keypairs:
        raise bad_request("Invalid key_name provided.")
    limit = cloud.quotas.limits(token.project_id)["metadata_items"]
    if len(request.get("metadata") or {}) > limit:
        raise forbidden(f"Maximum number of metadata items exceeds {limit}")
    if refusal := image.refuses(flavor, token.is_admin, on_volume):
        raise ApiError(*refusal)
    return flavor, image, networks, count


def _check_server_group(cloud: Cloud, token: Token, hints: dict[str, list[Any]]) -> None:
    """Raise ApiError 400 for a server group that is not there, or not the project's (measured)."""
    for group_id in hints.get("group", [])[:1]:
        group = cloud.groups.all.get(group_id)
        unknown = group is None or not (token.is_admin or group.project_id == token.project_id)
        if unknown and not cloud.settings.ignores_groups:
            raise bad_request(f"Instance group {group_id} could not be found.")


def _check_security_groups(cloud: Cloud, token: Token, request: dict[str, Any]) -> None:
    """Raise ApiError 400 for an unknown security group, 409 for a name that several have (measured). Nova looks for
    them before it looks for networks."""
    for group in request.get("security_groups") or []:
        name = group["name"]
        if cloud.security_groups.find(token.project_id, name) is None:
            raise bad_request(f"Unable to find security_group with name or id '{name}'")
        if cloud.security_groups.is_ambiguous(token.project_id, name):
            raise ApiError(
                409, f"Multiple security_group matches found for name '{name}', use an ID to be more specific."
            )


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


def _group_ids(cloud: Cloud, token: Token, request: dict[str, Any]) -> list[str]:
    """The ids of the security groups that a request names, which are there; [] for the default group alone."""
    names = [group["name"] for group in request.get("security_groups") or []]
    found = [cloud.security_groups.find(token.project_id, name) for name in names if names != ["default"]]
    return [group.id for group in found if group is not None]


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
        nics=_nics(request),
        devices=[dict(device) for device in volumes.of_request(request)],
        by_admin=token.is_admin,
        certificates=request.get("trusted_image_certificates"),
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
        access_ip_v4=request.get("accessIPv4", ""),
        access_ip_v6=request.get("accessIPv6", ""),
        disk_config=request.get("OS-DCF:diskConfig", "MANUAL"),
        config_drive=request.get("config_drive") in TRUE,
        groups=_group_ids(cloud, token, request),
    )
    server.admin_pass = request.get("adminPass") or secrets.token_urlsafe(9)
    return server


def _count(request: dict[str, Any]) -> tuple[int, int]:
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
    for each in wanted:
        if not each.get("port") and "uuid" not in each:
            raise bad_request("Bad network format: missing 'uuid'")
        if each.get("port") and each.get("fixed_ip"):
            raise bad_request(
                f"Specified Fixed IP '{each['fixed_ip']}' cannot be used with port '{each['port']}': the two cannot be "
                "specified together."
            )
    _check_ports(cloud, token, _ports(request))
    wanted = [each for each in wanted if not each.get("port")]
    for each in wanted:
        network = cloud.networks.get(each["uuid"])
        if network is None or not (network.shared or token.is_admin or network.owner == token.project_id):
            raise bad_request(f"Network {each['uuid']} could not be found.")
        if not network.subnet_id:
            raise bad_request(f"Network {each['uuid']} requires a subnet in order to boot instances on.")
        _check_address(cloud, token, network, each.get("fixed_ip"))
    return [each["uuid"] for each in wanted]


def _ports(request: dict[str, Any]) -> list[str]:
    """The ports that a request names."""
    return [each["port"] for each in _nics(request) if each.get("port")]


def _nics(request: dict[str, Any]) -> list[dict[str, str]]:
    """The network interfaces that a request names."""
    wanted = request.get("networks", "auto")
    return wanted if isinstance(wanted, list) else []


def _check_address(cloud: Cloud, token: Token, network: Network, address: str | None) -> None:
    """Raise ApiError 400 for an address that a port has which the user sees (measured)."""
    for port in cloud.ports.all.values() if address else ():
        seen = token.is_admin or token.project_id in (port.project_id, network.owner)
        if seen and (port.network_id, port.address) == (network.id, address):
            raise bad_request(f"Fixed IP address {address} is already in use on instance {port.device_id}.")


def _check_ports(cloud: Cloud, token: Token, port_ids: list[str]) -> None:
    """Raise ApiError 400 for a port that is not there or named twice, 409 for one that a server uses (measured)."""
    twice = [port_id for port_id in port_ids if port_ids.count(port_id) > 1]
    if twice:
        raise bad_request(f"Port ID '{twice[0]}' was specified twice: you cannot attach a port multiple times.")
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
