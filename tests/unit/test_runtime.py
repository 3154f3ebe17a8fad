"""The database's threads: clients have a share of them, and what they leave is the service's own."""

import asyncio
import threading

import pytest

from vmsvc.cloud.port import CLIENT, working_for
from vmsvc.domain.timing import Timing
from vmsvc.service.runtime import Runtime


@pytest.fixture(name="runtime")
def _runtime(io_loop):
    runtime = Runtime(Timing(), 8)
    yield runtime
    io_loop.run_sync(runtime.stop)


async def as_client(runtime, function):
    """What a handler does."""
    with working_for(CLIENT):
        return await runtime.offload(function)


@pytest.mark.gen_test
async def test_a_thousand_slow_reads_of_clients_leave_threads_for_the_service(runtime):
    end, running = threading.Event(), []

    def slow():
        running.append(1)
        end.wait(20)

    flood = [asyncio.ensure_future(as_client(runtime, slow)) for _ in range(1000)]
    await asyncio.sleep(0.1)
    assert len(running) == 5
    async with asyncio.timeout(5):
        assert await asyncio.gather(*(runtime.offload(lambda: 7) for _ in range(20))) == [7] * 20
    end.set()
    await asyncio.gather(*flood)
    assert len(running) == 1000 and runtime.offloaded == 0


@pytest.mark.gen_test
async def test_a_client_that_goes_gives_its_thread_back_when_that_has_done_and_not_before(runtime):
    end, running = threading.Event(), []

    def slow():
        running.append(1)
        end.wait(20)

    for _ in range(5):
        gone = [asyncio.ensure_future(as_client(runtime, slow)) for _ in range(20)]
        await asyncio.sleep(0.02)
        for one in gone:
            one.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
    assert len(running) == 5, "those who went without a turn asked nothing"
    end.set()
    assert await as_client(runtime, lambda: 7) == 7
