"""What counts as evidence of a host's capacity: only what stood there at one moment, and nothing that was refuted."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from vmsvc.domain.evidence import EVER, MOST, Held, HostEvidence, Refusal
from vmsvc.domain.resources import Resources

NOW = datetime(2030, 1, 1, tzinfo=UTC)
REFRESH = timedelta(hours=7)
_NAMES = ("VCPU", "MEMORY_MB", "DISK_GB")


def at(seconds):
    """A moment."""
    return NOW + timedelta(seconds=seconds)


def vector(*amounts):
    """VCPU, MEMORY_MB, DISK_GB."""
    return Resources(dict(zip(_NAMES, amounts)))


def seen(*moments):
    """The evidence of a host that held these vectors, one a second."""
    evidence = HostEvidence()
    for second, resources in enumerate(moments):
        evidence = evidence.after_seeing(resources, at(second), REFRESH)
    return evidence


def counting(evidence, need):
    """The vectors that count for this need."""
    return {one.resources for one in evidence.counting(need)}


def test_a_vector_that_another_one_covers_is_no_row_of_its_own():
    evidence = seen(vector(1, 1), vector(2, 1), vector(1, 2), vector(1, 1))
    assert {one.resources for one in evidence.held} == {vector(2, 1), vector(1, 2)}
    assert counting(seen(), vector(1)) == set()


def test_nothing_is_written_while_nothing_new_is_seen():
    evidence = seen(vector(2, 2))
    for later, same in ((vector(2, 2), True), (vector(1, 2), True), (Resources(), True), (vector(3, 1), False)):
        assert (evidence.after_seeing(later, at(60), REFRESH) is evidence) is same
    standing = evidence.after_seeing(vector(2, 2), NOW + REFRESH, REFRESH)
    assert [one.at for one in standing.held] == [NOW + REFRESH], "it stands still: its moment is new"


def test_for_a_request_as_large_as_a_refused_one_only_what_stood_there_afterwards_counts():
    evidence = seen(vector(4, 8)).after_refusal(Refusal(vector(2, 2), vector(4, 6), at(5)))
    assert counting(evidence, vector(2, 2)) == counting(evidence, vector(3, 2)) == set()
    assert counting(evidence, vector(1, 2)) == {vector(4, 8)}, "a smaller one may fit"
    evidence = evidence.after_seeing(vector(2, 4), at(6), REFRESH)
    assert counting(evidence, vector(2, 2)) == {vector(2, 4)}


def test_what_is_declared_is_older_than_any_refusal():
    evidence = HostEvidence(refusals=(Refusal(vector(2), vector(4), at(5)),)).with_declared(vector(4, 8))
    assert counting(evidence, vector(2)) == set() and counting(evidence, vector(1)) == {vector(4, 8)}
    assert evidence.held[0].is_declared and HostEvidence().with_declared(Resources()) == HostEvidence()


def test_a_refusal_is_void_when_the_host_has_held_as_much_of_each_class_since():
    refusal = Refusal(vector(1, 2), vector(4, 6), at(5))
    evidence = seen(vector(4, 8)).after_refusal(refusal)
    beside = evidence.after_seeing(vector(3, 5), at(6), REFRESH)
    assert beside.refusals == (refusal,), "a VM beside the stranger shows nothing"
    some = beside.after_seeing(vector(4, 4), at(7), REFRESH)
    assert [one.total for one in some.refusals] == [Resources({"MEMORY_MB": 6})]
    every = some.after_seeing(vector(2, 6), at(8), REFRESH)
    assert not every.refusals and vector(4, 8) in counting(every, vector(1, 2))


@pytest.mark.parametrize("moment", [EVER, at(5)])
def test_what_was_seen_before_a_refusal_does_not_refute_it(moment):
    refusal = Refusal(vector(1), vector(4), at(5))
    assert refusal.after_seeing(Held(vector(4), moment)) == refusal


@pytest.mark.parametrize("seed", range(30))
def test_evidence_is_never_more_than_what_stood_there_at_one_moment_or_is_declared(seed):
    """Nor does anything count that a refusal has contradicted and that has not stood there since."""
    rng = random.Random(seed)
    evidence, stood, refused = HostEvidence(), [], []
    declared = vector(4, 4, 4) if rng.random() < 0.3 else Resources()
    for second in range(60):
        amounts = vector(*(rng.randint(0, 5) for _ in _NAMES))
        if rng.random() < 0.75:
            evidence = evidence.after_seeing(amounts, at(second), timedelta(seconds=rng.choice((5, 1000))))
            stood.append((amounts, second))
            left = [
                (need, {name for name in classes if amounts[name] < total[name]}, total, when)
                for need, classes, total, when in refused
            ]
            refused = [one for one in left if one[1]]
        elif amounts and len(refused) < MOST:  # of more than that the oldest are forgotten
            total = amounts + vector(*(rng.randint(0, 3) for _ in _NAMES))
            evidence = evidence.after_refusal(Refusal(amounts, total, at(second)))
            refused.append((amounts, set(total), total, second))
        need = vector(*(rng.randint(1, 5) for _ in _NAMES))
        whole = evidence.with_declared(declared)
        assert len(evidence.held) <= MOST and len(evidence.refusals) <= MOST
        for one in whole.counting(need):
            moments = [when for resources, when in stood if resources == one.resources and at(when) == one.at]
            assert moments or one.is_declared and one.resources == declared
            against = [when for small, _, _, when in refused if need.covers(small)]
            assert all(one.at > at(when) for when in against), (one, against)
