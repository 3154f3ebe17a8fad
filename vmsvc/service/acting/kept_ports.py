"""Keeps the address of a lineage: its port is made with the first server, and removed when the lineage has ended.

Each later server gets the port plugged in. Its name says which deployment made it, and its description for which
lineage. The row of the lineage has its id as soon as that is known. A port that a crash left behind without that is
found by its name. A port that a server uses is left alone, whoever has given it to that server.
"""

import logging
import time

from vmsvc.cloud.port import Cloud, KeptPort
from vmsvc.domain.boot_options import options_in
from vmsvc.domain.errors import CloudUnavailable, VmsvcError
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


async def keep_port(runtime: Runtime, cloud: Cloud, deployment: str, row: Vm, patient: bool = True) -> str | None:
    """The port of a VM whose lineage keeps its address: the one that is there, or a new one. None for any other VM.
    While the server before it still has the port, this raises CloudUnavailable if it is `patient`. Raises what the
    cloud raises.

    A port that was deleted, or that somebody has given to another server, cannot keep the address: the VM gets a new
    one."""
    if row.lineage_id is None:
        return None
    keeps, known, servers = await runtime.offload(_port_of, row.lineage_id)
    if not keeps:
        return None
    if known and (port := await cloud.kept_port(known)) and port.network_id == row.boot["network_id"]:
        if port.device_id is None:
            return known
        if port.device_id in servers and patient:
            raise CloudUnavailable(f"server {port.device_id} still has port {known}, which keeps its address")
        log.warning("vm %s: server %s has port %s, which kept its address", row.id, port.device_id, known)
    elif known:
        log.warning("vm %s: port %s, which kept its address, is not there any more", row.id, known)
    for port in await cloud.kept_ports(name_of(deployment)):
        found = port.origin == row.lineage_id and port.network_id == row.boot["network_id"] and port.id != known
        if found and port.device_id is None:
            return await runtime.offload(_record_port, row.lineage_id, port.id)
    groups = options_in(row.boot).security_groups
    port_id = await cloud.create_port(row.boot["network_id"], name_of(deployment), row.lineage_id, groups)
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
            if await self._give_back(lineage_id, port_id):
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

    async def _give_back(self, lineage_id: str, port_id: str) -> bool:
        """Remove the port of a lineage that has ended, unless somebody has given it to another server: then it is found
        again when no server uses it. Returns False where that has to be tried again."""
        try:
            port = await self._cloud.kept_port(port_id)
        except VmsvcError as error:
            log.info("port %s cannot be read now: %s", port_id, error.message)
            return False
        if port is None:
            return True
        _, _, servers = await self._runtime.offload(_port_of, lineage_id)
        if port.device_id is not None and port.device_id not in servers:
            log.warning("port %s, which kept an address, is left to server %s", port_id, port.device_id)
            return True
        return await self._remove(port_id)

    async def _remove(self, port_id: str) -> bool:
        try:
            await self._cloud.delete_port(port_id)
        except VmsvcError as error:
            log.warning("port %s cannot be deleted now: %s", port_id, error.message)
            return False
        return True


# ---------------------------------------------------------------- in the database pool


def _port_of(lineage_id: str) -> tuple[bool, str | None, frozenset[str]]:
    """Whether the lineage keeps its address, its port, and the servers that it has had."""
    with connected():
        lineage = lineages.of(lineage_id)
        keeps = lineage is not None and lineage.keep_address
        port_id = lineage.port_id if lineage else None
        return keeps, port_id, lineages.servers_of(lineage_id) if keeps else frozenset()


def _record_port(lineage_id: str, port_id: str | None) -> str | None:
    """Record the port of a lineage, and return it. One that has ended gets it too: so it is removed."""
    with unit():
        if lineage := lineages.lock(lineage_id):
            lineages.change(lineage, port_id=port_id)
            if port_id is None:
                lineages.remove_empty(lineage_id)
        return port_id


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
