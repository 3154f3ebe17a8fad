"""What clients may ask: create, delete, list, show, history. Checks a request, then lets the store write it.

Waiting: `outcome` and `delete` wait for a VM by `service.events.waiters.Waiters`. The seconds come from
`Prefer: wait=N` (`web.http.request.Prefer.timeout`). Idempotency-Keys: `store.vms.accept` looks them up.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import KIND, KINDS, SERVICE, Cloud, Server, working_for
from vmsvc.domain.acceptance import is_peculiar, no_address
from vmsvc.domain.boot_options import NO_OPTIONS, BootOptions, new_ports, options_in
from vmsvc.domain.catalog import Network
from vmsvc.domain.errors import (
    CloudError,
    CloudUnavailable,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    TooManyRequests,
    VmsvcError,
)
from vmsvc.domain.events import view
from vmsvc.domain.flavors import quota_request, traits_of
from vmsvc.domain.lifecycle import FINAL, State
from vmsvc.domain.lineage import Terms
from vmsvc.domain.principal import ANYBODY, Principal
from vmsvc.domain.request import Waits
from vmsvc.domain.requirements import conditions_of, requirements_of
from vmsvc.service import advice, trace, usage
from vmsvc.service.catalog import Catalog, ResolvedRequest
from vmsvc.service.create_vm import CreateOptions, CreateVm
from vmsvc.service.events.waiters import Waiters
from vmsvc.service.listing import vm_view
from vmsvc.service.listing.encoded_list import ListPage
from vmsvc.service.listing.list_cache import ListCache
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.scheduler import Scheduler
from vmsvc.service.scheduling.verdicts import Verdicts
from vmsvc.service.usage import SharesCache
from vmsvc.service.vm_changes import change_vm
from vmsvc.store import intents, ledger, lineages, outbox, vms, waiting
from vmsvc.store.db import SHOW_SECONDS, connected, reading, unit
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)

_ACCEPT_SECONDS = 2.0  # a create waits at most so long for Nova's word whether it would take the request
_MAX_AGE = 1.0  # seconds: how old the answer about a server that is not ours may be
_SNAPSHOTS = 2  # how many dry runs and reads of capacity read the whole cloud at once


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final answer to a create: durable, the same for every retry under one Idempotency-Key."""

    ok: bool
    vm: dict[str, Any]
    evicted: tuple[str, ...] = ()
    error: str | None = None  # the slug of a domain error
    message: str = ""


