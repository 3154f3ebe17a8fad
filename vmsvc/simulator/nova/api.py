"""The base of Nova's HTTP handlers (microversions, errors), and servers as Nova shows them."""

import re
from typing import Any

from tornado.web import Finish

from vmsvc.simulator.clock import micros_text, seconds_text
from vmsvc.simulator.cloud import Cloud
from vmsvc.simulator.errors import ApiError, bad_request, not_allowed, not_found
from vmsvc.simulator.http import ServiceHandler
from vmsvc.simulator.nova.scheduling import Host
from vmsvc.simulator.nova.servers import Server

MIN, MAX = (2, 1), (2, 100)
#: The statuses in which a server has a progress (read: nova/api/openstack/compute/views/servers.py).
PROGRESSING = ("ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING")
ERROR_NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    503: "serviceUnavailable",
}


class ComputeHandler(ServiceHandler):
    """Base of Nova's handlers. `self.version` is the microversion of the request."""

    service = "compute"
    version = MIN

    def negotiate(self) -> None:
        """Read OpenStack-API-Version or the older header. Raises ApiError 406 for an unknown version (measured)."""
        version = self._requested_version()
        if version == "latest":
            self.version = MAX
        elif version is not None:
            found = re.fullmatch(r"(\d+)\.(\d+)", version)
            if not found:
                raise bad_request(
                    f"API Version String {version} is of invalid format. Must be of format MajorNum.MinorNum."
                )
            self.version = int(found[1]), int(found[2])
        text = f"{self.version[0]}.{self.version[1]}"
        self.set_header("OpenStack-API-Version", f"compute {text}")
        self.set_header("X-OpenStack-Nova-API-Version", text)
        self.set_header("Vary", "OpenStack-API-Version")
        self.set_header("x-compute-request-id", self.request_id)
        if not MIN <= self.version <= MAX:
            raise ApiError(
                406,
                f"Version {text} is not supported by the API. Minimum is {MIN[0]}.{MIN[1]} and maximum "
                f"is {MAX[0]}.{MAX[1]}.",
            )

    def _requested_version(self) -> str | None:
        for part in self.request.headers.get("OpenStack-API-Version", "").split(","):
            service, _, version = part.strip().partition(" ")
            if service == "compute":
                return version.strip()
        return self.request.headers.get("X-OpenStack-Nova-API-Version")

    def refuse(self, status: int, message: str) -> None:
        if status == 405:
            self.plain_error(404, "")
            return
        self.content_type = "application/json; charset=UTF-8"
        self.reply(status, {ERROR_NAMES.get(status, "computeFault"): {"code": status, "message": message}})

    @property
    def address(self) -> str:
        return f"{self.base}/compute"

    def links(self, kind: str, key: str) -> list[dict[str, Any]]:
        """The links `self` and `bookmark`."""
        return [
            {"rel": "self", "href": f"{self.address}/v2.1/{kind}/{key}"},
            {"rel": "bookmark", "href": f"{self.address}/{kind}/{key}"},
        ]

    def require_admin(self, rule: str) -> None:
        """Raise ApiError 403 when the user is no admin (measured)."""
        if not self.token.is_admin:
            raise not_allowed(rule)

    def require_uuid(self, text: str) -> None:
        """Raise ApiError 400 for a text that is no id, from 2.53 on (measured)."""
        if self.version >= (2, 53) and not re.fullmatch(r"[0-9a-fA-F-]{32,36}", text):
            raise bad_request(f"Invalid uuid {text}")

    def server(self, server_id: str) -> Server:
        """A server that the user may see. Raises ApiError 404."""
        server = self.cloud.servers.all.get(server_id)
        if server is None or server.gone or (not self.token.is_admin and server.project_id != self.token.project_id):
            raise not_found(f"Instance {server_id} could not be found.")
        return server


