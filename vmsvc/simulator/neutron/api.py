"""Neutron v2.0 over HTTP (measured)."""

import ipaddress
import uuid
from typing import Any

from vmsvc.simulator.clock import seconds_text
from vmsvc.simulator.errors import ApiError, bad_request, conflict, not_found
from vmsvc.simulator.http import ServiceHandler
from vmsvc.simulator.keystone.model import Token
from vmsvc.simulator.neutron.listing import listed, shown
from vmsvc.simulator.neutron.model import Network, Port, default_group

ERROR_TYPES = {
    400: "HTTPBadRequest",
    403: "PolicyNotAuthorized",
    404: "HTTPNotFound",
    405: "HTTPMethodNotAllowed",
    409: "OverQuota",
}
EXTENSIONS = (
    *("agent", "availability_zone", "binding", "default-subnetpools", "empty-string-filtering", "external-net"),
    *("filter-validation", "ip-substring-filtering", "net-mtu", "network-ip-availability", "pagination"),
    *("port-security-groups-filtering", "project-id", "provider", "quotas", "quota_details", "security-group"),
    *("security-groups-normalized-cidr", "sorting", "standard-attr-description", "standard-attr-revisions"),
    *("standard-attr-tag", "standard-attr-timestamp", "stateful-security-group", "subnet_allocation"),
)


class NetworkHandler(ServiceHandler):
    """Base of Neutron's handlers: the form of errors, the filters of lists, and which networks a user sees."""

    service = "network"

    def refuse(self, status: int, message: str) -> None:
        kind = ERROR_TYPES.get(status, "HTTPInternalServerError")
        if status == 404 and not message.startswith("The "):
            kind = message.split()[0] + "NotFound"
            message = message.replace("SecurityGroup", "Security group")
        for beginning, name in (
            ("No more IP addresses", "IpAddressGenerationFailure"),
            ("Bad limit request", "BadRequest"),
            ("Invalid input for operation", "InvalidInput"),
        ):
            kind = name if message.startswith(beginning) else kind
        if status == 405:
            message = (
                "The server could not comply with the request since it is either malformed or otherwise incorrect."
            )
        self.reply(status, {"NeutronError": {"type": kind, "message": message, "detail": ""}})

    def filtered(self, key: str, items: list[dict[str, Any]]) -> None:
        """Answer with a list, or the part of it that the query asks for."""
        found = listed(key, items, self.queries, f"{self.base}/network/v2.0/{key.replace('_', '-')}")
        self.reply(200, {key: found.items, f"{key}_links": found.links} if found.links else {key: found.items})

    def networks(self) -> list[Network]:
        """The networks that the user may see: shared ones and those of the own project; an admin sees all."""
        return [
            network
            for network in self.cloud.networks.values()
            if network.shared or self.token.is_admin or network.owner == self.token.project_id
        ]

    def network(self, network_id: str) -> Network:
        """One of these networks. Raises ApiError 404."""
        found = [network for network in self.networks() if network.id == network_id]
        if not found:
            raise not_found(f"Network {network_id} could not be found.")
        return found[0]

    def show(self, key: str, items: list[dict[str, Any]], item_id: str) -> None:
        """Answer with the item that has this id. Raises ApiError 404."""
        for item in items:
            if item["id"] == item_id:
                self.reply(200, {key: shown(item, self.queries)})
                return
        raise not_found(f"{key.replace('_', ' ').title().replace(' ', '')} {item_id} could not be found.")


class Versions(NetworkHandler):
    """The discovery document."""

    requires_token = False

    def get(self) -> None:
        self.reply(
            200,
            {
                "versions": [
                    {
                        "id": "v2.0",
                        "status": "CURRENT",
                        "links": [{"rel": "self", "href": f"{self.base}/network/v2.0/"}],
                    }
                ]
            },
        )


class Resources(NetworkHandler):
    """GET /v2.0: the kinds of resources."""

    def get(self) -> None:
        self.reply(
            200,
            {
                "resources": [
                    {
                        "name": name,
                        "collection": f"{name}s",
                        "links": [{"rel": "self", "href": f"{self.base}/network/v2.0/{name}s"}],
                    }
                    for name in ("network", "subnet", "port")
                ]
            },
        )


