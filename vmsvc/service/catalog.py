"""What a request may name: flavors, images, networks, zones, keys.

The catalog keeps them, so that vmsvc refuses a wrong name before it creates anything in the cloud. It reads them again
every half minute, and when a request names something that the catalog lacks or that Nova would refuse."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from vmsvc.cloud.port import Cloud, Named
from vmsvc.domain.acceptance import objection
from vmsvc.domain.catalog import Addresses, Image, Network
from vmsvc.domain.errors import CloudUnavailable, InvalidRequest, NotFound, TooManyRequests
from vmsvc.domain.flavors import Flavor
from vmsvc.domain.timing import Timing
from vmsvc.service.identity.client_buckets import Buckets

T = TypeVar("T")
Item = TypeVar("Item", Flavor, Image, Network)

log = logging.getLogger(__name__)

_REFRESH_SECONDS = 30.0
#: Ids that no list shows are asked for one by one: so many in a second, for all clients together, and so many at once.
_ID_READS_RATE = 2.0
_ID_READS_BURST = 10
_IN_USE_SECONDS = 600.0  # for so long after a request has named it, an id or a network is read with the lists
#: kind -> where its list is kept, and the call that reads it.
_LISTS: dict[str, tuple[str, Callable[[Cloud], Awaitable[Any]]]] = {
    "flavor": ("flavors", lambda cloud: cloud.flavors()),
    "image": ("images", lambda cloud: cloud.images()),
    "network": ("networks", lambda cloud: cloud.networks()),
    "zone": ("zones", lambda cloud: cloud.availability_zones()),
    "key": ("keys", lambda cloud: cloud.key_names()),
}


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """What a request names, as the cloud has it."""

    flavor: Flavor
    image: Image
    network: Network
    key_name: str | None
    availability_zone: str | None


class Catalog:
    """What the cloud offers, as last read, with the defaults of a request that names nothing."""

    def __init__(self, cloud: Cloud, timing: Timing, *, flavor: str, image: str, network: str):
        self._cloud = cloud
        self._timing = timing
        self._defaults = {"flavor": flavor, "image": image, "network": network}
        self.flavors: Sequence[Flavor] = ()
        self.images: Sequence[Image] = ()
        self.networks: Sequence[Network] = ()
        self.zones: Sequence[Named] = ()
        self.keys: frozenset[str] = frozenset()
        self.loaded = False
        #: kind -> id -> (it, when a request has named it)
        self._unlisted: dict[str, dict[str, tuple[Flavor | Image, float]]] = {"image": {}, "flavor": {}}
        self._addresses: dict[str, tuple[float, float, Addresses]] = {}  # network -> read, named, what was read
        self._read_at = dict.fromkeys(_LISTS, float("-inf"))
        self._locks = {kind: asyncio.Lock() for kind in (*_LISTS, "addresses")}
        self._id_reads = Buckets(_ID_READS_RATE, _ID_READS_BURST)

    async def refresh(self) -> None:
        """Read all lists, side by side."""
        await asyncio.gather(
            *map(self._read, _LISTS),
            *map(self._read_unlisted, self._unlisted),
            *(
                self._count(network_id, named)
                for network_id, (_, named, _) in self._addresses.items()
                if time.monotonic() - named < _IN_USE_SECONDS
            ),
        )
        self.loaded = True

    async def run(self, mark_ready: Callable[[], None]) -> None:
        """Read all lists again and again, until this is cancelled. `mark_ready` is called after each time."""
        while True:
            await self.refresh()
            mark_ready()
            await asyncio.sleep(_REFRESH_SECONDS)

    async def resolve(
        self,
        *,
        flavor: str | None = None,
        image: str | Image | None = None,
        network: str | Network | None = None,
        key_name: str | None = None,
        zone: str | None = None,
    ) -> ResolvedRequest:
        """What these ids or names (None: the defaults) mean; image and network may have been found before. Raises
        InvalidRequest, which names the field, for what the cloud does not have and for what does not go together.
        Before it raises, it reads the lists of the cloud again."""
        self._require_loaded()
        found = ResolvedRequest(
            await self._find_or_reread("flavor", self.flavor, flavor),
            image if isinstance(image, Image) else await self.find_image(image),
            network if isinstance(network, Network) else await self.find_network(network),
            await self._find_or_reread("key", self.key, key_name),
            await self._find_or_reread("zone", self.zone, zone),
        )
        if objection(found.flavor, found.image, found.network) is None:
            return found
        await asyncio.gather(*(self._reread(kind) for kind in ("flavor", "image", "network")))
        if found.image.id in self._unlisted["image"]:
            await self._read_by_id("image", found.image.id)
        found = ResolvedRequest(
            self.flavor(found.flavor.id),
            found.image if isinstance(image, Image) else self.image(found.image.id),
            found.network if isinstance(network, Network) else self.network(found.network.id),
            found.key_name,
            found.availability_zone,
        )
        if error := objection(found.flavor, found.image, found.network):
            raise InvalidRequest(error.message, error.field)
        return found

    async def find_image(self, ref: str | None, field: str = "image") -> Image:
        """The image of this id or name, or the default, read again where there is none. Raises InvalidRequest that
        names the `field`."""
        try:
            return await self._find_or_reread("image", self.image, ref)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, field) from None

    async def find_network(self, ref: str | None, field: str = "network") -> Network:
        """The network of this id or name, or the default. It is read again where there is none, or where it has no
        subnet. Raises InvalidRequest that names the `field`."""
        try:
            found = await self._find_or_reread("network", self.network, ref)
            if not found.subnets:
                await self._reread("network")
            return found if found.subnets else self.network(found.id)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, field) from None

    async def _find_or_reread(self, kind: str, find: Callable[[str | None], T], ref: str | None) -> T:
        """What `find` returns now, or after the list was read again."""
        try:
            return find(ref)
        except InvalidRequest:
            await self._reread(kind)
        try:
            return find(ref)
        except InvalidRequest:
            named = ref or self._defaults.get(kind)
            if not named or not self._may_be_unlisted(kind, named) or await self._read_by_id(kind, named) is None:
                raise
        return find(ref)

    def _may_be_unlisted(self, kind: str, ref: str) -> bool:
        """An image by its id, or a private flavor where an admin names it."""
        if kind == "flavor":
            return self._cloud.mode == "operator"
        try:
            return kind == "image" and bool(uuid.UUID(ref))
        except ValueError:
            return False

    async def _reread(self, kind: str) -> None:
        """Read one list anew. Calls that wait share one reading, and readings are a second apart: so unknown names cost
        the cloud one call a second, however many there are."""
        requested_at = time.monotonic()
        async with self._locks[kind]:
            if self._read_at[kind] < requested_at:
                await asyncio.sleep(self._read_at[kind] + self._timing.catalog_reread - requested_at)
                await self._read(kind)

    async def _read(self, kind: str) -> None:
        began = time.monotonic()
        attribute, call = _LISTS[kind]
        setattr(self, attribute, await call(self._cloud))
        self._read_at[kind] = began

    async def _read_by_id(self, kind: str, ref: str) -> Flavor | Image | None:
        """Read a flavor or image by its id; None when there is none. Raises TooManyRequests."""
        try:
            self._id_reads.spend("everybody")
        except TooManyRequests as error:
            raise TooManyRequests(
                f"there is no {kind} {ref!r} in the cloud's list, and requests have named too many "
                "such ids in the last seconds; try again",
                error.retry_after,
            ) from None
        try:
            found = await (self._cloud.image if kind == "image" else self._cloud.flavor)(ref)
        except (NotFound, InvalidRequest):  # 400: an id that Glance cannot read
            self._unlisted[kind].pop(ref, None)
            return None
        self._unlisted[kind][found.id] = found, time.monotonic()
        return found

    async def _read_unlisted(self, kind: str) -> None:
        """Read again, by their ids, the unlisted items that requests have named recently, and an unlisted default."""
        for ref, (_, named) in list(self._unlisted[kind].items()):
            if time.monotonic() - named > _IN_USE_SECONDS:
                del self._unlisted[kind][ref]
        default = self._defaults[kind]
        listed = {name for item in (self.images if kind == "image" else self.flavors) for name in (item.id, item.name)}
        refs = {*self._unlisted[kind], *([default] if default and self._may_be_unlisted(kind, default) else [])}
        for ref in refs - listed:
            named = self._unlisted[kind].get(ref, (None, time.monotonic()))[1]
            try:
                found = await (self._cloud.image if kind == "image" else self._cloud.flavor)(ref)
                self._unlisted[kind][ref] = found, named
            except (NotFound, InvalidRequest):
                self._unlisted[kind].pop(ref, None)

    async def addresses(self, network_id: str) -> Addresses:
        """The addresses of a network, as read within the last half minute; when none was free then, as they are now."""
        requested_at = time.monotonic()
        async with self._locks["addresses"]:
            read_at, _, known = self._addresses.get(network_id, (float("-inf"), 0.0, Addresses(0, 0)))
            oldest = requested_at - _REFRESH_SECONDS if known.free else requested_at
            if read_at < oldest:
                if not known.free and requested_at - read_at < self._timing.catalog_reread:
                    await asyncio.sleep(read_at + self._timing.catalog_reread - requested_at)
                await self._count(network_id, requested_at)
            else:
                self._addresses[network_id] = read_at, requested_at, known
            return self._addresses[network_id][2]

    async def _count(self, network_id: str, named: float) -> None:
        began = time.monotonic()
        self._addresses[network_id] = began, named, await self._cloud.addresses(network_id)

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
            raise InvalidRequest(f"there is no availability zone {ref!r}{_suggestion(self.zones)}", "availability_zone")
        return ref

    def key(self, ref: str | None) -> str | None:
        """A key pair that exists, or None."""
        if ref is not None and ref not in self.keys:
            raise InvalidRequest(f"there is no key pair {ref!r}", "key_name")
        return ref

    def view(self) -> dict[str, Any]:
        """The catalog as clients see it. Raises CloudUnavailable before the first reading."""
        self._require_loaded()
        flavors = sorted(self.flavors, key=lambda flavor: (flavor.vcpus, flavor.ram_mb, flavor.disk_gb, flavor.name))
        return {
            "flavors": [
                {
                    "id": flavor.id,
                    "name": flavor.name,
                    "vcpus": flavor.vcpus,
                    "ram": flavor.ram_mb,
                    "disk": flavor.disk_gb,
                }
                for flavor in flavors
            ],
            "images": _named(self.images),
            "networks": _named(self.networks),
            "availability_zones": sorted(zone.name for zone in self.zones),
            "key_names": sorted(self.keys),
            "defaults": {
                "flavor": self._default("flavor", self.flavors),
                "image": self._default("image", self.images),
                "network": self._default("network", self.networks),
            },
        }

    def _default(self, kind: str, items: Sequence[Item]) -> str | None:
        """The name of the default for a request that names none; None when a request has to name one."""
        try:
            return self._find(kind, items, None).name
        except InvalidRequest:
            return None

    def _require_loaded(self) -> None:
        if not self.loaded:
            raise CloudUnavailable("the cloud has not been read yet; try again in a moment")

    def _find(self, kind: str, items: Sequence[Item], ref: str | None) -> Item:
        """The item of this id or name, or the default one. Raises InvalidRequest that names the `kind` as field."""
        self._require_loaded()
        ref = ref or self._defaults[kind]
        if not ref:
            if len(items) == 1:
                return items[0]
            raise InvalidRequest(
                f"name a {kind}: there are {len(items)}{_suggestion(items)}, and VMSVC_{kind.upper()} sets no default",
                kind,
            )
        unlisted = self._unlisted.get(kind, {}).get(ref)
        found = (
            [item for item in items if ref == item.id]
            or ([cast(Item, unlisted[0])] if unlisted else [])  # those of one kind are of one class
            or [item for item in items if ref == item.name]
        )
        if len(found) != 1:
            problem = f"there is no {kind} {ref!r}" if not found else f"{len(found)} have the name {ref!r}: use the id"
            raise InvalidRequest(f"{problem}{_suggestion(items) if not found else ''}", kind)
        return found[0]


def _named(items: Sequence[Image | Network]) -> list[dict[str, str]]:
    return [{"id": item.id, "name": item.name} for item in sorted(items, key=lambda item: (item.name, item.id))]


def _suggestion(items: Sequence[Flavor | Image | Network | Named]) -> str:
    names = sorted(item.name for item in items)
    return f" ({', '.join(names[:10])}{', …' if len(names) > 10 else ''})" if names else ""
