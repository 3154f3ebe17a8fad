"""Creates the server of a VM: from the `boot` intent to ACTIVE, or to the reason why there is no server.

A POST whose outcome is unknown may have made a server. `_send_create` looks for it by its mark for some seconds, and
then raises, so the intent stays open. The next try looks again, before it sends another POST.
"""

import asyncio
from dataclasses import replace

from vmsvc.cloud.cache.host_cache import HostCache
from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import KIND, KINDS, MARK, ORIGIN, OWNER, RESTARTS, BootSpec, Cloud, Server
from vmsvc.domain.boot_options import options_in
from vmsvc.domain.errors import (
    CloudError,
    CloudUnavailable,
    Conflict,
    Forbidden,
    Garbled,
    InvalidRequest,
    OutcomeUnknown,
    QuotaExceeded,
)
from vmsvc.domain.events import view
from vmsvc.domain.lifecycle import State
from vmsvc.domain.timing import Timing
from vmsvc.service import trace
from vmsvc.service.acting.await_build import BuildWaiter, overdue_message
from vmsvc.service.acting.kept_ports import keep_port
from vmsvc.service.acting.polling import MinimumDuration
from vmsvc.service.acting.remove_server import RemoveServer
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.apply import fail
from vmsvc.service.scheduling.verdicts import Verdicts
from vmsvc.store import ledger, request_classes, vms
from vmsvc.store.db import connected, unit
from vmsvc.store.intents import Claim
from vmsvc.store.models import Vm

#: How often a create is tried, over some four minutes, while each answer is one that the cloud did not write. Then the
#: request fails: a proxy that rejects it (because of its name, say) will never let it through.
_GARBLED_ATTEMPTS = 12
#: How often a create is tried, within a minute, while the port that keeps its address is taken or refused.
_PORT_ATTEMPTS = 5
_VICTIMS_SECONDS = 5.0  # an answer waits at most so long for the last victim to be on record as gone ...
_VICTIMS_POLL_SECONDS = 0.05  # ... and reads the record this often


def marks(row: Vm, deployment: str) -> dict[str, str]:
    """The metadata that every server of ours carries. It does not name the owner: guests and the whole project can read
    it."""
    of_lineage = {RESTARTS: str(row.attempt), ORIGIN: row.lineage_id} if row.lineage_id else {}
    return {MARK: row.id, OWNER: deployment, KIND: KINDS[row.is_preemptible], **of_lineage}


class CreateRefused(Exception):
    """The cloud refused the VM for lack of capacity or quota. Its arguments are the slug and the message."""


