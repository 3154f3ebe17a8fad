"""POST /servers: what is asked is checked in Nova's order and words, then servers begin their life.

The 400 texts were measured on the real bed at microversion 2.93; those of policy and quota are sections 3 and 5.
"""

import base64
import re
import secrets
import uuid

from vmsvc.sim.catalog import Flavor, Image
from vmsvc.sim.cloud import Cloud
from vmsvc.sim.identity import Token
from vmsvc.sim.refusal import Refused, bad_request, forbidden, not_allowed
from vmsvc.sim.servers import Server

KNOWN = {"name", "flavorRef", "imageRef", "networks", "metadata", "tags", "key_name", "user_data", "availability_zone",
         "min_count", "max_count", "host", "hypervisor_hostname", "security_groups", "config_drive", "description",
         "adminPass", "personality", "block_device_mapping_v2", "accessIPv4", "accessIPv6", "OS-DCF:diskConfig",
         "return_reservation_id", "trusted_image_certificates", "hostname"}
UUID = re.compile(r"^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$", re.I)


def create(cloud: Cloud, token: Token, body: dict, version: tuple[int, int], request_id: str) -> list[Server]:
    """Make the servers that a POST asks for. Raises Refused, having made none."""
    asked = _shape(body, version)
    hints = body.get("os:scheduler_hints") or body.get("OS-SCH-HNT:scheduler_hints") or {}
    flavor, image, networks, count = _named(cloud, token, asked)
    _check_groups(cloud, asked, hints)
    count = _within_quota(cloud, token, count, {"cores": flavor.vcpus, "ram": flavor.ram})
    reservation, embedded = "r-" + secrets.token_hex(4), flavor.embedded()
    embedded |= {"traits": sorted({*embedded["traits"], *image.traits()}), "image_wants": image.wants()}
    made = []
    for index in range(count):
        name = asked["name"] if count == 1 else f"{asked['name']}-{index + 1}"
        server = _make(cloud, token, {**asked, "name": name}, embedded, networks)
        server.reservation_id, server.launch_index = reservation, index
        server.actions.append(action_entry("create", request_id, token, server))
        if hints.get("group") in cloud.groups.all:
            server.group_id = hints["group"]
            cloud.groups.join(server.group_id, server)
        cloud.boot.begin(server)
        made.append(server)
    return made


def _named(cloud: Cloud, token: Token, asked: dict) -> tuple[Flavor, Image, list[str], tuple[int, int]]:
    """What it names, and from how many to how many are wanted. Nova looks at the ports before the key pair, and at how
    the image goes with the flavor last (read, and measured)."""
    count = _count(asked)
    _check_destination(cloud, token, asked)
    flavor = cloud.catalog.flavors.get(str(asked["flavorRef"]))
    if flavor is None:
        raise bad_request(f"Flavor {asked['flavorRef']} could not be found.")
    image = cloud.catalog.images.get(asked.get("imageRef", ""))
    if image is None or not image.usable_by(token):
        raise bad_request("Can not find requested image")
    networks = _networks(cloud, token, asked)
    count = _within_ports(cloud, token, count, len(networks))
    if asked.get("key_name") and (token.user_id, asked["key_name"]) not in cloud.catalog.keypairs:
        raise bad_request("Invalid key_name provided.")
    limit = cloud.quotas.limits(token.project_id)["metadata_items"]
    if len(asked.get("metadata") or {}) > limit:
        raise forbidden(f"Maximum number of metadata items exceeds {limit}")
    if refusal := image.refuses(flavor, token.is_admin):
        raise Refused(*refusal)
    return flavor, image, networks, count


def _check_groups(cloud: Cloud, asked: dict, hints: dict) -> None:
    """The server group and the security groups."""
    if hints.get("group") and not UUID.match(str(hints["group"])):
        raise invalid("group", hints["group"], f"{hints['group']!r} is not valid under any of the given schemas")
    if hints.get("group") and hints["group"] not in cloud.groups.all and not cloud.settings.ignores_groups:
        raise bad_request(f"Instance group {hints['group']} could not be found.")
    for group in asked.get("security_groups") or []:
        if group.get("name") != "default":
            raise bad_request(f"Unable to find security_group with name or id '{group.get('name')}'")


