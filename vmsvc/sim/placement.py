"""Placement's model: providers with inventories, and who has claimed what of them."""

import math
from dataclasses import dataclass, field

from vmsvc.sim.refusal import conflict, not_found
from vmsvc.sim.room import Room
from vmsvc.sim.store import Store

STANDARD_CLASSES = ("VCPU", "MEMORY_MB", "DISK_GB", "PCI_DEVICE", "SRIOV_NET_VF", "NUMA_SOCKET", "NUMA_CORE",
                    "NUMA_THREAD", "NUMA_MEMORY_MB", "IPV4_ADDRESS", "VGPU", "VGPU_DISPLAY_HEAD",
                    "NET_BW_EGR_KILOBIT_PER_SEC", "NET_BW_IGR_KILOBIT_PER_SEC", "PCPU", "MEM_ENCRYPTION_CONTEXT",
                    "FPGA", "PGPU", "NET_PACKET_RATE_KILOPACKET_PER_SEC")
STANDARD_TRAITS = ("COMPUTE_NODE", "COMPUTE_IMAGE_TYPE_RAW", "COMPUTE_NET_ATTACH_INTERFACE",
                   "COMPUTE_VOLUME_MULTI_ATTACH", "HW_CPU_X86_AVX2", "STORAGE_DISK_SSD", "OWNER_NOVA")
HOST_TRAITS = ("COMPUTE_NODE", "COMPUTE_IMAGE_TYPE_RAW", "COMPUTE_NET_ATTACH_INTERFACE", "OWNER_NOVA")


@dataclass
class Provider:
    """A resource provider: a compute node, or what is nested in one (`parent` is its uuid)."""

    uuid: str
    name: str
    parent: str | None = None
    inventories: dict[str, dict] = field(default_factory=dict)
    traits: list[str] = field(default_factory=lambda: list(HOST_TRAITS))
    aggregates: list[str] = field(default_factory=list)
    generation: int = 2

    def capacity(self, name: str) -> int:
        """(total - reserved) * allocation_ratio, in floating point (measured: of 100 at 0.29 a claim of 29 is 409)."""
        inventory = self.inventories.get(name)
        if inventory is None:
            return 0
        return math.floor((inventory["total"] - inventory["reserved"]) * inventory["allocation_ratio"])


@dataclass
class Consumer:
    """What one server (or anything else) holds, by provider and class."""

    id: str
    project_id: str
    user_id: str
    allocations: dict[str, dict[str, int]]
    generation: int = 1
    type: str = "unknown"  # nova gives none (measured: "consumer_type": "unknown")


