"""The answer to a dry run: a decision in words and in figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from vmsvc.scheduling.decisions import Decision, Evict, Place, Postpone, Queued, Refuse, Reprieve, Wait
from vmsvc.scheduling.vms import VmFacts
from vmsvc.scheduling.world import HOST, QUOTA


def preview_all(
    decisions: Sequence[Decision], vms: Mapping[str, VmFacts], grace_seconds: float, ahead: int
) -> dict[str, Any]:
    """What equal creates that come together would do, as the body of the answer: that of the first one, and of several
    each under `plans`. `ahead`: how many requests the queue has before them."""
    plans = [preview(each, vms, grace_seconds, ahead + number) for number, each in enumerate(decisions, 1)]
    return {**plans[0], **({"plans": plans} if len(plans) > 1 else {})}


def preview(decision: Decision, vms: Mapping[str, VmFacts], grace_seconds: float, position: int = 1) -> dict[str, Any]:
    """What a create would do, as the body of the answer. `vms`: those of the world, by vmsvc id; the answer names a
    VM by the cloud's id. `position`: the one that the request would have in the queue."""
    match decision:
        case Place(host=host):
            reason = f"host {host} has room for it" if host else "the quota has room for it; the cloud chooses a host"
            return {"result": "placed", "reason": reason, "host": host, "victims": []}
        case Evict(victims=()):
            return {
                "result": "waits",
                "reason": f"room for it is being freed already, in {_place(decision)}",
                "victims": [],
                **_where(decision),
            }
        case Evict():
            return {
                "result": "evicts",
                "reason": _reason(decision, grace_seconds),
                "victims": [vms[victim].cloud_id or victim for victim in decision.victims],
                **_where(decision),
                "grace_seconds": grace_seconds,
                "criterion": decision.criterion,
                "cost": dict(decision.cost),
                "runner_up": decision.runner_up,
                "optimal": decision.optimal,
                "certainty": decision.certainty,
                "evidence": decision.evidence,
            }
        case Refuse(error=error, message=message):
            return {"result": "refused", "reason": message, "victims": [], "error": error}
        case Queued(why=why):
            reason = f"it would wait in the queue, position {position}: {why}"
            return {"result": "waits", "reason": reason, "victims": [], "position": position}
        case Wait() | Postpone() | Reprieve():
            reason = "room for it is being freed already" if isinstance(decision, Reprieve) else decision.why
            return {"result": "waits", "reason": reason, "victims": []}
    raise AssertionError(decision)


def _where(plan: Evict) -> dict[str, Any]:
    return {"host": plan.bin if plan.kind == HOST else None, "bin": {"kind": plan.kind, "id": plan.bin}}


def _place(plan: Evict) -> str:
    return "the project's quota" if plan.kind == QUOTA else f"{plan.kind} {plan.bin}"


def _reason(plan: Evict, grace_seconds: float) -> str:
    count = len(plan.victims)
    return (
        f"{count} preemptible VM{'s' * (count > 1)} would make room in {_place(plan)} after {grace_seconds:g} s of "
        f"notice; what decided: {plan.criterion}" + (f"; likely: {plan.evidence}" if plan.evidence else "")
    )
