"""What a request can name: flavors, images, networks, availability zones, key pairs."""

from vmsvc.cloud import parse
from vmsvc.cloud.calls import Caller
from vmsvc.cloud.exchange import Request
from vmsvc.cloud.port import Flavor, Image, Named, Network


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
