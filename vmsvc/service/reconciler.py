"""Compare rows with the cloud: find servers that vanished, restore marks and notices, remove left-overs.

Only the reconciler moves a VM to LOST, and only after a GET that says 404: absence from a list proves nothing (a cell
may be down). It deletes left-over servers alone. A left-over server carries our mark and our deployment's id, its row
has ended or names another server, and two rounds have seen it so. A server that a rehearsal of ours has made
(`service.scheduling.rehearsals`) is a left-over too, unless a row names it. A server of ours without a row is not a
left-over: vmsvc commits a row before the POST and keeps it while its server may exist, so the database was restored
from a backup. The reconciler keeps that server, and reports it until an operator adopts it (`service.adoption`).
"""

import asyncio
import logging
import time
from collections.abc import Mapping

from vmsvc import COMMAND
from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import MARK, OWNER, Cloud, Server
from vmsvc.domain.errors import VmsvcError
from vmsvc.domain.lifecycle import FINAL, State
from vmsvc.domain.timing import Timing
from vmsvc.service.acting.create_server import marks
from vmsvc.service.acting.kept_ports import KeptPorts
from vmsvc.service.acting.notice import metadata_differs
from vmsvc.service.acting.restart import complete_lineages
from vmsvc.service.evictions.record import acknowledge
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.rehearsals import is_left_over
from vmsvc.store import intents, vms
from vmsvc.store.db import reading, unit
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)

_MAX_CALLS = 20  # per round: GETs of missing servers, DELETEs of left-over ones, and servers that are marked again


class Reconciler:
    """One round every few seconds, at the cost of one database read when all is in order."""

    def __init__(self, runtime: Runtime, cloud: Cloud, server_cache: ServerCache, timing: Timing, deployment: str):
        self._runtime = runtime
        self._timing = timing
        self._cloud = cloud
        self._server_cache = server_cache
        self._deployment = deployment
        self._kept_ports = KeptPorts(runtime, cloud, timing, deployment)
        self._lineages_at = 0.0  # when lineages are searched next
        self._suspects: set[str] = set()
        self._round = 0
        self._checked_in: dict[str, int] = {}  # missing server -> the round in which it was last asked for
        self._marked_at: dict[str, float] = {}  # server -> when its marks were last put back, or tried to be
        self._noticed_at: dict[str, float] = {}  # server -> when the notice in its metadata was last put right
        self._differing: set[str] = set()  # servers whose notice was wrong in the last round
        self.without_row: frozenset[str] = frozenset()  # servers that carry our mark and have no row

    async def run(self) -> None:
        """Do a round every few seconds, until this is cancelled."""
        pause = self._timing.reconciler_round
        while True:
            await asyncio.sleep(pause)
            await self._server_cache.refresh(pause)
            servers = dict(self._server_cache.servers)
            noticed = await self._runtime.offload(
                _release_powered_off,
                {server.id for server in servers.values() if server.status == "SHUTOFF" and server.task_state is None},
            )
            pause = self._timing.reconciler_round_noticed if noticed else self._timing.reconciler_round
            rows = await self._runtime.offload(_rows_with_servers)
            await self._find_lost(servers, rows)
            await self._restore_marks(servers, rows)
            await self._restore_notices(servers, rows)
            await self._delete_left_overs(servers)
            await self._kept_ports.clean_up()
            if time.monotonic() >= self._lineages_at:
                self._lineages_at = time.monotonic() + self._timing.search_lineages
                await self._runtime.offload(complete_lineages)
            self._runtime.mark_ready("reconciler")

    async def _find_lost(self, servers: Mapping[str, Server], rows: list[Vm]) -> None:
        missing = {row.server_id: row.id for row in rows if row.cloud_id not in servers}
        # The server that was read longest ago comes first: those of a cell that is down must not keep others from it.
        self._checked_in = {server_id: self._checked_in.get(server_id, 0) for server_id in missing}
        self._round += 1
        for server_id in sorted(missing, key=self._checked_in.__getitem__)[:_MAX_CALLS]:
            self._checked_in[server_id] = self._round
            try:
                if await self._server_cache.read_server(server_id) is None:
                    await self._runtime.offload(_record_lost, missing[server_id])
            except VmsvcError as error:
                log.warning("server %s is missing in the list, and cannot be read: %s", server_id, error.message)

    async def _restore_marks(self, servers: Mapping[str, Server], rows: list[Vm]) -> None:
        """Restore marks that an owner removed or changed: the row decides whose server it is and of which kind."""
        now = time.monotonic()
        self._marked_at = {
            server_id: at for server_id, at in self._marked_at.items() if now - at < self._timing.restore_marks
        }
        wrong = await self._runtime.offload(
            _with_wrong_marks, servers, [row for row in rows if row.cloud_id not in self._marked_at], self._deployment
        )
        for row, missing in wrong[:_MAX_CALLS]:
            self._marked_at[row.server_id] = now
            log.warning(
                "vm %s of %s: %s of its server %s was removed or changed in the cloud, or does not follow the row yet; "
                "restoring it",
                row.id,
                row.principal,
                ", ".join(missing),
                row.cloud_id,
            )
            try:
                await self._cloud.set_metadata(row.server_id, missing)
            except VmsvcError as error:
                log.warning(
                    "vm %s of %s: the marks cannot be restored now; the vm stays %s: %s",
                    row.id,
                    row.principal,
                    "preemptible" if row.is_preemptible else "standard",
                    error.message,
                )

    async def _restore_notices(self, servers: Mapping[str, Server], rows: list[Vm]) -> None:
        """Have the notice in a server's metadata written again when two rounds running found another one there than its
        VM has: a user copied, changed or removed it. The performer of `notice` and `reprieve` decides what to write."""
        now = time.monotonic()
        self._noticed_at = {
            server_id: at for server_id, at in self._noticed_at.items() if now - at < self._timing.restore_marks
        }
        wrong = {
            row.server_id: row
            for row in rows
            if row.server_id in servers
            and servers[row.server_id].takes_metadata
            and metadata_differs(row, servers[row.server_id].metadata)
        }
        repeated = [
            row
            for server_id, row in wrong.items()
            if server_id in self._differing and server_id not in self._noticed_at
        ]
        if repeated:
            restored = await self._runtime.offload(_enqueue_notices, repeated[:_MAX_CALLS])
            self._noticed_at.update({row.server_id: now for row in restored})
            for row in restored:
                log.warning(
                    "vm %s of %s: the notice in the metadata of its server %s is not the one that it has; "
                    "putting it right",
                    row.id,
                    row.principal,
                    row.cloud_id,
                )
        self._differing = set(wrong)

    async def _delete_left_overs(self, servers: Mapping[str, Server]) -> None:
        ours = {
            server.id: server.metadata[MARK]
            for server in servers.values()
            if MARK in server.metadata and server.metadata.get(OWNER) == self._deployment
        }
        left_over, without_row = (
            await self._runtime.offload(_left_over_and_without_row, ours) if ours else (set(), frozenset())
        )
        rehearsed = {server_id for server_id in without_row if is_left_over(servers[server_id], self._deployment)}
        without_row -= rehearsed
        unwanted = left_over | rehearsed
        if without_row - self.without_row:
            log.warning(
                "%d servers carry our mark and have no row (was the database restored?); vmsvc keeps them, and "
                "`%s adopt` makes rows for them: %s",
                len(without_row),
                COMMAND,
                ", ".join(sorted(without_row)[:_MAX_CALLS]),
            )
        self.without_row = without_row
        for server_id in sorted(unwanted & self._suspects)[:_MAX_CALLS]:
            log.warning(
                "server %s carries our mark but %s: deleting it",
                server_id,
                "was made by a rehearsal" if server_id in rehearsed else "no request of ours wants it",
            )
            try:
                await self._cloud.delete(server_id)
            except VmsvcError as error:
                log.warning("server %s cannot be deleted now: %s", server_id, error.message)
        self._suspects = unwanted


