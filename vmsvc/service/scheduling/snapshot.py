"""One look at the cloud for scheduling.

The order of reading matters. The quota and other projects' servers are read before our own: a build that starts in
between is then not counted twice. Whether the quota counts it is sure only if its server was there before. What leaves
is counted as leaving when the cloud showed it before or after: at worst a request waits for one more look.

Without that order there may seem to be less room than there is, and what is kept for others may seem to be free. So a
glance without it will do to place a request while nothing is kept for others, and for nothing else (`doubts`).
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from vmsvc.cloud.cache.host_cache import HostCache
from vmsvc.cloud.cache.server_cache import ServerCache, Watch
from vmsvc.cloud.port import Cloud, Quota
from vmsvc.domain.acceptance import Verdict
from vmsvc.domain.flavors import Traits
from vmsvc.domain.request import Precedents, Request
from vmsvc.domain.requirements import Requirements
from vmsvc.domain.resources import Resources
from vmsvc.service.scheduling.verdicts import Verdicts
from vmsvc.service.scheduling.world_builder import CloudChanges
from vmsvc.store.models import Vm

_GLANCE_SECONDS = 10.0       # how old what is known of hosts may be for a glance

Need = tuple[Resources, Traits]
#: (flavor id, image id) -> the hosts that refused such VMs lately, and what the cloud said.
Cooling = Mapping[tuple[str, str], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the cloud said, besides the news of servers and hosts."""

    began: float                       # time.monotonic()
    quota: Quota
    watch: Watch                       # who came and went since before the quota was read
    fresh: frozenset[str]              # hosts that Placement was asked about since it began ...
    doubted: frozenset[str]            # hosts of which it is known that Placement may say something else
    counted: frozenset[str] = frozenset()    # ... and of which it was asked at least who holds what there
    sought: frozenset[Need] = frozenset()    # needs for which Placement was asked who has the room
    ordered: bool = True               # our servers were read after the quota
    settled: bool = False              # others had time to come since it began
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)    # what the cloud said, by `verdicts.key_of`


@dataclass(frozen=True, slots=True)
class Doubts:
    """What the cloud is to be asked before something is done: Placement about hosts, and who has room for a need; for
    our servers once more, if they were not read in order; and whether Nova would take a request, room apart."""

    hosts: frozenset[str] = frozenset()
    needs: frozenset[Need] = frozenset()
    order: bool = False
    boots: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)    # by `verdicts.key_of`

    def __or__(self, other: "Doubts") -> "Doubts":
        return Doubts(self.hosts | other.hosts, self.needs | other.needs, self.order or other.order,
                      {**self.boots, **other.boots})

    def __bool__(self) -> bool:
        return bool(self.hosts or self.needs or self.order or self.boots)


