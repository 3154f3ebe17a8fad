"""What the service's database remembers of refusals, in memory: as `store.ledger` and `store.request_classes` do."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from vmsvc.domain.evidence import HostEvidence, Refusal
from vmsvc.domain.request import Precedents
from vmsvc.domain.resources import Resources


class Memory:
    """Times are seconds since the epoch."""

    def __init__(self):
        #: (flavor id, image id) -> the hosts that refused such VMs, and how.
        self.cooling: dict[tuple[str, str], dict[str, str]] = {}
        #: hostId -> what is known of its capacity.
        self.evidence: dict[str, HostEvidence] = {}
        self._accepted: set[tuple[str, ...]] = set()
        self._futile: dict[tuple, tuple[str, str, int]] = {}

    def held(self, host_id: str, resources: Resources, at: datetime) -> None:
        """The project's servers hold so much there."""
        before = self.evidence.get(host_id, HostEvidence())
        self.evidence[host_id] = before.after_seeing(resources, at, timedelta(hours=7))

    def refused(self, host_id: str, refusal: Refusal) -> None:
        """A refusal by the cloud shows this."""
        self.evidence[host_id] = self.evidence.get(host_id, HostEvidence()).after_refusal(refusal)

    def cool(self, boot: Mapping[str, Any], host: str, words: str) -> None:
        """A host that had room refused such a VM."""
        self.cooling.setdefault((boot["flavor_id"], boot["image_id"]), {})[host] = words

    def built(self, boot: Mapping[str, Any]) -> None:
        """The cloud has built such a VM."""
        self._accepted.add(tuple(boot["conditions"]))
        self._futile.pop(_class(boot), None)

    def accepted(self, conditions: Iterable[str]) -> bool:
        """True when the cloud has ever built a VM with the same conditions."""
        return tuple(conditions) in self._accepted

    def failed(self, row: Any, error: str, message: str, now: int) -> None:
        """VMs were evicted for this request, and it was refused: as placing.fail has it."""
        refusal, conditions = row.refusal or {}, tuple(row.boot["conditions"])
        untried = conditions and refusal and conditions not in self._accepted
        if (
            error not in ("no_capacity", "quota_exceeded")
            or error == "no_capacity"
            and (refusal.get("with_room") or untried)
        ):
            self._futile[_class(row.boot)] = error, refusal.get("message") or message, now

    def precedents(
        self, vm_id: str, boot: Mapping[str, Any], room: Resources, others: Iterable[Any], reserved: Iterable[str]
    ) -> Precedents:
        """As request_classes.History has it. `others`: all requests; `reserved`: those for which room is kept."""
        error, reason, at = self._futile.get(_class(boot), (None, "", 0))
        known = Precedents(futile_error=error, futile_reason=reason, futile_at=at)
        conditions = tuple(boot["conditions"])
        if not conditions or conditions in self._accepted:
            return known
        others = [other for other in others if other.id != vm_id]
        tried = any(
            tuple(other.boot["conditions"]) == conditions
            and (other.id in reserved or other.state == "pending" and (other.refusal or {}).get("rounds"))
            for other in others
        )
        refused = [
            other.refused_at
            for other in others
            if (other.refusal or {}).get("error") == "no_capacity"
            and other.state in ("pending", "failed")
            and not other.boot["conditions"]
            and "server_group" not in other.boot.get("options", {})
            and room.covers(Resources(other.room))
        ]
        return replace(known, accepted=False, being_tried=tried, refused_at=max(refused, default=None))


def _class(boot: Mapping[str, Any]) -> tuple:
    return boot["flavor_id"], boot["image_id"], boot["availability_zone"]
