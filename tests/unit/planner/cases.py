"""Random small clouds, and every plan there is in them: what the planner's tests compare it with."""

from dataclasses import replace
from itertools import combinations

from hypothesis import strategies as st

from vmsvc.domain.resources import Resources
from vmsvc.planner import Bin, Candidate, Fits, NoPlan

HOST, QUOTA = ("VCPU", "MEMORY_MB"), ("cores",)


def vectors(names, least=0, most=4):
    """Vectors in which classes can be zero or missing."""
    return st.dictionaries(st.sampled_from(names), st.integers(least, most)).map(Resources)


@st.composite
def clouds(draw, most_bins=3, most_candidates=5, same_need=False):
    """Bins over host classes, quota items or both, with candidates of three priorities and many ties."""
    names = draw(st.sampled_from((HOST, QUOTA, HOST + QUOTA)))
    need = draw(vectors(names, 0, 7))
    bins = []
    for index in range(draw(st.integers(1, most_bins))):
        candidates = draw(
            st.lists(
                st.builds(
                    Candidate,
                    st.just(""),
                    vectors(names),
                    st.integers(0, 2),
                    st.booleans(),
                    st.integers(-1, 2),
                    st.integers(0, 2),
                ),
                max_size=most_candidates,
            )
        )
        ids = draw(st.permutations([f"{index}{c}" for c in range(len(candidates))]))
        candidates = [replace(candidate, id=name) for name, candidate in zip(ids, candidates)]
        bins.append(
            Bin(
                f"h{index}",
                need if same_need else draw(vectors(names, 0, 7)),
                draw(vectors(names, -1, 3)),
                draw(vectors(names, 0, 9)),
                tuple(candidates),
            )
        )
    return draw(st.permutations(bins))


def cost(place, victims, now=0):
    """The objective by its definition, as a plain tuple; None when the victims do not make room."""
    surplus = 0
    for name, need in place.need.items():
        left = max(place.free[name], 0) + sum(victim.resources[name] for victim in victims) - need
        if left < 0:
            return None
        surplus += left * (10**12 // (place.capacity[name] or need))
    counts = [sum(victim.priority == p for victim in victims) for p in (2, 1, 0)]
    return (
        counts,
        sum(victim.ran for victim in victims),
        sum(victim.lost_work + victim.rate * now for victim in victims),
        surplus,
        place.id,
        sorted(victim.id for victim in victims),
    )


def within(groups, budgets):
    """True when no more of a group go than may; a group that is not named has no limit."""
    return all(list(groups).count(group) <= most for group, most in (budgets or {}).items())


def every_plan(bins, max_victims=20, now=0, budgets=None):
    """All plans without a needless victim, best first."""
    plans = []
    for place in bins:
        covers: list[set] = []
        for size in range(min(max_victims, len(place.candidates)) + 1):
            for victims in combinations(place.candidates, size):
                ids = {victim.id for victim in victims}
                if not any(cover < ids for cover in covers) and cost(place, victims) is not None:
                    covers.append(ids)
                    if within([victim.group for victim in victims], budgets):
                        plans.append(cost(place, victims, now))
    return sorted(plans)


def grouped(rng, bins):
    """The same with some of the candidates in groups, and how many of each may go."""
    names = rng.choice(((None, "a"), (None, "a", "b"), ("a", "b", "free")))
    bins = [
        replace(place, candidates=tuple(replace(one, group=rng.choice(names)) for one in place.candidates))
        for place in bins
    ]
    return bins, {"a": rng.randint(0, 3), "b": rng.randint(0, 2)}


def random_cloud(rng, most_bins, most_candidates):
    """As `clouds`, but quick: what hypothesis draws in ten milliseconds takes a tenth of one here."""
    names = rng.choice((HOST, QUOTA, HOST + QUOTA))
    largest, costs = rng.choice((1, 2, 5)), rng.choice((0, 1, 9))

    def vector(least, most):
        return Resources({name: rng.randint(least, most) for name in names if rng.random() < 0.85})

    def candidates(index):
        count = rng.randint(rng.choice((0, most_candidates)), most_candidates)
        return tuple(
            Candidate(
                f"{index}{c}",
                vector(0, largest),
                rng.randint(0, 2),
                rng.random() < 0.7,
                rng.randint(-costs, costs),
                rng.randint(0, 2),
            )
            for c in rng.sample(range(10), count)
        )

    return [
        Bin(f"h{index}", vector(0, largest * 2), vector(-1, largest // 2), vector(0, 20), candidates(index))
        for index in range(rng.randint(1, most_bins))
    ]


def random_hosts(rng, need, most_candidates):
    """One to three hosts, each with candidates of its own, for requests of this need."""
    return [
        replace(
            place,
            id=f"h{at}",
            need=need,
            candidates=tuple(replace(one, id=f"{at}.{one.id}") for one in place.candidates),
        )
        for at, place in enumerate(random_cloud(rng, 1, most_candidates)[0] for _ in range(rng.randint(1, 3)))
    ]


def odd_cloud(rng, most_bins, most_candidates, need=None):
    """Bins in which every VM has its own odd size and three classes are short at once, so that a plan takes several
    victims and counting alone does not decide."""
    names, vcpus = ("VCPU", "MEMORY_MB", "DISK_GB"), rng.choice((1, 4, 8))
    need = need or Resources({name: rng.randint(10, 60) for name in names})
    return [
        Bin(
            f"h{index}",
            need,
            Resources({"VCPU": rng.randint(0, 3), "DISK_GB": rng.randint(0, 9)}),
            Resources({name: 100 for name in names}),
            tuple(
                Candidate(
                    f"{index}{c}",
                    Resources({"VCPU": vcpu, "MEMORY_MB": rng.randint(1, 25), "DISK_GB": rng.randint(1, 25)}),
                    rng.choice((0, 0, 1, 2)),
                    rng.random() < 0.9,
                    vcpu * rng.randint(1, 99),
                    vcpu,
                )
                for c in range(rng.randint(1, most_candidates))
                for vcpu in (rng.randint(1, 3 * vcpus),)
            ),
        )
        for index in range(rng.randint(1, most_bins))
    ]


def as_cost(objective):
    """An objective in the form of `cost`."""
    counts = dict(objective.victims)
    return [counts.get(p, 0) for p in (2, 1, 0)], objective.ran, objective.lost_work, objective.surplus


def assert_best(outcome, plans):
    """The outcome is the best of every plan there is, and its runner-up the next."""
    if not plans:
        assert isinstance(outcome, NoPlan)
    elif not plans[0][5]:
        assert outcome == Fits(plans[0][4])
    else:
        assert outcome.optimal
        assert (*as_cost(outcome.objective), outcome.bin_id, sorted(outcome.victims)) == plans[0]
        assert (outcome.runner_up and as_cost(outcome.runner_up)) == (plans[1][:4] if plans[1:] else None)
