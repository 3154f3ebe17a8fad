"""VMs: reading; `accept()`, which looks up the Idempotency-Key; `move()`, the only function that changes a state.

`accept()` looks the key up in the transaction that writes the request.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from peewee import Expression, fn

from vmsvc.domain.boot_options import new_ports
from vmsvc.domain.errors import IdempotencyMismatch, TooManyRequests
from vmsvc.domain.events import view
from vmsvc.domain.lifecycle import BOOTABLE, FINAL, REMOVING, RESTARTABLE, STEPS, InvalidTransition, State, event_of
from vmsvc.domain.lineage import DEADLINE, RESTARTS_USED_UP, Terms
from vmsvc.domain.request import Waits, too_many_waiting
from vmsvc.store import lineages, queries, waiting
from vmsvc.store.db import Unit, connected
from vmsvc.store.models import Idempotency, Vm, any_of, database, seconds_from_now, tuples_of

#: For so long after its end a VM may still be shown by a list of the cloud.
LISTED_SECONDS = 120


def row_of(vm: Vm) -> dict[str, Any]:
    """The row as a plain mapping."""
    row: dict[str, Any] = vm.__data__
    return row


def shown_row(vm: Vm) -> dict[str, Any]:
    """The row as a plain mapping, with the columns of its lineage that clients see. In the caller's transaction."""
    lineage = lineages.of(vm.lineage_id) if vm.lineage_id else None
    return row_of(vm) | {name: getattr(lineage, name, None) for name in ("on_eviction", "max_restarts", "end_reason")}


def of_id(vm_id: str, lock: bool = False) -> Vm:
    """By our id, in the caller's transaction; `lock` as in `get`. Raises Vm.DoesNotExist."""
    found = Vm.select().where(Vm.id == vm_id)
    return (found.for_update() if lock else found).get()


def get(ref: str, lock: bool = False, mark: str | None = None) -> Vm | None:
    """By the cloud's id or by ours; with `lock` no other transaction changes it before this one ends. `mark` is the id
    of ours that the server `ref` carries: while the answer to its create is out, no row names it yet."""
    found = Vm.select().where((Vm.cloud_id == ref) | (Vm.id == ref)).limit(1)
    marked = Vm.select().where(Vm.id == mark, Vm.cloud_id.is_null())
    if lock:
        found, marked = found.for_update(), marked.for_update()
    return next(iter(found), None) or (next(iter(marked), None) if mark is not None else None)


def read(vm_id: str) -> Vm:
    """One VM by our id, as it is now."""
    with connected():
        return of_id(vm_id)


def outcome(vm_id: str) -> dict[str, Any] | None:
    """The final answer to the request for a VM, if there is one."""
    found: dict[str, Any] | None = Vm.select(Vm.outcome).where(Vm.id == vm_id).scalar()
    return found


def in_states(states: Collection[State]) -> list[Vm]:
    """All VMs in one of these states, oldest first."""
    return list(Vm.select().where(Vm.state.in_(_names(states))).order_by(Vm.created_at, Vm.id))


def preemptible_since(moment: datetime) -> list[Vm]:
    """Preemptible VMs that are ACTIVE and were launched by then, oldest first."""
    return list(
        Vm.select()
        .where(Vm.state == State.ACTIVE, Vm.is_preemptible, Vm.launched_at <= moment)
        .order_by(Vm.launched_at, Vm.id)
    )


def of_ids(vm_ids: Collection[str]) -> list[Vm]:
    """These VMs, in no order."""
    return list(Vm.select().where(any_of(Vm.id, vm_ids)))


def of_servers(server_ids: Collection[str]) -> list[Vm]:
    """The VMs that name these servers of the cloud, in no order."""
    return list(Vm.select().where(any_of(Vm.cloud_id, server_ids)))


