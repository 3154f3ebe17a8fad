"""Keeps the address of a lineage: its port is made with the first server, and removed when the lineage has ended.

Each later server gets the port plugged in. Its name says which deployment
made it, and its description for which lineage. The row of the lineage has its id as soon as that is known. A port that
a crash left behind without that is found by its name.
"""

import logging
import time

from vmsvc.cloud.port import Cloud, KeptPort
from vmsvc.domain.errors import VmsvcError
from vmsvc.domain.timing import Timing
from vmsvc.service.runtime import Runtime
from vmsvc.store import lineages
from vmsvc.store.db import connected, unit
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)

_MAX_CALLS = 20


def name_of(deployment: str) -> str:
    """The name of the ports of a deployment."""
    return f"vmsvc-{deployment}"


async def keep_port(runtime: Runtime, cloud: Cloud, deployment: str, row: Vm) -> str | None:
    """The port of a VM whose lineage keeps its address: the one that is there, or a new one. None for any other VM.
    Raises what the cloud raises."""
    if row.lineage_id is None:
        return None
    keeps, port_id = await runtime.offload(_port_of, row.lineage_id)
    if not keeps or port_id:
        return port_id
    for port in await cloud.kept_ports(name_of(deployment)):
        if port.origin == row.lineage_id:
            return await runtime.offload(_record_port, row.lineage_id, port.id)
    port_id = await cloud.create_port(row.boot["network_id"], name_of(deployment), row.lineage_id)
    return await runtime.offload(_record_port, row.lineage_id, port_id)


class KeptPorts:
    """Removes the ports of lineages that have ended, and those that no lineage has."""

    def __init__(self, runtime: Runtime, cloud: Cloud, timing: Timing, deployment: str):
        self._runtime = runtime
        self._search_seconds = timing.search_ports
        self._cloud = cloud
        self._name = name_of(deployment)
        self._search_at = 0.0
        self._suspects: frozenset[str] = frozenset()

    async def clean_up(self) -> None:
        """One round: one read of the database while there is nothing to do."""
        for lineage_id, port_id in (await self._runtime.offload(_removable))[:_MAX_CALLS]:
            if await self._remove(port_id):
                await self._runtime.offload(_record_port, lineage_id, None)
        if time.monotonic() < self._search_at or not await self._runtime.offload(_any_kept):
            return
        try:
            found = await self._cloud.kept_ports(self._name)
        except VmsvcError as error:
            log.info("the ports that keep addresses cannot be listed now: %s", error.message)
            return
        unwanted = await self._runtime.offload(_unwanted, [port for port in found if not port.device_id])
        for port_id in sorted(unwanted & self._suspects)[:_MAX_CALLS]:
            log.warning("port %s was made to keep an address, and no lineage has it: deleting it", port_id)
            await self._remove(port_id)
        self._suspects = unwanted
        self._search_at = 0.0 if unwanted else time.monotonic() + self._search_seconds

    async def _remove(self, port_id: str) -> bool:
        try:
            await self._cloud.delete_port(port_id)
        except VmsvcError as error:
            log.warning("port %s cannot be deleted now: %s", port_id, error.message)
            return False
        return True


# ---------------------------------------------------------------- in the database pool


def _port_of(lineage_id: str) -> tuple[bool, str | None]:
    with connected():
        lineage = lineages.of(lineage_id)
    return (lineage.keep_address, lineage.port_id) if lineage else (False, None)


def _record_port(lineage_id: str, port_id: str | None) -> str | None:
    """Record the port of a lineage, and return it. One that has ended gets it too: so it is removed."""
    with unit():
        if lineage := lineages.lock(lineage_id):
            lineages.change(lineage, port_id=port_id)
        return port_id


def forget_port(vm_id: str, port_id: str) -> None:
    """Record that the lineage of this VM has this port no more, so that the next try makes another."""
    with unit():
        lineages.forget_port(vm_id, port_id)


def _removable() -> list[tuple[str, str]]:
    with connected():
        return lineages.removable_ports()


def _any_kept() -> bool:
    with connected():
        return lineages.any_keeps_address()


def _unwanted(ports: list[KeptPort]) -> frozenset[str]:
    """Of these ports, which no server uses, those that no lineage has or is about to have."""
    with connected():
        expected = lineages.expected_ports([port.origin for port in ports])
    return frozenset(port.id for port in ports if expected.get(port.origin, "") not in (None, port.id))
