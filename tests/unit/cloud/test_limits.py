"""The limits on calls: pace, idle time, pauses, slots and the line."""

import asyncio

import pytest

from vmsvc.cloud.openstack.limits import LONGEST_PAUSE, Limiter, TokenBucket
from vmsvc.cloud.port import CHECK, CLIENT, SERVICE
from vmsvc.domain.errors import CloudUnavailable


class Clock:
    """Time that moves when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_tokens_come_at_the_rate():
    bucket = TokenBucket(rate=10, clock=Clock())
    assert [bucket.take() for _ in range(4)] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_idle_time_saves_up_no_more_than_the_burst():
    clock = Clock()
    bucket = TokenBucket(rate=10, burst=3, clock=clock)
    for _ in range(50):
        bucket.take()
    clock.now += 3600
    waits = [bucket.take() for _ in range(5)]
    assert waits == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2])


@pytest.mark.parametrize("burst", [1, 5])
def test_no_second_ever_admits_more_than_rate_and_burst(burst):
    clock = Clock()
    bucket = TokenBucket(rate=20, burst=burst, clock=clock)
    starts = []
    for step in range(400):
        if step in (100, 101, 250):
            clock.now += 2.5
        clock.now += 0.01
        starts.append(clock.now + bucket.take())
    starts.sort()
    assert max(sum(1 for other in starts if start <= other < start + 1.0 - 1e-6) for start in starts) <= 20 + burst


def test_a_pause_delays_every_token_and_leaves_no_burst_behind():
    clock = Clock()
    bucket = TokenBucket(rate=10, burst=5, clock=clock)
    bucket.pause(2.0)
    assert [bucket.take() for _ in range(3)] == pytest.approx([2.0, 2.1, 2.2])


@pytest.mark.gen_test
async def test_never_more_calls_at_once_than_slots():
    limiter = Limiter(slots=3, rate=10000)
    running, most = 0, 0

    async def call():
        nonlocal running, most
        leave = await limiter.enter("compute", 5)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        leave()

    await asyncio.gather(*(call() for _ in range(30)))
    assert most == 3


@pytest.mark.gen_test
async def test_who_waits_too_long_is_turned_away_and_takes_no_slot_along():
    limiter = Limiter(slots=1, rate=10000)
    leave = await limiter.enter("compute", 1)
    with pytest.raises(CloudUnavailable):
        await limiter.enter("compute", 0.02)
    leave()
    await limiter.enter("compute", 0.02)


@pytest.mark.gen_test
async def test_a_full_line_turns_away_at_once():
    limiter = Limiter(slots=1, rate=10000, queue=1)
    leave = await limiter.enter("compute", 1)
    waiting = asyncio.ensure_future(limiter.enter("compute", 5))
    await asyncio.sleep(0)
    with pytest.raises(CloudUnavailable, match="1 calls"):
        leave = await limiter.enter("compute", 5)
    leave()
    await waiting


@pytest.mark.gen_test
async def test_a_call_that_is_cancelled_while_it_is_paced_gives_its_slot_back():
    limiter = Limiter(slots=1, rate=1)
    leave = await limiter.enter("compute", 5)
    leave()
    paced = asyncio.ensure_future(limiter.enter("compute", 5))
    await asyncio.sleep(0)
    paced.cancel()
    await asyncio.gather(paced, return_exceptions=True)
    with pytest.raises(CloudUnavailable, match="cannot be called"):
        await limiter.enter("compute", 0.01)  # paced, so it had a slot


@pytest.mark.gen_test
async def test_a_pause_holds_up_its_service_alone_and_not_for_ever():
    limiter = Limiter(slots=4, rate=1000)
    limiter.pause("placement", 86400)
    with pytest.raises(CloudUnavailable) as caught:
        await limiter.enter("placement", 5)
    assert caught.value.retry_after == pytest.approx(LONGEST_PAUSE, abs=1)
    await limiter.enter("compute", 0.1)


@pytest.mark.gen_test
@pytest.mark.parametrize("flood, most", [(CLIENT, 4), (CHECK, 2)])
async def test_hung_calls_of_clients_leave_half_of_the_slots_and_all_of_the_line(flood, most):
    limiter = Limiter(slots=8, rate=10000, queue=20)
    waiting = [asyncio.ensure_future(limiter.enter("compute", 5, flood)) for _ in range(100)]
    await asyncio.sleep(0.05)
    running = [call for call in waiting if call.done() and not call.exception()]
    assert len(running) == most and limiter.waiting() == 0
    assert sum(isinstance(call.exception(), CloudUnavailable) for call in waiting if call.done()) == 80
    for _ in range(8 - most):
        await limiter.enter("compute", 0.1, SERVICE)
    running[0].result()()  # one of theirs ends, and the next of theirs may go
    await asyncio.sleep(0.05)
    assert sum(call.done() and not call.exception() for call in waiting) == most + 1
    for call in waiting:
        call.cancel()


@pytest.mark.gen_test
async def test_what_clients_ask_a_second_leaves_the_other_half_to_the_service():
    limiter = Limiter(slots=100, rate=100)
    loop = asyncio.get_running_loop()
    flood = [asyncio.ensure_future(limiter.enter("compute", 5, CLIENT)) for _ in range(99)]
    await asyncio.sleep(0.3)
    began, waits = loop.time(), []
    for _ in range(10):
        asked = loop.time()
        leave = await limiter.enter("compute", 5, SERVICE)
        waits.append(loop.time() - asked)
        leave()
    assert max(waits) < 0.2, waits
    assert sum(call.done() for call in flood) <= 50 * (loop.time() - began + 0.3) + 20
    for call in flood:
        call.cancel()


@pytest.mark.gen_test
async def test_a_clients_call_that_is_cancelled_anywhere_gives_both_places_back():
    limiter = Limiter(slots=4, rate=20)
    for _ in range(30):
        for call in (going := [asyncio.ensure_future(limiter.enter("compute", 5, CLIENT)) for _ in range(9)]):
            await asyncio.sleep(0)
            call.cancel()
        for call in await asyncio.gather(*going, return_exceptions=True):
            if callable(call):
                call()
    assert limiter.waiting(CLIENT) == limiter.waiting() == 0
    assert limiter._all._slots._value == 4  # pylint: disable=protected-access
    assert limiter._shares[CLIENT]._slots._value == 2  # pylint: disable=protected-access