class CreateServer:
    """Performs `boot` intents."""

    def __init__(
        self,
        runtime: Runtime,
        cloud: Cloud,
        server_cache: ServerCache,
        host_cache: HostCache,
        remove_server: RemoveServer,
        verdicts: Verdicts,
        deployment: str,
        timing: Timing,
    ):
        self._runtime = runtime
        self._timing = timing
        self._cloud = cloud
        self._server_cache = server_cache
        self._host_cache = host_cache
        self._remove_server = remove_server
        self._deployment = deployment
        self._build_waiter = BuildWaiter(server_cache, host_cache, timing)
        self._verdicts = verdicts
        self._removal_duration = MinimumDuration()  # of servers that were refused: no host has to tear them down

    async def perform(self, claim: Claim) -> None:
        """Make the server if it is not there yet, wait until it is ACTIVE, and record the outcome."""
        row = await self._runtime.offload(vms.read, claim.vm_id)
        trace.begin_create(row)
        retries = iter(self._timing.create_retries if row.rounds else ())
        while row.state == State.BUILDING:
            try:
                server = await self._wait_for_build(await self._ensure_server(row, claim.attempt), row)
                if row.rounds:
                    await self._wait_for_victims(row.id)
                await self._runtime.offload(_record_active, row.id, server)
                return
            except CreateRefused as error:
                slug, message = error.args
                pause = next(retries, None)
                if pause is None or slug != "no_capacity":
                    await self._runtime.offload(
                        _record_refusal,
                        row.id,
                        slug,
                        message,
                        await self._host_refuses(row, slug),
                        self._timing.cooldown,
                    )
                    return
                await self._runtime.offload(_forget_server, row.id)
                await asyncio.sleep(pause)
            except (InvalidRequest, Forbidden, Conflict, CloudError) as error:
                if isinstance(error, Garbled) and claim.attempt < _GARBLED_ATTEMPTS:
                    raise  # the cloud has not refused the request: the worker tries again
                # A refusal that a rehearsal foresees (a deleted key pair, say) is no reason to refuse others of the
                # same class.
                foreseen = bool(row.rounds) and await self._verdicts.foresees(row.boot)
                await self._runtime.offload(_record_failure, row.id, error.slug, error.message, foreseen)
                return
            row = await self._runtime.offload(vms.read, claim.vm_id)

    async def _wait_for_victims(self, vm_id: str) -> None:
        """Wait until all victims of the request are on record as gone, so that its answer names them as such. The
        scheduler places a request as soon as the cloud shows the capacity free, which can be a moment earlier. This
        waits at most _VICTIMS_SECONDS for a victim that hangs in the cloud."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _VICTIMS_SECONDS
        while await self._runtime.offload(_has_leaving_victims, vm_id) and loop.time() < deadline:
            await asyncio.sleep(_VICTIMS_POLL_SECONDS)

    async def _ensure_server(self, row: Vm, attempt: int) -> str:
        """The id of the request's server: of the one that is there, or of a new one. A server may exist though the row
        names none: after an earlier `attempt`, or because the database was restored from a backup."""
        if row.cloud_id:
            return row.cloud_id
        searched = attempt > 1 or self._server_cache.shows_mark(row.id)
        server_id = await self._find_server(row.id) if searched else None
        if server_id is None:
            server_id = await self._send_create(row, attempt)
        return await self._runtime.offload(_record_server, row.id, server_id)

    async def _send_create(self, row: Vm, attempt: int) -> str:
        port_id = None
        try:
            port_id = await keep_port(self._runtime, self._cloud, self._deployment, row, attempt <= _PORT_ATTEMPTS)
            return await self._cloud.create_server(replace(self._spec(row), port_id=port_id))
        except (InvalidRequest, Conflict) as error:
            if isinstance(error, InvalidRequest) and error.field == "host":  # it has gone since
                raise CreateRefused("no_capacity", error.message) from error
            if port_id is None or port_id not in error.message or attempt > _PORT_ATTEMPTS:
                raise
            # The next try sees what has become of the port.
            raise CloudUnavailable(f"the port that keeps its address cannot be used now: {error.message}") from error
        except QuotaExceeded as error:
            raise CreateRefused("quota_exceeded", error.message) from error
        except OutcomeUnknown:
            # Nova may still be at it: only when it does not appear for a while is the POST sent again.
            for pause in self._timing.find_server:
                await asyncio.sleep(pause)
                server_id = await self._find_server(row.id)
                if server_id:
                    return server_id
            raise

    async def _find_server(self, vm_id: str) -> str | None:
        found = [
            server for server in await self._cloud.find_servers(vm_id) if server.metadata.get(OWNER) == self._deployment
        ]
        found.sort(key=lambda server: (server.status == "ERROR", server.created, server.id))
        return found[0].id if found else None

    def _spec(self, row: Vm) -> BootSpec:
        boot = row.boot
        return BootSpec(
            vmsvc_id=row.id,
            name=row.name,
            flavor_id=boot["flavor_id"],
            image_id=boot["image_id"],
            network_id=boot["network_id"],
            key_name=boot["key_name"],
            user_data=boot["user_data"],
            availability_zone=boot["availability_zone"],
            host=row.host,
            metadata={**boot["metadata"], **marks(row, self._deployment)},
            options=options_in(boot),
        )

    async def _host_refuses(self, row: Vm, slug: str) -> bool:
        """True when the host itself refuses the VM: it is up, and Placement has enough capacity there."""
        if row.host is None or slug == "quota_exceeded":
            return False
        await self._host_cache.refresh(0)
        await self._host_cache.read([row.host])
        host = self._host_cache.hosts().get(row.host)
        return host is not None and host.available and (slug == "cloud_error" or host.free.covers(row.room))

    async def _wait_for_build(self, server_id: str, row: Vm) -> Server:
        """Wait for ACTIVE. A server in ERROR is deleted at once, because it counts against the quota; then the reason
        is raised: CreateRefused where capacity, quota or another host would mend it, CloudError otherwise. The reason
        is recorded before the DELETE: a worker that goes on after a crash can no longer read it from the server."""
        verdict = (row.refusal or {}).get("verdict", {})
        if verdict.get("server") != server_id:
            server = await self._build_waiter.wait_for(
                server_id, row.host, refusable=row.host is None and not row.rounds
            )
            if server.status == "ACTIVE":
                return server
            verdict = {"server": server_id, **self._failure_reason(server, row.host)}
            await self._runtime.offload(_record_failure_reason, row.id, verdict)
        await self._remove_server.remove(server_id, duration=self._removal_duration)
        raise (
            CreateRefused(verdict["error"], verdict["message"]) if verdict["error"] else CloudError(verdict["message"])
        )

    def _failure_reason(self, server: Server, host: str | None) -> dict[str, str | None]:
        """Why vmsvc gives the server up: `message`, and in `error` the slug of what the request lacked. `error` is None
        when another try would not help."""
        failure = server.failure
        if failure is None and host is not None and self._host_cache.is_down(host):
            return {"error": "no_capacity", "message": f"host {host} went down while the server was being built there"}
        if failure is None:
            return {"error": None, "message": overdue_message(server)}
        message = f"the build failed: {failure.message}" if isinstance(failure, CloudError) else failure.message
        # Nova tries a failed build on other hosts by itself, unless it was told the host, or knows that none would do
        # ("No fixed IP addresses available for network: …, not rescheduling", measured).
        final = isinstance(failure, CloudError) and (host is None or message.endswith(", not rescheduling."))
        return {"error": None if final else failure.slug, "message": message}


# ---------------------------------------------------------------- in the database pool


def _record_server(vm_id: str, server_id: str) -> str:
    """Record the server of a VM, and return the id of the server that counts. A replica that lost its lease (it was
    stopped for a while) may have made a second one: the first counts, and the reconciler removes the other."""
    with unit() as work:
        return server_id if vms.name_server(work, vm_id, server_id) else vms.of_id(vm_id).cloud_id or server_id


def _record_failure_reason(vm_id: str, verdict: dict[str, str | None]) -> None:
    """Record why a server is given up."""
    with unit():
        row = vms.of_id(vm_id)
        vms.change(row, refusal={**(row.refusal or {}), "verdict": verdict})


def _forget_server(vm_id: str) -> None:
    """Record that the server is gone, so that the next try makes another."""
    with unit() as work:
        vms.change(vms.of_id(vm_id), cloud_id=None, updated_at=work.now)


def _has_leaving_victims(vm_id: str) -> bool:
    with connected():
        return ledger.has_leaving_victims(vm_id)


def _record_active(vm_id: str, server: Server) -> None:
    with unit() as work:
        row = vms.of_id(vm_id)
        if row.state != State.BUILDING:
            return
        victims = vms.cloud_ids(ledger.victims_of(vm_id)) if row.rounds else []
        moved = vms.move(
            work,
            row,
            State.ACTIVE,
            data={"evicted": victims},
            cloud_id=server.id,
            host=server.host or row.host,
            host_id=server.host_id,
            launched_at=server.launched_at or work.now,
            refusal=None,
        )
        if moved is None:
            return
        vms.record_outcome(
            moved, {"ok": True, "error": None, "message": "", "vm": view(vms.row_of(moved)), "evicted": victims}
        )
        ledger.release_reservation(work, vm_id)
        request_classes.remember_accepted(work, row.boot)
        if row.rounds:
            ledger.close_evictions(vm_id, wasted=None)


def _record_refusal(vm_id: str, slug: str, message: str, by_host: bool, cooldown_seconds: float) -> None:
    """Have the request wait for capacity again, with the cloud's refusal on record. If the host itself refused it
    (`by_host`), other requests like it avoid this host for `cooldown_seconds`."""
    with unit() as work:
        row = vms.of_id(vm_id)
        if row.state != State.BUILDING:
            return
        avoid = row.avoid + [row.host] if row.host and slug != "quota_exceeded" else row.avoid
        refusal = {
            "error": slug,
            "message": message,
            "at": work.now.isoformat(),
            "tried": (row.placed_at or row.updated_at).isoformat(),
            "count": (row.refusal or {}).get("count", 0) + 1,
            "rounds": row.rounds,
            "with_room": by_host,
        }
        if row.rounds and slug == "no_capacity":
            ledger.waste_likely_round(row.id, row.rounds, f"the cloud refused the request all the same: {message}")
        if by_host and row.host:
            ledger.start_cooldown(work, row.host, row.boot, message, cooldown_seconds)
        vms.move(work, row, State.PENDING, reason=message, cloud_id=None, host=None, refusal=refusal, avoid=avoid)
        # The capacity that was freed for the request is of no use: another server took it, or the host refuses the VM.
        ledger.release_reservation(work, vm_id)


def _record_failure(vm_id: str, slug: str, message: str, foreseen: bool) -> None:
    with unit() as work:
        row = vms.of_id(vm_id)
        if row.state == State.BUILDING:
            fail(work, row, slug, message, foreseen)
