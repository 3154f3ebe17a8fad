"""VMs: reading them, accepting a request, and `move()`, the only writer of a state."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from peewee import Expression, fn

from vmsvc.domain.errors import IdempotencyMismatch
from vmsvc.domain.events import view
from vmsvc.domain.lifecycle import BOOTABLE, FINAL, REMOVING, State, event_of
from vmsvc.store.db import Unit, connected
from vmsvc.store.models import Idempotency, Vm, database
from vmsvc.store.statements import columns, insert, instance, update

_NAME_SERVER = """
UPDATE vm SET cloud_id = %s, updated_at = %s WHERE id = %s AND cloud_id IS NULL AND state IN ('building', 'deleting')
"""
#: For so long after its end a VM may still be shown by a list of the cloud.
SHOWN_SECONDS = 120


def row_of(vm: Vm) -> dict[str, Any]:
    """The row as a plain mapping."""
    return vm.__data__


def _rows(text: str, values: Sequence[Any]) -> list[Vm]:
    """What a statement that asks for `columns(Vm)` gives."""
    return [instance(Vm, row) for row in database.execute_sql(text, values).fetchall()]


def of_id(vm_id: str) -> Vm:
    """By our id, in the caller's transaction."""
    return _rows(f"SELECT {columns(Vm)} FROM vm WHERE id = %s", (vm_id,))[0]


def get(ref: str, lock: bool = False, mark: str | None = None) -> Vm | None:
    """By the cloud's id or by ours; with `lock` nobody else changes it before this transaction ends. `mark` is the id
    of ours that the server `ref` carries: while the answer to its create is out, no row names it yet."""
    end = " FOR UPDATE" * lock
    found = _rows(f"SELECT {columns(Vm)} FROM vm WHERE cloud_id = %s OR id = %s LIMIT 1{end}", (ref, ref))
    if not found and mark is not None:
        found = _rows(f"SELECT {columns(Vm)} FROM vm WHERE id = %s AND cloud_id IS NULL{end}", (mark,))
    return found[0] if found else None


def read(vm_id: str) -> Vm:
    """One VM by our id, as it is now."""
    with connected():
        return of_id(vm_id)


def outcome(vm_id: str) -> dict[str, Any] | None:
    """The final answer to the request for a VM, if there is one."""
    return database.execute_sql("SELECT outcome FROM vm WHERE id = %s", (vm_id,)).fetchone()[0]


def in_states(states: Collection[State]) -> list[Vm]:
    """All VMs in one of these states, oldest first."""
    return list(Vm.select().where(Vm.state.in_([str(state) for state in states])).order_by(Vm.created_at, Vm.id))


def preemptible_since(moment: datetime) -> list[Vm]:
    """Preemptible VMs that are ACTIVE and were launched by then, oldest first."""
    return list(Vm.select().where(Vm.state == State.ACTIVE, Vm.is_preemptible, Vm.launched_at <= moment)
                .order_by(Vm.launched_at, Vm.id))


def of_ids(vm_ids: Collection[str]) -> list[Vm]:
    """These VMs, in no order."""
    return _rows(f"SELECT {columns(Vm)} FROM vm WHERE id = ANY(%s)", (list(vm_ids),))


def of_servers(server_ids: Collection[str]) -> list[Vm]:
    """The VMs that name these servers of the cloud, in no order."""
    return _rows(f"SELECT {columns(Vm)} FROM vm WHERE cloud_id = ANY(%s)", (list(server_ids),))


def on_network(network_id: str, vm_ids: Collection[str]) -> int:
    """How many of these VMs get a port on this network."""
    if not vm_ids:
        return 0
    return database.execute_sql("SELECT count(*) FROM vm WHERE id = ANY(%s) AND boot ->> 'network_id' = %s",
                                (list(vm_ids), network_id)).fetchone()[0]


def may_leave(servers: Collection[str]) -> bool:
    """True when one of these servers is a VM of ours that leaves, or that could be evicted."""
    if not servers:
        return False
    evictable = [str(state) for state in (State.ACTIVE, State.BUILDING, State.NOTICED)]
    return database.execute_sql(
        "SELECT EXISTS (SELECT FROM vm WHERE cloud_id = ANY(%s)"
        " AND (state = ANY(%s) OR is_preemptible AND state = ANY(%s)))",
        (list(servers), [str(state) for state in REMOVING], evictable)).fetchone()[0]


