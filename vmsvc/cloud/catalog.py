"""What a request can name: flavors, images, networks, availability zones, key pairs."""

from functools import partial
from urllib.parse import quote

from vmsvc.cloud import parse
from vmsvc.cloud.calls import Caller
from vmsvc.cloud.exchange import Request
from vmsvc.cloud.port import Addresses, Flavor, Image, Named, Network
from vmsvc.domain.errors import Forbidden, NotFound

#: Ports of a network with more addresses than this are not counted: a list of them would take seconds.
MOST_PORTS = 4096
#: With so many addresses left it is not asked who would give one back.
FEW = 16


class Catalog(Caller):
    """The calls that list what there is to choose from. Every one raises CloudUnavailable and CloudError."""

    project_id: str

    async def flavors(self) -> tuple[Flavor, ...]:
        """Every flavor the project may use, extra specs included."""
        found, _ = await self._calls.list(Request("flavors", "compute", "GET", "/flavors/detail"),
                                          "flavors", parse.flavor)
        return found

    async def images(self) -> tuple[Image, ...]:
        """Every active image that the list shows: not those of other projects that are community, shared and not
        accepted, or hidden."""
        found, _ = await self._calls.list(
            Request("images", "image", "GET", "/images", {"status": "active"}), "images", parse.image)
        return found

    async def image(self, image_id: str) -> Image:
        """One image, whatever its status: also a community one, one that is shared and was not accepted, and a hidden
        one, which the list leaves out. Raises NotFound."""
        return await self._calls.send(Request("image", "image", "GET", f"/images/{quote(image_id, safe='')}"),
                                      partial(parse.whole, "an image", parse.image))

    async def flavor(self, flavor_id: str) -> Flavor:
        """One flavor, also a private one for an admin, to whom the list shows public ones alone. Raises NotFound."""
        return await self._calls.send(Request("flavor", "compute", "GET", f"/flavors/{quote(flavor_id, safe='')}"),
                                      partial(parse.whole, "a flavor", lambda body: parse.flavor(body["flavor"])))

    async def addresses(self, network_id: str) -> Addresses:
        """What of a network's addresses is used, as far as it is shown. An admin is told sums (Neutron answers others
        404 there); the ports tell who would give an address back, and are asked for when few are left."""
        subnets, _ = await self._calls.list(
            Request("subnets", "network", "GET", "/subnets", {"network_id": network_id}), "subnets", parse.subnet)
        pools = {subnet_id: size for subnet_id, size in subnets if size is not None}
        if not pools or min(pools.values()) > MOST_PORTS:
            return Addresses(MOST_PORTS, 0)
        try:
            used = await self._calls.send(
                Request("addresses", "network", "GET", f"/network-ip-availabilities/{network_id}"),
                partial(parse.whole, "a network's addresses", parse.used_addresses))
        except (NotFound, Forbidden):
            used = {}
        if used and parse.tightest(pools, used).free > FEW:
            return parse.tightest(pools, used)
        ports, _ = await self._calls.list(
            Request("addresses", "network", "GET", "/ports", {"network_id": network_id}), "ports", parse.port)
        return parse.tightest(pools, used, ports)

    async def ports_left(self) -> int | None:
        """How many more ports the project may have by its quota; None without a limit. Everybody may ask it of the own
        project, as Nova does in a user's name."""
        path = f"/quotas/{self.project_id}/details.json"
        return await self._calls.send(Request("ports_left", "network", "GET", path),
                                      partial(parse.whole, "the quota of ports", parse.ports_left))

    async def networks(self) -> tuple[Network, ...]:
        """Every network of the project or shared with it. An admin is shown those of all projects, where a server
        of ours cannot be plugged in or should not be."""
        found, _ = await self._calls.list(Request("networks", "network", "GET", "/networks"), "networks",
                                          lambda raw: (raw.get("project_id", raw.get("tenant_id")),
                                                       raw.get("shared", False), parse.network(raw)))
        return tuple(network for owner, shared, network in found if shared or owner == self.project_id)

    async def availability_zones(self) -> tuple[Named, ...]:
        """The zones that are available; a zone's name is its id."""
        found, _ = await self._calls.list(
            Request("availability_zones", "compute", "GET", "/os-availability-zone"), "availabilityZoneInfo",
            lambda raw: (raw["zoneState"]["available"], Named(raw["zoneName"], raw["zoneName"])))
        return tuple(zone for available, zone in found if available)

    async def key_names(self) -> frozenset[str]:
        """The names of the user's key pairs."""
        found, _ = await self._calls.list(Request("key_names", "compute", "GET", "/os-keypairs"), "keypairs",
                                          lambda raw: raw["keypair"]["name"])
        return frozenset(found)
