"""Neutron v2.0 over HTTP: networks with a subnet or without, and ports (measured)."""

import ipaddress
import uuid

from vmsvc.sim.catalog import Network
from vmsvc.sim.clock import seconds_text
from vmsvc.sim.handler import ServiceHandler
from vmsvc.sim.ports import Port, default_group
from vmsvc.sim.refusal import Refused, bad_request, conflict, not_found

KINDS = {400: "HTTPBadRequest", 403: "PolicyNotAuthorized", 404: "HTTPNotFound", 409: "OverQuota"}
EXTENSIONS = ("agent", "availability_zone", "binding", "default-subnetpools", "external-net", "filter-validation",
              "ip-allocation", "net-mtu", "port-security", "project-id", "provider", "quotas", "quota_details",
              "security-group", "shared-network", "standard-attr-tag", "standard-attr-timestamp", "subnet_allocation")


class NetworkHandler(ServiceHandler):
    """Shape of errors; filters by equality of any field, lists of values meaning any of them."""

    service = "network"

    def refuse(self, status: int, message: str) -> None:
        kind = KINDS.get(status, "HTTPInternalServerError")
        if status == 404 and not message.startswith("The "):
            kind = message.split()[0] + "NotFound"
            message = message.replace("SecurityGroup", "Security group")
        if message.startswith("No more IP addresses"):
            kind = "IpAddressGenerationFailure"
        self.reply(status, {"NeutronError": {"type": kind, "message": message, "detail": ""}})

    def filtered(self, key: str, items: list[dict]) -> None:
        """A list, after the filters of the query."""
        filters = {name: {value.decode() for value in values} for name, values in self.request.query_arguments.items()
                   if name not in ("fields", "limit", "marker", "sort_key", "sort_dir", "page_reverse")}
        self.reply(200, {key: [item for item in items if all(
            name not in item or str(item[name]).lower() in {value.lower() for value in values}
            for name, values in filters.items())]})

    def networks(self) -> list[Network]:
        """Those that the caller may see: shared ones, one's own, all for the admin."""
        return [network for network in self.cloud.catalog.networks.values()
                if network.shared or self.token.is_admin or network.owner == self.token.project_id]

    def network(self, network_id: str) -> Network:
        """One of them, or 404."""
        found = [network for network in self.networks() if network.id == network_id]
        if not found:
            raise not_found(f"Network {network_id} could not be found.")
        return found[0]

    def show(self, key: str, items: list[dict], item_id: str) -> None:
        """The one with this id, or 404."""
        for item in items:
            if item["id"] == item_id:
                self.reply(200, {key: item})
                return
        raise not_found(f"{key.replace('_', ' ').title().replace(' ', '')} {item_id} could not be found.")


class Versions(NetworkHandler):
    """The discovery document."""

    needs_token = False

    def get(self) -> None:
        """The one version."""
        self.reply(200, {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [
            {"rel": "self", "href": f"{self.base}/network/v2.0/"}]}]})


class Resources(NetworkHandler):
    """GET /v2.0 with a token: what there is."""

    def get(self) -> None:
        """The names."""
        self.reply(200, {"resources": [{"name": name, "collection": f"{name}s", "links": [
            {"rel": "self", "href": f"{self.base}/network/v2.0/{name}s"}]} for name in ("network", "subnet", "port")]})


class Networks(NetworkHandler):
    """GET /networks and one of them."""

    def get(self, network_id: str | None = None) -> None:
        """All or one."""
        items = [self._view(network) for network in self.networks()]
        if network_id is None:
            self.filtered("networks", items)
        else:
            self.show("network", items, network_id)

    def post(self) -> None:
        """A new one, without a subnet."""
        asked = self.body()["network"]
        network = Network(str(uuid.uuid4()), "", self.token.project_id, self.cloud.clock.now(), asked.get("name", ""),
                          shared=bool(asked.get("shared", False)), admin_state_up=asked.get("admin_state_up", True))
        self.cloud.catalog.add_network(network)
        self.reply(201, {"network": self._view(network)})

    def delete(self, network_id: str) -> None:
        """Forget it; 409 while a port is there (measured)."""
        network = self.network(network_id)
        if self.cloud.ports.addresses.get(network_id):
            raise conflict(f"Unable to complete operation on network {network_id}. There are one or more ports still "
                           "in use on the network.")
        self.cloud.catalog.drop_network(network.id)
        self.reply(204)

    @staticmethod
    def _view(network: Network) -> dict:
        made = seconds_text(network.created)
        return {"id": network.id, "name": network.name, "tenant_id": network.owner, "project_id": network.owner,
                "admin_state_up": network.admin_state_up, "mtu": 1500, "status": "ACTIVE",
                "subnets": [network.subnet_id] if network.subnet_id else [],
                "shared": network.shared, "availability_zone_hints": [], "availability_zones": [],
                "ipv4_address_scope": None, "ipv6_address_scope": None,
                "router:external": False, "qinq": False, "vlan_transparent": False,
                "description": "", "tags": [],
                "created_at": made, "updated_at": made, "revision_number": 2}