def current() -> list[Vm]:
    """All that have not ended, and those that ended a short while ago: a list of the cloud may still show these."""
    return list(Vm.select().where(is_current()).order_by(Vm.created_at, Vm.id))


def is_current() -> Expression:
    """The condition of it."""
    ended = Vm.ended_at > fn.clock_timestamp() - fn.make_interval(0, 0, 0, 0, 0, 0, SHOWN_SECONDS)
    return Vm.state.not_in([str(state) for state in FINAL]) | ended


def cloud_ids(vm_ids: Collection[str]) -> list[str]:
    """The cloud's ids of these VMs, in the same order."""
    known = {row.id: row.cloud_id for row in of_ids(vm_ids)} if vm_ids else {}
    return [known[vm_id] for vm_id in vm_ids if known.get(vm_id)]


def clock() -> datetime:
    """The database's clock."""
    return database.execute_sql("SELECT clock_timestamp()").fetchone()[0]


def accept(work: Unit, vm_id: str, request: Mapping[str, Any], *, principal: str, key: str | None,
           principal_id: str | None = None) -> str:
    """Write down a request as PENDING with its event; returns the vmsvc id. `principal` is the name of who asks, for
    showing, `principal_id` says who that is (None: the name does).

    With an Idempotency-Key that was used before for the same body the earlier id is returned and nothing is written;
    for another body IdempotencyMismatch is raised. The unique index decides between two at once.
    """
    if key is not None:
        earlier = _earlier(work, vm_id, request, principal, principal_id or principal, key)
        if earlier:
            return earlier
    request = {**request, "boot": _asked_once(request["boot"])}
    (vm,) = _rows(*insert(Vm, {"id": vm_id, "state": State.PENDING, "principal": principal,
                               "principal_id": principal_id or principal, "created_at": work.now,
                               "updated_at": work.now, **request}, f"RETURNING {columns(Vm)}"))
    _tell(work, vm, ("create", "pending"), None, {})
    work.note("vm %s: accepted, %s %s", vm_id, "preemptible" if vm.is_preemptible else "standard", vm.flavor)
    return vm_id


def adopt(work: Unit, vm_id: str, server_id: str, columns_of_it: Mapping[str, Any], reason: str) -> Vm:
    """Write a row for a server of ours that has none, ACTIVE, with its event; returns it. Raises IntegrityError where
    the id or the server has a row."""
    (vm,) = _rows(*insert(Vm, {"id": vm_id, "cloud_id": server_id, "state": State.ACTIVE, "updated_at": work.now,
                               **columns_of_it}, f"RETURNING {columns(Vm)}"))
    shown = view(row_of(vm))
    work.emit(type="create", state="active", vm_id=vm.id, subject=shown["id"], is_preemptible=vm.is_preemptible,
              data={"vm": shown, "reason": reason, "adopted": True, "evicted": []})
    answer(work, vm, {"ok": True, "error": None, "message": reason, "vm": shown, "evicted": []})
    work.note("vm %s: adopted, %s %s", vm_id, "preemptible" if vm.is_preemptible else "standard", vm.flavor)
    return vm


def _earlier(work: Unit, vm_id: str, request: Mapping[str, Any], name: str, identity: str, key: str) -> str | None:
    digest = hashlib.sha256(json.dumps(request["boot"]["asked"], sort_keys=True).encode()).hexdigest()
    used = _used_by_name(name, key) if name != identity else None
    if used is None:
        inserted = (Idempotency
                    .insert(principal=identity, key=key, body_hash=digest, vm_id=vm_id, created_at=work.now)
                    .on_conflict_ignore().returning(Idempotency.vm_id).execute())
        if list(inserted):
            return None
        used = Idempotency.get(Idempotency.principal == identity, Idempotency.key == key)
    if used.body_hash != digest:
        raise IdempotencyMismatch("this Idempotency-Key was used before with another body; use a new key")
    return used.vm_id