class Placement:
    """All providers and claims, with usage kept as counters."""

    def __init__(self, store: Store):
        self._store = store
        self.providers: dict[str, Provider] = {}
        self.by_name: dict[str, Provider] = {}
        self.consumers: dict[str, Consumer] = {}
        self.used: dict[str, dict[str, int]] = {}        # provider -> class -> amount
        self.holders: dict[str, dict[str, None]] = {}    # provider -> consumers in order of claim
        self.custom_classes: dict[str, None] = {}
        self._nested: dict[str, list[Provider]] = {}     # root -> what is nested in it
        self.room = Room()
        self._by_project: dict[tuple[str, str], dict[str, int]] = {}
        for key, body in store.load("provider"):
            self._add(Provider(**{**body, "uuid": key}))
        for _, body in store.load("consumer"):
            self._take(Consumer(**body))
        for key, _ in store.load("class"):
            self.custom_classes[key] = None

    def _add(self, provider: Provider) -> None:
        self.providers[provider.uuid] = self.by_name[provider.name] = provider
        self.used.setdefault(provider.uuid, {})
        self.holders.setdefault(provider.uuid, {})
        if provider.parent:
            self._nested.setdefault(provider.parent, []).append(provider)
        self._weigh(provider)

    def _weigh(self, provider: Provider) -> None:
        used = self.used[provider.uuid]
        self.room.update(provider.uuid, provider.capacity("MEMORY_MB") - used.get("MEMORY_MB", 0),
                         provider.capacity("VCPU") - used.get("VCPU", 0))

    def _take(self, consumer: Consumer) -> None:
        self.consumers[consumer.id] = consumer
        for uuid in consumer.allocations:
            self.holders[uuid][consumer.id] = None
        self._add_up(consumer, 1)

    def _add_up(self, consumer: Consumer, sign: int) -> None:
        """Add a consumer to the sums, or take it out."""
        total = self._by_project.setdefault((consumer.project_id, consumer.type), {"consumer_count": 0})
        total["consumer_count"] += sign
        for uuid, amounts in consumer.allocations.items():
            for name, amount in amounts.items():
                self.used[uuid][name] = self.used[uuid].get(name, 0) + sign * amount
                total[name] = total.get(name, 0) + sign * amount
            self._weigh(self.providers[uuid])

    def add(self, provider: Provider) -> None:
        """Keep a new provider."""
        self._add(provider)
        self._store.put("provider", provider.uuid, provider)

    def remove(self, uuid: str) -> None:
        """Forget a provider; 409 while something is claimed from it."""
        if self.holders[uuid]:
            raise conflict("Unable to delete resource provider " f"{uuid}: Resource provider has allocations.")
        provider = self.providers.pop(uuid)
        del self.by_name[provider.name], self.used[uuid], self.holders[uuid]
        self.room.remove(uuid)
        if provider.parent:
            self._nested[provider.parent].remove(provider)
        self._store.drop("provider", uuid)

    def provider(self, uuid: str) -> Provider:
        """The provider, or 404 in Placement's words (measured)."""
        if uuid not in self.providers:
            raise not_found(f"No resource provider with uuid {uuid} found")
        return self.providers[uuid]

    def tree(self, uuid: str) -> list[Provider]:
        """A compute node and what is nested in it."""
        return [self.providers[uuid], *self._nested.get(uuid, ())]

    def shares(self, uuid: str, request: dict[str, int]) -> dict[str, dict[str, int]] | None:
        """A claim dealt out over a tree, each class to one provider that has room for it; None without room."""
        tree, shares = self.tree(uuid), {}
        for name, amount in request.items():
            giver = next((part for part in tree if self.fits(part, {name: amount})), None)
            if giver is None:
                return None
            shares.setdefault(giver.uuid, {})[name] = amount
        return shares

    def changed(self, provider: Provider) -> None:
        """After a change by hand: a new generation, kept."""
        provider.generation += 1
        self._weigh(provider)
        self._store.put("provider", provider.uuid, provider)

    def replace_inventories(self, provider: Provider, wanted: dict[str, dict], keep_rest: bool) -> None:
        """Set the inventories of some classes; without `keep_rest` the others go."""
        kept = provider.inventories if keep_rest else {}
        provider.inventories = {**kept, **{name: full_inventory(values) for name, values in wanted.items()}}
        self.changed(provider)

    def classes(self) -> list[str]:
        """Every resource class there is."""
        return [*STANDARD_CLASSES, *self.custom_classes]

    def add_class(self, name: str) -> None:
        """A custom class."""
        self.custom_classes[name] = None
        self._store.put("class", name, {})

    def usage(self, provider: Provider) -> dict[str, int]:
        """Used amounts of every class that the provider has."""
        used = self.used[provider.uuid]
        return {name: used.get(name, 0) for name in provider.inventories}

    def project_usage(self, project_id: str) -> dict[str, dict[str, int]]:
        """Sums over a project's consumers, by their type, with `consumer_count`."""
        return {kind: {name: amount for name, amount in total.items() if amount}
                for (project, kind), total in self._by_project.items()
                if project == project_id and total["consumer_count"]}

    def fits(self, provider: Provider, request: dict[str, int]) -> bool:
        """True when a claim of this size would be granted."""
        used = self.used[provider.uuid]
        return all(self._fits_class(provider, used, name, amount) for name, amount in request.items() if amount)

    @staticmethod
    def _fits_class(provider: Provider, used: dict[str, int], name: str, amount: int) -> bool:
        return used.get(name, 0) + amount <= provider.capacity(name) and Placement.admits(provider, name, amount)

    @staticmethod
    def admits(provider: Provider, name: str, amount: int) -> bool:
        """True when the amount respects min_unit, max_unit and step_size."""
        inventory = provider.inventories.get(name)
        return (inventory is not None and inventory["min_unit"] <= amount <= inventory["max_unit"]
                and amount % inventory["step_size"] == 0)

    def claim(self, consumer: Consumer) -> bool:
        """Grant all of it or nothing. A consumer that holds something already gets this instead of it."""
        before = self.consumers.get(consumer.id)
        if before is not None:
            self.release(consumer.id)
            consumer.generation = before.generation + 1
        if not all(uuid in self.providers and self.fits(self.providers[uuid], amounts)
                   for uuid, amounts in consumer.allocations.items()):
            if before is not None:
                self._take(before)
                self._store.put("consumer", before.id, before)
            return False
        self._take(consumer)
        self._store.put("consumer", consumer.id, consumer)
        for uuid in consumer.allocations:
            self.changed(self.providers[uuid])
        return True

    def release(self, consumer_id: str, by_claim: bool = False) -> bool:
        """Give back all that a consumer holds; False when it held nothing. The providers' generations grow when it is
        done by a claim for nothing, and stay when the allocations are deleted, as with a server (measured)."""
        consumer = self.consumers.pop(consumer_id, None)
        if consumer is None:
            return False
        self._add_up(consumer, -1)
        for uuid in consumer.allocations:
            self.holders[uuid].pop(consumer_id, None)
            if by_claim:
                self.changed(self.providers[uuid])
        self._store.drop("consumer", consumer_id)
        return True


def full_inventory(values: dict) -> dict:
    """An inventory with Placement's defaults for what is not said."""
    inventory = {"total": 0, "reserved": 0, "min_unit": 1, "max_unit": 2147483647, "step_size": 1,
                 "allocation_ratio": 1.0}
    inventory.update({name: value for name, value in values.items() if name in inventory})
    return inventory
