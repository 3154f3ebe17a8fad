"""What a request can name (flavors, images, networks, availability zones, key pairs) and whose a client's token is."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from urllib.parse import quote

from vmsvc.cloud.openstack import parse
from vmsvc.cloud.openstack.calls import Caller
from vmsvc.cloud.openstack.exchange import Answer, CloudRequest, Json
from vmsvc.cloud.port import Named
from vmsvc.domain.catalog import Addresses, Image, Network
from vmsvc.domain.errors import Forbidden, NotFound
from vmsvc.domain.flavors import Flavor
from vmsvc.domain.principal import Identity
from vmsvc.domain.server_group import ServerGroup

#: vmsvc does not count the ports of a network with more addresses than this: the list would take seconds.
MOST_PORTS = 4096
#: With more addresses left than this, it does not matter which servers would give one back.
FEW = 16


class CatalogCalls(Caller):
    """The calls that list what there is to choose from. Every one raises CloudUnavailable and CloudError."""

    project_id: str

    async def flavors(self) -> tuple[Flavor, ...]:
        """Every flavor the project may use, extra specs included."""
        found, _ = await self._calls.list(
            CloudRequest("flavors", "compute", "GET", "/flavors/detail"), "flavors", parse.flavor
        )
        return found

    async def images(self) -> tuple[Image, ...]:
        """Every active image that Glance's list shows. It leaves out hidden images, and other projects' images that are
        community, or shared and not accepted."""
        found, _ = await self._calls.list(
            CloudRequest("images", "image", "GET", "/images", {"status": "active"}), "images", parse.image
        )
        return found

    async def image(self, image_id: str) -> Image:
        """One image by its id, whatever its status, also one that `images` leaves out. Raises NotFound."""
        return await self._calls.send(
            CloudRequest("image", "image", "GET", f"/images/{quote(image_id, safe='')}"),
            partial(parse.whole, "an image", parse.image),
        )

    async def flavor(self, flavor_id: str) -> Flavor:
        """One flavor by its id; for an admin also a private one, which `flavors` leaves out. Raises NotFound."""
        return await self._calls.send(
            CloudRequest("flavor", "compute", "GET", f"/flavors/{quote(flavor_id, safe='')}"),
            partial(parse.whole, "a flavor", lambda body: parse.flavor(body["flavor"])),
        )

    async def addresses(self, network_id: str) -> Addresses:
        """How many of a network's addresses are used, as far as Neutron shows it. Neutron gives an admin the sums
        (others get 404). The ports, which say who would give an address back, are read only when few addresses are
        left."""
        subnets, _ = await self._calls.list(
            CloudRequest("subnets", "network", "GET", "/subnets", {"network_id": network_id}), "subnets", parse.subnet
        )
        pools = {subnet_id: size for subnet_id, size in subnets if size is not None}
        if not pools or min(pools.values()) > MOST_PORTS:
            return Addresses(MOST_PORTS, 0)
        try:
            used = await self._calls.send(
                CloudRequest("addresses", "network", "GET", f"/network-ip-availabilities/{network_id}"),
                partial(parse.whole, "a network's addresses", parse.used_addresses),
            )
        except (NotFound, Forbidden):
            used = {}
        if used and parse.tightest(pools, used).free > FEW:
            return parse.tightest(pools, used)
        ports, _ = await self._calls.list(
            CloudRequest("addresses", "network", "GET", "/ports", {"network_id": network_id}), "ports", parse.port
        )
        return parse.tightest(pools, used, ports)

    async def ports_left(self) -> int | None:
        """How many more ports the project may have by its quota, below 0 too; None without a limit. Every user may read
        this of the own project, as Nova does in the user's name."""
        path = f"/quotas/{self.project_id}/details.json"
        return await self._calls.send(
            CloudRequest("ports_left", "network", "GET", path),
            partial(parse.whole, "the quota of ports", parse.ports_left),
        )

    async def networks(self) -> tuple[Network, ...]:
        """Every network of the project or shared with it. An admin is shown those of all projects, where a server
        of ours cannot be plugged in or should not be."""
        found, _ = await self._calls.list(
            CloudRequest("networks", "network", "GET", "/networks"),
            "networks",
            lambda raw: (raw.get("project_id", raw.get("tenant_id")), raw.get("shared", False), parse.network(raw)),
        )
        return tuple(
            replace(network, own=owner == self.project_id)
            for owner, shared, network in found
            if shared or owner == self.project_id
        )

    async def subnets(self, network_id: str) -> tuple[str, ...]:
        """The address ranges of those of a network's subnets in which a server may have an address of its choice."""
        request = CloudRequest("subnets", "network", "GET", "/subnets", {"network_id": network_id})
        found, _ = await self._calls.list(
            request, "subnets", lambda raw: str(raw["cidr"]) if parse.subnet(raw)[1] is not None else ""
        )
        return tuple(filter(None, found))

    async def security_groups(self) -> tuple[Named, ...]:
        """The security groups of the project. An admin is shown those of all projects without the filter."""
        params = {"project_id": self.project_id}
        request = CloudRequest("security_groups", "network", "GET", "/security-groups", params)
        found, _ = await self._calls.list(request, "security_groups", lambda raw: Named(raw["id"], raw["name"]))
        return found

    async def server_groups(self) -> tuple[ServerGroup, ...]:
        """The server groups of the project."""
        found, _ = await self._calls.list(
            CloudRequest("server_groups", "compute", "GET", "/os-server-groups"), "server_groups", parse.server_group
        )
        return found

    async def server_group(self, group_id: str) -> ServerGroup:
        """One server group. Raises NotFound."""
        return await self._calls.send(
            CloudRequest("server_group", "compute", "GET", f"/os-server-groups/{quote(group_id, safe='')}"),
            partial(parse.whole, "a server group", lambda body: parse.server_group(body["server_group"])),
        )

    async def availability_zones(self) -> tuple[Named, ...]:
        """The zones that are available; a zone's name is its id."""
        found, _ = await self._calls.list(
            CloudRequest("availability_zones", "compute", "GET", "/os-availability-zone"),
            "availabilityZoneInfo",
            lambda raw: (raw["zoneState"]["available"], Named(raw["zoneName"], raw["zoneName"])),
        )
        return tuple(zone for available, zone in found if available)

    async def key_names(self) -> frozenset[str]:
        """The names of the user's key pairs."""
        found, _ = await self._calls.list(
            CloudRequest("key_names", "compute", "GET", "/os-keypairs"), "keypairs", lambda raw: raw["keypair"]["name"]
        )
        return frozenset(found)

    async def identity(self, token: str) -> Identity:
        """What a client's token stands for. Raises Unauthenticated for one that is not good, CloudUnavailable,
        CloudError."""
        return await self._calls.send(
            # Without `nocatalog` most of the answer would be the catalogue of services.
            CloudRequest("identity", "identity", "GET", "/auth/tokens", {"nocatalog": "1"}, token=token),
            _identity,
        )


def _identity(answer: Answer) -> Identity:
    return parse.whole("a token", partial(_of, answer.date or datetime.now(UTC)), answer)


def _of(now: datetime, body: Json) -> Identity:
    token = body["token"]
    user = token["user"]
    ends = datetime.fromisoformat(token["expires_at"])
    # User names are unique only within a domain, so the domain is added. Log lines need one printable word. It is for
    # display only, because two names can become the same word.
    name = f"{user['name']}@{user['domain']['name']}"
    return Identity(
        "".join(letter if letter.isprintable() and letter != " " else "_" for letter in name),
        (token.get("project") or {}).get("id"),
        frozenset(role["name"] for role in token.get("roles", ())),
        (ends - now).total_seconds(),
        user["id"],
    )
