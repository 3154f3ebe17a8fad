"""What hangs on a server: interfaces, addresses, volumes, actions, security groups. Shapes measured."""

from vmsvc.sim.api_servers import ServersHandler
from vmsvc.sim.clock import micros_text
from vmsvc.sim.ports import default_group
from vmsvc.sim.refusal import not_found
from vmsvc.sim.servers import Server


class Interfaces(ServersHandler):
    """GET /servers/{id}/os-interface."""

    def get(self, server_id: str) -> None:
        """Its ports."""
        self.reply(200, {"interfaceAttachments": [
            {"net_id": port.network_id, "port_id": port.id, "mac_addr": port.mac, "port_state": port.status,
             "fixed_ips": [{"subnet_id": port.subnet_id, "ip_address": port.address}], "tag": None}
            for port in self.cloud.ports.of(self.server(server_id).id)]})


class Addresses(ServersHandler):
    """GET /servers/{id}/ips and /ips/{network}."""

    def get(self, server_id: str, network: str | None = None) -> None:
        """Its addresses by network."""
        addresses: dict[str, list] = {}
        for port in self.cloud.ports.of(self.server(server_id).id):
            name = self.cloud.catalog.networks[port.network_id].name
            addresses.setdefault(name, []).append({"version": 4, "addr": port.address})
        if network is None:
            self.reply(200, {"addresses": addresses})
        elif network not in addresses:
            raise not_found("Instance is not a member of specified network")
        else:
            self.reply(200, {network: addresses[network]})


class Volumes(ServersHandler):
    """GET /servers/{id}/os-volume_attachments: there is no Cinder."""

    def get(self, server_id: str) -> None:
        """None."""
        self.server(server_id)
        self.reply(200, {"volumeAttachments": []})


class SecurityGroups(ServersHandler):
    """GET /servers/{id}/os-security-groups."""

    def get(self, server_id: str) -> None:
        """The default one, without its rules."""
        project_id = self.server(server_id).project_id
        self.reply(200, {"security_groups": [{"id": default_group(project_id), "name": "default", "rules": [],
                                              "description": "Default security group", "tenant_id": project_id}]})


class Topology(ServersHandler):
    """GET /servers/{id}/topology."""

    def get(self, server_id: str) -> None:
        """None (measured)."""
        self.server(server_id)
        self.reply(200, {"nodes": [], "pagesize_kb": None})


class Actions(ServersHandler):
    """GET /servers/{id}/os-instance-actions, and one of them."""

    def get(self, server_id: str, request_id: str | None = None) -> None:
        """Newest first. The text of a failure is just `Error` (measured, section 2)."""
        server = self.server(server_id)
        if request_id is None:
            self.reply(200, {"instanceActions": [self._view(server, each) for each in reversed(server.actions)]})
            return
        for action in server.actions:
            if action["request_id"] == request_id:
                events = self._events(server, action)
                self.reply(200, {"instanceAction": {**self._view(server, action), "events": events}})
                return
        raise not_found(f"Action {request_id} not found")

    def _events(self, server: Server, action: dict) -> list[dict]:
        failed = action["message"] == "Error"
        event = {"event": "conductor_schedule_and_build_instances" if action["action"] == "create" else
                 f"compute_{action['action']}_instance", "start_time": micros_text(action["start_time"]),
                 "finish_time": micros_text(action["updated_at"]), "result": "Error" if failed else "Success"}
        if self.version >= (2, 62):
            event["hostId"] = server.host_id
        if self.token.is_admin:
            event.update(traceback=None, host=server.host, details=None)
        return [event]

    @staticmethod
    def _view(server: Server, action: dict) -> dict:
        return {**action, "instance_uuid": server.id, "start_time": micros_text(action["start_time"]),
                "updated_at": micros_text(action["updated_at"])}


routes = [
    (r"/compute/v2\.1/servers/([^/]+)/os-interface", Interfaces),
    (r"/compute/v2\.1/servers/([^/]+)/ips", Addresses),
    (r"/compute/v2\.1/servers/([^/]+)/ips/([^/]+)", Addresses),
    (r"/compute/v2\.1/servers/([^/]+)/os-volume_attachments", Volumes),
    (r"/compute/v2\.1/servers/([^/]+)/os-security-groups", SecurityGroups),
    (r"/compute/v2\.1/servers/([^/]+)/topology", Topology),
    (r"/compute/v2\.1/servers/([^/]+)/os-instance-actions", Actions),
    (r"/compute/v2\.1/servers/([^/]+)/os-instance-actions/([^/]+)", Actions),
]