def _rows_with_servers() -> list[Vm]:
    with reading():
        return [row for row in vms.in_states([State.BUILDING, State.ACTIVE, State.NOTICED]) if row.cloud_id]


def _with_wrong_marks(
    servers: Mapping[str, Server], rows: list[Vm], deployment: str
) -> list[tuple[Vm, dict[str, str]]]:
    """The VMs whose servers lack marks or carry wrong ones, with the right values of those."""
    found = [
        (
            row,
            {
                name: value
                for name, value in marks(row, deployment).items()
                if servers[row.server_id].metadata.get(name) != value
            },
        )
        for row in rows
        if row.server_id in servers and row.state != State.BUILDING
    ]
    return [(row, missing) for row, missing in found if missing]


def _enqueue_notices(rows: list[Vm]) -> list[Vm]:
    """Enqueue that the notices of these VMs are written again. Returns those for which no such intent was open yet."""
    with unit() as work:
        in_progress = intents.open_for([row.id for row in rows], (intents.NOTICE, intents.REPRIEVE))
        repeated = [row for row in rows if row.id not in in_progress]
        for row in repeated:
            intents.enqueue(work, intents.NOTICE if row.state == State.NOTICED else intents.REPRIEVE, row.id)
        return repeated


def _release_powered_off(down: set[str]) -> bool:
    """Release the noticed VMs whose guests ran when the notice began and have powered themselves off. Returns True
    while any VM is noticed."""
    with unit() as work:
        noticed = vms.in_states([State.NOTICED])
        for row in noticed:
            if row.cloud_id in down and row.notice["running"] and row.acknowledged_at is None:
                row = vms.of_id(row.id, lock=True)
                if row.state == State.NOTICED:
                    log.info("vm %s: powered off during its notice; it is released early", row.id)
                    acknowledge(work, row, None)
        return bool(noticed)


def _record_lost(vm_id: str) -> None:
    with unit() as work:
        row = Vm.get_by_id(vm_id)
        if row.state not in (State.ACTIVE, State.NOTICED):
            return  # the worker of its boot, eviction or delete finds out
        if vms.move(work, row, State.LOST, reason="it vanished from the cloud; vmsvc did not delete it"):
            intents.drop(work, intents.EVICT, vm_id)


def _left_over_and_without_row(ours: dict[str, str]) -> tuple[set[str], frozenset[str]]:
    """Of these servers (id -> mark): those that no open row wants, because the row of their mark has ended or names
    another server; and those whose mark has no row. A server that an open row names is in neither."""
    with reading():
        rows = {row.id: row for row in vms.of_ids(set(ours.values()))}
        named = {row.cloud_id for row in vms.of_servers(ours) if State(row.state) not in FINAL}
    left_over = {
        server_id
        for server_id, vm_id in ours.items()
        if server_id not in named
        and vm_id in rows
        and (State(rows[vm_id].state) in FINAL or rows[vm_id].cloud_id not in (None, server_id))
    }
    return left_over, frozenset(
        server_id for server_id, vm_id in ours.items() if vm_id not in rows and server_id not in named
    )
