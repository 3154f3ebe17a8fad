"""Any interleaving of requests, plans, notices, evictions, deletes, outsiders and crashes keeps what is promised.

The service's own loops and performers run on a real PostgreSQL and a model of a cloud. Each transaction and each call
to the cloud is a step, and hypothesis decides who makes the next one: a plan may rest on a look at the cloud that is
long out of date, a replica may die between any two steps, time passes only when the test says so.

`pytest tests/integration/test_interleavings.py --examples 5000` looks longer, and elsewhere each time.
"""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.examples import examples
from tests.integration.model.clock import Clock
from tests.integration.model.deeds import DEEDS, SETTINGS
from tests.integration.model.story import Story


@pytest.fixture(name="clock")
def fixture_clock(store):
    """The database's clock in our hands."""
    clock = Clock(store)
    yield clock
    clock.close()


def test_whatever_happens_in_whatever_order_the_promises_hold(clock, request):
    other_ones = request.config.getoption("--examples")

    def told(setting, deeds):
        Story(clock, setting).tell(deeds)

    story = given(SETTINGS, DEEDS)(told)
    settings(
        max_examples=other_ones or examples(15, 50),
        deadline=None,
        derandomize=not other_ones,
        database=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )(story)()
