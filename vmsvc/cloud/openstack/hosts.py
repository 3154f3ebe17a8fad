"""Hosts as an operator sees them: the calls on Placement's providers and Nova's hypervisors and services."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from vmsvc.cloud.openstack import parse
from vmsvc.cloud.openstack.calls import Caller, Calls
from vmsvc.cloud.openstack.exchange import CloudRequest, Json
from vmsvc.cloud.openstack.servers import MARGIN, OWN_CLOCK_MARGIN
from vmsvc.cloud.port import ComputeService, Content, Occupant, OccupantPage, Provider, Server, ServerPage
from vmsvc.domain.errors import InvalidRequest, NotFound
from vmsvc.domain.flavors import Traits
from vmsvc.domain.host import Hypervisor
from vmsvc.domain.resources import Inventory, Resources, merged, total

T = TypeVar("T")
S = TypeVar("S", bound=Server | Occupant)
#: The list of hypervisors shows their hosts in detail only, and from 2.88 on Nova may ask every host for its uptime
#: to answer that. From 2.53 on a hypervisor's id is its provider's.
BEFORE_UPTIME = (2, 53)
#: How many hosts Placement is asked for at a time.
CANDIDATES = 100
#: Providers that were no hypervisors are looked up again after this.
STRANGERS_SECONDS = timedelta(minutes=10)
#: The details of hypervisors (CPU, version) are read again after this.
HYPERVISORS_SECONDS = timedelta(hours=1)


class HostCalls(Caller):
    """The calls of operator mode. In tenant mode they raise Forbidden."""

    project_id: str

    def __init__(self, calls: Calls):
        super().__init__(calls)
        self._host_of: dict[str, str] = {}  # provider -> host, of those that are compute hosts
        self._hypervisors: dict[str, Hypervisor] = {}
        self._strangers: frozenset[str] = frozenset()
        self._listed_at = datetime.min.replace(tzinfo=UTC)

    async def occupants(self, changes_since: datetime) -> OccupantPage:
        """The servers of all other projects that changed since then (aware), deleted ones included."""
        found, as_of = await self._changed("occupants", changes_since, partial(parse.occupant, self.project_id))
        return OccupantPage(tuple(found), as_of)

    async def servers_and_occupants(self, changes_since: datetime) -> tuple[ServerPage, OccupantPage]:
        """The servers of all projects that changed since then, as one call: ours, and what others take."""
        found, as_of = await self._changed("everybody", changes_since, partial(parse.anybody, self.project_id))
        ours = tuple(each for each in found if isinstance(each, Server))
        return ServerPage(ours, as_of), OccupantPage(tuple(each for each in found if isinstance(each, Occupant)), as_of)

    async def _changed(
        self, operation: str, since: datetime, read: Callable[[Json], S | None]
    ) -> tuple[Collection[S], datetime]:
        asked = datetime.now(UTC)
        params = {"all_tenants": "1", "changes-since": since.astimezone(UTC).isoformat()}
        found, date = await self._calls.list(
            CloudRequest(operation, "compute", "GET", "/servers/detail", params), "servers", read
        )
        latest = {each.id: each for each in found if each is not None}  # one that changes meanwhile comes twice
        return latest.values(), date - MARGIN if date else asked - OWN_CLOCK_MARGIN

    async def providers(self) -> tuple[Provider, ...]:
        """Every compute host, in one call however many there are (and one list of hypervisors when some are new)."""
        found, _ = await self._calls.list(
            CloudRequest("providers", "placement", "GET", "/resource_providers"), "resource_providers", _listed
        )
        trees: dict[str, dict[str, int]] = {}
        for provider_id, root, generation in found:
            trees.setdefault(root, {})[provider_id] = generation
        await self._learn_hosts(trees.keys())
        return tuple(
            Provider(
                root,
                self._host_of[root],
                (root, *sorted(tree.keys() - {root})),
                sum(tree.values()),
                self._hypervisors.get(root),
            )
            for root, tree in trees.items()
            if root in self._host_of
        )

    async def services(self) -> Mapping[str, ComputeService]:
        """The compute service of every host, by the host's name."""
        found, _ = await self._calls.list(
            CloudRequest("services", "compute", "GET", "/os-services", {"binary": "nova-compute"}),
            "services",
            lambda raw: (
                raw["host"],
                ComputeService(raw["state"] == "up", raw["status"] == "enabled", raw.get("zone")),
            ),
        )
        return dict(found)

    async def content(self, provider: Provider) -> Content:
        """What one host has and who holds what there, read now. Raises NotFound."""
        parts, holders = await asyncio.gather(
            asyncio.gather(*map(self._inventories, provider.parts)), self.holders(provider)
        )
        classes: dict[str, list[Inventory]] = {}
        for inventories, _ in parts:
            for name, inventory in inventories.items():
                classes.setdefault(name, []).append(inventory)
        return Content(
            {name: merged(each) for name, each in classes.items()}, holders, sum(version for _, version in parts)
        )

    async def holders(self, provider: Provider) -> Mapping[str, Resources]:
        """Who holds what on one host, read now: the half of `content` that changes. Raises NotFound."""
        parts = await asyncio.gather(*map(self._allocations, provider.parts))
        holders: dict[str, list[Resources]] = {}
        for allocations in parts:
            for consumer, held in allocations.items():
                holders.setdefault(consumer, []).append(held)
        return {consumer: each[0] if len(each) == 1 else total(each) for consumer, each in holders.items()}

    async def providers_with_trait(self, trait: str) -> frozenset[str]:
        """The ids of the providers that have a trait. Raises NotFound for one that does not exist."""
        try:
            found, _ = await self._calls.list(
                CloudRequest("with_trait", "placement", "GET", "/resource_providers", {"required": trait}),
                "resource_providers",
                lambda raw: raw["uuid"],
            )
        except InvalidRequest as error:  # "No such trait(s)"
            raise NotFound(f"the trait {trait} does not exist") from error
        return frozenset(found)

    async def providers_with_capacity(self, resources: Resources, traits: Traits) -> frozenset[str]:
        """The ids of compute hosts of which so much could be claimed now, at most CANDIDATES."""
        if not resources:
            return frozenset()
        params = {
            "resources": ",".join(f"{name}:{amount}" for name, amount in sorted(resources.items())),
            "limit": str(CANDIDATES),
        }
        required = sorted(traits.required) + [f"!{trait}" for trait in sorted(traits.forbidden)]
        if required:
            params["required"] = ",".join(required)
        try:
            return await self._calls.send(
                CloudRequest("roomy", "placement", "GET", "/allocation_candidates", params),
                partial(
                    parse.whole,
                    "roomy",
                    lambda body: frozenset(
                        summary.get("root_provider_uuid", provider_id)
                        for provider_id, summary in body["provider_summaries"].items()
                    ),
                ),
            )
        except InvalidRequest:  # a class or a trait that nobody has
            return frozenset()

    async def allocations(self, server_id: str) -> Mapping[str, Resources]:
        """What the server holds, by provider; empty when its capacity is free."""
        return await self._placement("allocations", f"/allocations/{server_id}", parse.allocations)

    async def _learn_hosts(self, roots: Iterable[str]) -> None:
        """Find the hosts of providers that were not there before."""
        unknown = frozenset(roots) - self._host_of.keys()
        age = datetime.now(UTC) - self._listed_at
        if not unknown - self._strangers and age < (STRANGERS_SECONDS if unknown else HYPERVISORS_SECONDS):
            return
        found, _ = await self._calls.list(
            CloudRequest("hypervisors", "compute", "GET", "/os-hypervisors/detail", version=BEFORE_UPTIME),
            "hypervisors",
            lambda raw: (raw["id"], raw["service"]["host"], parse.hypervisor(raw)),
        )
        # A service with several nodes runs bare metal: a pin to the service would not say which, and nothing there
        # is for preemptible VMs.
        nodes: dict[str, list[str]] = {}
        for provider_id, host, _ in found:
            nodes.setdefault(host, []).append(provider_id)
        self._host_of = {ids[0]: host for host, ids in nodes.items() if len(ids) == 1}
        self._hypervisors = {provider_id: hypervisor for provider_id, _, hypervisor in found}
        self._strangers, self._listed_at = unknown - self._host_of.keys(), datetime.now(UTC)

    async def _inventories(self, provider_id: str) -> tuple[Mapping[str, Inventory], int]:
        return await self._placement("content", f"/resource_providers/{provider_id}/inventories", parse.inventories)

    async def _allocations(self, provider_id: str) -> Mapping[str, Resources]:
        return await self._placement("content", f"/resource_providers/{provider_id}/allocations", parse.allocations)

    async def _placement(self, operation: str, path: str, read: Callable[[Json], T]) -> T:
        return await self._calls.send(
            CloudRequest(operation, "placement", "GET", path), partial(parse.whole, operation, read)
        )


def _listed(raw: Json) -> tuple[str, str, int]:
    return raw["uuid"], raw.get("root_provider_uuid") or raw["uuid"], raw["generation"]