class Networks(NetworkHandler):
    """GET /networks and one of them."""

    def get(self, network_id: str | None = None) -> None:
        items = [self._view(network) for network in self.networks()]
        if network_id is None:
            self.filtered("networks", items)
        else:
            self.show("network", items, network_id)

    def post(self) -> None:
        """Make a network without a subnet."""
        body = self.body()["network"]
        network = Network(
            str(uuid.uuid4()),
            "",
            self.token.project_id,
            self.cloud.clock.now(),
            body.get("name", ""),
            shared=bool(body.get("shared", False)),
            admin_state_up=body.get("admin_state_up", True),
        )
        self.cloud.networks.save(network.id, network)
        self.reply(201, {"network": self._view(network)})

    def delete(self, network_id: str) -> None:
        """Answers 409 while the network has a port (measured)."""
        network = self.network(network_id)
        if self.cloud.ports.addresses.get(network_id):
            raise conflict(
                f"Unable to complete operation on network {network_id}. There are one or more ports still "
                "in use on the network."
            )
        self.cloud.networks.remove(network.id)
        self.reply(204)

    @staticmethod
    def _view(network: Network) -> dict[str, Any]:
        created = seconds_text(network.created)
        return {
            "id": network.id,
            "name": network.name,
            "tenant_id": network.owner,
            "project_id": network.owner,
            "admin_state_up": network.admin_state_up,
            "mtu": 1500,
            "status": "ACTIVE",
            "subnets": [network.subnet_id] if network.subnet_id else [],
            "shared": network.shared,
            "availability_zone_hints": [],
            "availability_zones": [],
            "ipv4_address_scope": None,
            "ipv6_address_scope": None,
            "router:external": False,
            "qinq": False,
            "vlan_transparent": False,
            "description": "",
            "tags": [],
            "created_at": created,
            "updated_at": created,
            "revision_number": 2,
        }


class Subnets(NetworkHandler):
    """GET /subnets and one of them."""

    def get(self, subnet_id: str | None = None) -> None:
        items = [self._view(network) for network in self.networks() if network.subnet_id]
        if subnet_id is None:
            self.filtered("subnets", items)
        else:
            self.show("subnet", items, subnet_id)

    def post(self) -> None:
        """Make the subnet of a network that has none."""
        body = self.body()["subnet"]
        network = self.network(body["network_id"])
        network.subnet_id, network.cidr, network.subnet_name = str(uuid.uuid4()), body["cidr"], body.get("name", "")
        network.gateway = body.get("gateway_ip", "") is not None
        network.next_address = network.pool[0]
        self.cloud.networks.save(network.id, network)
        self.reply(201, {"subnet": self._view(network)})

    def delete(self, subnet_id: str) -> None:
        """Answers 409 while a port has an address of the subnet (measured)."""
        network = next((each for each in self.networks() if each.subnet_id == subnet_id), None)
        if network is None:
            raise not_found(f"Subnet {subnet_id} could not be found.")
        if self.cloud.ports.addresses.get(network.id):
            raise conflict(
                f"Unable to complete operation on subnet {subnet_id}: One or more ports have an IP "
                "allocation from this subnet."
            )
        network.subnet_id = ""
        self.cloud.networks.save(network.id, network)
        self.reply(204)

    @staticmethod
    def _view(network: Network) -> dict[str, Any]:
        created, subnet = seconds_text(network.created), ipaddress.ip_network(network.cidr)
        return {
            "id": network.subnet_id,
            "name": network.subnet_name,
            "network_id": network.id,
            "ip_version": 4,
            "cidr": network.cidr,
            "gateway_ip": str(subnet[1]) if network.gateway else None,
            "enable_dhcp": False,
            "subnetpool_id": None,
            "ipv6_ra_mode": None,
            "ipv6_address_mode": None,
            "allocation_pools": [{"start": str(subnet[network.pool[0]]), "end": str(subnet[-2])}],
            "host_routes": [],
            "dns_nameservers": [],
            "description": "",
            "router:external": False,
            "service_types": [],
            "tags": [],
            "created_at": created,
            "updated_at": created,
            "revision_number": 0,
            "project_id": network.owner,
            "tenant_id": network.owner,
        }


