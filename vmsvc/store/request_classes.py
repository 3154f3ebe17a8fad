"""What became of earlier requests of the same class: those with the same flavor, image, network, zone and options.

A request whose flavor, image or zone sets conditions on its host may find no host whatever capacity there is. That VMs
with the same conditions were built shows that there are hosts for it. When an eviction for one did not help, this
module remembers that, so that the next one costs nobody a VM.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from vmsvc.domain.request import EVIDENCE_SECONDS, FUTILE_SECONDS, Conditions, FutileEviction, History, class_of
from vmsvc.domain.resources import Resources
from vmsvc.store import queries
from vmsvc.store.db import Unit
from vmsvc.store.models import RequestClass, Vm, database, tuples_of

#: The columns of a class, in the order of `class_of`. (The options share the column of the network, because an earlier
#: release relies on the index of these four.)
_KEY = (RequestClass.flavor_id, RequestClass.image_id, RequestClass.network_id, RequestClass.availability_zone)


def history(now: datetime, conditions: Iterable[Conditions]) -> History:
    """What became of earlier requests, read in the caller's transaction. `conditions`: those of the requests that
    wait."""
    rows = tuples_of(
        RequestClass.select(*_KEY, RequestClass.futile_error, RequestClass.futile_reason, RequestClass.futile_at).where(
            RequestClass.futile_at > now - timedelta(seconds=FUTILE_SECONDS)
        )
    )
    known = History(
        {tuple(key): FutileEviction(error, reason, int(at.timestamp())) for *key, error, reason, at in rows}
    )
    asked = {one for one in conditions if one}
    if not asked:
        return known
    met = frozenset(one for one in asked if accepted(one))
    if met == asked:
        return replace(known, accepted=met)
    since = now - timedelta(seconds=EVIDENCE_SECONDS)
    refused = database.execute_sql(queries.REFUSED, {"since": since}).fetchall()
    return replace(
        known,
        accepted=met,
        tried_by={one: _tried_by(one) for one in asked - met},
        refused=[(Resources(held), int(at.timestamp())) for held, at in refused],
    )


def _tried_by(conditions: Conditions) -> frozenset[str]:
    found = database.execute_sql(queries.TRIED_BY, {"conditions": json.dumps(conditions)}).fetchall()
    return frozenset(vm_id for (vm_id,) in found)


def accepted(conditions: Sequence[str]) -> bool:
    """True when the cloud has ever built a VM with the same conditions."""
    return (
        RequestClass.select()
        .where(RequestClass.conditions == _text(conditions), RequestClass.accepted_at.is_null(False))
        .exists()
    )


def remember_accepted(work: Unit, boot: Mapping[str, Any]) -> None:
    """The cloud has built a VM of this class."""
    if boot.get("conditions"):
        _write(boot, conditions=_text(boot["conditions"]), accepted_at=work.now, futile_at=None)
    else:
        (
            RequestClass.update(futile_at=None)
            .where(
                *(field == value for field, value in zip(_KEY, class_of(boot))), RequestClass.futile_at.is_null(False)
            )
            .execute()
        )


def remember_futile(work: Unit, row: Vm, error: str, reason: str) -> None:
    """VMs were evicted for a request of this class, and the cloud refused it all the same, not for lack of capacity."""
    _write(
        row.boot,
        {"conditions": _text(row.boot.get("conditions", []))},
        futile_at=work.now,
        futile_error=error,
        futile_reason=reason,
    )


def _write(boot: Mapping[str, Any], first: Mapping[str, Any] = MappingProxyType({}), **changes: Any) -> None:
    """Change the row of this class. Where there is none, insert one with `first` as further values."""
    (
        RequestClass.insert({**dict(zip(_KEY, class_of(boot))), **first, **changes})
        .on_conflict(conflict_target=list(_KEY), update=changes)
        .execute()
    )


def _text(conditions: Sequence[str]) -> str:
    return json.dumps(sorted(conditions))