class Subnets(NetworkHandler):
    """GET /subnets and one of them."""

    def get(self, subnet_id: str | None = None) -> None:
        """All or one."""
        items = [self._view(network) for network in self.networks() if network.subnet_id]
        if subnet_id is None:
            self.filtered("subnets", items)
        else:
            self.show("subnet", items, subnet_id)

    def post(self) -> None:
        """The subnet of a network that has none."""
        asked = self.body()["subnet"]
        network = self.network(asked["network_id"])
        network.subnet_id, network.cidr, network.subnet_name = str(uuid.uuid4()), asked["cidr"], asked.get("name", "")
        network.gateway = asked.get("gateway_ip", "") is not None
        network.next_address = network.pool[0]
        self.cloud.catalog.add_network(network)
        self.reply(201, {"subnet": self._view(network)})

    def delete(self, subnet_id: str) -> None:
        """Take it away; 409 while a port has an address of it (measured)."""
        network = next((each for each in self.networks() if each.subnet_id == subnet_id), None)
        if network is None:
            raise not_found(f"Subnet {subnet_id} could not be found.")
        if self.cloud.ports.addresses.get(network.id):
            raise conflict(f"Unable to complete operation on subnet {subnet_id}: One or more ports have an IP "
                           "allocation from this subnet.")
        network.subnet_id = ""
        self.cloud.catalog.add_network(network)
        self.reply(204)

    @staticmethod
    def _view(network: Network) -> dict:
        made, subnet = seconds_text(network.created), ipaddress.ip_network(network.cidr)
        return {"id": network.subnet_id, "name": network.subnet_name, "network_id": network.id, "ip_version": 4,
                "cidr": network.cidr, "gateway_ip": str(subnet[1]) if network.gateway else None,
                "enable_dhcp": False, "subnetpool_id": None,
                "ipv6_ra_mode": None, "ipv6_address_mode": None,
                "allocation_pools": [{"start": str(subnet[network.pool[0]]), "end": str(subnet[-2])}],
                "host_routes": [], "dns_nameservers": [], "description": "",
                "router:external": False, "service_types": [], "tags": [],
                "created_at": made, "updated_at": made, "revision_number": 0, "project_id": network.owner,
                "tenant_id": network.owner}


class Ports(NetworkHandler):
    """GET /ports: one's own project's, all for the admin."""

    def get(self) -> None:
        """By device_id without looking at the rest."""
        device = self.query.get("device_id")
        ports = self.cloud.ports.of(device) if device else self.cloud.ports.all.values()
        owned = {network.id for network in self.cloud.catalog.networks.values()
                 if network.owner == self.token.project_id}
        self.filtered("ports", [port_view(port, self.token.is_admin) for port in ports
                                if visible(port, self.token) or port.network_id in owned])

    def post(self) -> None:
        """One that no server uses."""
        network = self.network(self.body()["port"]["network_id"])
        port = self.cloud.ports.add(network, self.token.project_id, "", "", self.cloud.clock.now())
        self.reply(201, {"port": port_view(port, self.token.is_admin)})


class Availability(NetworkHandler):
    """GET /network-ip-availabilities/{network}: the admin's; others are told 404 (measured)."""

    def get(self, network_id: str) -> None:
        """How many addresses there are, and how many are used."""
        if not self.token.is_admin:
            raise not_found("The resource could not be found.")
        network = self.network(network_id)
        used = len(self.cloud.ports.addresses.get(network_id, ()))
        subnets = [{"subnet_id": network.subnet_id, "ip_version": 4, "cidr": network.cidr, "used_ips": used,
                    "subnet_name": network.subnet_name, "total_ips": network.size}] if network.subnet_id else []
        self.reply(200, {"network_ip_availability": {
            "network_id": network.id, "network_name": network.name, "project_id": network.owner,
            "tenant_id": network.owner, "used_ips": used, "total_ips": network.size,
            "subnet_ip_availability": subnets}})


class OnePort(NetworkHandler):
    """/ports/{id}."""

    def _port(self, port_id: str) -> Port:
        port = self.cloud.ports.all.get(port_id)
        if port is None or not visible(port, self.token):
            raise not_found(f"Port {port_id} could not be found.")
        return port

    def get(self, port_id: str) -> None:
        """The port."""
        self.reply(200, {"port": port_view(self._port(port_id), self.token.is_admin)})

    def delete(self, port_id: str) -> None:
        """Remove it, from under a server too."""
        self.cloud.ports.remove(self._port(port_id))
        self.reply(204)


