"""A snapshot of the cloud for scheduling: the quota, our servers and, for an operator, the hosts.

The order of reading matters. The quota and other projects' servers are read before our own, so that a build that starts
in between is not counted twice. vmsvc is sure that the quota counts a server only if the server was there before the
quota was read. A VM that leaves counts as leaving if the cloud showed its server before that or afterwards: at worst a
request waits for one more pass.

A quick snapshot has no such order. It may show less capacity than there is, and may show capacity as free that is
reserved for others. So it suffices to place a request while nothing is reserved for others, and for no other decision
(`vmsvc.scheduling.verification`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from vmsvc.cloud.cache.host_cache import HostCache
from vmsvc.cloud.cache.server_cache import ServerCache, Watch
from vmsvc.cloud.port import Cloud, Quota, Server
from vmsvc.domain.errors import NotFound, VmsvcError
from vmsvc.domain.host import Host
from vmsvc.domain.server_group import ServerGroup
from vmsvc.scheduling.verification import Verification, Verified
from vmsvc.service.scheduling.verdicts import Verdicts

#: Called with the servers and the hosts that changed, by id and by name; None for one that has gone.
AddChanges = Callable[[Mapping[str, Server | None], Mapping[str, Host | None]], None]

_QUICK_SECONDS = 10.0  # how old what is known of hosts may be for a quick snapshot


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the cloud said, besides the changes of servers and hosts."""

    began: float  # time.monotonic()
    quota: Quota
    watch: Watch  # the servers that came and went since before the quota was read
    verified: Verified
    settled: bool = False  # others had time to come since it began
    #: The server groups that requests name, by id; None for one that is not there. One that could not be read is
    #: missing.
    server_groups: Mapping[str, ServerGroup | None] = field(default_factory=dict)


class Snapshots:
    """Takes snapshots of the cloud. `add_changes` is called with the servers and hosts that changed there."""

    def __init__(
        self,
        cloud: Cloud,
        server_cache: ServerCache,
        host_cache: HostCache,
        verdicts: Verdicts,
        add_changes: AddChanges,
    ):
        self._cloud = cloud
        self._server_cache = server_cache
        self._host_cache = host_cache
        self._add_changes = add_changes
        self._verdicts = verdicts

    async def full_snapshot(
        self, watch: Watch, traits: Collection[str] = (), server_groups: Collection[str] = ()
    ) -> Snapshot:
        """Read the cloud now. `watch` has just begun; `traits` and `server_groups` are those that requests name. Raises
        what the cloud raises."""
        began = time.monotonic()
        quota, groups = await asyncio.gather(self._cloud.quota(), self._read_groups(server_groups))
        await self._read_servers(traits)
        return self._up_to_date(Snapshot(began, quota, watch, Verified(), server_groups=groups))

    async def quick_snapshot(
        self,
        watch: Watch,
        traits: Collection[str] = (),
        server_groups: Collection[str] = (),
        hosts: Collection[str] = (),
    ) -> Snapshot:
        """Read the quota now, and which servers hold what on these hosts; other servers and hosts are as the caches
        have them. A host that others have filled just now is refused by the cloud, and one that is nearly full is read
        before it is used. Raises what the cloud raises."""
        began = time.monotonic()
        quota, groups, _, _ = await asyncio.gather(
            self._cloud.quota(),
            self._read_groups(server_groups),
            self._host_cache.refresh(_QUICK_SECONDS, traits),
            self._host_cache.count(hosts),
        )
        verified = Verified(counted=frozenset(hosts), ordered=False)
        return self._up_to_date(Snapshot(began, quota, watch, verified, server_groups=groups))

    async def verify(self, snapshot: Snapshot, what: Verification, client: str | None = None) -> Snapshot:
        """Ask the cloud about this, on the budget of that client if there is one, and return the snapshot with the
        answers. Raises what the cloud raises, and TooManyRequests for a client."""
        # The longest of these calls is sent first.
        calls: list[Awaitable[None]] = [self._read_servers()] if what.order or what.needs else []
        calls += [self._host_cache.find_capacity(need, traits) for need, traits in what.needs]
        if what.hosts:
            calls.append(self._host_cache.read(what.hosts))
        verdicts, _ = await asyncio.gather(self._verdicts.of(what.boots, client), asyncio.gather(*calls))
        verified = snapshot.verified
        return self._up_to_date(
            replace(
                snapshot,
                verified=replace(
                    verified,
                    sought=verified.sought | what.needs,
                    verdicts={**verified.verdicts, **verdicts},
                    ordered=verified.ordered or what.order,
                ),
            )
        )

    async def _read_groups(self, group_ids: Collection[str]) -> dict[str, ServerGroup | None]:
        """These server groups. A request whose group cannot be read waits; the others need not."""
        found = await asyncio.gather(*map(self._cloud.server_group, group_ids), return_exceptions=True)
        groups: dict[str, ServerGroup | None] = {}
        for group_id, group in zip(group_ids, found):
            if isinstance(group, ServerGroup):
                groups[group_id] = group
            elif isinstance(group, NotFound):
                groups[group_id] = None
            elif not isinstance(group, VmsvcError):
                raise group
        return groups

    async def _read_servers(self, traits: Collection[str] = ()) -> None:
        """Read the servers; for an operator those of all projects, in one list."""
        called = time.monotonic()
        if self._cloud.mode == "operator":
            await self._host_cache.refresh(0, traits, self._server_cache.servers_and_occupants)
        await self._server_cache.refresh(time.monotonic() - called)  # unless that has just been done

    def _up_to_date(self, snapshot: Snapshot) -> Snapshot:
        """Pass on the changes of servers and hosts together, as of one moment."""
        self._add_changes(self._server_cache.take_changes(), self._host_cache.take_changes())
        return replace(
            snapshot,
            verified=replace(
                snapshot.verified,
                fresh=self._host_cache.read_since(snapshot.began),
                uncertain=self._host_cache.uncertain,
            ),
        )
