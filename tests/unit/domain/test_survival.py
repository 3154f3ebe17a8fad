"""The life of VMs: curves that were reckoned by hand, and histories with a hazard that is known."""

import random

import pytest

from vmsvc.domain.survival import Life, evictions_per_hour, percentile, survival_curve, uptime


def lives(*seconds):
    """Evicted at these ages; a negative age: censored then."""
    return [Life(abs(age), age > 0) for age in seconds]


@pytest.mark.parametrize(
    ("ages", "curve"),
    [
        ([], []),
        ([-5, -7], []),
        ([1, 2, 3, 4], [(1, 3 / 4), (2, 2 / 4), (3, 1 / 4), (4, 0)]),
        # 6 at risk; one is evicted at 2, one of the 5 at 3, where one is censored too; then 3 are left, one of two at 9
        ([2, 3, -3, -5, 9, -10], [(2, 5 / 6), (3, 5 / 6 * 4 / 5), (9, 5 / 6 * 4 / 5 * 1 / 2)]),
        ([4, 4, -4], [(4, 1 / 3)]),  # whoever is censored at 4 was there at 4
    ],
)
def test_the_curve_is_the_one_that_is_reckoned_by_hand(ages, curve):
    random.Random(1).shuffle(ages)
    found = survival_curve(lives(*ages))
    assert [age for age, _ in found] == [age for age, _ in curve]
    assert [share for _, share in found] == pytest.approx([share for _, share in curve])


def test_an_uptime_is_the_age_by_which_so_many_are_evicted():
    curve = survival_curve(lives(*range(1, 11)))
    assert [uptime(curve, share) for share in (0.1, 0.5, 1)] == [1, 5, 10]
    assert uptime(survival_curve(lives(1, -2, -2, -2)), 0.5) is None
    assert uptime([], 0.1) is None


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("per_hour", [0.02, 0.5, 6])
def test_a_known_hazard_is_found_though_most_vms_end_by_themselves(seed, per_hour):
    """Owners delete most VMs, at ages of any law, before they are evicted."""
    rng, found = random.Random(seed), []
    for _ in range(4000):
        evicted, deleted = (
            rng.expovariate(per_hour / 3600),
            rng.choice([rng.uniform(0, 7200 / per_hour), 3600 / per_hour]),
        )
        found.append(Life(min(evicted, deleted), evicted < deleted))
    assert evictions_per_hour(found) == pytest.approx(per_hour, rel=0.1)
    curve = survival_curve(found)
    assert uptime(curve, 0.1) == pytest.approx(3600 / per_hour * 0.1054, rel=0.2)  # -ln 0.9
    assert uptime(curve, 0.5) == pytest.approx(3600 / per_hour * 0.6931, rel=0.1)  # -ln 0.5
    shares = [1.0, *(share for _, share in curve)]
    assert shares == sorted(shares, reverse=True) and shares[-1] >= 0
    naive = sorted(life.seconds for life in found if life.was_evicted)
    assert naive[len(naive) // 2] < 0.9 * uptime(curve, 0.5)  # those that were not evicted may not be left out


def test_a_percentile_is_a_value_that_there_is():
    assert [percentile([30, 10, 20, 40], share) for share in (0, 0.25, 0.5, 0.51, 0.9, 1)] == [10, 10, 20, 30, 40, 40]
    assert percentile([7], 0.5) == 7
    with pytest.raises(ValueError):
        percentile([], 0.5)


def test_nobody_has_run_yet():
    assert evictions_per_hour([]) == evictions_per_hour([Life(0, True)]) == 0
