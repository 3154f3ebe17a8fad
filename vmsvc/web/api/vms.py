"""`/api/v1/vm`: create, list, show, change, delete.

`self.timeout` has the seconds of `Prefer: wait=N`. When they are over, `Commands.outcome` returns None and the answer
is 202.
"""

import contextlib
from typing import Any

from vmsvc.domain.errors import (
    CloudError,
    Conflict,
    IdempotencyMismatch,
    InvalidRequest,
    NoCapacity,
    NotFound,
    QuotaExceeded,
    Timeout,
    VmsvcError,
)
from vmsvc.service.commands import Outcome
from vmsvc.service.create_vm import CreateVm
from vmsvc.web.api.handler import ApiHandler, OneVmHandler
from vmsvc.web.api.requests import (
    ChangeVmSchema,
    CreateVmQuery,
    CreateVmSchema,
    DeleteVmSchema,
    create_request_of,
    load,
)
from vmsvc.web.http.handler import INTERNAL, STATUS_OF_SLUG, Refusal, route
from vmsvc.web.openapi import responses
from vmsvc.web.openapi.operations import Response, describe

VMS = "/api/v1/vm"
#: As Tornado calls it.
JSON = "application/json; charset=UTF-8"
#: Bytes. A longer list is written apart from its head, so that all peers share one object in memory. To copy a shorter
#: one costs less than a second write, which was a third of the CPU of a list of 190 kB (`tests.bench.bench_list`).
SHARED_BODY = 256 * 1024


def kind_of(request: CreateVm) -> str:
    """The kind of VM as messages have it; the contract fixes this spelling."""
    return "Preemptible" if request.is_preemptible else "Standart"


class VmsHandler(ApiHandler):
    """The collection of VMs."""

    address = VMS
    tag = "vms"
    free_reads = True
    _etag: str | None = None

    @describe(
        Response(
            200,
            "The servers.",
            responses.VmList,
            {"servers": [responses.VM], "seq": 42},
            headers=("ETag",),
            links=(responses.links_of_vm("/servers/0/id") | responses.links("/seq", "since", go_on="getEvents")),
        ),
        Response(304, "The list has not changed.", headers=("ETag",)),
        headers=("If-None-Match",),
        errors=(CloudError, Timeout),
    )
    async def get(self) -> None:
        """List the servers of the project.

        Every server as the cloud has it, also those that vmsvc did not make. `seq` was read before the rows: go on with
        `GET /api/v1/events?since=<seq>` and nothing is missed. Send the `ETag` of the list that you have as
        `If-None-Match`: 304 without a body means that the list has not changed.
        """
        page = await self.commands.vms()
        self._etag = page.etag
        self.set_header("Content-Type", JSON)
        self.set_etag_header()
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
        else:
            if len(page.body) > SHARED_BODY:
                self.shared_body = page.etag
                self.set_header("Content-Length", len(page.body))
                self.flush()  # else Tornado copies the body to join it to the head
            self.finish(page.body)

    def compute_etag(self) -> str | None:
        """That of the list: Tornado would hash the whole body each time. It compares it with If-None-Match."""
        return self._etag

    @describe(
        Response(200, "With `dry_run=true`: what would happen.", responses.DryRun, responses.PLAN),
        Response(
            201,
            "The VM is active.",
            responses.Created,
            responses.message_body(
                "201",
                f"Standart vm {responses.VM['id']} was created succesfully",
                vm=responses.ROW,
                evicted=[responses.VICTIM],
            ),
            headers=("Preference-Applied",),
            always=("Location",),
            links=responses.links_of_vm("/vm/id"),
        ),
        Response(
            202,
            "The outcome is still open.",
            responses.Accepted,
            responses.message_body(
                "202",
                f"Standart vm {responses.VM['vmsvc_id']} is being created",
                vm=responses.ROW | {"id": responses.VM["vmsvc_id"], "state": "pending"},
            ),
            headers=("Preference-Applied",),
            always=("Location",),
            links=responses.links_of_vm("/vm/vmsvc_id"),
        ),
        query=CreateVmQuery,
        headers=("Prefer", "Idempotency-Key"),
        body=CreateVmSchema,
        examples=(
            ("standard", {"is_preemptible": False}),
            ("preemptible", {"is_preemptible": True, "name": "batch-7", "flavor": "m1.small", "priority": 10}),
            ("a deadline for capacity", {"is_preemptible": True, "wait_seconds": 3600, "fallback_after_seconds": 1800}),
        ),
        errors=(413, 415, QuotaExceeded, NoCapacity, Conflict, IdempotencyMismatch, CloudError, Timeout),
    )
    async def post(self) -> None:
        """Create a standard or a preemptible VM.

        Waits for the outcome unless `Prefer` says otherwise; 202 means that it is not known yet. For a standard VM
        that does not fit the service evicts preemptible ones, after their notice. A request with `wait_seconds` that
        finds no capacity waits in the queue until then.
        """
        query, request, key = self.query(CreateVmQuery), create_request_of(self.json_body()), self.idempotency_key()
        if query["dry_run"] == "true":
            count = query["count"]
            self.finish(await self.commands.dry_run(request, count, client=self.client, principal=self.principal))
            return
        vm_id = await self.commands.create(request, client=self.client, idempotency_key=key, principal=self.principal)
        outcome = await self.while_connected(self.commands.outcome(vm_id, self.timeout))
        if outcome is None:
            await self.answer_pending(request, vm_id)
        else:
            self.answer_outcome(request, vm_id, outcome)

    def answer_outcome(self, request: CreateVm, vm_id: str, outcome: Outcome) -> None:
        """Answer 201, or the error that the create ended with."""
        self.set_header("Location", f"{VMS}/{outcome.vm['id'] if outcome.ok else vm_id}")
        if outcome.ok:
            message = f"{kind_of(request)} vm {outcome.vm['id']} was created succesfully"
            self.answer(201, message, vm=outcome.vm, evicted=list(outcome.evicted))
        else:
            slug = outcome.error if outcome.error and outcome.error in STATUS_OF_SLUG else INTERNAL[0]
            self.refuse(Refusal(STATUS_OF_SLUG[slug], slug, outcome.message))

    async def answer_pending(self, request: CreateVm, vm_id: str) -> None:
        """Answer 202 with the address where the outcome will be. The request is accepted, so it is no failure when its
        VM cannot be read now (the cloud is away, the VM was deleted meanwhile)."""
        view: dict[str, Any] = {}
        with contextlib.suppress(VmsvcError):
            view["vm"] = await self.commands.vm(vm_id)
        self.set_header("Location", f"{VMS}/{vm_id}")
        self.answer(202, f"{kind_of(request)} vm {vm_id} is being created", **view)


