"""Placement without HTTP: resource providers with inventories, and the allocations of consumers."""

import bisect
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from vmsvc.simulator.errors import conflict, not_found
from vmsvc.simulator.store import Store

STANDARD_CLASSES = (
    "VCPU",
    "MEMORY_MB",
    "DISK_GB",
    "PCI_DEVICE",
    "SRIOV_NET_VF",
    "NUMA_SOCKET",
    "NUMA_CORE",
    "NUMA_THREAD",
    "NUMA_MEMORY_MB",
    "IPV4_ADDRESS",
    "VGPU",
    "VGPU_DISPLAY_HEAD",
    "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC",
    "PCPU",
    "MEM_ENCRYPTION_CONTEXT",
    "FPGA",
    "PGPU",
    "NET_PACKET_RATE_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
)
#: The traits of a compute host with the fake virtualisation driver (measured).
HOST_TRAITS = (
    *("COMPUTE_ADDRESS_SPACE_EMULATED", "OWNER_NOVA", "COMPUTE_NET_ATTACH_INTERFACE", "COMPUTE_ACCELERATORS"),
    *("COMPUTE_ADDRESS_SPACE_PASSTHROUGH", "COMPUTE_VOLUME_EXTEND", "COMPUTE_TRUSTED_CERTS"),
    *("COMPUTE_VOLUME_MULTI_ATTACH", "COMPUTE_NODE", "COMPUTE_VOLUME_ATTACH_WITH_TAG", "COMPUTE_STORAGE_VIRTIO_FS"),
    *("COMPUTE_NET_ATTACH_INTERFACE_WITH_TAG", "COMPUTE_MEM_BACKING_FILE", "COMPUTE_IMAGE_TYPE_RAW"),
    *("COMPUTE_SECURITY_STATELESS_FIRMWARE", "COMPUTE_DEVICE_TAGGING"),
)


@cache
def standard_traits() -> frozenset[str]:
    """The names of os-traits, which every Placement knows."""
    return frozenset((Path(__file__).parent / "standard_traits.txt").read_text("utf-8").split())


@dataclass
class Provider:
    """A resource provider: a compute node, or one that is nested in a compute node, whose uuid is `parent`."""

    uuid: str
    name: str
    parent: str | None = None
    inventories: dict[str, dict[str, Any]] = field(default_factory=dict)
    traits: list[str] = field(default_factory=lambda: list(HOST_TRAITS))
    aggregates: list[str] = field(default_factory=list)
    generation: int = 2

    def capacity(self, name: str) -> int:
        """(total - reserved) * allocation_ratio, computed in floating point as Placement does (measured: of 100 at
        ratio 0.29 a claim of 29 is refused)."""
        inventory = self.inventories.get(name)
        if inventory is None:
            return 0
        whole: int = math.floor((inventory["total"] - inventory["reserved"]) * inventory["allocation_ratio"])
        return whole


@dataclass
class Consumer:
    """The allocations of one server, or of any other consumer: amounts by provider and resource class."""

    id: str
    project_id: str
    user_id: str
    allocations: dict[str, dict[str, int]]
    generation: int = 1
    type: str = "unknown"  # Nova sends none, and Placement then answers "unknown" (measured)