def networks_by_vm(vm_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """How many ports these VMs get in which networks, by the VMs' ids."""
    network, options = (fn.jsonb_extract_path(Vm.boot, name) for name in ("network_id", "options"))
    rows = tuples_of(Vm.select(Vm.id, network, options).where(any_of(Vm.id, vm_ids)))
    found = {vm_id: dict(new_ports({"network_id": own, "options": more})) for vm_id, own, more in rows}
    return {vm_id: ports for vm_id, ports in found.items() if ports}


def may_be_removed(servers: Collection[str]) -> bool:
    """True when one of these servers is a VM of ours that leaves, or that could be evicted."""
    evictable = _names((State.ACTIVE, State.BUILDING, State.NOTICED))
    removable = Vm.state.in_(_names(REMOVING)) | (Vm.is_preemptible & Vm.state.in_(evictable))
    return Vm.select().where(any_of(Vm.cloud_id, servers), removable).exists()


def current() -> list[Vm]:
    """All VMs that have not ended, and those that ended a short while ago: the cloud's list may still show these."""
    return list(Vm.select().where(is_current()).order_by(Vm.created_at, Vm.id))


def is_current() -> Expression:
    """The condition for the rows that `current` returns."""
    return Vm.state.not_in(_names(FINAL)) | (Vm.ended_at > seconds_from_now(-LISTED_SECONDS))


def counts() -> dict[tuple[str, bool], int]:
    """How many VMs that have not ended there are, by state and whether they are preemptible."""
    found = Vm.select(Vm.state, Vm.is_preemptible, fn.COUNT(Vm.id)).where(Vm.state.not_in(_names(FINAL)))
    return {
        (state, is_preemptible): count
        for state, is_preemptible, count in tuples_of(found.group_by(Vm.state, Vm.is_preemptible))
    }


def cloud_ids(vm_ids: Collection[str]) -> list[str]:
    """The cloud's ids of these VMs, in the same order."""
    known = {row.id: row.cloud_id for row in of_ids(vm_ids) if row.cloud_id} if vm_ids else {}
    return [known[vm_id] for vm_id in vm_ids if vm_id in known]


def clock() -> datetime:
    """The database's clock."""
    now: datetime = database.execute_sql(queries.CLOCK).fetchone()[0]
    return now


def accept(
    work: Unit,
    vm_id: str,
    request: Mapping[str, Any],
    *,
    principal: str,
    key: str | None,
    principal_id: str | None = None,
    waits: Waits = Waits(),
    max_waiting: int = 100,
    terms: Terms | None = None,
) -> str:
    """Write a request as PENDING with its event; returns the vmsvc id. `principal` is the requester's name, for
    display, and `principal_id` its id (None: the name is the id too). `max_waiting`: how many requests of one owner may
    wait in the queue. `terms`: how the VM is started again after an eviction; None: it is not.

    If the principal used this Idempotency-Key before for the same body, this returns the earlier id and writes nothing.
    Raises IdempotencyMismatch when the key was used for another body, and TooManyRequests. Between two requests at the
    same time the unique index decides.
    """
    identity = principal_id or principal
    if key is not None:
        earlier = _id_of_earlier(work, vm_id, request, principal, identity, key)
        if earlier:
            return earlier
    # The scheduler keeps the limit. What it would refuse is refused here already.
    if waits.seconds and waiting.queued_of(identity) >= max_waiting:
        raise TooManyRequests(too_many_waiting(max_waiting), retry_after=10.0)
    columns = {"principal": principal, "principal_id": identity, **waits.columns(work.now), **request}
    if terms is not None:
        lineages.begin(work, vm_id, principal, identity, terms)
        columns["lineage_id"] = vm_id
        # A release that knows nothing of lineages removes the user data when the VM is active.
        columns["boot"] = {**request["boot"], "with_user_data": bool(request["boot"].get("user_data"))}
    write_request(work, vm_id, columns)
    return vm_id


def write_request(
    work: Unit, vm_id: str, columns: Mapping[str, Any], data: Mapping[str, Any] = MappingProxyType({})
) -> Vm:
    """Write a row PENDING with its event, whose data gets `data` too; returns it. From then on it waits like every
    other request. `columns`: all that `accept` takes, and `principal` and `principal_id`."""
    vm: Vm
    (vm,) = (
        Vm.insert(
            id=vm_id,
            state=State.PENDING,
            created_at=work.now,
            updated_at=work.now,
            **{**columns, "boot": _without_second_user_data(columns["boot"])},
        )
        .returning(Vm)
        .execute()
    )
    _emit(work, vm, ("create", "pending"), None, data)
    kind = "preemptible" if vm.is_preemptible else "standard"
    work.log_on_commit("vm %s: accepted, %s %s", vm_id, kind, vm.flavor, vm=vm_id, state_to=vm.state)
    return vm


def adopt(work: Unit, vm_id: str, server_id: str, columns: Mapping[str, Any], reason: str) -> Vm:
    """Write a row for a server of ours that has none, ACTIVE, with its event; returns it. Raises IntegrityError where
    the id or the server has a row."""
    vm: Vm
    (vm,) = (
        Vm.insert(id=vm_id, cloud_id=server_id, state=State.ACTIVE, updated_at=work.now, **columns)
        .returning(Vm)
        .execute()
    )
    vm_view = view(row_of(vm))
    work.emit(
        type="create",
        state="active",
        vm_id=vm.id,
        subject=vm_view["id"],
        is_preemptible=vm.is_preemptible,
        data={"vm": vm_view, "reason": reason, "adopted": True, "evicted": []},
    )
    record_outcome(vm, {"ok": True, "error": None, "message": reason, "vm": vm_view, "evicted": []})
    kind = "preemptible" if vm.is_preemptible else "standard"
    work.log_on_commit("vm %s: adopted, %s %s", vm_id, kind, vm.flavor, vm=vm_id, state_to=vm.state)
    return vm


def accepted_before(asked: Mapping[str, Any], name: str, identity: str | None, key: str) -> str | None:
    """The id of the request for which the principal used this Idempotency-Key; None when it did not. `asked`: the body.
    A retry is answered by this before the body is judged: what the first request was given, such as its port, would not
    be free for another one. Raises IdempotencyMismatch."""
    used = Idempotency.get_or_none(Idempotency.principal == (identity or name), Idempotency.key == key)
    return _same(used, _digest(asked)) if used else None


def _digest(asked: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _same(used: Idempotency, digest: str) -> str:
    if used.body_hash != digest:
        raise IdempotencyMismatch("this Idempotency-Key was used before with another body; use a new key")
    return used.vm_id


def _id_of_earlier(
    work: Unit, vm_id: str, request: Mapping[str, Any], name: str, identity: str, key: str
) -> str | None:
    digest = _digest(request["boot"]["asked"])
    used = _key_of_older_release(name, key) if name != identity else None
    if used is None:
        inserted = (
            Idempotency.insert(principal=identity, key=key, body_hash=digest, vm_id=vm_id, created_at=work.now)
            .on_conflict_ignore()
            .returning(Idempotency.vm_id)
            .execute()
        )
        if list(inserted):
            return None
        used = Idempotency.get(Idempotency.principal == identity, Idempotency.key == key)
    return _same(used, digest)


def _key_of_older_release(name: str, key: str) -> Idempotency | None:
    """A key that an older release stored under the user's name, so that its request is not made a second time."""
    found: Idempotency | None = (
        Idempotency.select()
        .join(Vm, on=Vm.id == Idempotency.vm_id)
        .where(Idempotency.principal == name, Idempotency.key == key, Vm.principal_id.is_null())
        .first()
    )
    return found


def move(
    work: Unit,
    vm: Vm,
    target: State,
    *,
    reason: str | None = None,
    data: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Vm | None:
    """Move a VM to a state and write the event of it, if it is still in the state that `vm` has: compare-and-set.

    `changes` are columns that change with it. Returns the row as it is now, or None when another transaction moved it
    first (the caller reads it again). Raises InvalidTransition for a move that the table of life does not have.

    A lineage ends with a VM that ends, unless the VM was evicted: then the caller decides about a successor.
    """
    source = State(vm.state)
    event = event_of(source, target)
    # The lineage's row is locked before the VM's.
    lineage = lineages.lock(vm.lineage_id) if vm.lineage_id and target in FINAL else None
    if target in FINAL:
        changes["ended_at"] = work.now
    if source is State.PENDING:
        changes["queued_why"] = None
    if target not in (RESTARTABLE if vm.lineage_id else BOOTABLE) and vm.boot.get("user_data"):
        changes["boot"] = _without_second_user_data({**changes.get("boot", vm.boot), "user_data": None})
    rows: list[Vm] = list(
        Vm.update(state=target, updated_at=work.now, **changes)
        .where(Vm.id == vm.id, Vm.state == source)
        .returning(Vm)
        .execute()
    )
    if not rows:
        return None
    now = rows[0]
    if event:
        _emit(work, now, event, reason, data or {}, cause=_cause(vm) or _cause(now))
    if lineage and target is not State.EVICTED:
        lineages.end(lineage, reason if reason in (DEADLINE, RESTARTS_USED_UP) else str(target))
    work.notify()
    because = f" ({reason})" if reason else ""
    fields = {"vm": now.id, "state_from": source, "state_to": target}
    work.log_on_commit("vm %s: %s -> %s%s", now.id, source, target, because, **fields)
    return now


def take_step(
    work: Unit,
    vm: Vm,
    step: tuple[str, str],
    *,
    reason: str | None = None,
    data: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Vm | None:
    """Change columns of a VM and write the event of a step of `lifecycle.STEPS`, if it is still in the state that `vm`
    has. Returns the row as it is now, or None when another transaction moved it first. Raises InvalidTransition for a
    step that the table does not allow in that state."""
    state = State(vm.state)
    if state not in STEPS[step]:
        raise InvalidTransition(f"a VM that is {state} cannot take the step {'/'.join(step)}")
    rows: list[Vm] = list(
        Vm.update(state=state, **changes).where(Vm.id == vm.id, Vm.state == state).returning(Vm).execute()
    )
    if not rows:
        return None
    _emit(work, rows[0], step, reason, data or {})
    work.log_on_commit("vm %s: %s%s", vm.id, step[1], f" ({reason})" if reason else "", vm=vm.id)
    return rows[0]


def _without_second_user_data(boot: Mapping[str, Any]) -> dict[str, Any]:
    """User data can hold secrets, and are kept in one place, for as long as a create may need them: the copy of the
    request body in `asked` does not repeat them. (The hash beside an Idempotency-Key shows whether a body is the
    same.)"""
    asked = {name: value for name, value in boot.get("asked", {}).items() if name != "user_data"}
    return {**boot, "asked": asked}


def record_outcome(vm: Vm, answer: Mapping[str, Any]) -> None:
    """Write the final answer to a request."""
    change(vm, outcome=answer)


def name_server(work: Unit, vm_id: str, server_id: str) -> bool:
    """Record the server of a VM, unless the VM has one already or has ended. Returns whether it was recorded."""
    written: int = (
        Vm.update(cloud_id=server_id, updated_at=work.now)
        .where(Vm.id == vm_id, Vm.cloud_id.is_null(), Vm.state.in_(_names((State.BUILDING, State.DELETING))))
        .execute()
    )
    return written == 1


def change(vm: Vm, **changes: Any) -> None:
    """Change columns of a VM, but never `state`."""
    Vm.update(**changes).where(Vm.id == vm.id).execute()


def touch_all() -> None:
    """Write every row as it is. After a restore into another PostgreSQL the numbers in `changed` are those of the old
    one. They may lie far ahead, and then each reading of what changed would return these rows."""
    Vm.update(changed=Vm.changed).execute()


def _cause(vm: Vm) -> str | None:
    """Why a noticed VM is to be evicted, as the record of evictions has it."""
    if not vm.notice:
        return None
    return "simulated" if vm.notice.get("simulated") else "capacity" if vm.evicted_for else "lifetime"


def _actor(vm: Vm, event: tuple[str, str]) -> str | None:
    """The principal that caused the event; None for one that no principal caused: a lifetime that ended, capacity that
    became free, a server that vanished."""
    actor: str | None = None
    match event:
        case "create", _:
            actor = vm.principal
        case "delete", "deleting" | "deleted":
            actor = vm.boot.get("deleted_by")
        case "evict", _:
            actor = (vm.notice or {}).get("by")
    return actor


def _emit(
    work: Unit, vm: Vm, event: tuple[str, str], reason: str | None, data: Mapping[str, Any], cause: str | None = None
) -> None:
    vm_view = {**view(row_of(vm)), **({"successor": data["successor"]} if "successor" in data else {})}
    data = {name: value for name, value in data.items() if name != "successor"}
    if event[0] == "evict":
        data = {"simulated": bool((vm.notice or {}).get("simulated")), **data}
    if event[0] == "create" and vm.restart_of:
        data = {"restart_of": vm.restart_of, **data}
    if actor := _actor(vm, event):
        data = {"by": actor, **data}
    work.emit(
        type=event[0],
        state=event[1],
        vm_id=vm.id,
        subject=vm_view["id"],
        is_preemptible=vm.is_preemptible,
        cause=cause,
        data={"vm": vm_view, **({"reason": reason} if reason else {}), **data},
    )


def _names(states: Iterable[State]) -> list[str]:
    return [str(state) for state in states]