class Versions(ComputeHandler):
    """GET / and /v2.1: the discovery documents."""

    requires_token = False

    def get(self, version: str | None = None) -> None:
        current: dict[str, Any] = {
            "id": "v2.1",
            "status": "CURRENT",
            "version": f"{MAX[0]}.{MAX[1]}",
            "min_version": "2.1",
            "updated": "2013-07-23T11:33:21Z",
            "links": [{"rel": "self", "href": f"{self.address}/v2.1/"}],
        }
        if version:
            current["links"].append({"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"})
            current["media-types"] = [
                {"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}
            ]
            self.reply(200, {"version": current})
            return
        old = {
            "id": "v2.0",
            "status": "DEPRECATED",
            "version": "",
            "min_version": "",
            "updated": "2011-01-21T11:33:21Z",
            "links": [{"rel": "self", "href": f"{self.address}/v2/"}],
        }
        self.reply(200, {"versions": [old, current]})


class Missing(ComputeHandler):
    """Any other path: 404 (measured)."""

    def missing(self) -> None:
        self.plain_error(404, "")
        raise Finish()

    get = post = put = delete = head = missing


def summary(server: Server, address: str) -> dict[str, Any]:
    """A server in GET /servers, without its details."""
    return {"id": server.id, "name": server.name, "links": links(server, address)}


def links(server: Server, address: str) -> list[dict[str, Any]]:
    """The links `self` and `bookmark`."""
    return [
        {"rel": "self", "href": f"{address}/v2.1/servers/{server.id}"},
        {"rel": "bookmark", "href": f"{address}/servers/{server.id}"},
    ]


class ServerView:
    """Servers as Nova shows them in one microversion, to an admin or to a member. All fields were measured at 2.1, 2.93
    and 2.100."""

    def __init__(self, cloud: Cloud, address: str, version: tuple[int, int], is_admin: bool):
        self._cloud = cloud
        self._address = address
        self._version = version
        self._is_admin = is_admin

    def short(self, server: Server) -> dict[str, Any]:
        """The fields that PUT and rebuild answer with below 2.75 (measured)."""
        view = self._main(server)
        for addresses in view["addresses"].values():
            for address in addresses:
                del address["OS-EXT-IPS:type"], address["OS-EXT-IPS-MAC:mac_addr"]
        version = self._version
        if version >= (2, 9):
            view["locked"] = server.locked_by is not None
        if version >= (2, 19):
            view["description"] = server.description
        if version >= (2, 26):
            view["tags"] = server.tags
        if version >= (2, 63):
            view["trusted_image_certificates"] = server.certificates
        if version >= (2, 73):
            view["locked_reason"] = server.locked_reason
        return view

    def _main(self, server: Server) -> dict[str, Any]:
        """The fields that every answer has."""
        status, gone = server.status, server.gone
        view: dict[str, Any] = {
            "id": server.id,
            "name": server.name,
            "status": status,
            "tenant_id": server.project_id,
            "user_id": server.user_id,
            "metadata": {} if gone else server.metadata,
            "hostId": server.host_id,
            "image": self._image(server),
            "flavor": self._flavor(server),
            "created": seconds_text(server.created),
            "updated": seconds_text(server.updated),
            "addresses": self._addresses(server),
            "accessIPv4": server.access_ip_v4,
            "accessIPv6": server.access_ip_v6,
            "links": links(server, self._address),
            "OS-DCF:diskConfig": server.disk_config,
        }
        if status in PROGRESSING:
            view["progress"] = 0
        if server.fault is not None and status in ("ERROR", "DELETED"):
            self._add_fault(view, server.fault, server.fault_seen_from)
        return view

    def show(self, server: Server, alone: bool = True) -> dict[str, Any]:
        """A server's fields. GET of one server (`alone`) has a few more than a list. A deleted server has lost its
        metadata, tags, security groups and the status of its host (measured)."""
        view = self._main(server)
        view |= {
            "OS-EXT-AZ:availability_zone": server.az,
            "config_drive": "True" if server.config_drive else "",
            "key_name": server.key_name,
            "OS-SRV-USG:launched_at": micros_text(server.launched_at),
            "OS-SRV-USG:terminated_at": micros_text(server.terminated_at),
            "OS-EXT-STS:task_state": server.task_state,
            "OS-EXT-STS:vm_state": server.vm_state,
            "OS-EXT-STS:power_state": server.power_state,
            "os-extended-volumes:volumes_attached": self._volumes(server),
        }
        if not server.gone and (server.vm_state != "error" or server.host):
            view["security_groups"] = self._groups(server)
        self._add_versioned(view, server, alone)
        if self._is_admin:
            self._add_admin(view, server)
        return view

    def _volumes(self, server: Server) -> list[dict[str, Any]]:
        """The volumes of the server; from 2.3 on with what becomes of them."""
        kept = {device.get("made"): bool(device.get("delete_on_termination", False)) for device in server.devices}
        more = self._version >= (2, 3)
        return [
            {"id": volume.id, **({"delete_on_termination": kept.get(volume.id, False)} if more else {})}
            for volume in self._cloud.volumes.of_server(server.id)
        ]

    def _groups(self, server: Server) -> list[dict[str, Any]]:
        """The names of the security groups of each of the server's ports (measured); while it has none, of those that
        its create named."""
        groups = self._cloud.security_groups
        ports = self._cloud.ports.of(server.id)
        ids = [each for port in ports for each in groups.of_port(port)] if ports else server.groups
        return [{"name": groups.all[each].name} for each in ids if each in groups.all] or [{"name": "default"}]

    def _image(self, server: Server) -> dict[str, Any] | str:
        if not server.image_id:
            return ""
        image: dict[str, Any] = {
            "id": server.image_id,
            "links": [{"rel": "bookmark", "href": f"{self._address}/images/{server.image_id}"}],
        }
        if self._version >= (2, 98):
            image["properties"] = {}
        return image

    def _flavor(self, server: Server) -> dict[str, Any]:
        flavor = server.flavor
        if self._version < (2, 47):
            return {
                "id": flavor["id"],
                "links": [{"rel": "bookmark", "href": f"{self._address}/flavors/{flavor['id']}"}],
            }
        return {
            "vcpus": flavor["vcpus"],
            "ram": flavor["ram"],
            "disk": flavor["disk"],
            "ephemeral": flavor["ephemeral"],
            "swap": flavor["swap"],
            "original_name": flavor.get("name") or flavor["id"],
            "extra_specs": flavor["extra_specs"],
        }

    def _addresses(self, server: Server) -> dict[str, Any]:
        """The addresses by network, {} until the server is ACTIVE (measured)."""
        if server.vm_state in ("building", "error"):
            return {}
        addresses: dict[str, list[dict[str, Any]]] = {}
        for port in self._cloud.ports.by_device.get(server.id, ()):
            addresses.setdefault(self._cloud.networks[port.network_id].name, []).append(
                {"version": 4, "addr": port.address, "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": port.mac}
            )
        return addresses

    def _add_fault(self, view: dict[str, Any], fault: dict[str, Any], seen_from: float) -> None:
        """Add the fault, which clients see a little later than ERROR (measured). Only an admin sees its details."""
        if self._cloud.clock.now() < seen_from:
            return
        view["fault"] = dict(fault)
        if self._is_admin:
            view["fault"]["details"] = f"Traceback (most recent call last):\n{fault['message']}\n"

    def _add_versioned(self, view: dict[str, Any], server: Server, alone: bool) -> None:
        version = self._version
        if version >= (2, 9):
            view["locked"] = server.locked_by is not None
        if version >= (2, 19):
            view["description"] = server.description
        if version >= (2, 26):
            view["tags"] = [] if server.gone else server.tags
        if version >= (2, 63):
            view["trusted_image_certificates"] = server.certificates
        if version >= (2, 71) and alone:
            view["server_groups"] = [server.group_id] if server.group_id in self._cloud.groups.all else []
        if version >= (2, 73):
            view["locked_reason"] = server.locked_reason
        if version >= (2, 90):
            view["OS-EXT-SRV-ATTR:hostname"] = server.hostname
        if version >= (2, 96):
            view["pinned_availability_zone"] = server.asked_az
        if version >= (2, 100):
            view["scheduler_hints"] = server.hints

    def _add_admin(self, view: dict[str, Any], server: Server) -> None:
        host = self._cloud.hosts.all.get(server.host or "")
        view["OS-EXT-SRV-ATTR:host"] = server.host
        view["OS-EXT-SRV-ATTR:hypervisor_hostname"] = host.node if host else None
        view["OS-EXT-SRV-ATTR:instance_name"] = f"instance-{server.number:08x}"
        if self._version >= (2, 3):
            view.update(
                {
                    "OS-EXT-SRV-ATTR:hostname": server.hostname,
                    "OS-EXT-SRV-ATTR:kernel_id": "",
                    "OS-EXT-SRV-ATTR:launch_index": server.launch_index,
                    "OS-EXT-SRV-ATTR:ramdisk_id": "",
                    "OS-EXT-SRV-ATTR:reservation_id": server.reservation_id,
                    "OS-EXT-SRV-ATTR:root_device_name": "/dev/sda" if server.host else None,
                    "OS-EXT-SRV-ATTR:user_data": server.user_data,
                }
            )
        if self._version >= (2, 16):
            view["host_status"] = "" if server.gone else self._host_status(host)

    def _host_status(self, host: Host | None) -> str:
        if host is None:
            return ""
        if not self._cloud.hosts.is_up(host):
            return "DOWN"
        return "MAINTENANCE" if host.disabled else "UP"

    def unknown(self, server: Server) -> dict[str, Any]:
        """A server whose cell is down, in a list without filters from 2.69 on (read)."""
        return {
            "id": server.id,
            "status": "UNKNOWN",
            "tenant_id": server.project_id,
            "created": seconds_text(server.created),
            "links": links(server, self._address),
        }


routes = [(r"/compute/?", Versions), (r"/compute/(v2\.1)/?", Versions)]
last_routes = [(r"/compute/.*", Missing)]
