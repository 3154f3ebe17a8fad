"""Hosts as an operator sees them: Placement's providers joined with Nova's hypervisors and services."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from vmsvc.cloud import parse
from vmsvc.cloud.calls import Caller, Calls
from vmsvc.cloud.exchange import Request
from vmsvc.cloud.port import Host
from vmsvc.domain.errors import NotFound
from vmsvc.domain.resources import Inventory, Resources

#: Inventories, traits and aggregates change when an operator changes them; allocations with every server.
FRESH_SECONDS = 60.0
#: Hosts that one reader asks about at a time: the other calls must not stand in line behind a thousand hosts.
ABREAST = 8
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a provider is, apart from what is on it now. `host` is the compute service that runs it."""

    provider_id: str
    provider_name: str
    host: str
    inventories: Mapping[str, Inventory]
    traits: frozenset[str]
    aggregates: frozenset[str]


@dataclass(frozen=True, slots=True)
class Service:
    """A compute service: usable when it is up and nobody disabled it."""

    available: bool
    zone: str | None


class Hosts(Caller):
    """The calls of operator mode. In tenant mode they raise Forbidden."""

    def __init__(self, calls: Calls):
        super().__init__(calls)
        self._shapes: dict[str, Shape] = {}
        self._stale_at = 0.0
        self._refreshing = asyncio.Lock()

    async def hosts(self) -> tuple[Host, ...]:
        """Every compute host: allocations and services as they are now, the rest at most 60 s old.

        One call per host, for its allocations: Placement has no list of them.
        """
        shapes = await self._known()
        services, held = await asyncio.gather(self._services(), _abreast(self._held_or_gone, shapes))
        return tuple(_host(shapes[provider_id], holders, services)
                     for provider_id, holders in zip(shapes, held, strict=True) if holders is not None)

    async def host(self, provider_id: str) -> Host:
        """One host, its inventories too read now. Raises NotFound."""
        shape = (await self._known()).get(provider_id)
        if shape is None:
            self._stale_at = 0.0
            raise NotFound(f"there is no host with the provider {provider_id}")
        inventories, holders, services = await asyncio.gather(
            self._inventories(provider_id), self._held(provider_id), self._services())
        fresh = Shape(shape.provider_id, shape.provider_name, shape.host, inventories, shape.traits, shape.aggregates)
        return _host(fresh, holders, services)

    async def allocations(self, server_id: str) -> Mapping[str, Resources]:
        """What the server holds, by provider; empty when its room is free."""
        return await self._placement("allocations", f"/allocations/{server_id}", parse.allocations)

    async def _known(self) -> dict[str, Shape]:
        """The providers that are compute hosts; read again when they are older than FRESH_SECONDS."""
        async with self._refreshing:
            if time.monotonic() >= self._stale_at:
                self._shapes = await self._read_shapes()
                self._stale_at = time.monotonic() + FRESH_SECONDS
            return self._shapes

    async def _read_shapes(self) -> dict[str, Shape]:
        (providers, _), (hypervisors, _) = await asyncio.gather(
            self._calls.list(Request("hosts", "placement", "GET", "/resource_providers"), "resource_providers",
                             lambda raw: (raw["uuid"], raw["name"])),
            # From 2.53 a hypervisor's id is its provider's uuid. Their names can differ from the service's host.
            self._calls.list(Request("hosts", "compute", "GET", "/os-hypervisors/detail"), "hypervisors",
                             lambda raw: (raw["id"], raw["service"]["host"])))
        host_of = dict(hypervisors)
        # Nested and sharing providers are no hosts: what a server holds of them does not decide here.
        shapes = await _abreast(lambda provider: self._shape(*provider, host_of[provider[0]]),
                                [provider for provider in providers if provider[0] in host_of])
        return {shape.provider_id: shape for shape in shapes}

    async def _shape(self, provider_id: str, name: str, host: str) -> Shape:
        path = f"/resource_providers/{provider_id}"
        inventories, traits, aggregates = await asyncio.gather(
            self._inventories(provider_id),
            self._placement("hosts", f"{path}/traits", lambda body: frozenset(body["traits"])),
            self._placement("hosts", f"{path}/aggregates", lambda body: frozenset(body["aggregates"])))
        return Shape(provider_id, name, host, inventories, traits, aggregates)

    async def _services(self) -> dict[str, Service]:
        found, _ = await self._calls.list(
            Request("hosts", "compute", "GET", "/os-services", {"binary": "nova-compute"}), "services",
            lambda raw: (raw["host"], Service(raw["state"] == "up" and raw["status"] == "enabled", raw.get("zone"))))
        return dict(found)

    async def _inventories(self, provider_id: str) -> Mapping[str, Inventory]:
        return await self._placement("hosts", f"/resource_providers/{provider_id}/inventories", parse.inventories)

    async def _held(self, provider_id: str) -> Mapping[str, Resources]:
        return await self._placement("hosts", f"/resource_providers/{provider_id}/allocations", parse.allocations)

    async def _held_or_gone(self, provider_id: str) -> Mapping[str, Resources] | None:
        try:
            return await self._held(provider_id)
        except NotFound:  # the provider was removed after the list was read
            self._stale_at = 0.0
            return None

    async def _placement(self, operation: str, path: str, read):
        return await self._calls.send(Request(operation, "placement", "GET", path),
                                      partial(parse.whole, operation, read))


async def _abreast(ask: Callable[[T], Awaitable[U]], items: Iterable[T]) -> list[U]:
    """`ask` of every item, ABREAST at a time; the results in the items' order."""
    turn = asyncio.Semaphore(ABREAST)

    async def asked(item: T) -> U:
        async with turn:
            return await ask(item)
    return await asyncio.gather(*map(asked, items))


def _host(shape: Shape, holders: Mapping[str, Resources], services: Mapping[str, Service]) -> Host:
    service = services.get(shape.host, Service(False, None))
    return Host(name=shape.host, provider_id=shape.provider_id, provider_name=shape.provider_name,
                inventories=shape.inventories, allocations=holders, available=service.available,
                availability_zone=service.zone, traits=shape.traits, aggregates=shape.aggregates)