class Commands:
    """What the web layer calls. Every method may raise `domain.errors`, CloudUnavailable and Unavailable above all."""

    def __init__(
        self,
        runtime: Runtime,
        cloud: Cloud,
        server_cache: ServerCache,
        list_cache: ListCache,
        catalog: Catalog,
        scheduler: Scheduler,
        waiters: Waiters,
        wake: Callable[[], None],
        *,
        verdicts: Verdicts,
        min_run_seconds: int,
    ):
        self._runtime = runtime
        self._cloud = cloud
        self._server_cache = server_cache
        self._snapshots = asyncio.Semaphore(_SNAPSHOTS)
        self._list_cache = list_cache
        self._catalog = catalog
        self._verdicts = verdicts
        self._scheduler = scheduler
        self._waiters = waiters
        self._wake = wake
        self._min_run_seconds = min_run_seconds
        self._options = CreateOptions(cloud, catalog, self._server_without_row)
        self._shares = SharesCache()

    async def create(
        self, request: CreateVm, *, client: str, idempotency_key: str | None = None, principal: Principal = ANYBODY
    ) -> str:
        """Accept a request and return its vmsvc id. Once this returns, the request survives any crash. `client`: whose
        budget pays for the rehearsal, if Nova has to rehearse the request before it is accepted.

        A repeated `idempotency_key` with the same body returns the earlier id. Raises IdempotencyMismatch for a key
        that was used with another body, InvalidRequest for a name that the cloud does not have, and TooManyRequests
        when as many requests of the principal wait as may.
        """
        if idempotency_key is not None and request.has_options:
            earlier = await self._runtime.offload(_accepted_before, request.body, principal, idempotency_key)
            if earlier:
                return earlier
        vm_id = await self._runtime.offload(
            _accept,
            str(uuid.uuid4()),
            await self._resolve(request, client),
            principal,
            idempotency_key,
            request.waits,
            self._scheduler.max_waiting,
            request.terms,
        )
        self._wake()
        return vm_id

    async def _resolve(self, request: CreateVm, client: str) -> dict[str, Any]:
        """The columns of a request: its names resolved, and its needs computed. Raises InvalidRequest for a request
        that Nova would refuse however much capacity there is."""
        options, networks, root = await self._options.resolve(request.options)
        resolved = await self._catalog.resolve(
            flavor=request.flavor,
            image=root or request.image,
            network=networks[0] if networks else request.network,
            key_name=request.key_name,
            zone=request.availability_zone,
        )
        for network in (networks or [resolved.network]) if options.security_groups else ():
            if not network.filters:
                raise InvalidRequest(f"the network {network.name} has no port security", "security_groups")
        columns = self._columns(request, resolved, options)
        try:
            async with asyncio.timeout(_ACCEPT_SECONDS):
                await self._check_acceptable(resolved, networks or [resolved.network], columns["boot"], client)
        except (CloudUnavailable, CloudError, TooManyRequests, TimeoutError) as error:
            # The scheduler asks again before it notices any VM.
            log.info("accepted without a check by the cloud: %s", str(error) or "no answer in time")
        return columns

    async def _check_acceptable(
        self, resolved: ResolvedRequest, networks: Sequence[Network], boot: Mapping[str, Any], client: str
    ) -> None:
        """Raises InvalidRequest for a network without a free address that no VM of ours would give back, and for a
        combination that Nova refuses."""
        options, wanted = options_in(boot), new_ports(boot)
        field = "networks" if options.nics else "network"
        for network in {network.id: network for network in networks if network.id in wanted}.values():
            addresses = await self._catalog.addresses(network.id)
            if addresses.free < wanted[network.id] and not await self._runtime.offload(
                _may_be_removed, addresses.holders
            ):
                raise InvalidRequest(no_address(network.name, addresses), field)
        if options == NO_OPTIONS and not is_peculiar(resolved.flavor, resolved.image):
            return
        if objection := await self._verdicts.at_acceptance(boot, client):
            raise InvalidRequest(objection.message, field if objection.field == "network" else objection.field)

    def _columns(self, request: CreateVm, resolved: ResolvedRequest, options: BootOptions) -> dict[str, Any]:
        more = {"options": options.body} if options.body else {}
        flavor, image, network = resolved.flavor, resolved.image, resolved.network
        min_run = self._min_run_seconds if request.min_run_seconds is None else request.min_run_seconds
        return {
            "name": request.name or ("preemptible" if request.is_preemptible else "standart"),
            "is_preemptible": request.is_preemptible,
            "priority": request.priority,
            "min_run_seconds": min_run,
            "group_name": request.group,
            "max_unavailable": request.max_unavailable,
            "flavor": flavor.name,
            "image": image.name,
            "network": network.name,
            "boot": {
                "asked": request.body,
                "request_id": trace.current_request_id(),
                "flavor_id": flavor.id,
                "image_id": image.id,
                "network_id": network.id,
                "key_name": resolved.key_name,
                "user_data": request.user_data,
                "metadata": request.metadata,
                "availability_zone": resolved.availability_zone,
                "traits": {
                    kind: sorted(names)
                    for kind, names in asdict(traits_of(flavor.extra_specs, image.properties)).items()
                },
                "requirements": _filled(asdict(requirements_of(flavor.extra_specs, image.properties))),
                "conditions": conditions_of(flavor.extra_specs, image.properties, request.availability_zone),
                **more,
            },
            "quota": dict(quota_request(flavor.vcpus, flavor.ram_mb)),
            "room": dict(flavor.resources_with(image.properties, image.boots_volume)),
        }

    async def outcome(self, vmsvc_id: str, timeout: float) -> Outcome | None:
        """The final answer to a create, or None when there is none within `timeout` seconds."""

        async def read_outcome() -> Outcome | None:
            found = await self._runtime.offload(_outcome, vmsvc_id)
            self._list_cache.invalidate()
            return Outcome(**{**found, "evicted": tuple(found["evicted"])}) if found else None

        return await self._waiters.wait_for(vmsvc_id, read_outcome, timeout)

    async def dry_run(
        self, request: CreateVm, count: int = 1, *, client: str, principal: Principal = ANYBODY
    ) -> dict[str, Any]:
        """What `count` equal creates would do now; nothing is written anywhere. What Nova says of an equal request may
        be a second old. Raises TooManyRequests when the client, or all clients together, have tried too many different
        ones."""
        columns = await self._resolve(request, client)
        # The preview waits for reads that the scheduler shares: they must not queue behind the calls of clients.
        async with self._snapshots:
            with working_for(SERVICE):
                return await self._scheduler.preview(columns, client, principal.id, request.waits, count)

    async def delete(self, ref: str, timeout: float, *, principal: Principal = ANYBODY) -> dict[str, Any] | None:
        """Delete a VM of ours and wait until the cloud says 404: its last view, or None when that takes longer.

        Raises NotFound, and Forbidden for a server that vmsvc did not make.
        """
        # Also when the client does not wait for the end of it.
        vm_id = await asyncio.shield(self._accept_deletion(ref, principal))

        async def read_removed() -> dict[str, Any] | None:
            row = await self._runtime.offload(_row, vm_id)
            self._list_cache.invalidate()
            return view(vms.row_of(row)) if row and State(row.state) in FINAL else None

        return await self._waiters.wait_for(vm_id, read_removed, timeout)

    async def _accept_deletion(self, ref: str, principal: Principal) -> str:
        requested_by = trace.current_request_id(), principal
        vm_id = await self._runtime.offload(_request_deletion, ref, *requested_by, self._server_cache.mark_of(ref))
        if vm_id is None and (mark := (await self._server_without_row(ref)).vmsvc_id):
            vm_id = await self._runtime.offload(_request_deletion, ref, *requested_by, mark)
        if vm_id is None:
            raise Forbidden(f"server {ref} was not made by vmsvc; delete it where it was made")
        self._wake()
        return vm_id

    async def change(
        self, ref: str, *, ends_restarts: bool, is_preemptible: bool | None, principal: Principal = ANYBODY
    ) -> dict[str, Any]:
        """Change a VM, or end its restarts; its view then. See `service.vm_changes`. Raises NotFound, Forbidden,
        Conflict."""
        mark = self._server_cache.mark_of(ref)
        row = await self._runtime.offload(
            change_vm, ref, mark, principal, ends_restarts=ends_restarts, is_preemptible=is_preemptible
        )
        self._wake()
        self._list_cache.invalidate()
        if is_preemptible is not None and row["cloud_id"]:
            try:
                await self._cloud.set_metadata(row["cloud_id"], {KIND: KINDS[row["is_preemptible"]]})
            except VmsvcError as error:
                log.info("vm %s: its kind is not in the metadata yet: %s", row["id"], error.message)
        return {**view(row), **vm_view.restarts_view(row)}

    async def vms(self) -> ListPage:
        """As JSON every server of the project as the cloud has it, and the requests that have no server yet; with the
        seq of the newest event that this list certainly includes. The list agrees with every outcome that this replica
        has answered."""
        return await self._list_cache.page()

    async def vm(self, ref: str) -> dict[str, Any]:
        """One server, or one request that has no server (yet). Raises NotFound."""
        row = await self._runtime.offload(self._shown_row, ref, self._server_cache.mark_of(ref))
        if row is None:
            server = await self._server_without_row(ref)
            row = await self._runtime.offload(self._shown_row, ref, server.vmsvc_id) if server.vmsvc_id else None
            if row is None:
                return vm_view.server_view(server, None)
        state = State(row["state"])
        if state in (State.DELETED, State.EVICTED, State.LOST):
            raise NotFound(await self._runtime.offload(_end_of, row["id"], state, ref))
        lineage = vm_view.lineage_view(row["members"])
        server_id = row["cloud_id"] or (ref if ref not in (row["id"], row["lineage_id"]) else None)
        if not server_id or state is State.FAILED:
            return vm_view.request_view(row, row["position"]) | vm_view.options_view(row["boot"]) | lineage
        try:
            return vm_view.server_view(await self._cloud.server(server_id), row) | lineage
        except NotFound:
            # What becomes of it is not written yet: this try to build it has failed, or it is started again.
            if state is State.BUILDING or (state is State.EVICTING and row["lineage_id"]):
                return vm_view.request_view(row) | vm_view.options_view(row["boot"]) | lineage
            raise

    def _shown_row(self, ref: str, mark: str | None) -> dict[str, Any] | None:
        """The VM that a client means, with its position in the queue, as of one moment: of a lineage that it names by
        its origin, the newest."""
        with reading():
            row = lineages.newest(ref) or vms.get(ref, mark=mark)
            if row is None:
                return None
            queued = row.queued_why is not None
            position = waiting.position(row, self._shares.now(vms.clock())) if queued else None
            members = lineages.members(row.lineage_id) if row.lineage_id else []
            return {**vms.shown_row(row), "position": position, "members": members}

    async def _server_without_row(self, server_id: str) -> Server:
        """A server that no row names, from the server cache: unknown ids cost the cloud one read a second, all of
        them together. Raises NotFound, and what the cloud raises."""
        if server_id in self._server_cache.servers:
            await self._server_cache.refresh(_MAX_AGE)
        else:
            await self._server_cache.refresh_throttled()
        server = self._server_cache.servers.get(server_id)
        if server is None:
            raise NotFound(f"there is no vm {server_id}")
        return server

    async def events(
        self, *, since: int, limit: int, types: frozenset[str], vm: str | None, preemptible: bool | None
    ) -> tuple[list[dict[str, Any]], int]:
        """History after `since` in order, and the seq up to which it reaches. Raises HistoryGone."""
        return await self._runtime.offload(_history, since, limit, types=types, vm=vm, preemptible=preemptible)

    async def capacity(self) -> dict[str, Any]:
        """Mode, quota, hosts and how much of each flavor fits, now and with evictions."""
        async with self._snapshots:
            with working_for(SERVICE):
                return await self._scheduler.capacity(self._catalog.flavors)

    async def usage(self, hours: float) -> dict[str, Any]:
        """vCPUs held by VMs of ours, and evictions, over the last hours."""
        return await self._runtime.offload(usage.over, hours)

    async def advice(self, flavor: str | None, hours: float) -> dict[str, Any]:
        """What to expect of a preemptible VM of this flavor, by the last hours. Raises InvalidRequest for a flavor that
        a request could not name either."""
        return await self._runtime.offload(advice.of, self._catalog.flavor(flavor).name, hours)

    def catalog(self) -> dict[str, Any]:
        """What a request may name, as last read. Raises CloudUnavailable before the first reading."""
        return self._catalog.view()

    def readiness(self) -> dict[str, str | None]:
        """Each part of the service: None when it works, else what is wrong."""
        return dict(self._runtime.problems)

    def notes(self) -> dict[str, str]:
        """By part, how a part that works is impaired."""
        return dict(self._runtime.notes)


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