class VmHandler(OneVmHandler):
    """One VM."""

    address = f"{VMS}/{{id}}"
    tag = "vms"

    @describe(Response(200, "The server.", responses.VmView, responses.VM), errors=(NotFound, CloudError, Timeout))
    async def get(self, ref: str) -> None:
        """Show one server, by the cloud's id or vmsvc's own."""
        self.finish(await self.while_connected(self.commands.vm(ref)))

    @describe(
        Response(
            200,
            "The VM is changed.",
            responses.Done,
            responses.message_body("200", f"vm {responses.VM['id']} was changed", vm=responses.ROW),
        ),
        body=ChangeVmSchema,
        examples=(("to a standard VM", {"is_preemptible": False}), ("no more restarts", {"on_eviction": "end"})),
        errors=(413, 415, NotFound, Conflict, CloudError, Timeout),
    )
    async def patch(self, ref: str) -> None:
        """Change the kind of a VM that runs, or end its restarts.

        `is_preemptible` changes the kind of an active VM; 409 from its notice on. `on_eviction: end` leaves the VM as
        it is: it is not started again after an eviction. The id may be that of any VM of its lineage.
        """
        body = load(ChangeVmSchema, self.json_body())
        kind, ends = body.get("is_preemptible"), "on_eviction" in body
        vm = await self.commands.change(ref, ends_restarts=ends, is_preemptible=kind, principal=self.principal)
        self.answer(200, f"vm {ref} was changed", vm=vm)

    @describe(
        Response(
            200,
            "The VM is deleted.",
            responses.Done,
            responses.message_body(
                "204", f"vm {responses.VM['id']} was deleted succesfully", vm=responses.ROW | {"state": "deleted"}
            ),
            headers=("Preference-Applied",),
        ),
        Response(
            202,
            "The VM is not deleted yet.",
            responses.Accepted,
            responses.message_body("202", f"vm {responses.VM['id']} is being deleted"),
            headers=("Preference-Applied",),
            always=("Location",),
        ),
        headers=("Prefer",),
        body=DeleteVmSchema,
        body_required=False,
        # Swagger UI sends the first one as it is, and knows no better id than the example's.
        examples=(("nothing", {}), ("the id once more", {"cloud_vm_id": responses.VM["id"]})),
        errors=(413, 415, NotFound, Conflict, CloudError, Timeout),
    )
    async def delete(self, ref: str) -> None:
        """Delete a VM that the service made.

        Answers when the VM is gone from the cloud and the database, or with 202 when that takes longer than the client
        wants to wait.
        """
        if self.has_body() and load(DeleteVmSchema, self.json_body()).get("cloud_vm_id", ref) != ref:
            raise InvalidRequest("cloud_vm_id is not the id in the path", field="cloud_vm_id")
        vm = await self.while_connected(self.commands.delete(ref, self.timeout, principal=self.principal))
        if vm is None:
            self.set_header("Location", f"{VMS}/{ref}")
            self.answer(202, f"vm {ref} is being deleted")
        else:
            self.answer(200, f"vm {ref} was deleted succesfully", code=204, vm=vm)


routes = [route(VmsHandler), route(VmHandler)]
