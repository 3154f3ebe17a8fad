"""The hosts of an operator's cloud, kept up to date at a cost of calls per change, not per host.

Every host is read from Placement once. After that the servers' changes show which allocations began and ended
(`host_allocations`), one list of providers shows by versions which hosts changed in other ways, and one list of
services which are up. Hosts are read again when their allocations are uncertain, when their version has changed, and in
slow rounds: a fixed number each minute. A caller that is about to act on a host has it read first.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from vmsvc.cloud.cache.host_allocations import HostAllocations
from vmsvc.cloud.port import Cloud, ComputeService, Content, OccupantPage, Provider
from vmsvc.domain.errors import CloudUnavailable, NotFound
from vmsvc.domain.flavors import Traits
from vmsvc.domain.host import Host
from vmsvc.domain.resources import Resources
from vmsvc.domain.timing import Timing

log = logging.getLogger(__name__)

_OCCUPANTS_SECONDS = 10.0  # between reads of other projects' servers and of the services while no caller needs them
_PROVIDERS_SECONDS = 60.0
_STALE_SECONDS = 60.0  # a host whose version has changed is read again, at most so often
_UNCERTAIN_SECONDS = 3.0  # and one whose allocations are uncertain
_ROUND_SECONDS = 10.0  # between hosts that are read without a reason
_STEP_SECONDS = 1.0  # between hosts that are read with one
#: Hosts that are read at a time: the other calls must not stand in line behind a thousand hosts.
_CONCURRENT_READS = 8
_NO_SERVICE = ComputeService(False, False, None)


@dataclass(slots=True)
class _Entry:
    """What is known of one host. `version` is that of the newest list of providers."""

    provider: Provider
    content: Content | None = None
    read_at: float = float("-inf")  # time.monotonic() when the last reading began


class HostCache:
    """Read it through `hosts()`. In tenant mode it is empty and makes no calls."""

    def __init__(self, cloud: Cloud, allocations: HostAllocations, timing: Timing):
        self._cloud = cloud
        self._timing = timing
        self._allocations = allocations
        self._entries: dict[str, _Entry] = {}
        self._hosts: dict[str, Host] = {}
        self._stale: set[str] = set()  # hosts to be built again from their entries
        self._changes: set[str] = set()  # hosts that were, since the last `take_changes`
        self._readings: dict[str, tuple[float, float]] = {}  # host -> when its last reading began and ended; in order
        self._services: Mapping[str, ComputeService] = {}
        # Trait -> the providers that have it, None for one that Placement does not know.
        self._traits: dict[str, frozenset[str] | None] = {}
        self._since: datetime | None = None
        self._started = False
        self._refreshing, self._reading_services = asyncio.Lock(), asyncio.Lock()
        self._occupants_at = self._services_at = self._providers_at = self._round_at = float("-inf")

    async def start(self, since: datetime) -> None:
        """Read everything. `since` is the cloud's clock at a moment before this call. May be called again."""
        if self._cloud.mode == "operator":
            self._since = self._since or since
            await self._read_services()
            await self._list_providers()
            self._started = True
            log.info("%d compute hosts", len(self._entries))

    def hosts(self) -> dict[str, Host]:
        """The hosts by name, as they are known now; what is returned does not change."""
        self._rebuild_stale()
        return dict(self._hosts)

    def take_changes(self) -> dict[str, Host | None]:
        """The hosts that changed since the last call, None for those that are no longer there."""
        self._rebuild_stale()
        changes, self._changes = self._changes, set()
        return {name: self._hosts.get(name) for name in changes}

    def _rebuild_stale(self) -> None:
        stale, self._stale = self._stale | self._allocations.take_changed(), set()
        for name in stale:
            entry = self._entries.get(name)
            if entry is not None and entry.content is not None:
                self._hosts[name] = self._host(name, entry.provider, entry.content)
            else:
                self._hosts.pop(name, None)
        self._changes |= stale

    @property
    def uncertain(self) -> frozenset[str]:
        """The hosts whose allocations are uncertain until they are read again."""
        return frozenset(self._allocations.uncertain)

    def is_down(self, name: str) -> bool:
        """True when Nova says that the host's compute service is down, or knows none."""
        return self._cloud.mode == "operator" and not self._services.get(name, _NO_SERVICE).up

    def read_since(self, moment: float) -> frozenset[str]:
        """The hosts that were read at or after this time.monotonic()."""
        recent = takewhile(lambda reading: reading[1][1] >= moment, reversed(self._readings.items()))
        return frozenset(name for name, (began, _) in recent if began >= moment)

    async def refresh(
        self,
        max_age: float,
        traits: Collection[str] = (),
        read_changes: Callable[[datetime], Awaitable[OccupantPage]] | None = None,
    ) -> None:
        """Make sure that the changes of other projects' servers are known up to `max_age` seconds before this call, and
        also which hosts are up, and which have these traits. `read_changes` is called for the changes in the place of
        the cloud's `occupants`. Raises what the cloud raises, and CloudUnavailable before `start` has ended; the old
        content then stays."""
        if self._cloud.mode != "operator":
            return
        if not self._started or self._since is None:  # a client may ask as soon as the service listens
            raise CloudUnavailable("the service has not read the hosts of the cloud yet", retry_after=1)
        wanted = time.monotonic() - max_age
        async with self._refreshing:
            if self._occupants_at < wanted:
                began = time.monotonic()
                page = await (read_changes or self._cloud.occupants)(self._since)
                for occupant in page.occupants:
                    self._allocations.update_server(occupant)
                self._since, self._occupants_at = page.as_of, began
            await self._read_services(max(max_age, self._timing.compute_services))
            for trait in set(traits) - self._traits.keys():
                await self._read_trait(trait)

    async def read(self, names: Iterable[str]) -> None:
        """Read these hosts now, and whether they are up. One that is gone is forgotten. Raises what the cloud
        raises."""
        await asyncio.gather(self._read_services(), self._read(names))

    async def count(self, names: Iterable[str]) -> None:
        """Read the allocations on these hosts now, and nothing else. Raises what the cloud raises."""
        await self._read(names, full=False)

    async def find_capacity(self, resources: Resources, traits: Traits) -> None:
        """Ask Placement once which hosts have this capacity, and read those that seem to lack it. Raises what the cloud
        raises."""
        provider_ids = await self._cloud.providers_with_capacity(resources, traits)
        self._rebuild_stale()
        hosts = self._hosts
        await self._read(
            [
                name
                for name, entry in self._entries.items()
                if entry.provider.id in provider_ids and name in hosts and not hosts[name].free.covers(resources)
            ]
        )

    async def run(self, mark_ready: Callable[[], None]) -> None:
        """Keep the hosts up to date, until this is cancelled. `mark_ready` is called after each step."""
        while True:
            await self.refresh(_OCCUPANTS_SECONDS)
            if time.monotonic() - self._providers_at > _PROVIDERS_SECONDS:
                await self._list_providers()
                for trait in list(self._traits):
                    await self._read_trait(trait)
            name = self._due(time.monotonic())
            if name is not None:
                await self._read([name])
            mark_ready()
            await asyncio.sleep(_STEP_SECONDS)

    def _due(self, now: float) -> str | None:
        """The host to be read next, if any should be."""
        uncertain = [
            name
            for name in self._allocations.uncertain
            if name in self._entries and now - self._entries[name].read_at > _UNCERTAIN_SECONDS
        ]
        if uncertain:
            return min(uncertain, key=lambda name: self._entries[name].read_at)
        old = [
            (entry.read_at, name)
            for name, entry in self._entries.items()
            if now - entry.read_at > _STALE_SECONDS
            and (entry.content is None or entry.content.version != entry.provider.version)
        ]
        if not old and now - self._round_at > _ROUND_SECONDS:
            self._round_at = now
            old = [
                (entry.read_at, name) for name, entry in self._entries.items() if now - entry.read_at > _STALE_SECONDS
            ]
        return min(old)[1] if old else None

    async def _list_providers(self) -> None:
        began = time.monotonic()
        providers = {provider.host: provider for provider in await self._cloud.providers()}
        for name in self._entries.keys() - providers.keys():
            self._forget(name)
        for name, provider in providers.items():
            entry = self._entries.get(name)
            if entry is None or entry.provider.id != provider.id:
                self._forget(name)
                self._entries[name] = _Entry(provider)
            else:
                if entry.provider.hypervisor != provider.hypervisor:
                    self._stale.add(name)
                entry.provider = provider
        await self._read([name for name, entry in self._entries.items() if entry.content is None])
        self._providers_at = began

    async def _read_services(self, max_age: float = 0.0) -> None:
        wanted = time.monotonic() - max_age
        async with self._reading_services:
            if self._services_at >= wanted:
                return
            began = time.monotonic()
            services = await self._cloud.services()
            for name in self._entries:
                if services.get(name) != self._services.get(name):
                    self._stale.add(name)
            self._services, self._services_at = services, began

    async def _read_trait(self, trait: str) -> None:
        """Find out which hosts have a trait."""
        found: frozenset[str] | None
        try:
            found = await self._cloud.providers_with_trait(trait)
        except NotFound:
            found = None
        if trait not in self._traits or found != self._traits[trait]:
            self._traits[trait] = found
            self._stale.update(self._entries)

    async def _read(self, names: Iterable[str], full: bool = True) -> None:
        turn = asyncio.Semaphore(_CONCURRENT_READS)

        async def one(name: str) -> None:
            async with turn:
                await self._read_one(name, full)

        await asyncio.gather(*map(one, names))

    async def _read_one(self, name: str, full: bool) -> None:
        entry = self._entries.get(name)
        if entry is None:
            return
        began = time.monotonic()
        with self._allocations.reading() as changed_meanwhile:
            try:
                content = await self._cloud.content(entry.provider) if full else None
                holders = content.allocations if content else await self._cloud.holders(entry.provider)
            except NotFound:
                self._forget(name)
                self._providers_at = float("-inf")
                return
            if self._entries.get(name) is entry:
                self._allocations.update_host(name, holders, changed_meanwhile)
                if content:
                    entry.content, entry.read_at = content, began
                    self._readings.pop(name, None)
                    self._readings[name] = began, time.monotonic()
                    self._stale.add(name)

    def _forget(self, name: str) -> None:
        self._entries.pop(name, None)
        self._readings.pop(name, None)
        self._stale.add(name)
        self._allocations.forget(name)

    def _host(self, name: str, provider: Provider, content: Content) -> Host:
        service = self._services.get(name, _NO_SERVICE)
        return Host(
            name,
            content.inventories,
            dict(self._allocations.of(name)),
            available=service.up and service.enabled,
            availability_zone=service.zone,
            traits=self._traits_of(provider),
            hypervisor=provider.hypervisor,
        )

    def _traits_of(self, provider: Provider) -> frozenset[str]:
        """The traits of a host, and marked with "!" those that Placement does not know: it refuses a query that forbids
        one, so that no host takes the request."""
        return frozenset(
            f"!{trait}" if ids is None else trait
            for trait, ids in self._traits.items()
            if ids is None or not ids.isdisjoint(provider.parts)
        )