# ---------------------------------------------------------------- in the database pool


def _accept(
    vm_id: str,
    request: dict[str, Any],
    principal: Principal,
    key: str | None,
    waits: Waits = Waits(),
    max_waiting: int = 100,
    terms: Terms | None = None,
) -> str:
    asker = {"principal": principal.name, "principal_id": principal.id}
    with unit() as work:
        return vms.accept(work, vm_id, request, key=key, waits=waits, max_waiting=max_waiting, terms=terms, **asker)


def _accepted_before(asked: dict[str, Any], principal: Principal, key: str) -> str | None:
    with connected():
        return vms.accepted_before(asked, principal.name, principal.id, key)


def _may_be_removed(cloud_ids: frozenset[str]) -> bool:
    """True when one of these servers is a VM of ours that leaves, or that may be evicted."""
    with connected():
        return vms.may_be_removed(cloud_ids)


def _outcome(vm_id: str) -> dict[str, Any] | None:
    with connected():
        return vms.outcome(vm_id)


def _row(ref: str, mark: str | None = None) -> Vm | None:
    with connected():
        return vms.get(ref, mark=mark)


def _end_of(vm_id: str, state: State, ref: str) -> str:
    """What became of a VM that has ended, in words."""
    with connected():
        successor = lineages.successor_of(vm_id)
    return f"vm {ref} was {state}" + (f"; vm {successor.id} was started after it" if successor else "")