def action_entry(name: str, request_id: str, token: Token, server: Server) -> dict:
    """What os-instance-actions will show."""
    return {"action": name, "request_id": request_id, "user_id": token.user_id, "project_id": token.project_id or "",
            "start_time": server.created, "updated_at": server.created, "message": None}


def _make(cloud: Cloud, token: Token, asked: dict, flavor: dict, networks: list[str]) -> Server:
    now = cloud.clock.now()
    zone, _, host = (asked.get("availability_zone") or "").partition(":")
    server = Server(
        id=str(uuid.uuid4()), number=cloud.servers.next_number(), name=asked["name"], project_id=token.project_id,
        user_id=token.user_id, flavor=flavor, image_id=asked.get("imageRef", ""), network_ids=networks,
        created=now, updated=now, metadata=dict(asked.get("metadata") or {}),
        tags=list(dict.fromkeys(asked.get("tags") or [])), asked_az=zone or None,
        asked_host=asked.get("host") or host or None, asked_node=asked.get("hypervisor_hostname"),
        key_name=asked.get("key_name"), user_data=asked.get("user_data"), description=asked.get("description"),
        hostname=asked.get("hostname") or re.sub(r"[^A-Za-z0-9.-]+", "-", asked["name"]).strip("-.").lower()[:63])
    server.admin_pass = asked.get("adminPass") or secrets.token_urlsafe(9)
    return server


def _shape(body: object, version: tuple[int, int]) -> dict:
    """The part `server`, after what Nova's JSON schema says."""
    if "server" not in body:
        raise bad_request("'server' is a required property")
    if not isinstance(body["server"], dict):
        raise invalid("server", body["server"], f"{body['server']} is not of type 'object'")
    asked = body["server"]
    required = ["name", "flavorRef"] + (["networks"] if version >= (2, 37) else [])
    for name in required:
        if name not in asked:
            raise invalid("server", asked, f"'{name}' is a required property")
    known = KNOWN if version >= (2, 74) else KNOWN - {"host", "hypervisor_hostname"}
    for name in asked:
        if name not in (known if version >= (2, 52) else known - {"tags"}):
            raise invalid("server", asked, f"Additional properties are not allowed ('{name}' was unexpected)")
    check_name("name", asked["name"])
    if asked.get("availability_zone") is not None:
        check_name("availability_zone", asked["availability_zone"])
    if not asked.get("imageRef") and not asked.get("block_device_mapping_v2"):
        raise bad_request("Missing imageRef attribute")
    if not UUID.match(str(asked.get("imageRef"))):
        raise invalid("imageRef", asked["imageRef"],
                      f"{asked['imageRef']!r} is not valid under any of the given schemas")
    _check_user_data(asked.get("user_data", ""))
    check_metadata(asked.get("metadata") or {})
    if len(asked.get("tags") or []) > 50:
        raise invalid("tags", asked["tags"], f"{asked['tags']} is too long")
    for index, tag in enumerate(asked.get("tags") or []):
        check_tag(tag, lambda text, index=index, tag=tag: invalid(str(index), tag, text))
    return asked


def invalid(field: str, value: object, text: str) -> Refused:
    """400 as Nova's JSON schema says it."""
    return bad_request(f"Invalid input for field/attribute {field}. Value: {value}. {text}")


def _check_user_data(value: object) -> None:
    """Base64 of up to 65535 characters; ends of lines are ignored."""
    try:
        base64.b64decode("".join(value.split()), validate=True)
    except (AttributeError, ValueError):
        raise invalid("user_data", value, f"{value!r} is not a 'base64'") from None
    if len(value) > 65535:
        raise invalid("user_data", value, f"{value!r} is too long")


def check_name(field: str, value: object) -> None:
    """A string of 1 to 255 characters."""
    if not isinstance(value, str):
        raise invalid(field, value, f"{value!r} is not of type 'string'")
    if not value:
        raise invalid(field, value, "'' should be non-empty")
    if len(value) > 255:
        raise invalid(field, value, f"{value!r} is too long")


