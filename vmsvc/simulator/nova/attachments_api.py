"""Nova over HTTP: what a server is plugged into and attached to: ports, addresses, security groups, volumes."""

from typing import Any

from vmsvc.simulator.errors import not_found
from vmsvc.simulator.neutron.model import default_group
from vmsvc.simulator.nova.servers_api import ServersHandler


class Interfaces(ServersHandler):
    """GET /servers/{id}/os-interface."""

    def get(self, server_id: str) -> None:
        self.reply(
            200,
            {
                "interfaceAttachments": [
                    {
                        "net_id": port.network_id,
                        "port_id": port.id,
                        "mac_addr": port.mac,
                        "port_state": port.status,
                        "fixed_ips": [{"subnet_id": port.subnet_id, "ip_address": port.address}],
                        "tag": None,
                    }
                    for port in self.cloud.ports.of(self.server(server_id).id)
                ]
            },
        )


class Addresses(ServersHandler):
    """GET /servers/{id}/ips and /ips/{network}."""

    def get(self, server_id: str, network: str | None = None) -> None:
        addresses: dict[str, list[dict[str, Any]]] = {}
        for port in self.cloud.ports.of(self.server(server_id).id):
            name = self.cloud.networks[port.network_id].name
            addresses.setdefault(name, []).append({"version": 4, "addr": port.address})
        if network is None:
            self.reply(200, {"addresses": addresses})
        elif network not in addresses:
            raise not_found("Instance is not a member of specified network")
        else:
            self.reply(200, {network: addresses[network]})


class Volumes(ServersHandler):
    """GET /servers/{id}/os-volume_attachments."""

    def get(self, server_id: str) -> None:
        found = self.cloud.volumes.of_server(self.server(server_id).id)
        shown = [{"volumeId": one.id, "serverId": server_id, "device": one.device} for one in found]
        if self.version < (2, 89):
            shown = [{**each, "id": each["volumeId"]} for each in shown]
        self.reply(200, {"volumeAttachments": shown})


class SecurityGroups(ServersHandler):
    """GET /servers/{id}/os-security-groups: those of its ports, without their rules."""

    def get(self, server_id: str) -> None:
        groups = self.cloud.security_groups
        server = self.server(server_id)
        groups.default(server.project_id)
        ports = self.cloud.ports.of(server.id)
        ids = [each for port in ports for each in groups.of_port(port)] or [default_group(server.project_id)]
        shown = [groups.all[each] for each in dict.fromkeys(ids) if each in groups.all]
        self.reply(
            200,
            {
                "security_groups": [
                    {
                        "id": group.id,
                        "name": group.name,
                        "rules": [],
                        "description": group.description,
                        "tenant_id": group.project_id,
                    }
                    for group in shown
                ]
            },
        )


routes = [
    (r"/compute/v2\.1/servers/([^/]+)/os-interface", Interfaces),
    (r"/compute/v2\.1/servers/([^/]+)/ips", Addresses),
    (r"/compute/v2\.1/servers/([^/]+)/ips/([^/]+)", Addresses),
    (r"/compute/v2\.1/servers/([^/]+)/os-volume_attachments", Volumes),
    (r"/compute/v2\.1/servers/([^/]+)/os-security-groups", SecurityGroups),
]
