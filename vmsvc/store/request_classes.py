"""What became of earlier requests of the same class: those with the same flavor, image, network and zone.

A request whose flavor, image or zone sets conditions on its host may find no host whatever room there is. That VMs
with the same conditions were built shows that there are hosts for it. When an eviction for one did not help, this
module remembers that, so that the next one costs nobody a VM.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from vmsvc.domain.request import EVIDENCE_SECONDS, FUTILE_SECONDS, Precedents
from vmsvc.domain.resources import Resources
from vmsvc.store.db import Unit
from vmsvc.store.models import RequestClass, Vm, database

_KEY = "flavor_id = %s AND image_id = %s AND network_id = %s AND availability_zone = %s"
_FUTILE = """
SELECT flavor_id, image_id, network_id, availability_zone, futile_error, futile_reason, futile_at FROM request_class
WHERE futile_at > %s
"""
_ACCEPTED = "SELECT EXISTS (SELECT FROM request_class WHERE conditions = %s AND accepted_at IS NOT NULL)"
_TRIED = """
SELECT EXISTS (SELECT FROM reservation JOIN vm ON vm.id = reservation.vm_id
               WHERE released_at IS NULL AND vm.id <> %s AND vm.boot -> 'conditions' = %s::jsonb)
"""
#: Requests without conditions to which the cloud said a short while ago that no host has room for them.
_REFUSED = """
SELECT room, (refusal ->> 'at')::timestamptz FROM vm
WHERE (state = 'pending' OR state = 'failed' AND ended_at > %s) AND refusal ->> 'error' = 'no_capacity' AND id <> %s
    AND coalesce(boot -> 'conditions', '[]') = '[]'
ORDER BY 2 DESC LIMIT 1000
"""
_REMEMBER_ACCEPTED = """
INSERT INTO request_class (flavor_id, image_id, network_id, availability_zone, conditions, accepted_at)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (flavor_id, image_id, network_id, availability_zone)
DO UPDATE SET conditions = excluded.conditions, accepted_at = excluded.accepted_at, futile_at = NULL
"""
_FORGET_FUTILE = f"UPDATE request_class SET futile_at = NULL WHERE {_KEY} AND futile_at IS NOT NULL"


class History:
    """The outcomes of earlier requests as of one moment; what is the same for all requests is read once."""

    def __init__(self, now: datetime):
        self._now = now
        since = now - timedelta(seconds=FUTILE_SECONDS)
        self._futile = {tuple(key): (error, reason, int(at.timestamp())) for *key, error, reason, at in
                        database.execute_sql(_FUTILE, [since]).fetchall()}

    def precedents(self, vm_id: str, boot: Mapping[str, Any], room: Resources) -> Precedents:
        """What is known for a request with this `boot` that claims `room` from its host."""
        error, reason, at = self._futile.get(tuple(_key(boot)), (None, "", 0))
        known = Precedents(futile_error=error, futile_reason=reason, futile_at=at)
        conditions = boot.get("conditions", [])
        if not conditions or accepted(conditions):
            return known
        tried, = database.execute_sql(_TRIED, [vm_id, json.dumps(conditions)]).fetchone()
        since = self._now - timedelta(seconds=EVIDENCE_SECONDS)
        refused = database.execute_sql(_REFUSED, [since, vm_id]).fetchall()
        latest = next((int(at.timestamp()) for held, at in refused if room.covers(Resources(held))), None)
        return replace(known, accepted=False, being_tried=tried, refused_at=latest)


def accepted(conditions: Sequence[str]) -> bool:
    """True when the cloud has ever built a VM with the same conditions."""
    return database.execute_sql(_ACCEPTED, [_text(conditions)]).fetchone()[0]


def remember_accepted(work: Unit, boot: Mapping[str, Any]) -> None:
    """The cloud has built a VM of this class."""
    if boot.get("conditions"):
        work.last(_REMEMBER_ACCEPTED, [*_key(boot), _text(boot["conditions"]), work.now])
    else:
        work.last(_FORGET_FUTILE, _key(boot))


def remember_futile(work: Unit, row: Vm, error: str, reason: str) -> None:
    """VMs were evicted for a request of this class, and the cloud refused it all the same, not for lack of room."""
    flavor_id, image_id, network_id, zone = _key(row.boot)
    verdict = {RequestClass.futile_at: work.now, RequestClass.futile_error: error, RequestClass.futile_reason: reason}
    (RequestClass.insert(flavor_id=flavor_id, image_id=image_id, network_id=network_id, availability_zone=zone,
                         conditions=_text(row.boot.get("conditions", [])), futile_at=work.now, futile_error=error,
                         futile_reason=reason)
     .on_conflict(conflict_target=[RequestClass.flavor_id, RequestClass.image_id, RequestClass.network_id,
                                   RequestClass.availability_zone], update=verdict).execute())


def _key(boot: Mapping[str, Any]) -> list[str]:
    return [boot.get(name) or "" for name in ("flavor_id", "image_id", "network_id", "availability_zone")]


def _text(conditions: Sequence[str]) -> str:
    return json.dumps(sorted(conditions))