def check_metadata(items: dict) -> None:
    """Keys and values are strings of up to 255 characters; 400 names the key."""
    for key, value in items.items():
        if not isinstance(value, str):
            raise invalid(key, value, f"{value!r} is not of type 'string'")
        if len(value) > 255:
            raise invalid(key, value, f"{value!r} is too long")
        if not 0 < len(key) <= 255 or not re.fullmatch(r"[a-zA-Z0-9-_:. ]{1,255}", key):
            raise invalid("metadata", items,
                          f"'{key}' does not match any of the regexes: '^[a-zA-Z0-9-_:. ]{{1,255}}$'")


def check_tag(tag: object, refusal) -> None:
    """Up to 60 characters without `/` and `,`."""
    if not isinstance(tag, str) or not tag:
        raise refusal(f"{tag!r} is not of type 'string'" if not isinstance(tag, str) else "'' should be non-empty")
    if len(tag) > 60:
        raise refusal(f"{tag!r} is too long")
    if "/" in tag or "," in tag:
        raise refusal(f"{tag!r} does not match '^[^,/]*$'")


def _count(asked: dict) -> tuple[int, int]:
    for name in ("min_count", "max_count"):
        value = asked.get(name, 1)
        if not re.fullmatch("[0-9]*", str(value)):
            raise invalid(name, value, f"{value!r} does not match '^[0-9]*$'")
        if int(value) < 1:
            raise invalid(name, value, f"{value} is less than the minimum of 1")
    low = int(asked.get("min_count", 1))
    high = int(asked.get("max_count", low))
    if low > high:
        raise bad_request("min_count must be <= max_count")
    return low, high


def _check_destination(cloud: Cloud, token: Token, asked: dict) -> None:
    """Pins are the admin's (measured, section 5)."""
    zone, _, forced = (asked.get("availability_zone") or "").partition(":")
    if forced and not token.is_admin:
        raise not_allowed("os_compute_api:servers:create:forced_host")
    if asked.get("host") or asked.get("hypervisor_hostname"):
        if not token.is_admin:
            raise not_allowed("compute:servers:create:requested_destination")
        host, node = asked.get("host"), asked.get("hypervisor_hostname")
        if not cloud.hosts.matching(host, node):
            raise bad_request(f"Compute host {host or node} could not be found.")
    if zone and zone not in cloud.hosts.zones():
        raise bad_request("The requested availability zone is not available")


def _networks(cloud: Cloud, token: Token, asked: dict) -> list[str]:
    wanted = asked.get("networks", "auto")
    if wanted == "none":
        return []
    if wanted in ("auto", []):
        return list(cloud.catalog.networks)[:1]
    if not isinstance(wanted, list) or not all(isinstance(each, dict) and UUID.match(str(each.get("uuid", "")))
                                               for each in wanted):
        raise invalid("networks", wanted, f"{wanted} is not valid under any of the given schemas")
    for each in wanted:
        network = cloud.catalog.networks.get(each["uuid"])
        if network is None or not (network.shared or token.is_admin or network.owner == token.project_id):
            raise bad_request(f"Network {each['uuid']} could not be found.")
        if not network.subnet_id:
            raise bad_request(f"Network {each['uuid']} requires a subnet in order to boot instances on.")
    return [each["uuid"] for each in wanted]


def _within_ports(cloud: Cloud, token: Token, count: tuple[int, int], networks: int) -> tuple[int, int]:
    """max_count trimmed to what Neutron's quota leaves; 403 below min_count. It comes before the image (read)."""
    low, high = count
    limit = cloud.quotas.port_limit(token.project_id)
    if limit >= 0 and networks:
        high = min(high, (limit - cloud.ports.count.get(token.project_id, 0)) // networks)
        if high < low:
            raise forbidden("Maximum number of ports exceeded")
    return low, high


def _within_quota(cloud: Cloud, token: Token, count: tuple[int, int], size: dict[str, int]) -> int:
    """How many may be made: max_count trimmed to the quota, down to min_count (read). 403 below that."""
    low, high = count
    while True:
        try:
            cloud.quotas.check(token.project_id, {"instances": high, **{k: v * high for k, v in size.items()}})
            break
        except Refused:
            if high <= low:
                raise
            high -= 1
    return high
