"""Amounts of resource classes as vectors, and what a provider has of one class.

A class that is missing counts as 0, and 0 counts: a vector whose free DISK_GB is exactly 0 does not cover a request
for 20 (Aardvark dropped zero-valued classes and said yes).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd

#: What a project's quota counts; ram in MiB.
QUOTA_ITEMS = ("instances", "cores", "ram")


class Resources(Mapping[str, int]):
    """An immutable vector of integers by class name: `VCPU`, `MEMORY_MB`, `cores`, a custom class, ...

    Reading a class that it lacks gives 0. Two vectors are equal when they agree in every class. `amounts` is the
    plain dict of what is not 0, for loops that must be fast: read it, never change it.
    """

    __slots__ = ("amounts",)

    def __init__(self, amounts: Mapping[str, int] | Iterable[tuple[str, int]] = ()):
        items = amounts.items() if isinstance(amounts, Mapping) else amounts
        self.amounts = {name: int(amount) for name, amount in items if amount}

    def __getitem__(self, name: str) -> int:
        return self.amounts.get(name, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self.amounts)

    def __len__(self) -> int:
        return len(self.amounts)

    def __contains__(self, name: object) -> bool:
        return name in self.amounts

    def __hash__(self) -> int:
        return hash(frozenset(self.amounts.items()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.amounts == {name: amount for name, amount in other.items() if amount}

    def __repr__(self) -> str:
        return f"Resources({dict(sorted(self.amounts.items()))})"

    def __add__(self, other: Mapping[str, int]) -> "Resources":
        return Resources({name: self[name] + other.get(name, 0) for name in {*self, *other}})

    def __sub__(self, other: Mapping[str, int]) -> "Resources":
        return Resources({name: self[name] - other.get(name, 0) for name in {*self, *other}})

    @staticmethod
    def column(vectors: Iterable["Resources"], name: str) -> list[int]:
        """The amounts of one class in many vectors."""
        return [vector.amounts.get(name, 0) for vector in vectors]

    def floored(self) -> "Resources":
        """The same with negative amounts as 0: a host that racing claims over-committed has nothing free, not less."""
        return Resources({name: max(0, amount) for name, amount in self.amounts.items()})

    def covers(self, request: Mapping[str, int]) -> bool:
        """True when there is at least as much of every class as the request asks for."""
        return all(self[name] >= amount for name, amount in request.items() if amount > 0)

    def deficit(self, request: Mapping[str, int]) -> "Resources":
        """By class, how much is lacking to cover the request."""
        return Resources({name: amount - self[name] for name, amount in request.items() if amount > self[name]})


def total(vectors: Iterable[Resources]) -> Resources:
    """The sum of vectors."""
    amounts: dict[str, int] = {}
    for vector in vectors:
        for name, amount in vector.amounts.items():
            amounts[name] = amounts.get(name, 0) + amount
    return Resources(amounts)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a provider has of one class, as Placement keeps it.

    `capacity` is (total - reserved) * allocation_ratio, in floating point and rounded down, because that is how
    Placement compares: of a total of 100 at a ratio of 0.29 it grants 28.
    """

    total: int
    reserved: int = 0
    allocation_ratio: float = 1.0
    min_unit: int = 1
    max_unit: int = 2**31 - 1
    step_size: int = 1
    capacity: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "capacity", int((self.total - self.reserved) * self.allocation_ratio))

    def admits(self, amount: int) -> bool:
        """True when Placement would take a claim of this size on an empty provider."""
        return self.min_unit <= amount <= min(self.max_unit, self.capacity) and amount % self.step_size == 0


def merged(inventories: Sequence[Inventory]) -> Inventory:
    """One class of a host and of what is nested in it (GPUs, NUMA cells) as one inventory: the sum of the capacities,
    of which a claim gets no more than the largest part has."""
    if len(inventories) == 1:
        return inventories[0]
    return Inventory(
        total=sum(each.capacity for each in inventories),
        min_unit=min(each.min_unit for each in inventories),
        max_unit=max(min(each.max_unit, each.capacity) for each in inventories),
        step_size=gcd(*(each.step_size for each in inventories)),
    )
