"""Nobody is evicted for nothing: random clouds, and a referee who knows what Nova would say.

`CASES=100000 SEED=7 pytest tests/unit/test_nobody_for_nothing.py` looks longer, and elsewhere.
"""

import os
import random
from collections import Counter

import pytest

from tests.examples import examples
from tests.unit.episode import Episode, Stuck
from tests.unit.promises import Broken, Promises
from tests.unit.random_clouds import crowded_cloud, random_cloud, shrunk
from tests.unit.referee import Cloud

CASES = int(os.environ.get("CASES", examples(700, 5000)))  # in each mode
SEED = int(os.environ.get("SEED", "1"))


def looked_at(cloud: Cloud) -> Counter:
    """How much there was to look at. Raises Broken."""
    promises = Promises(cloud)
    episode = Episode(cloud, promises.decided, promises.passed)
    promises.foreseen(episode)
    try:
        episode.run()
    except Stuck as never:
        raise Broken("every request ends", str(never)) from never
    promises.ended(episode)
    return Counter(
        worlds=1,
        decisions=episode.decisions,
        evictions=promises.evictions,
        refused=promises.refusals,
        placed=sum(one.placed for one in episode.outcomes.values()),
    )


def broken(cloud: Cloud) -> str:
    """Which promise is broken there; none where all hold."""
    try:
        looked_at(cloud)
    except Broken as found:
        return found.promise
    return ""


@pytest.mark.parametrize("mode", ["operator", "tenant"])
@pytest.mark.parametrize("drawn, share", [(random_cloud, 1.0), (crowded_cloud, 0.1)])
def test_no_vm_is_evicted_for_a_request_that_cannot_be_served(mode, drawn, share, record_property):
    rng, seen = random.Random(f"{mode} {SEED}"), Counter()
    for _ in range(int(CASES * share)):
        cloud = drawn(rng, mode)
        try:
            seen += looked_at(cloud)
        except Broken as found:
            least = shrunk(cloud, lambda one, promise=found.promise: broken(one) == promise)
            with pytest.raises(Broken) as again:
                looked_at(least)
            pytest.fail(f"after {seen['worlds']} clouds: {again.value}\n{least!r}")
    record_property(
        "looked at",
        f"{mode}, {drawn.__name__}: {seen['worlds']} worlds, {seen['decisions']} decisions, "
        f"{seen['evictions']} evictions, {seen['placed']} placed, {seen['refused']} refused",
    )