class Placement:
    """All providers and consumers. The usage of providers and of projects is kept as sums."""

    def __init__(self, store: Store):
        self._store = store
        self.providers: dict[str, Provider] = {}
        self.by_name: dict[str, Provider] = {}
        self.consumers: dict[str, Consumer] = {}
        self.used: dict[str, dict[str, int]] = {}  # provider -> class -> amount
        self.holders: dict[str, dict[str, None]] = {}  # provider -> its consumers, oldest first
        self.custom_classes: dict[str, None] = {}
        self.custom_traits = {key: None for key, _ in store.load("trait")}
        self._nested: dict[str, list[Provider]] = {}  # compute node -> the providers nested in it
        self.by_free_memory = FreeMemoryOrder()
        self._by_project: dict[tuple[str, str], dict[str, int]] = {}
        for key, body in store.load("provider"):
            self._add(Provider(**{**body, "uuid": key}))
        for _, body in store.load("consumer"):
            self._add_consumer(Consumer(**body))
        for key, _ in store.load("class"):
            self.custom_classes[key] = None

    def _add(self, provider: Provider) -> None:
        if provider.traits != list(HOST_TRAITS):
            self.add_traits(provider.traits)
        self.providers[provider.uuid] = self.by_name[provider.name] = provider
        self.used.setdefault(provider.uuid, {})
        self.holders.setdefault(provider.uuid, {})
        if provider.parent:
            self._nested.setdefault(provider.parent, []).append(provider)
        self._reorder(provider)

    def _reorder(self, provider: Provider) -> None:
        used = self.used[provider.uuid]
        self.by_free_memory.update(
            provider.uuid,
            provider.capacity("MEMORY_MB") - used.get("MEMORY_MB", 0),
            provider.capacity("VCPU") - used.get("VCPU", 0),
        )

    def _add_consumer(self, consumer: Consumer) -> None:
        self.consumers[consumer.id] = consumer
        for uuid in consumer.allocations:
            self.holders[uuid][consumer.id] = None
        self._add_up(consumer, 1)

    def _add_up(self, consumer: Consumer, sign: int) -> None:
        """Add a consumer to the sums (`sign` 1), or subtract it (-1)."""
        total = self._by_project.setdefault((consumer.project_id, consumer.type), {"consumer_count": 0})
        total["consumer_count"] += sign
        for uuid, amounts in consumer.allocations.items():
            for name, amount in amounts.items():
                self.used[uuid][name] = self.used[uuid].get(name, 0) + sign * amount
                total[name] = total.get(name, 0) + sign * amount
            self._reorder(self.providers[uuid])

    def add(self, provider: Provider) -> None:
        self._add(provider)
        self._store.put("provider", provider.uuid, provider)

    def remove(self, uuid: str) -> None:
        """Remove a provider. Raises ApiError 409 while it has allocations."""
        if self.holders[uuid]:
            raise conflict(f"Unable to delete resource provider {uuid}: Resource provider has allocations.")
        provider = self.providers.pop(uuid)
        del self.by_name[provider.name], self.used[uuid], self.holders[uuid]
        self.by_free_memory.remove(uuid)
        if provider.parent:
            self._nested[provider.parent].remove(provider)
        self._store.drop("provider", uuid)

    def provider(self, uuid: str) -> Provider:
        """Raises ApiError 404 for an unknown uuid (measured)."""
        if uuid not in self.providers:
            raise not_found(f"No resource provider with uuid {uuid} found")
        return self.providers[uuid]

    def tree(self, uuid: str) -> list[Provider]:
        """A compute node and the providers that are nested in it."""
        return [self.providers[uuid], *self._nested.get(uuid, ())]

    def tree_at(self, uuid: str) -> list[Provider]:
        """The tree of the provider with this uuid, empty for an unknown one."""
        return self.tree_of(self.providers[uuid]) if uuid in self.providers else []

    def tree_of(self, provider: Provider) -> list[Provider]:
        """The tree in which the provider is."""
        return self.tree(provider.parent or provider.uuid)

    def rename_provider(self, provider: Provider, name: str) -> None:
        """Give a provider a name that no other one has."""
        del self.by_name[provider.name]
        provider.name = name
        self.by_name[name] = provider
        self._store.put("provider", provider.uuid, provider)

    def allocate_over_tree(self, uuid: str, request: dict[str, int]) -> dict[str, dict[str, int]] | None:
        """Divide a request over a compute node's tree: for each class the first provider with capacity for it. None
        when a class fits nowhere."""
        tree = self.tree(uuid)
        shares: dict[str, dict[str, int]] = {}
        for name, amount in request.items():
            provider = next((part for part in tree if self.fits(part, {name: amount})), None)
            if provider is None:
                return None
            shares.setdefault(provider.uuid, {})[name] = amount
        return shares

    def save(self, provider: Provider) -> None:
        """Store a provider that was changed, with a new generation."""
        provider.generation += 1
        self._reorder(provider)
        self._store.put("provider", provider.uuid, provider)

    def replace_inventories(self, provider: Provider, wanted: dict[str, dict[str, Any]], keep_rest: bool) -> None:
        """Set the inventories of some classes. Without `keep_rest` all others are removed."""
        kept = provider.inventories if keep_rest else {}
        provider.inventories = {**kept, **{name: full_inventory(values) for name, values in wanted.items()}}
        self.save(provider)

    def classes(self) -> list[str]:
        """The names of all resource classes."""
        return [*STANDARD_CLASSES, *self.custom_classes]

    def add_class(self, name: str) -> None:
        self.custom_classes[name] = None
        self._store.put("class", name, {})

    def remove_class(self, name: str) -> None:
        """Remove a custom class that there is."""
        del self.custom_classes[name]
        self._store.drop("class", name)

    def add_traits(self, names: Iterable[str]) -> None:
        """Let these names be traits."""
        for name in names:
            if name not in standard_traits() and name not in self.custom_traits:
                self.custom_traits[name] = None
                self._store.put("trait", name, {})

    def remove_trait(self, name: str) -> None:
        del self.custom_traits[name]
        self._store.drop("trait", name)

    def unknown_traits(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are no traits. Traits that a provider has are known."""
        return sorted(name for name in names if name not in self.custom_traits and name not in standard_traits())

    def knows_traits(self, names: Iterable[str]) -> bool:
        return not self.unknown_traits(names)

    def usage(self, provider: Provider) -> dict[str, int]:
        """The used amount of every class that the provider has."""
        used = self.used[provider.uuid]
        return {name: used.get(name, 0) for name in provider.inventories}

    def project_usage(self, project_id: str) -> dict[str, dict[str, int]]:
        """The sums over a project's consumers by their type, with `consumer_count`."""
        return {
            kind: {name: amount for name, amount in total.items() if amount}
            for (project, kind), total in self._by_project.items()
            if project == project_id and total["consumer_count"]
        }

    def fits(self, provider: Provider, request: dict[str, int]) -> bool:
        """True when the provider has capacity for these amounts."""
        used = self.used[provider.uuid]
        return all(self._fits_class(provider, used, name, amount) for name, amount in request.items() if amount)

    @staticmethod
    def _fits_class(provider: Provider, used: dict[str, int], name: str, amount: int) -> bool:
        return used.get(name, 0) + amount <= provider.capacity(name) and Placement.admits(provider, name, amount)

    @staticmethod
    def admits(provider: Provider, name: str, amount: int) -> bool:
        """True when the amount is within min_unit and max_unit and a multiple of step_size."""
        inventory = provider.inventories.get(name)
        return (
            inventory is not None
            and inventory["min_unit"] <= amount <= inventory["max_unit"]
            and amount % inventory["step_size"] == 0
        )

    def claim(self, consumer: Consumer) -> bool:
        """Make all allocations of a consumer, in the place of those that it has. False when one does not fit: then
        nothing changes."""
        before = self.consumers.get(consumer.id)
        if before is not None:
            self.release(consumer.id)
            consumer.generation = before.generation + 1
        if not all(
            uuid in self.providers and self.fits(self.providers[uuid], amounts)
            for uuid, amounts in consumer.allocations.items()
        ):
            if before is not None:
                self._add_consumer(before)
                self._store.put("consumer", before.id, before)
            return False
        self._add_consumer(consumer)
        self._store.put("consumer", consumer.id, consumer)
        for uuid in consumer.allocations:
            self.save(self.providers[uuid])
        return True

    def rename(self, consumer_id: str, new_id: str) -> None:
        """Give a consumer's allocations to another one, as Nova does at the start and the end of a move."""
        consumer = self.consumers[consumer_id]
        self.release(consumer_id)
        moved = Consumer(new_id, consumer.project_id, consumer.user_id, consumer.allocations, type=consumer.type)
        self._add_consumer(moved)
        self._store.put("consumer", new_id, moved)

    def release(self, consumer_id: str, by_claim: bool = False) -> bool:
        """Delete a consumer's allocations. False when it had none. With `by_claim`, which stands for a PUT of no
        allocations, the providers get a new generation; when allocations are deleted they do not (measured)."""
        consumer = self.consumers.pop(consumer_id, None)
        if consumer is None:
            return False
        self._add_up(consumer, -1)
        for uuid in consumer.allocations:
            self.holders[uuid].pop(consumer_id, None)
            if by_claim:
                self.save(self.providers[uuid])
        self._store.drop("consumer", consumer_id)
        return True


def full_inventory(values: dict[str, Any]) -> dict[str, Any]:
    """An inventory with Placement's defaults for what `values` does not have."""
    inventory = {
        "total": 0,
        "reserved": 0,
        "min_unit": 1,
        "max_unit": 2147483647,
        "step_size": 1,
        "allocation_ratio": 1.0,
    }
    inventory.update({name: value for name, value in values.items() if name in inventory})
    return inventory


class FreeMemoryOrder:
    """Providers in the order of Nova's RAM weigher: most free memory, then most free VCPUs, then the older one. The
    order is kept up to date with every claim, so that scheduling one server does not look at all hosts."""

    def __init__(self) -> None:
        self._order: list[tuple[int, int, int, str]] = []
        self._keys: dict[str, tuple[int, int, int, str]] = {}
        self._ages: dict[str, int] = {}

    def update(self, uuid: str, free_ram: int, free_vcpus: int) -> None:
        """Set what a provider has free."""
        self.remove(uuid)
        age = self._ages.setdefault(uuid, len(self._ages))
        self._keys[uuid] = (-free_ram, -free_vcpus, age, uuid)
        bisect.insort(self._order, self._keys[uuid])

    def remove(self, uuid: str) -> None:
        key = self._keys.pop(uuid, None)
        if key is not None:
            del self._order[bisect.bisect_left(self._order, key)]

    def at_least(self, least: int) -> Iterator[str]:
        """The providers with at least so much free memory, in order."""
        for free_ram, _, _, uuid in self._order:
            if -free_ram < least:
                return
            yield uuid
