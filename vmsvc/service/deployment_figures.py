"""What is true of the whole deployment, for the metrics: how many VMs there are, and how much of the cloud is free."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vmsvc.domain.errors import VmsvcError
from vmsvc.domain.resources import Resources, total
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.scheduler import Scheduler
from vmsvc.store import vms

_MAX_AGE = 15.0  # seconds; Prometheus asks every 15 to 60 s
_LIMIT = 8.0  # seconds; Prometheus gives up after 10 s

#: What of a host is summed.
_AMOUNTS = ("capacity", "used", "free", "standard", "preemptible", "foreign", "reserved", "reclaimable")


@dataclass(frozen=True)
class Figures:
    """One reading. `counts`: how many VMs by state and whether they are preemptible. `quota`: by what it is (limit,
    used, free, ...) an amount of each quota item. `hosts`: the same for Placement's resource classes, summed over the
    hosts that are available. `host_counts`: how many hosts are available, and how many are not."""

    counts: Mapping[tuple[str, bool], int]
    quota: Mapping[str, Mapping[str, int]]
    hosts: Mapping[str, Mapping[str, int]]
    host_counts: Mapping[bool, int]


class DeploymentFigures:
    """Passes the figures to `observe` when somebody asks for the metrics: while nobody does, they cost nothing."""

    def __init__(self, runtime: Runtime, scheduler: Scheduler, observe: Callable[[Figures | None], None]):
        self._runtime = runtime
        self._scheduler = scheduler
        self._observe = observe
        self._turn = asyncio.Lock()
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Read the figures, unless that was done a short while ago. They become None when the database or the cloud
        does not answer in time: no figure is shown that may not be true any more."""
        async with self._turn:
            now = asyncio.get_running_loop().time()
            if now - self._read_at < _MAX_AGE:
                return
            self._read_at = now
            try:
                async with asyncio.timeout(_LIMIT):
                    self._observe(await self._read())
            except (VmsvcError, TimeoutError):
                self._observe(None)

    async def _read(self) -> Figures:
        counts = await self._runtime.offload(vms.counts)
        capacity = await self._scheduler.capacity([])
        hosts = capacity["hosts"]
        return Figures(
            counts,
            {name: _without_unlimited(amounts) for name, amounts in capacity["quota"].items()},
            _sums([host for host in hosts if host["available"]]),
            {is_available: sum(host["available"] == is_available for host in hosts) for is_available in (True, False)},
        )


def _without_unlimited(amounts: Mapping[str, int | None]) -> dict[str, int]:
    return {item: amount for item, amount in amounts.items() if amount is not None}


def _sums(hosts: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """By what it is (capacity, used, free, ...) the sum of each resource class, 0 included."""
    sums = {name: total(Resources(host[name]) for host in hosts) for name in _AMOUNTS}
    zeros = dict.fromkeys(sums["capacity"], 0)
    return {name: {**zeros, **amounts} for name, amounts in sums.items()}
