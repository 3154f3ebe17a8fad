"""Which client's request the work at hand belongs to.

A request's id goes wherever its work goes: into the log, into the row, and as OpenStack's global request id into every
call that is made for it, by whichever replica and after whichever restart. What a client reads in an error, an
operator finds in the logs of Nova and Neutron.
"""

from vmsvc.cloud.port import REQUEST_ID
from vmsvc.service.runtime import Runtime
from vmsvc.store import vms
from vmsvc.store.models import Vm


def begin(request_id: str | None) -> None:
    """From here on this task, and what it starts, works for that request."""
    REQUEST_ID.set(request_id)


def current() -> str | None:
    """The request that this task works for."""
    return REQUEST_ID.get()


def begin_create(row: Vm) -> None:
    """Work for the request that asked for this VM."""
    begin(row.boot.get("request_id"))


def begin_delete(row: Vm) -> None:
    """Work for the request that asked for its end."""
    begin(row.boot.get("delete_request_id"))


async def begin_eviction(runtime: Runtime, row: Vm) -> None:
    """Work for the request that needs this VM's room, if there is one."""
    asker = await runtime.offload(vms.read, row.evicted_for) if row.evicted_for else None
    begin(asker.boot.get("request_id") if asker else None)
