"""What a request may name: flavors, images, networks, zones, keys. Kept here so that bad input never reaches the
cloud; read again every half minute."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from vmsvc.cloud.port import Cloud, Flavor, Image, Named, Network
from vmsvc.domain.errors import CloudUnavailable, InvalidRequest

log = logging.getLogger(__name__)

_REFRESH_SECONDS = 30.0


class Catalog:
    """The cloud's offer as last read, with the defaults of a request that names nothing."""

    def __init__(self, cloud: Cloud, *, flavor: str, image: str, network: str):
        self._cloud = cloud
        self._defaults = {"flavor": flavor, "image": image, "network": network}
        self.flavors: Sequence[Flavor] = ()
        self.images: Sequence[Image] = ()
        self.networks: Sequence[Network] = ()
        self.zones: Sequence[Named] = ()
        self.keys: frozenset[str] = frozenset()
        self.loaded = False

    async def refresh(self) -> None:
        """Read all of it, side by side."""
        self.flavors, self.images, self.networks, self.zones, self.keys = await asyncio.gather(
            self._cloud.flavors(), self._cloud.images(), self._cloud.networks(), self._cloud.availability_zones(),
            self._cloud.key_names())
        self.loaded = True

    async def run(self, well: Callable[[], None]) -> None:
        """Keep it fresh."""
        while True:
            await self.refresh()
            well()
            await asyncio.sleep(_REFRESH_SECONDS)

    def flavor(self, ref: str | None) -> Flavor:
        """The flavor of this id or name, or the default; raises InvalidRequest naming the field."""
        return self._find("flavor", self.flavors, ref)

    def image(self, ref: str | None) -> Image:
        """As `flavor`, for images."""
        return self._find("image", self.images, ref)

    def network(self, ref: str | None) -> Network:
        """As `flavor`, for networks."""
        return self._find("network", self.networks, ref)

    def zone(self, ref: str | None) -> str | None:
        """An availability zone that exists, or None for any."""
        if ref is not None and ref not in {zone.name for zone in self.zones}:
            raise InvalidRequest(f"there is no availability zone {ref!r}{_offer(self.zones)}", "availability_zone")
        return ref

    def key(self, ref: str | None) -> str | None:
        """A key pair that exists, or None."""
        if ref is not None and ref not in self.keys:
            raise InvalidRequest(f"there is no key pair {ref!r}", "key_name")
        return ref

    def offer(self) -> dict[str, Any]:
        """All of it as clients see it. Raises CloudUnavailable before the first reading."""
        self._require_loaded()
        flavors = sorted(self.flavors, key=lambda flavor: (flavor.vcpus, flavor.ram_mb, flavor.disk_gb, flavor.name))
        return {
            "flavors": [{"id": flavor.id, "name": flavor.name, "vcpus": flavor.vcpus, "ram": flavor.ram_mb,
                         "disk": flavor.disk_gb} for flavor in flavors],
            "images": _named(self.images), "networks": _named(self.networks),
            "availability_zones": sorted(zone.name for zone in self.zones), "key_names": sorted(self.keys),
            "defaults": {"flavor": self._default("flavor", self.flavors), "image": self._default("image", self.images),
                         "network": self._default("network", self.networks)},
        }

    def _default(self, kind: str, items: Sequence) -> str | None:
        """What a request gets that names none; None when it has to."""
        try:
            return self._find(kind, items, None).name
        except InvalidRequest:
            return None

    def _require_loaded(self) -> None:
        if not self.loaded:
            raise CloudUnavailable("the cloud has not been read yet; try again in a moment")

    def _find(self, kind: str, items: Sequence, ref: str | None):
        self._require_loaded()
        ref = ref or self._defaults[kind]
        if not ref:
            if len(items) == 1:
                return items[0]
            raise InvalidRequest(f"name a {kind}: there are {len(items)}{_offer(items)}, and VMSVC_{kind.upper()} "
                                 f"sets no default", kind)
        found = [item for item in items if ref == item.id] or [item for item in items if ref == item.name]
        if len(found) != 1:
            problem = f"there is no {kind} {ref!r}" if not found else f"{len(found)} have the name {ref!r}: use the id"
            raise InvalidRequest(f"{problem}{_offer(items) if not found else ''}", kind)
        return found[0]


def _named(items: Sequence[Image | Network]) -> list[dict[str, str]]:
    return [{"id": item.id, "name": item.name} for item in sorted(items, key=lambda item: (item.name, item.id))]


def _offer(items: Sequence) -> str:
    names = sorted(item.name for item in items)
    return f" ({', '.join(names[:10])}{', …' if len(names) > 10 else ''})" if names else ""