def _used_by_name(name: str, key: str) -> Idempotency | None:
    """A key that an older release stored under the user's name, so that its request is not made a second time."""
    return (Idempotency.select().join(Vm, on=Vm.id == Idempotency.vm_id)
            .where(Idempotency.principal == name, Idempotency.key == key, Vm.principal_id.is_null()).first())


def move(work: Unit, vm: Vm, target: State, *, reason: str | None = None, data: Mapping[str, Any] | None = None,
         **changes: Any) -> Vm | None:
    """Move a VM to a state and write the event of it, if it still is where `vm` says: compare-and-set.

    `changes` are columns that change with it. Returns the row as it is now, or None when somebody else moved it
    first (the caller looks again). Raises InvalidTransition for a move that the table of life does not have.
    """
    source = State(vm.state)
    told = event_of(source, target)
    if target in FINAL:
        changes["ended_at"] = work.now
    if target not in BOOTABLE and vm.boot.get("user_data"):
        changes["boot"] = _asked_once({**changes.get("boot", vm.boot), "user_data": None})
    rows = _rows(*update(Vm, {"state": target, "updated_at": work.now, **changes}, {"id": vm.id, "state": source},
                         f"RETURNING {columns(Vm)}"))
    if not rows:
        return None
    now = rows[0]
    if told:
        _tell(work, now, told, reason, data or {}, cause=_cause(vm) or _cause(now))
    work.ring()
    work.note("vm %s: %s -> %s%s", now.id, source, target, f" ({reason})" if reason else "")
    return now


def _asked_once(boot: Mapping[str, Any]) -> dict[str, Any]:
    """User data can hold secrets, and are kept in one place, for as long as a boot may need them: what was asked does
    not repeat them. (That a body is the same tells the hash beside its Idempotency-Key.)"""
    asked = {name: value for name, value in boot.get("asked", {}).items() if name != "user_data"}
    return {**boot, "asked": asked}


def answer(work: Unit, vm: Vm, said: Mapping[str, Any]) -> None:
    """The outcome of a request, once and for all; written with the end of the unit."""
    work.last(*update(Vm, {"outcome": said}, {"id": vm.id}))


def name_server(work: Unit, vm_id: str, server_id: str) -> bool:
    """Write down which server a VM is, unless it is named already or has ended; says whether it was written."""
    return database.execute_sql(_NAME_SERVER, (server_id, work.now, vm_id)).rowcount == 1


def change(vm: Vm, **changes: Any) -> None:
    """Change columns that are no part of its life (never `state`)."""
    database.execute_sql(*update(Vm, changes, {"id": vm.id}))


def touch_all() -> None:
    """Write every row as it is. After a restore into another PostgreSQL the transactions in `changed` are those of the
    old one, and may seem to come for long: each reading of what changed would bring these rows."""
    database.execute_sql("UPDATE vm SET changed = changed")


def _cause(vm: Vm) -> str | None:
    """Why a VM that was noticed is to go, as the record of evictions has it."""
    if not vm.notice:
        return None
    return "simulated" if vm.notice.get("simulated") else "capacity" if vm.evicted_for else "lifetime"


def _actor(vm: Vm, told: tuple[str, str]) -> str | None:
    """Who had it done; None for what nobody asked for: a lifetime that ended, room that appeared, a server that
    vanished."""
    match told:
        case "create", _:
            return vm.principal
        case "delete", "deleting" | "deleted":
            return vm.boot.get("deleted_by")
        case "evict", _:
            return (vm.notice or {}).get("by")
    return None


def _tell(work: Unit, vm: Vm, told: tuple[str, str], reason: str | None, data: Mapping[str, Any],
          cause: str | None = None) -> None:
    shown = view(row_of(vm))
    if told[0] == "evict":
        data = {"simulated": bool((vm.notice or {}).get("simulated")), **data}
    if actor := _actor(vm, told):
        data = {"by": actor, **data}
    work.emit(type=told[0], state=told[1], vm_id=vm.id, subject=shown["id"], is_preemptible=vm.is_preemptible,
              cause=cause, data={"vm": shown, **({"reason": reason} if reason else {}), **data})