class Ports(NetworkHandler):
    """/ports: a member sees those of the own project and of its networks, an admin all."""

    def get(self) -> None:
        """With device_id, the cost does not depend on the number of ports."""
        device = self.query.get("device_id")
        ports = self.cloud.ports.of(device) if device else self.cloud.ports.all.values()
        owned = {network.id for network in self.cloud.networks.values() if network.owner == self.token.project_id}
        self.filtered(
            "ports",
            [
                port_view(port, self.token.is_admin)
                for port in ports
                if visible(port, self.token) or port.network_id in owned
            ],
        )

    def post(self) -> None:
        """Make a port that no server uses. Answers 409 beyond the quota (read), and for an address that is taken."""
        body = self.body()["port"]
        network, limit = self.network(body["network_id"]), self.cloud.quotas.port_limit(self.token.project_id)
        if 0 <= limit <= self.cloud.ports.count.get(self.token.project_id, 0):
            raise conflict("Quota exceeded for resources: ['port'].")
        asked = next((each.get("ip_address") for each in body.get("fixed_ips") or ()), None)
        if asked and not self.token.is_admin and network.owner != self.token.project_id:
            raise ApiError(
                403,
                "((rule:create_port and (rule:create_port:fixed_ips and (rule:create_port:fixed_ips:ip_address))) and "
                "rule:create_port:fixed_ips) is disallowed by policy",
            )
        if asked and not network.has(asked):
            raise bad_request(f"IP address {asked} is not a valid IP for any of the subnets on the specified network.")
        if asked and asked in self.cloud.ports.addresses.get(network.id, ()):
            raise conflict(f"Unable to complete operation for network {network.id}. The IP address {asked} is in use.")
        port = self.cloud.ports.add(network, self.token.project_id, "", "", self.cloud.clock.now(), asked)
        if body.get("security_groups"):
            port.groups = list(body["security_groups"])
        self.cloud.ports.give_to_user(port, body.get("name", ""), body.get("description", ""))
        self.reply(201, {"port": port_view(port, self.token.is_admin)})


class Availability(NetworkHandler):
    """GET /network-ip-availabilities/{network}, for admins; a member gets 404 (measured)."""

    def get(self, network_id: str) -> None:
        if not self.token.is_admin:
            raise not_found("The resource could not be found.")
        network = self.network(network_id)
        used = len(self.cloud.ports.addresses.get(network_id, ()))
        subnets = (
            [
                {
                    "subnet_id": network.subnet_id,
                    "ip_version": 4,
                    "cidr": network.cidr,
                    "used_ips": used,
                    "subnet_name": network.subnet_name,
                    "total_ips": network.size,
                }
            ]
            if network.subnet_id
            else []
        )
        self.reply(
            200,
            {
                "network_ip_availability": {
                    "network_id": network.id,
                    "network_name": network.name,
                    "project_id": network.owner,
                    "tenant_id": network.owner,
                    "used_ips": used,
                    "total_ips": network.size,
                    "subnet_ip_availability": subnets,
                }
            },
        )


class OnePort(NetworkHandler):
    """/ports/{id}."""

    def _port(self, port_id: str) -> Port:
        port = self.cloud.ports.all.get(port_id)
        if port is None or not visible(port, self.token):
            raise not_found(f"Port {port_id} could not be found.")
        return port

    def get(self, port_id: str) -> None:
        self.reply(200, {"port": port_view(self._port(port_id), self.token.is_admin)})

    def delete(self, port_id: str) -> None:
        """Delete the port, also one that a server uses."""
        self.cloud.ports.remove(self._port(port_id))
        self.reply(204)


def visible(port: Port, token: Token) -> bool:
    """True when the user may see it."""
    return token.is_admin or port.project_id == token.project_id


