"""What tests make for servers to be made of, in either cloud: images, networks, flavors. All is taken away again."""

import contextlib
import urllib.request

from tests.openstack.http import Api


class Offer:
    """Makes things as their owner does; `clear()` deletes them."""

    def __init__(self, admin: Api):
        self._admin = admin
        self._made: list[tuple[str, str]] = []

    def image(self, owner: Api, data: bytes | None = b"x", **values: object) -> str:
        """An image's id; without data it stays queued."""
        reply = owner(
            "POST",
            "/images",
            {
                "name": "conformance",
                "container_format": "bare",
                "disk_format": "raw",
                "visibility": "private",
                **values,
            },
            service="image",
        )
        assert reply.status == 201, reply
        self._made.append(("image", f"/images/{reply.body['id']}"))
        if data is not None:
            request = urllib.request.Request(
                f"{owner.endpoints['image']}/v2/images/{reply.body['id']}/file",
                data,
                method="PUT",
                headers={"X-Auth-Token": owner.token, "Content-Type": "application/octet-stream"},
            )
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with contextlib.closing(opener.open(request)) as answer:
                assert answer.status == 204
        return reply.body["id"]

    def deactivate(self, image: str) -> None:
        """Nobody boots from it any more."""
        assert self._admin("POST", f"/images/{image}/actions/deactivate", {}, service="image").status == 204

    def network(self, owner: Api, cidr: str | None = None, taken: int = 0, **values: object) -> str:
        """A network's id; with `cidr` it has a subnet, of which so many addresses are taken."""
        reply = owner("POST", "/networks", {"network": {"name": "conformance", **values}}, service="network")
        assert reply.status == 201, reply
        network = reply.body["network"]["id"]
        self._made.append(("network", f"/networks/{network}"))
        if cidr:
            subnet = {"network_id": network, "cidr": cidr, "ip_version": 4, "gateway_ip": None, "enable_dhcp": False}
            assert owner("POST", "/subnets", {"subnet": subnet}, service="network").status == 201
        for _ in range(taken):
            assert owner("POST", "/ports", {"port": {"network_id": network}}, service="network").status == 201
        return network

    def port(self, owner: Api, network: str, **values: object) -> dict:
        """A port that a user makes."""
        reply = owner("POST", "/ports", {"port": {"network_id": network, **values}}, service="network")
        assert reply.status == 201, reply
        self._made.append(("network", f"/ports/{reply.body['port']['id']}"))
        return reply.body["port"]

    def security_group(self, owner: Api, name: str) -> str:
        """A security group's id."""
        reply = owner("POST", "/security-groups", {"security_group": {"name": name}}, service="network")
        assert reply.status == 201, reply
        group = reply.body["security_group"]["id"]
        self._made.append(("network", f"/security-groups/{group}"))
        return group

    def server_group(self, owner: Api, name: str, policy: str, **rules: int) -> str:
        """A server group's id."""
        wanted = {"name": name, "policy": policy, **({"rules": rules} if rules else {})}
        reply = owner("POST", "/os-server-groups", {"server_group": wanted})
        assert reply.status == 200, reply
        self._made.append(("compute", f"/os-server-groups/{reply.body['server_group']['id']}"))
        return reply.body["server_group"]["id"]

    def flavor(self, name: str, disk: int) -> str:
        """A flavor's name."""
        reply = self._admin(
            "POST", "/flavors", {"flavor": {"id": name, "name": name, "vcpus": 1, "ram": 512, "disk": disk}}
        )
        assert reply.status == 200, reply
        self._made.append(("compute", f"/flavors/{name}"))
        return name

    def clear(self) -> None:
        """Delete all that was made, with the ports on it."""
        for service, path in reversed(self._made):
            if path.startswith("/networks/"):
                network = path.rpartition("/")[2]
                for port in self._admin("GET", f"/ports?network_id={network}", service=service).body["ports"]:
                    self._admin("DELETE", f"/ports/{port['id']}", service=service)
            assert self._admin("DELETE", path, service=service).status in (202, 204, 404)