def visible(port: Port, token) -> bool:
    """True when the caller may see it."""
    return token.is_admin or port.project_id == token.project_id


def port_view(port: Port, is_admin: bool) -> dict:
    """A port as JSON; the binding is the admin's."""
    made = seconds_text(port.created)
    view = {"id": port.id, "name": port.name, "network_id": port.network_id, "project_id": port.project_id,
            "tenant_id": port.project_id, "mac_address": port.mac, "admin_state_up": True, "status": port.status,
            "device_id": port.device_id, "device_owner": "compute:nova" if port.device_id else "",
            "fixed_ips": [{"subnet_id": port.subnet_id, "ip_address": port.address}], "allowed_address_pairs": [],
            "extra_dhcp_opts": [], "security_groups": [default_group(port.project_id)], "description": "",
            "binding:vnic_type": "normal", "tags": [], "created_at": made, "updated_at": made, "revision_number": 4}
    if is_admin:
        view.update({"binding:profile": {}, "binding:host_id": port.host, "binding:vif_type": "ovs",
                     "binding:vif_details": {"port_filter": True}})
    return view


class SecurityGroups(NetworkHandler):
    """GET /security-groups and one of them: each project's default."""

    def get(self, group_id: str | None = None) -> None:
        """All or one."""
        projects = self.cloud.identity.projects if self.token.is_admin else [self.token.project_id]
        items = [{"id": default_group(project), "name": "default", "stateful": True, "tenant_id": project,
                  "project_id": project, "description": "Default security group", "shared": False,
                  "security_group_rules": [], "tags": [], "revision_number": 1} for project in projects]
        if group_id is None:
            self.filtered("security_groups", items)
        elif group_id not in [item["id"] for item in items]:
            raise not_found(f"SecurityGroup {group_id} does not exist")
        else:
            self.show("security_group", items, group_id)


class Quotas(NetworkHandler):
    """/quotas/{project}, and its details."""

    def get(self, project_id: str, details: str | None = None) -> None:
        """The limits; only the ports' can be set."""
        quota = {"network": -1, "subnet": -1, "subnetpool": -1, "port": self.cloud.quotas.port_limit(project_id),
                 "rbac_policy": 10, "security_group": -1, "security_group_rule": -1}
        if details:
            used = {"port": self.cloud.ports.count.get(project_id, 0), "security_group": 1}
            quota = {name: {"limit": limit, "used": used.get(name, 0), "reserved": 0} for name, limit in quota.items()}
        self.reply(200, {"quota": quota})

    def put(self, project_id: str, _details: str | None = None) -> None:
        """Set the limit on ports (admin)."""
        if not self.token.is_admin:
            raise Refused(403, "rule:update_quota is disallowed by policy")
        quota = self.body().get("quota")
        if not isinstance(quota, dict):
            raise bad_request("Invalid input for quota")
        self.cloud.quotas.set(project_id, {"port": int(quota.get("port", -1))})
        self.get(project_id)


class Extensions(NetworkHandler):
    """GET /extensions and one of them."""

    def get(self, alias: str | None = None) -> None:
        """What clients look for."""
        items = [{"id": name, "name": name, "alias": name, "description": name, "links": [],
                  "updated": "2020-01-01T00:00:00-00:00"} for name in EXTENSIONS]
        if alias is None:
            self.reply(200, {"extensions": items})
        elif alias in EXTENSIONS:
            self.show("extension", items, alias)
        else:
            self.set_status(404)
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish(f"404 Not Found\n\nThe resource could not be found.\n\n Extension with alias {alias} does not "
                        "exist  ")


class Missing(NetworkHandler):
    """Everything else."""

    def missing(self) -> None:
        """404 for any method."""
        raise not_found("The resource could not be found.")

    get = post = put = delete = missing


routes = [
    (r"/network/?", Versions), (r"/network/v2\.0/?", Resources),
    (r"/network/v2\.0/networks(?:\.json)?", Networks), (r"/network/v2\.0/networks/([^/]+)", Networks),
    (r"/network/v2\.0/subnets(?:\.json)?", Subnets), (r"/network/v2\.0/subnets/([^/]+)", Subnets),
    (r"/network/v2\.0/network-ip-availabilities/([^/]+)", Availability),
    (r"/network/v2\.0/ports(?:\.json)?", Ports), (r"/network/v2\.0/ports/([^/]+)", OnePort),
    (r"/network/v2\.0/security-groups", SecurityGroups), (r"/network/v2\.0/security-groups/([^/]+)", SecurityGroups),
    (r"/network/v2\.0/quotas/([^/]+)", Quotas), (r"/network/v2\.0/quotas/([^/]+)/(details)(?:\.json)?", Quotas),
    (r"/network/v2\.0/extensions", Extensions), (r"/network/v2\.0/extensions/([^/]+)", Extensions),
    (r"/network/.*", Missing),
]