def port_view(port: Port, is_admin: bool) -> dict[str, Any]:
    """A port as Neutron shows it. Only an admin sees the binding."""
    created = seconds_text(port.created)
    view = {
        "id": port.id,
        "name": port.name,
        "network_id": port.network_id,
        "project_id": port.project_id,
        "tenant_id": port.project_id,
        "mac_address": port.mac,
        "admin_state_up": True,
        "status": port.status,
        "device_id": port.device_id,
        "device_owner": "compute:nova" if port.device_id else "",
        "fixed_ips": [{"subnet_id": port.subnet_id, "ip_address": port.address}],
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
        "security_groups": [default_group(port.project_id)] if port.groups is None else port.groups,
        "description": port.description,
        "binding:vnic_type": "normal",
        "tags": [],
        "created_at": created,
        "updated_at": created,
        "revision_number": 4,
    }
    if is_admin:
        view.update(
            {
                "binding:profile": {},
                "binding:host_id": port.host,
                "binding:vif_type": "ovs",
                "binding:vif_details": {"port_filter": True},
            }
        )
    return view


class Quotas(NetworkHandler):
    """/quotas/{project} and its details. Only the limit on ports can be set."""

    def get(self, project_id: str, details: str | None = None) -> None:
        quota: dict[str, Any] = {
            "network": -1,
            "subnet": -1,
            "subnetpool": -1,
            "port": self.cloud.quotas.port_limit(project_id),
            "rbac_policy": 10,
            "security_group": -1,
            "security_group_rule": -1,
        }
        if details:
            used = {"port": self.cloud.ports.count.get(project_id, 0), "security_group": 1}
            quota = {name: {"limit": limit, "used": used.get(name, 0), "reserved": 0} for name, limit in quota.items()}
        self.reply(200, {"quota": quota})

    def put(self, project_id: str, _details: str | None = None) -> None:
        """For admins."""
        if not self.token.is_admin:
            raise ApiError(403, "rule:update_quota is disallowed by policy")
        quota = self.body().get("quota")
        if not isinstance(quota, dict):
            raise bad_request("Invalid input for quota")
        self.cloud.quotas.set(project_id, {"port": int(quota.get("port", -1))})
        self.get(project_id)


class Extensions(NetworkHandler):
    """GET /extensions and one of them."""

    def get(self, alias: str | None = None) -> None:
        items = [
            {
                "name": name,
                "alias": name,
                "description": name,
                "links": [],
                "updated": "2020-01-01T00:00:00-00:00",
            }
            for name in EXTENSIONS
        ]
        if alias is None:
            self.reply(200, {"extensions": items})
        elif alias in EXTENSIONS:
            self.reply(200, {"extension": next(item for item in items if item["alias"] == alias)})
        else:
            self.plain_error(404, f"Extension with alias {alias} does not exist")


class Missing(NetworkHandler):
    """Any other path: 404."""

    def missing(self) -> None:
        raise not_found("The resource could not be found.")

    get = post = put = delete = missing


routes = [
    (r"/network/?", Versions),
    (r"/network/v2\.0/?", Resources),
    (r"/network/v2\.0/networks(?:\.json)?", Networks),
    (r"/network/v2\.0/networks/([^/]+)", Networks),
    (r"/network/v2\.0/subnets(?:\.json)?", Subnets),
    (r"/network/v2\.0/subnets/([^/]+)", Subnets),
    (r"/network/v2\.0/network-ip-availabilities/([^/]+)", Availability),
    (r"/network/v2\.0/ports(?:\.json)?", Ports),
    (r"/network/v2\.0/ports/([^/]+)", OnePort),
    (r"/network/v2\.0/quotas/([^/]+)", Quotas),
    (r"/network/v2\.0/quotas/([^/]+)/(details)(?:\.json)?", Quotas),
    (r"/network/v2\.0/extensions", Extensions),
    (r"/network/v2\.0/extensions/([^/]+)", Extensions),
]
last_routes = [(r"/network/.*", Missing)]
