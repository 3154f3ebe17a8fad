"""The hostile suite, in short: `make test_hostile` runs all of it."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.hostile.attack import attack

REQUESTS = 800
IDLE = 300


@pytest.mark.gen_test(timeout=100)
async def test_bad_requests_and_idle_crowds_cost_nobody_else_anything(template):
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-hostile-"))
    try:
        outcome = await attack(folder, template, REQUESTS, IDLE, slow_seconds=3, seed=1, examples=1)
    finally:
        shutil.rmtree(folder)
    assert not outcome.problems
    assert sum(answers.total() for answers in outcome.tally.answers.values()) > REQUESTS + IDLE
