"""How the end of a build is seen, and that of one which the cloud refuses."""

import asyncio
from types import SimpleNamespace

import pytest

from tests.unit.fast_time import in_fast_time
from vmsvc.domain.timing import Timing
from vmsvc.service.acting.await_build import BuildWaiter

BUILD_SECONDS = 1.0
REFUSAL_SECONDS = 0.17
RELOAD_SECONDS = 0.06


class Cloud:
    """A server cache whose servers are built, or refused. Counts the looks at each."""

    def __init__(self):
        self._ends = {}
        self.looks = []

    def post(self, refused):
        """A new server."""
        took, status = (REFUSAL_SECONDS, "ERROR") if refused else (BUILD_SECONDS, "ACTIVE")
        self._ends["A"] = asyncio.get_running_loop().time() + took, status
        self.looks.clear()

    async def read_server(self, server_id):
        """A GET."""
        self.looks.append(server_id)
        await asyncio.sleep(RELOAD_SECONDS)
        at, status = self._ends[server_id]
        done = asyncio.get_running_loop().time() >= at
        return SimpleNamespace(
            status=status if done else "BUILD",
            task_state=None,
            fault="No valid host" if done and status == "ERROR" else None,
        )


@pytest.fixture(name="cloud")
def fixture_cloud():
    """One that is used by the build_waiter of a test."""
    return Cloud()


@pytest.fixture(name="build")
def fixture_build(cloud):
    """Make a server; its status in the end, and after how many seconds that was known."""
    build_waiter = BuildWaiter(cloud, None, Timing())

    async def build(refused, refusable=True):
        cloud.post(refused)
        began = asyncio.get_running_loop().time()
        server = await build_waiter.wait_for("A", None, refusable)
        return server.status, asyncio.get_running_loop().time() - began

    return build


@in_fast_time
async def test_after_recent_refusals_a_refusal_is_found_before_a_build_could_end(build, cloud):
    assert (await build(refused=False))[0] == "ACTIVE"
    took = []
    for _ in range(4):
        status, seconds = await build(refused=True)
        assert status == "ERROR" and len(cloud.looks) <= 4
        took.append(seconds)
        assert (await build(refused=False))[0] == "ACTIVE"
        assert len(cloud.looks) <= 8
    assert took[0] > 0.45, "nothing was known of refusals"
    assert took[-1] < 0.35, took


@in_fast_time
async def test_a_build_is_not_polled_early_without_recent_refusals_or_after_an_eviction(build, cloud):
    await build(refused=False)
    for _ in range(4):
        await build(refused=True)
    await build(refused=False)
    early = len(cloud.looks)
    await build(refused=False, refusable=False)
    assert len(cloud.looks) < early
    for _ in range(8):
        await build(refused=False)
    assert len(cloud.looks) < early
