"""A sample of the crash matrix, another one each day; `make test_chaos` runs all of it."""

import datetime
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.matrix import ALL, Tally, matrix, sample
from tests.examples import examples

RUNS = examples(8, 16)
SEED = int(os.environ.get("CHAOS_SEED") or datetime.date.today().toordinal())


@pytest.mark.gen_test(timeout=240)
async def test_a_service_that_is_killed_at_any_step_leaves_nothing_behind(template):
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-crashes-"))
    tally = Tally()
    try:
        with matrix(folder, template, runners=3) as runners:
            cases = await runners.record(ALL, tally, SEED)
            await runners.run(sample(cases, RUNS, SEED), tally)
    finally:
        shutil.rmtree(folder)
    assert not tally.failures, f"CHAOS_SEED={SEED}\n" + tally.failures[0]
    assert tally.deaths > RUNS / 2, "hardly any point was reached"
