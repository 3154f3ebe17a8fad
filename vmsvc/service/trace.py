"""Records for which request, and for which client, the current task works.

A request's id goes wherever its work goes: into the log, into the row, and as OpenStack's global request id into every
call that is made for it, by whichever replica and after whichever restart. What a client reads in an error, an
operator finds in the logs of Nova and Neutron.
"""

from contextvars import ContextVar

from vmsvc.cloud.port import CLIENT, REQUEST_ID, WORK_FOR
from vmsvc.service.runtime import Runtime
from vmsvc.store import vms
from vmsvc.store.models import Vm

#: For whom this task works, for the log.
PRINCIPAL: ContextVar[str | None] = ContextVar("principal", default=None)


def begin(request_id: str | None, principal: str | None = None) -> None:
    """From here on this task, and what it starts, works for that request of that principal."""
    REQUEST_ID.set(request_id)
    PRINCIPAL.set(principal)


def begin_client(request_id: str) -> None:
    """From here on this task, and what it starts, works for a client's request, with the clients' share of calls."""
    begin(request_id)
    WORK_FOR.set(CLIENT)


def current_request_id() -> str | None:
    """The request that this task works for."""
    return REQUEST_ID.get()


def begin_create(row: Vm) -> None:
    """Work for the request that asked for this VM."""
    begin(row.boot.get("request_id"), row.principal)


def begin_delete(row: Vm) -> None:
    """Work for the request that asked for the deletion of this VM."""
    begin(row.boot.get("delete_request_id"), row.boot.get("deleted_by"))


async def begin_eviction(runtime: Runtime, row: Vm) -> None:
    """Work for the request that this VM is evicted for, if there is one."""
    asker = await runtime.offload(vms.read, row.evicted_for) if row.evicted_for else None
    begin(*(asker.boot.get("request_id"), asker.principal) if asker else (None, None))
