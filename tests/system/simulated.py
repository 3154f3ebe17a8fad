"""The simulated cloud as a test steers it: faults, hosts, quotas, and a look at everything that is in it."""

import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import yaml

from vmsvc.simulator.keystone.model import PASSWORD
from vmsvc.simulator.process import RunningSimulator


def password_of(clouds: Path | str, user: str) -> str:
    """The password of a user of the simulated cloud; those that were added to it later have all the same one."""
    known = yaml.safe_load(Path(clouds).read_text(encoding="utf-8"))["clouds"]
    return known[f"sim-{user}"]["auth"]["password"] if f"sim-{user}" in known else PASSWORD


#: A key that Nova takes; nobody has the private part.
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGgkcMXQ0RFJ2qz8bJnrL2vTQ6dLtUuQnVv3mEJ7WvFv vmsvc"


class Belongings:
    """What a user of the cloud has besides images and networks: ports, groups, servers made without vmsvc."""

    def _as(self, project: str, method: str, path: str, body: object = None):
        raise NotImplementedError

    def port(self, network: str, project: str = "demo", **values: object) -> str:
        """A port that a user made; its id."""
        wanted = {"port": {"network_id": network, **values}}
        return self._as(project, "POST", "/network/v2.0/ports", wanted)["port"]["id"]

    def port_of(self, port_id: str) -> dict | None:
        """A port as Neutron shows it; None when it is gone."""
        ports = self._as("admin", "GET", "/network/v2.0/ports")["ports"]
        return next((port for port in ports if port["id"] == port_id), None)

    def server_group(self, name: str, policy: str, project: str = "demo", **rules: int) -> str:
        """A server group; its id."""
        wanted = {"server_group": {"name": name, "policy": policy, **({"rules": rules} if rules else {})}}
        return self._as(project, "POST", "/compute/v2.1/os-server-groups", wanted)["server_group"]["id"]

    def drop_server_group(self, group_id: str, project: str = "demo") -> None:
        """The server group is gone."""
        self._as(project, "DELETE", f"/compute/v2.1/os-server-groups/{group_id}")

    def security_group(self, name: str, project: str = "demo") -> str:
        """A security group; its id."""
        wanted = {"security_group": {"name": name}}
        return self._as(project, "POST", "/network/v2.0/security-groups", wanted)["security_group"]["id"]

    def volume(self, project: str = "demo", size: int = 1, **values: object) -> str:
        """A volume; with `imageRef` it can be booted from. Its id."""
        wanted = {"volume": {"size": size, **values}}
        return self._as(project, "POST", "/volume/v3/volumes", wanted)["volume"]["id"]

    def volumes(self, project: str = "demo") -> dict[str, dict]:
        """The volumes of a project, by id."""
        return {each["id"]: each for each in self._as(project, "GET", "/volume/v3/volumes/detail")["volumes"]}

    def drop_volume(self, volume_id: str, project: str = "demo") -> None:
        """The volume is gone."""
        self._as(project, "DELETE", f"/volume/v3/volumes/{volume_id}")

    def volume_quota(self, project_id: str, **limits: int) -> None:
        """Limit the volumes of a project: volumes, gigabytes."""
        self._as("admin", "PUT", f"/volume/v3/os-quota-sets/{project_id}", {"quota_set": limits})

    def direct(self, project: str, body: dict, hints: dict | None = None) -> str:
        """A server that the project makes without vmsvc; its id."""
        wanted = {"server": body, **({"os:scheduler_hints": hints} if hints else {})}
        return self._as(project, "POST", "/compute/v2.1/servers", wanted)["server"]["id"]

    def shown(self, server_id: str, project: str = "demo") -> dict:
        """A server as Nova shows it to its project."""
        return self._as(project, "GET", f"/compute/v2.1/servers/{server_id}")["server"]


