"""Servers as Nova shows them, by microversion and by who asks (all fields measured at 2.1, 2.93 and 2.100)."""

from vmsvc.sim.clock import micros_text, seconds_text
from vmsvc.sim.cloud import Cloud
from vmsvc.sim.servers import Server


def summary(server: Server, address: str) -> dict:
    """An entry of GET /servers."""
    return {"id": server.id, "name": server.name, "links": links(server, address)}


def links(server: Server, address: str) -> list[dict]:
    """`self` and `bookmark`."""
    return [{"rel": "self", "href": f"{address}/v2.1/servers/{server.id}"},
            {"rel": "bookmark", "href": f"{address}/servers/{server.id}"}]


class ServerView:
    """Shows whole servers to one caller."""

    def __init__(self, cloud: Cloud, address: str, version: tuple[int, int], is_admin: bool):
        self._cloud = cloud
        self._address = address
        self._version = version
        self._is_admin = is_admin

    def show(self, server: Server, alone: bool = True) -> dict:
        """The server; `alone` for GET of one, which has a few fields more."""
        view = {
            "id": server.id, "name": server.name, "status": server.status, "tenant_id": server.project_id,
            "user_id": server.user_id, "metadata": server.metadata, "hostId": server.host_id,
            "image": self._image(server, alone), "flavor": self._flavor(server),
            "created": seconds_text(server.created), "updated": seconds_text(server.updated),
            "addresses": self._addresses(server), "accessIPv4": "", "accessIPv6": "",
            "links": links(server, self._address), "OS-DCF:diskConfig": "MANUAL",
            "OS-EXT-AZ:availability_zone": server.az, "config_drive": "", "key_name": server.key_name,
            "OS-SRV-USG:launched_at": micros_text(server.launched_at),
            "OS-SRV-USG:terminated_at": micros_text(server.terminated_at),
            "OS-EXT-STS:task_state": server.task_state, "OS-EXT-STS:vm_state": server.vm_state,
            "OS-EXT-STS:power_state": server.power_state, "os-extended-volumes:volumes_attached": []}
        if server.vm_state != "error" or server.host:
            view["security_groups"] = [{"name": "default"}]
        if server.status in ("BUILD", "ACTIVE"):
            view["progress"] = 0
        if server.fault is not None and server.status in ("ERROR", "DELETED"):
            self._add_fault(view, server)
        self._add_versioned(view, server, alone)
        if self._is_admin:
            self._add_admin(view, server)
        return view

    def _image(self, server: Server, alone: bool) -> dict | str:
        if not server.image_id:
            return ""
        image = {"id": server.image_id,
                 "links": [{"rel": "bookmark", "href": f"{self._address}/images/{server.image_id}"}]}
        if alone and self._version >= (2, 98):
            image["properties"] = {}
        return image

    def _flavor(self, server: Server) -> dict:
        flavor = server.flavor
        if self._version < (2, 47):
            return {"id": flavor["id"],
                    "links": [{"rel": "bookmark", "href": f"{self._address}/flavors/{flavor['id']}"}]}
        return {"vcpus": flavor["vcpus"], "ram": flavor["ram"], "disk": flavor["disk"],
                "ephemeral": flavor["ephemeral"], "swap": flavor["swap"], "original_name": flavor["id"],
                "extra_specs": flavor["extra_specs"]}

    def _addresses(self, server: Server) -> dict:
        """Fills at ACTIVE (measured, section 1)."""
        if server.vm_state in ("building", "error"):
            return {}
        addresses: dict[str, list] = {}
        for port in self._cloud.ports.by_device.get(server.id, ()):
            addresses.setdefault(self._cloud.catalog.networks[port.network_id].name, []).append(
                {"version": 4, "addr": port.address, "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": port.mac})
        return addresses

    def _add_fault(self, view: dict, server: Server) -> None:
        """ERROR can be seen before its fault (measured, section 2). Details are the admin's."""
        if self._cloud.clock.now() < server.fault_seen_from:
            return
        view["fault"] = dict(server.fault)
        if self._is_admin:
            view["fault"]["details"] = f"Traceback (most recent call last):\n{server.fault['message']}\n"

    def _add_versioned(self, view: dict, server: Server, alone: bool) -> None:
        version = self._version
        if version >= (2, 9):
            view["locked"] = server.locked_by is not None
        if version >= (2, 19):
            view["description"] = server.description
        if version >= (2, 26):
            view["tags"] = server.tags
        if version >= (2, 63):
            view["trusted_image_certificates"] = None
        if version >= (2, 71) and alone:
            view["server_groups"] = [server.group_id] if server.group_id in self._cloud.groups.all else []
        if version >= (2, 73):
            view["locked_reason"] = server.locked_reason
        if version >= (2, 90):
            view["OS-EXT-SRV-ATTR:hostname"] = server.hostname
        if version >= (2, 96):
            view["pinned_availability_zone"] = server.asked_az
        if version >= (2, 100):
            view["scheduler_hints"] = {"group": [server.group_id]} if server.group_id else {}

    def _add_admin(self, view: dict, server: Server) -> None:
        host = self._cloud.hosts.all.get(server.host or "")
        view["OS-EXT-SRV-ATTR:host"] = server.host
        view["OS-EXT-SRV-ATTR:hypervisor_hostname"] = host.node if host else None
        view["OS-EXT-SRV-ATTR:instance_name"] = f"instance-{server.number:08x}"
        if self._version >= (2, 3):
            view.update({"OS-EXT-SRV-ATTR:hostname": server.hostname, "OS-EXT-SRV-ATTR:kernel_id": "",
                         "OS-EXT-SRV-ATTR:launch_index": server.launch_index, "OS-EXT-SRV-ATTR:ramdisk_id": "",
                         "OS-EXT-SRV-ATTR:reservation_id": server.reservation_id,
                         "OS-EXT-SRV-ATTR:root_device_name": "/dev/sda" if server.host else None,
                         "OS-EXT-SRV-ATTR:user_data": server.user_data})
        if self._version >= (2, 16):
            view["host_status"] = self._host_status(host)

    def _host_status(self, host) -> str:
        if host is None:
            return ""
        if not self._cloud.hosts.is_up(host):
            return "DOWN"
        return "MAINTENANCE" if host.disabled else "UP"

    def unknown(self, server: Server) -> dict:
        """A server of a down cell in a plain list from 2.69 on: next to nothing is known of it (read)."""
        return {"id": server.id, "status": "UNKNOWN", "tenant_id": server.project_id,
                "created": seconds_text(server.created), "links": links(server, self._address)}
