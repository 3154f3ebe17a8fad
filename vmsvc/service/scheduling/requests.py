"""The requests that wait, read in the transaction that decides, and what is known of requests like them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from vmsvc.domain.acceptance import Verdict
from vmsvc.domain.flavors import Traits
from vmsvc.domain.lifecycle import FINAL, State
from vmsvc.domain.request import Precedents, Request
from vmsvc.domain.requirements import Requirements
from vmsvc.domain.resources import Resources
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.decide_all import Knowledge, with_precedents
from vmsvc.scheduling.verification import Networks, Verified, WaitingRequest
from vmsvc.service.scheduling.snapshot import Snapshot
from vmsvc.service.scheduling.verdicts import key_of
from vmsvc.service.scheduling.world_cache import View
from vmsvc.store import ledger, request_classes, vms
from vmsvc.store.models import Vm
from vmsvc.store.vm_cache import VmRow

#: Evictions wait for further requests at most so many seconds after the oldest came.
_SETTLE_LIMIT = 1.0

#: (flavor id, image id) -> the hosts that refused such VMs lately, and what the cloud said.
Cooling = Mapping[tuple[str, str], Mapping[str, str]]


def rows_in_order(view: View, ids: frozenset[str]) -> list[Vm]:
    """The rows of these requests that still wait: standard before preemptible, then by age."""
    waiting = vms.of_ids([row.id for row in view.rows.in_states(State.PENDING) if row.id in ids])
    return sorted(
        (row for row in waiting if row.state == State.PENDING),
        key=lambda row: (row.is_preemptible, row.created_at, row.id),
    )


def waiting_requests(rows: Sequence[Vm], view: View, knowledge: Knowledge) -> list[WaitingRequest]:
    """These rows as the decisions see them."""
    ended = max((row.ended_at for row in view.rows.in_states(*FINAL) if row.ended_at), default=None)
    cooling = ledger.cooldowns()
    refused = [row.id for row in rows if row.refusal]
    had_victims = ledger.with_victims(refused) if refused else frozenset()
    found = []
    for row in rows:
        key = key_of(row.boot)
        ends = [view.rows[vm.id].evict_at for vm in view.world.victims_of(row.id, State.NOTICED)]
        request = request_of(row, knowledge.now, ended, cooling, verdict=knowledge.verified.verdicts.get(key))
        found.append(
            with_precedents(
                WaitingRequest(request, row.boot, key, min(filter(None, ends), default=None), row.id in had_victims),
                knowledge.history,
            )
        )
    return found


def knowledge_of(rows: Sequence[Vm], view: View, snapshot: Snapshot, now: datetime, timing: Timing) -> Knowledge:
    """What a pass that decides for these rows has to know besides the world."""
    verified = snapshot.verified
    history = request_classes.history(now, [tuple(row.boot.get("conditions", ())) for row in rows])
    settling = settling_seconds(
        now,
        [
            row
            for row in view.rows.in_states(State.PENDING)
            if not row.is_preemptible and row.id not in view.world.reservations
        ],
        timing.settle,
    )
    networks = networks_of(
        [row.boot for row in rows if key_of(row.boot) in verified.verdicts], verified, view, [row.id for row in rows]
    )
    return Knowledge(now, verified, history, networks, settling, snapshot.settled, timing)


def settling_seconds(now: datetime, rows: Sequence[VmRow], settle: float) -> float:
    """Seconds for which evictions wait, because more standard requests may be coming in, or coming back refused: a plan
    for all of them together costs fewer victims than a plan for each. `rows` includes those that came after the cloud
    was read."""
    ages = [(now - row.updated_at).total_seconds() for row in rows]
    return max(0.0, settle - min(ages)) if ages and max(ages) < _SETTLE_LIMIT else 0.0


def networks_of(
    boots: Sequence[Mapping[str, Any]], verified: Verified, view: View, waiting: Sequence[str] = ()
) -> Networks:
    """What is known of the networks of requests with these boots, about which the cloud was asked. `waiting`: the ids
    of those that may build next."""
    if not boots:
        return Networks()
    taking = {*waiting, *(vm.id for vm in view.world.vms.building), *view.world.reservations}
    counts = any(verdict.counts for verdict in verified.verdicts.values())
    return Networks(
        vms.networks_by_vm(taking) if counts else {},
        {network: ledger.unplugged(network) for network in {boot["network_id"] for boot in boots}},
    )


def request_of(
    row: Vm,
    now: datetime,
    ended_since: datetime | None,
    cooling: Cooling = MappingProxyType({}),
    precedents: Precedents = Precedents(),
    verdict: Verdict | None = None,
) -> Request:
    """The request of a row that waits. `ended_since`: when the newest VM ended, to see whether another try is worth
    it."""
    refusal = row.refusal or {}
    refused_at = datetime.fromisoformat(refusal["at"]) if refusal else None
    return Request(
        row.id,
        row.is_preemptible,
        Resources(row.quota),
        Resources(row.room),
        availability_zone=row.boot.get("availability_zone"),
        traits=traits_in(row.boot),
        requirements=requirements_in(row.boot),
        invalid=verdict.objection if verdict else None,
        refusal=refusal.get("error"),
        refusals=refusal.get("count", 0),
        cloud_message=refusal.get("message"),
        avoid=frozenset(row.avoid),
        cooling=cooling.get((row.boot.get("flavor_id"), row.boot.get("image_id")), {}),
        rounds=row.rounds,
        waited=(now - row.updated_at).total_seconds(),
        refused_at=refused_at,
        conditions=tuple(row.boot.get("conditions", ())),
        precedents=precedents,
        refused_rounds=refusal.get("rounds", 0),
        refused_with_capacity=refusal.get("with_room", False),
        freed_since=bool(refused_at and ended_since and ended_since > refused_at),
    )


def traits_in(boot: Mapping[str, Any]) -> Traits:
    """The traits that a request's flavor and image ask for."""
    return Traits(**{kind: frozenset(names) for kind, names in boot.get("traits", {}).items()})


def traits_named(boot: Mapping[str, Any]) -> frozenset[str]:
    """The traits by which hosts are told apart for a request."""
    traits = traits_in(boot)
    return traits.required | traits.forbidden | requirements_in(boot).telling_traits


def requirements_in(boot: Mapping[str, Any]) -> Requirements:
    """What else a request's flavor and image ask of a host."""
    kept = boot.get("requirements", {})
    return Requirements(**{**kept, "capabilities": tuple(map(tuple, kept.get("capabilities", ())))})
