"""What became of earlier requests of the same class: those with the same flavor, image, network and zone.

A request whose flavor, image or zone sets conditions on its host may find no host whatever room there is. That VMs
with the same conditions were built shows that there are hosts for it. When an eviction for one did not help, this
module remembers that, so that the next one costs nobody a VM.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from vmsvc.domain.request import EVIDENCE_SECONDS, FUTILE_SECONDS, Precedents
from vmsvc.domain.resources import Resources
from vmsvc.store import queries
from vmsvc.store.db import Unit
from vmsvc.store.models import RequestClass, Vm, database

#: The columns in which requests of one class are equal.
_KEY = (RequestClass.flavor_id, RequestClass.image_id, RequestClass.network_id, RequestClass.availability_zone)


class History:
    """The outcomes of earlier requests as of one moment; what is the same for all requests is read once."""

    def __init__(self, now: datetime):
        self._now = now
        rows = (RequestClass
                .select(*_KEY, RequestClass.futile_error, RequestClass.futile_reason, RequestClass.futile_at)
                .where(RequestClass.futile_at > now - timedelta(seconds=FUTILE_SECONDS)).tuples())
        self._futile = {tuple(key): (error, reason, int(at.timestamp())) for *key, error, reason, at in rows}

    def precedents(self, vm_id: str, boot: Mapping[str, Any], room: Resources) -> Precedents:
        """What is known for a request with this `boot` that claims `room` from its host."""
        error, reason, at = self._futile.get(tuple(_key(boot)), (None, "", 0))
        known = Precedents(futile_error=error, futile_reason=reason, futile_at=at)
        conditions = boot.get("conditions", [])
        if not conditions or accepted(conditions):
            return known
        tried, = database.execute_sql(queries.BEING_TRIED,
                                      {"vm": vm_id, "conditions": json.dumps(conditions)}).fetchone()
        since = self._now - timedelta(seconds=EVIDENCE_SECONDS)
        refused = database.execute_sql(queries.REFUSED, {"since": since, "vm": vm_id}).fetchall()
        latest = next((int(at.timestamp()) for held, at in refused if room.covers(Resources(held))), None)
        return replace(known, accepted=False, being_tried=tried, refused_at=latest)


def accepted(conditions: Sequence[str]) -> bool:
    """True when the cloud has ever built a VM with the same conditions."""
    return (RequestClass.select()
            .where(RequestClass.conditions == _text(conditions), RequestClass.accepted_at.is_null(False)).exists())


def remember_accepted(work: Unit, boot: Mapping[str, Any]) -> None:
    """The cloud has built a VM of this class."""
    if boot.get("conditions"):
        _write(boot, conditions=_text(boot["conditions"]), accepted_at=work.now, futile_at=None)
    else:
        (RequestClass.update(futile_at=None)
         .where(*(field == value for field, value in zip(_KEY, _key(boot))), RequestClass.futile_at.is_null(False))
         .execute())


def remember_futile(work: Unit, row: Vm, error: str, reason: str) -> None:
    """VMs were evicted for a request of this class, and the cloud refused it all the same, not for lack of room."""
    _write(row.boot, {"conditions": _text(row.boot.get("conditions", []))}, futile_at=work.now, futile_error=error,
           futile_reason=reason)


def _write(boot: Mapping[str, Any], first: Mapping[str, Any] = MappingProxyType({}), **changes: Any) -> None:
    """Change the row of this class. Where there is none, insert one with `first` as further values."""
    (RequestClass.insert({**dict(zip(_KEY, _key(boot))), **first, **changes})
     .on_conflict(conflict_target=list(_KEY), update=changes).execute())


def _key(boot: Mapping[str, Any]) -> list[str]:
    return [boot.get(field.name) or "" for field in _KEY]


def _text(conditions: Sequence[str]) -> str:
    return json.dumps(sorted(conditions))
