"""The hosts of an operator's cloud, kept up to date at a cost of calls per change, not per host.

Every host is read from Placement once. After that the servers' changes tell what came and went (`host_allocations`),
one list of providers tells by versions which hosts changed in other ways, and one list of services which are up. Hosts
are read again when they are doubted, when their version has changed, and in slow rounds: so many in a minute,
however many there are. A caller that is about to act on a host has it read first.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from vmsvc.cloud.cache.host_allocations import HostAllocations
from vmsvc.cloud.port import Cloud, Content, OccupantPage, Provider, Service
from vmsvc.domain.errors import CloudUnavailable, NotFound
from vmsvc.domain.flavors import Traits
from vmsvc.domain.host import Host
from vmsvc.domain.resources import Resources

log = logging.getLogger(__name__)

_NEWS_SECONDS = 10.0  # between looks at other projects' servers and at services while nobody asks
_SERVICES_SECONDS = 2.0  # between looks at the services while somebody asks
_PROVIDERS_SECONDS = 60.0
_STALE_SECONDS = 60.0  # a host whose version has changed is read again, at most so often
_DOUBT_SECONDS = 3.0  # and one that is doubted
_ROUND_SECONDS = 10.0  # between hosts that are read without a reason
_STEP_SECONDS = 1.0  # between hosts that are read with one
#: Hosts that are read at a time: the other calls must not stand in line behind a thousand hosts.
_ABREAST = 8
_NO_SERVICE = Service(False, False, None)


@dataclass(slots=True)
class _Entry:
    """What is known of one host. `version` is that of the newest list of providers."""

    provider: Provider
    content: Content | None = None
    read_at: float = float("-inf")  # time.monotonic() when the last reading began


class HostCache:
    """Read it through `hosts()`. In tenant mode it is empty and asks for nothing."""

    def __init__(self, cloud: Cloud, allocations: HostAllocations):
        self._cloud = cloud
        self._allocations = allocations
        self._entries: dict[str, _Entry] = {}
        self._hosts: dict[str, Host] = {}
        self._stale: set[str] = set()  # hosts that are to be made anew
        self._changes: set[str] = set()  # hosts that were, since somebody asked for news
        self._readings: dict[str, tuple[float, float]] = {}  # host -> when its last reading began and ended; in order
        self._services: Mapping[str, Service] = {}
        self._traits: dict[str, frozenset[str]] = {}
        self._since: datetime | None = None
        self._started = False
        self._looking, self._asking = asyncio.Lock(), asyncio.Lock()
        self._news_at = self._services_at = self._providers_at = self._round_at = float("-inf")

    async def start(self, since: datetime) -> None:
        """Read everything. `since` is the cloud's clock at a moment before this call. May be called again."""
        if self._cloud.mode == "operator":
            self._since = self._since or since
            await self._look_at_services()
            await self._list_providers()
            self._started = True
            log.info("%d compute hosts", len(self._entries))

    def hosts(self) -> dict[str, Host]:
        """The hosts by name, as they are known now; what is returned does not change."""
        self._renew()
        return dict(self._hosts)

    def news(self) -> dict[str, Host | None]:
        """The hosts that changed since the last call, None for those that are no longer there."""
        self._renew()
        changes, self._changes = self._changes, set()
        return {name: self._hosts.get(name) for name in changes}

    def _renew(self) -> None:
        stale, self._stale = self._stale | self._allocations.take_changed(), set()
        for name in stale:
            entry = self._entries.get(name)
            if entry is not None and entry.content is not None:
                self._hosts[name] = self._host(name, entry.provider, entry.content)
            else:
                self._hosts.pop(name, None)
        self._changes |= stale

    @property
    def doubted(self) -> frozenset[str]:
        """The hosts whose allocations are uncertain until they are read again."""
        return frozenset(self._allocations.doubted)

    def is_down(self, name: str) -> bool:
        """True when Nova says that the host's compute service is down, or knows none."""
        return self._cloud.mode == "operator" and not self._services.get(name, _NO_SERVICE).up

    def read_since(self, moment: float) -> frozenset[str]:
        """The hosts that were read at or after this time.monotonic()."""
        late = takewhile(lambda reading: reading[1][1] >= moment, reversed(self._readings.items()))
        return frozenset(name for name, (began, _) in late if began >= moment)

    async def refresh(
        self,
        max_age: float,
        traits: Collection[str] = (),
        ask: Callable[[datetime], Awaitable[OccupantPage]] | None = None,
    ) -> None:
        """Make sure that the changes of other projects' servers are known up to `max_age` seconds before this call, and
        also which hosts are up, and which have these traits. `ask` is called for the changes in the place of the
        cloud's `occupants`. Raises what the cloud raises, and CloudUnavailable before `start` has ended; the old
        content then stays."""
        if self._cloud.mode != "operator":
            return
        if not self._started or self._since is None:  # a client may ask as soon as the service listens
            raise CloudUnavailable("the service has not read the hosts of the cloud yet", retry_after=1)
        wanted = time.monotonic() - max_age
        async with self._looking:
            if self._news_at < wanted:
                began = time.monotonic()
                page = await (ask or self._cloud.occupants)(self._since)
                for occupant in page.occupants:
                    self._allocations.saw(occupant)
                self._since, self._news_at = page.as_of, began
            await self._look_at_services(max(max_age, _SERVICES_SECONDS))
            for trait in set(traits) - self._traits.keys():
                await self._learn(trait)

    async def read(self, names: Iterable[str]) -> None:
        """Read these hosts now, and whether they are up. One that is gone is forgotten. Raises what the cloud
        raises."""
        await asyncio.gather(self._look_at_services(), self._read(names))

    async def count(self, names: Iterable[str]) -> None:
        """Read the allocations on these hosts now, and nothing else. Raises what the cloud raises."""
        await self._read(names, whole=False)

    async def seek(self, room: Resources, traits: Traits) -> None:
        """Ask Placement once which hosts have this capacity, and read those that seem to lack it. Raises what the cloud
        raises."""
        roomy = await self._cloud.roomy(room, traits)
        self._renew()
        hosts = self._hosts
        await self._read(
            [
                name
                for name, entry in self._entries.items()
                if entry.provider.id in roomy and name in hosts and not hosts[name].free.covers(room)
            ]
        )

    async def run(self, well: Callable[[], None]) -> None:
        """Keep the hosts up to date, until this is cancelled. `well` is called after each step."""
        while True:
            await self.refresh(_NEWS_SECONDS)
            if time.monotonic() - self._providers_at > _PROVIDERS_SECONDS:
                await self._list_providers()
                for trait in list(self._traits):
                    await self._learn(trait)
            name = self._due(time.monotonic())
            if name is not None:
                await self._read([name])
            well()
            await asyncio.sleep(_STEP_SECONDS)

    def _due(self, now: float) -> str | None:
        """The host to be read next, if any should be."""
        doubted = [
            name
            for name in self._allocations.doubted
            if name in self._entries and now - self._entries[name].read_at > _DOUBT_SECONDS
        ]
        if doubted:
            return min(doubted, key=lambda name: self._entries[name].read_at)
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

    async def _look_at_services(self, max_age: float = 0.0) -> None:
        wanted = time.monotonic() - max_age
        async with self._asking:
            if self._services_at >= wanted:
                return
            began = time.monotonic()
            services = await self._cloud.services()
            for name in self._entries:
                if services.get(name) != self._services.get(name):
                    self._stale.add(name)
            self._services, self._services_at = services, began

    async def _learn(self, trait: str) -> None:
        """Find out which hosts have a trait."""
        found = await self._cloud.with_trait(trait)
        if found != self._traits.get(trait):
            self._traits[trait] = found
            self._stale.update(self._entries)

    async def _read(self, names: Iterable[str], whole: bool = True) -> None:
        turn = asyncio.Semaphore(_ABREAST)

        async def one(name: str) -> None:
            async with turn:
                await self._read_one(name, whole)

        await asyncio.gather(*map(one, names))

    async def _read_one(self, name: str, whole: bool) -> None:
        entry = self._entries.get(name)
        if entry is None:
            return
        began = time.monotonic()
        with self._allocations.reading() as meanwhile:
            try:
                content = await self._cloud.content(entry.provider) if whole else None
                holders = content.allocations if content else await self._cloud.holders(entry.provider)
            except NotFound:
                self._forget(name)
                self._providers_at = float("-inf")
                return
            if self._entries.get(name) is entry:
                self._allocations.told(name, holders, meanwhile)
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
            traits=frozenset(trait for trait, ids in self._traits.items() if not ids.isdisjoint(provider.parts)),
            hypervisor=provider.hypervisor,
        )