class Sim(Belongings):
    """Calls to a running simulated cloud: /sim for steering, and the admin's own view of the services."""

    def __init__(self, running: RunningSimulator):
        self.clouds = str(running.clouds)
        self._url = running.url
        self._token = ""

    def call(self, method: str, path: str, body: object = None, headers: dict | None = None):
        """One request; the JSON of its answer (None without one). Raises HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data, {"Content-Type": "application/json", **(headers or {})}, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def reset(self) -> None:
        """As new; tokens stay valid."""
        self.call("DELETE", "/sim/state")

    def settings(self, **values: float) -> None:
        """Durations of the cloud's own work, in seconds."""
        self.call("PUT", "/sim/settings", values)

    def fault(self, **values: object) -> None:
        """A fault of calls (`action`) or of servers (`kind`)."""
        self.call("POST", "/sim/faults", values)

    def clear_faults(self) -> None:
        """All is well again; what hangs is cut."""
        self.call("DELETE", "/sim/faults")

    def quota(self, project: str, **limits: int) -> None:
        """Set a project's limits: instances, cores, ram, port."""
        self.call("PUT", f"/sim/quotas/{project}", limits)

    def add_host(self, name: str, **values: object) -> None:
        """One more host."""
        self.call("POST", "/sim/hosts", {"name": name, **values})

    def host(self, name: str, **values: object) -> None:
        """Change a host."""
        self.call("PUT", f"/sim/hosts/{name}", values)

    def foreign(self, project: str, **values: object) -> list[str]:
        """Servers that somebody else made, ACTIVE at once; their ids."""
        return self.call("POST", "/sim/servers", {"project": project, **values})["ids"]

    def change(self, server_id: str, **values: object) -> None:
        """Change a server behind everybody's back."""
        self.call("PUT", f"/sim/servers/{server_id}", values)

    def vanish(self, server_id: str) -> None:
        """A server is gone at once, not by our hand."""
        self.call("DELETE", f"/sim/servers/{server_id}")

    def calls(self, **wanted: str) -> list[dict]:
        """What clients asked since the last reset (`service`, `method`, `path` as a regular expression)."""
        return self.call("GET", "/sim/calls?" + urllib.parse.urlencode(wanted))["calls"]

    def forget_calls(self) -> None:
        """Begin the log of calls anew."""
        self.call("DELETE", "/sim/calls")

    def servers(self) -> dict[str, dict]:
        """Every server of every project, by id."""
        return {server["id"]: server for server in self.call("GET", "/sim/state")["servers"]}

    def guest_metadata(self, server_id: str) -> dict[str, str]:
        """The user metadata in the guest's meta_data.json."""
        return self.call("GET", f"/metadata/{server_id}/openstack/latest/meta_data.json").get("meta", {})

    def made_with(self, server_id: str) -> dict:
        """What a server was made with, as the cloud shows it to an admin."""
        server = self._as("admin", "GET", f"/compute/v2.1/servers/{server_id}")["server"]
        return {
            "flavor": server["flavor"]["original_name"],
            "image": server["image"],
            "user_data": server["OS-EXT-SRV-ATTR:user_data"],
            "key_name": server["key_name"],
        }

    def power_off(self, server_id: str) -> None:
        """The guest halts itself."""
        self.change(server_id, power="off")

    def address(self, path: str) -> str:
        """Where a guest, or its hypervisor, finds this path."""
        return self._url + path

    def ports(self) -> dict[str, str]:
        """The server of every port, by the port's id."""
        return {
            port["id"]: port["device_id"] for port in self._admin("/network/v2.0/ports")["ports"] if port["device_id"]
        }

    def kept_ports(self) -> dict[str, dict]:
        """The ports that keep the address of a lineage, by its origin."""
        every = self._admin("/network/v2.0/ports")["ports"]
        kept = [port for port in every if port["name"].startswith("vmsvc-")]
        assert len({port["description"] for port in kept}) == len(kept), "two ports of one lineage"
        return {
            port["description"]: {
                "id": port["id"],
                "server": port["device_id"],
                "address": port["fixed_ips"][0]["ip_address"],
            }
            for port in kept
        }

    def drop_port(self, port_id: str) -> None:
        """The port is gone."""
        self._admin(f"/network/v2.0/ports/{port_id}", "DELETE")

    def allocated(self) -> set[str]:
        """Every consumer that holds room on any host."""
        providers = self._admin("/placement/resource_providers")["resource_providers"]
        return {
            consumer
            for provider in providers
            for consumer in self._admin(f"/placement/resource_providers/{provider['uuid']}/allocations")["allocations"]
        }

    def flavor(self, name: str, vcpus: int = 1, ram: int = 1024, **values: object) -> None:
        """One more flavor. The service sees it with its next look at the catalogue."""
        self.call("POST", "/sim/flavors", {"id": name, "vcpus": vcpus, "ram": ram, **values})

    def image(self, name: str, *, project: str = "demo", data: str | None = "bytes", **values: object) -> str:
        """One more image, of this project and for all unless told otherwise; without data it stays queued. Its id."""
        image_id = self._as(
            project,
            "POST",
            "/image/v2/images",
            {"name": name, "container_format": "bare", "disk_format": "raw", "visibility": "public", **values},
        )["id"]
        if data is not None:
            self._as(project, "PUT", f"/image/v2/images/{image_id}/file", data)
        return image_id

    def patch_image(self, image_id: str, **values: object) -> None:
        """Change it: `min_ram`, `min_disk`, properties."""
        self._as(
            "admin",
            "PATCH",
            f"/image/v2/images/{image_id}",
            [{"op": "replace", "path": f"/{name}", "value": value} for name, value in values.items()],
        )

    def deactivate(self, image_id: str) -> None:
        """Nobody boots from it any more."""
        self._as("admin", "POST", f"/image/v2/images/{image_id}/actions/deactivate", {})

    def activate(self, image_id: str) -> None:
        """One that was deactivated can be booted from again."""
        self._as("admin", "POST", f"/image/v2/images/{image_id}/actions/reactivate", {})

    def drop_image(self, image_id: str) -> None:
        """It is gone."""
        self._as("admin", "DELETE", f"/image/v2/images/{image_id}")

    def network(self, name: str, cidr: str | None = None, project: str = "admin", **values: object) -> str:
        """One more network, with a subnet if it is given its addresses; its id."""
        network = self._as(
            project, "POST", "/network/v2.0/networks", {"network": {"name": name, "shared": True, **values}}
        )["network"]["id"]
        if cidr:
            self._as(
                project,
                "POST",
                "/network/v2.0/subnets",
                {"subnet": {"network_id": network, "cidr": cidr, "ip_version": 4, "gateway_ip": None}},
            )
        return network

    def take_addresses(self, network: str, count: int, project: str = "admin", **values: str) -> list[str]:
        """Ports that no server uses; their ids."""
        wanted = {"port": {"network_id": network, **values}}
        return [self._as(project, "POST", "/network/v2.0/ports", wanted)["port"]["id"] for _ in range(count)]

    def drop_subnets(self, network: str) -> None:
        """The network has none any more."""
        for subnet in self._as("admin", "GET", f"/network/v2.0/subnets?network_id={network}")["subnets"]:
            self._as("admin", "DELETE", f"/network/v2.0/subnets/{subnet['id']}")

    def key_pair(self, name: str, project: str = "demo") -> None:
        """One more key pair of the user that is named as the project."""
        pair = {"name": name, "public_key": PUBLIC_KEY}
        self._as(project, "POST", "/compute/v2.1/os-keypairs", {"keypair": pair})

    def drop_key_pair(self, name: str, project: str = "demo") -> None:
        """The key pair is gone."""
        self._as(project, "DELETE", f"/compute/v2.1/os-keypairs/{name}")

    def names_of_one_request(self, project: str) -> tuple[dict, dict]:
        """An image, a network and a key pair that a request may name, and by the same names what ends each."""
        image, network = self.image("own"), self.network("own", "10.9.0.0/24")
        self.key_pair("own", project)
        return {"image": image, "network": network, "key_name": "own"}, {
            "image": lambda: self.deactivate(image),
            "network": lambda: self.drop_subnets(network),
            "key_name": lambda: self.drop_key_pair("own", project),
        }

    def _as(self, project: str, method: str, path: str, body: object = None):
        return self.call(
            method, path, body, {"X-Auth-Token": self.token(project, project), "OpenStack-API-Version": "compute 2.93"}
        )

    def provider(self, host: str) -> str:
        """The id of a host's resource provider."""
        (found,) = self._admin(f"/placement/resource_providers?name={host}")["resource_providers"]
        return found["uuid"]

    def nest(self, host: str, name: str, **totals: int) -> None:
        """Put a provider into a host, with so much of each class."""
        made = self._admin(
            "/placement/resource_providers", "POST", {"name": name, "parent_provider_uuid": self.provider(host)}
        )
        self._admin(
            f"/placement/resource_providers/{made['uuid']}/inventories",
            "PUT",
            {
                "resource_provider_generation": made["generation"],
                "inventories": {resource: {"total": total} for resource, total in totals.items()},
            },
        )

    def claim(self, host: str, **amounts: int) -> str:
        """Claim room on a host for something that is no server; returns the consumer's id."""
        consumer = str(uuid.uuid4())
        self._admin(
            f"/placement/allocations/{consumer}",
            "PUT",
            {
                "allocations": {self.provider(host): {"resources": amounts}},
                "project_id": consumer,
                "user_id": consumer,
                "consumer_generation": None,
                "consumer_type": "MIGRATION",
            },
        )
        return consumer

    def release(self, consumer: str) -> None:
        """Give back what was claimed."""
        self._admin(f"/placement/allocations/{consumer}", "DELETE")

    def used(self) -> dict[str, dict[str, int]]:
        """What is claimed of each host itself, by class."""
        return {
            host["name"]: {name: amount for name, amount in host["used"].items() if amount}
            for host in self.call("GET", "/sim/state?servers=0")["hosts"]
        }

    def _admin(self, path: str, method: str = "GET", body: object = None):
        for last in (False, True):
            try:
                return self.call(
                    method, path, body, {"X-Auth-Token": self._token, "OpenStack-API-Version": "placement 1.39"}
                )
            except urllib.error.HTTPError as error:
                if error.code != 401 or last:
                    raise
                self._sign_in()
        raise AssertionError("the second time returns or raises")

    def _sign_in(self) -> None:
        self._token = self.token("admin", "admin")

    def token(self, user: str, project: str) -> str:
        """A new token of a user in a project."""
        who = {"name": user, "domain": {"name": "Default"}, "password": password_of(self.clouds, user)}
        scope = {"project": {"name": project, "domain": {"name": "Default"}}}
        request = urllib.request.Request(
            self._url + "/identity/v3/auth/tokens",
            json.dumps(
                {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}
            ).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.headers["X-Subject-Token"]