def _history(since: int, limit: int, **wanted: Any) -> tuple[list[dict[str, Any]], int]:
    with reading(SHOW_SECONDS):
        return outbox.page(since, limit, **wanted)


def _request_deletion(
    ref: str, request_id: str | None = None, principal: Principal | None = None, mark: str | None = None
) -> str | None:
    """Record that a VM is to be deleted, and its lineage ended. Returns the vmsvc id of the VM that is removed, or None
    when vmsvc did not make it. Raises NotFound when it has gone."""
    while True:
        with unit() as work:
            row = vms.get(ref, mark=mark)
            if row is None:
                return None
            row = _end_lineage(row) or (lineages.newest(row.lineage_id) if row.lineage_id else None) or row
            state = State(row.state)
            if state in FINAL:
                raise NotFound(
                    f"vm {ref} was {state} before" if state is not State.FAILED else f"vm {ref} was never created"
                )
            if state in (State.DELETING, State.EVICTING):
                return row.id  # it is being removed already: wait for that
            moved = vms.move(
                work,
                row,
                State.DELETING,
                reason="deleted by its owner"
                if principal is None or principal.owns(row.principal_id, row.principal)
                else f"deleted by {principal.name}",
                boot={**row.boot, "delete_request_id": request_id, "deleted_by": principal and principal.name},
            )
            if moved:
                if moved.outcome is None:  # clients that wait for the request get this answer
                    # A request that the cloud refused has no reservation any more, though VMs were evicted for it.
                    ledger.close_evictions(row.id, wasted="the request was deleted before its vm was active")
                    vms.record_outcome(
                        row,
                        {
                            "ok": False,
                            "error": Conflict.slug,
                            "evicted": [],
                            "message": f"vm {row.id} was deleted before it was active",
                            "vm": view(vms.row_of(moved)),
                        },
                    )
                intents.drop(work, intents.EVICT, row.id)
                intents.enqueue(work, intents.DELETE, row.id)
                return row.id


def _end_lineage(row: Vm) -> Vm | None:
    """End the lineage of a VM that its owner deletes, whichever VM of it the owner has named: none of it is started
    from now on. Returns the VM of it that is there, locked; None when there is none."""
    if not row.lineage_id:
        return None
    lineage = lineages.lock(row.lineage_id)
    living = lineages.living(row.lineage_id)
    if lineage and living:
        lineages.end(lineage, str(State.DELETED))
    return living
