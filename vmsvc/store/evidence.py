"""What is known of the capacity of hosts by evidence: read by every pass in tenant mode, written when it changes."""

from collections.abc import Collection, Mapping
from datetime import timedelta

from peewee import ModelDelete, fn

from vmsvc.domain.evidence import Held, HostEvidence, Refusal
from vmsvc.domain.resources import Resources
from vmsvc.store.models import Evidence, any_of, seconds_from_now, tuples_of

_HELD, _REFUSED = "held", "refused"


def read(hours: float, host_ids: Collection[str] | None = None) -> dict[str, HostEvidence]:
    """The evidence of the last so many hours by hostId, in the caller's transaction; None: of all hosts."""
    rows = Evidence.select(Evidence.host_id, Evidence.kind, Evidence.resources, Evidence.total, Evidence.seen_at).where(
        Evidence.seen_at > seconds_from_now(-3600 * hours)
    )
    if host_ids is not None:
        rows = rows.where(any_of(Evidence.host_id, list(host_ids)))
    held: dict[str, list[Held]] = {}
    refusals: dict[str, list[Refusal]] = {}
    for host_id, kind, resources, total, at in tuples_of(rows):
        if kind == _HELD:
            held.setdefault(host_id, []).append(Held(Resources(resources), at))
        else:
            refusals.setdefault(host_id, []).append(Refusal(Resources(resources), Resources(total), at))
    return {
        host_id: HostEvidence(tuple(held.get(host_id, ())), tuple(refusals.get(host_id, ())))
        for host_id in held.keys() | refusals.keys()
    }


def write(host_id: str, before: HostEvidence, after: HostEvidence) -> None:
    """Write the difference between what is on record for a host (`before`) and what is known now. The caller holds the
    lock SCHEDULER since before it read `before`."""
    old, new = _rows(before), _rows(after)
    for kind, resources, total in sorted(old.keys() - new.keys(), key=repr):
        ModelDelete(Evidence).where(
            Evidence.host_id == host_id,
            Evidence.kind == kind,
            Evidence.resources == dict(resources),
            Evidence.total == dict(total),
        ).execute()
    for key in sorted(new.keys(), key=repr):
        if old.get(key) == new[key]:
            continue
        kind, resources, total = key
        (
            Evidence.insert(host_id=host_id, kind=kind, resources=dict(resources), total=dict(total), seen_at=new[key])
            .on_conflict(
                conflict_target=[Evidence.host_id, Evidence.kind, Evidence.resources, Evidence.total],
                update={Evidence.seen_at: fn.GREATEST(Evidence.seen_at, new[key])},
            )
            .execute()
        )


def _rows(evidence: HostEvidence) -> Mapping[tuple[str, Resources, Resources], object]:
    """By what is unique: kind, resources, total; the moment of each."""
    held = {(_HELD, one.resources, Resources()): one.at for one in evidence.held}
    return {**held, **{(_REFUSED, one.need, one.total): one.at for one in evidence.refusals}}


def remember_refusals(found: Collection[tuple[str, Refusal]], hours: float) -> None:
    """Write down, by hostId, what the refusals of requests show. The caller holds the lock SCHEDULER."""
    known = read(hours, {host_id for host_id, _ in found})
    for host_id, refusal in found:
        before = known.get(host_id, HostEvidence())
        known[host_id] = before.after_refusal(refusal)
        write(host_id, before, known[host_id])


def remember_held(seen: Mapping[str, Collection[Held]], hours: float) -> int:
    """Write down what the project's servers held, by hostId. Returns for how many hosts that was new. The caller holds
    the lock SCHEDULER."""
    changed = changes(read(hours, seen.keys()), seen, hours)
    for host_id in sorted(changed):
        write(host_id, *changed[host_id])
    return len(changed)


def changes(
    known: Mapping[str, HostEvidence], seen: Mapping[str, Collection[Held]], hours: float
) -> dict[str, tuple[HostEvidence, HostEvidence]]:
    """By hostId, the evidence before and after, where what was seen is new."""
    found = {}
    for host_id, vectors in seen.items():
        before = after = known.get(host_id, HostEvidence())
        for one in vectors:
            after = after.after_seeing(one.resources, one.at, timedelta(hours=hours / 24))
        if after is not before:
            found[host_id] = before, after
    return found