class Observer:
    """Looks at the cloud; `tell` hears what changed there."""

    def __init__(self, cloud: Cloud, server_cache: ServerCache, host_cache: HostCache, verdicts: Verdicts,
                 tell: Callable[[CloudChanges], None]):
        self._cloud = cloud
        self._server_cache = server_cache
        self._host_cache = host_cache
        self._tell = tell
        self._verdicts = verdicts

    async def look(self, watch: Watch, traits: Collection[str] = ()) -> Snapshot:
        """Read the cloud now. `watch` has just begun, `traits` are those that requests name. Raises what the cloud
        raises."""
        began = time.monotonic()
        quota = await self._cloud.quota()
        await self._look_at_servers(traits)
        return self._news(Snapshot(began, quota, watch, frozenset(), frozenset()))

    async def glance(self, watch: Watch, traits: Collection[str] = (), hosts: Collection[str] = ()) -> Snapshot:
        """The quota as it is now, and who holds what on these hosts; servers and other hosts as they are followed
        anyway. A host that others have filled just now is refused by the cloud, and one that is nearly full is read
        before it is used (`doubts`). Raises what the cloud raises."""
        began = time.monotonic()
        quota, _, _ = await asyncio.gather(self._cloud.quota(), self._host_cache.refresh(_GLANCE_SECONDS, traits),
                                           self._host_cache.count(hosts))
        return self._news(Snapshot(began, quota, watch, frozenset(), frozenset(), frozenset(hosts), ordered=False))

    async def look_again(self, snapshot: Snapshot, doubts: Doubts, client: str | None = None) -> Snapshot:
        """The snapshot after the doubts were put to the cloud, for that client if there is one. Raises what the cloud
        raises, and TooManyRequests for a client."""
        # The longest of them goes out first.
        asked = [self._look_at_servers()] if doubts.order or doubts.needs else []
        asked += [self._host_cache.seek(room, traits) for room, traits in doubts.needs]
        if doubts.hosts:
            asked.append(self._host_cache.read(doubts.hosts))
        verdicts, *_ = await asyncio.gather(self._verdicts.of(doubts.boots, client), *asked)
        return self._news(replace(snapshot, sought=snapshot.sought | doubts.needs,
                                  verdicts={**snapshot.verdicts, **verdicts}, ordered=snapshot.ordered or doubts.order))

    async def _look_at_servers(self, traits: Collection[str] = ()) -> None:
        """Everybody's; an operator sees all in one list."""
        called = time.monotonic()
        if self._cloud.mode == "operator":
            await self._host_cache.refresh(0, traits, self._server_cache.everybody)
        await self._server_cache.refresh(time.monotonic() - called)      # unless that has just been done

    def _news(self, snapshot: Snapshot) -> Snapshot:
        """Servers and hosts are told together, as of one moment."""
        self._tell(CloudChanges(self._server_cache.news(), self._host_cache.news()))
        return replace(snapshot, fresh=self._host_cache.read_since(snapshot.began),
                       doubted=self._host_cache.doubted)


def request_of(row: Vm, now: datetime, ended_since: datetime | None, cooling: Cooling = MappingProxyType({}),
               precedents: Precedents = Precedents(), verdict: Verdict | None = None) -> Request:
    """A row that waits. `ended_since`: when the newest VM ended, to see whether trying again is worth it."""
    refusal = row.refusal or {}
    refused_at = datetime.fromisoformat(refusal["at"]) if refusal else None
    return Request(
        row.id, row.is_preemptible, Resources(row.quota), Resources(row.room),
        availability_zone=row.boot.get("availability_zone"), traits=traits_in(row.boot),
        requirements=requirements_in(row.boot), invalid=verdict and verdict.objection, refusal=refusal.get("error"),
        refusals=refusal.get("count", 0), cloud_message=refusal.get("message"),
        avoid=frozenset(row.avoid), cooling=cooling.get((row.boot.get("flavor_id"), row.boot.get("image_id")), {}),
        rounds=row.rounds, waited=(now - row.updated_at).total_seconds(), refused_at=refused_at,
        conditions=tuple(row.boot.get("conditions", ())), precedents=precedents,
        refused_rounds=refusal.get("rounds", 0), refused_with_capacity=refusal.get("with_room", False),
        freed_since=bool(refused_at and ended_since and ended_since > refused_at))


def traits_in(boot: Mapping[str, Any]) -> Traits:
    """The traits that a request's flavor and image ask for."""
    return Traits(**{kind: frozenset(names) for kind, names in boot.get("traits", {}).items()})


def traits_named(boot: Mapping[str, Any]) -> frozenset[str]:
    """The traits by which hosts are told apart for a request."""
    traits = traits_in(boot)
    return traits.required | traits.forbidden | requirements_in(boot).telling_traits


def requirements_in(boot: Mapping[str, Any]) -> Requirements:
    """What else they ask of a host."""
    kept = boot.get("requirements", {})
    return Requirements(**{**kept, "capabilities": tuple(map(tuple, kept.get("capabilities", ())))})
