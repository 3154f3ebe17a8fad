"""When servers that are waited for are looked at."""

import asyncio
from types import SimpleNamespace

import pytest

from tests.unit.fast_time import in_fast_time
from vmsvc.service.acting.polling import MinimumDuration, ServerPoller


class ServerCache:
    """A server that gets ready, and then goes. Counts the looks at it and the lists."""

    def __init__(self, ready_after, gone=False):
        self._loop = asyncio.get_running_loop()
        self._ready_at = self._loop.time() + ready_after
        self._gone = gone
        self.looks, self.lists = [], 0

    def _shown(self):
        ready = self._loop.time() >= self._ready_at
        return None if ready and self._gone else SimpleNamespace(status="ACTIVE" if ready else "BUILD")

    async def read_server(self, _server_id):
        """A GET."""
        self.looks.append(self._loop.time())
        return self._shown()

    async def wait_for(self, _server_id, ready, seconds):
        """Lists until it is ready."""
        deadline = self._loop.time() + seconds
        while not ready(self._shown()) and self._loop.time() < deadline:
            self.lists += 1
            await asyncio.sleep(0.01)
        return self._shown()


def is_active(server):
    """What is waited for."""
    return server.status == "ACTIVE"


def known(*seconds, **how):
    """A `MinimumDuration` that has recorded these seconds."""
    duration = MinimumDuration(**how)
    for each in seconds:
        duration.record(each)
    return duration


def test_the_first_poll_comes_shortly_before_the_shortest_of_the_last_times():
    assert MinimumDuration().initial_delay == 0
    assert known(0.5, 0.4, 0.8).initial_delay == pytest.approx(0.36)
    assert known(0.1, *[0.5] * 8).initial_delay == pytest.approx(0.45), "what was long ago does not count"
    assert known(60).initial_delay == 1, "an early refusal is seen soon nevertheless"


@in_fast_time
async def test_the_first_poll_is_late_and_the_next_ones_come_often():
    began = asyncio.get_running_loop().time()
    server_cache = ServerCache(0.3)
    server, _ = await ServerPoller(server_cache).wait_for("A", is_active, began, known(0.3), 5)
    assert server.status == "ACTIVE" and not server_cache.lists
    assert server_cache.looks[0] - began >= 0.26 and len(server_cache.looks) <= 3


@in_fast_time
async def test_the_learned_duration_is_never_longer_than_the_real_one():
    duration, loop = MinimumDuration(), asyncio.get_running_loop()
    for _ in range(6):
        server_cache, began = ServerCache(0.12), loop.time()
        duration.record((await ServerPoller(server_cache).wait_for("A", is_active, began, duration, 5)).at_least)
        assert 0 < duration.initial_delay < 0.12
    assert server_cache.looks[0] - began >= 0.05, "the first looks are left out by then"


@in_fast_time
async def test_a_cloud_that_has_become_faster_is_followed():
    duration = known(*[0.3] * 8)
    for _ in range(12):
        now = asyncio.get_running_loop().time()
        duration.record((await ServerPoller(ServerCache(0)).wait_for("A", is_active, now, duration, 5)).at_least)
    assert duration.initial_delay < 0.2


@in_fast_time
async def test_a_far_shorter_duration_is_found_by_halving():
    duration = known(0.8, shrink_factor=0.5)
    for _ in range(4):
        now = asyncio.get_running_loop().time()
        duration.record((await ServerPoller(ServerCache(0)).wait_for("A", is_active, now, duration, 5)).at_least)
    assert duration.initial_delay < 0.1


@in_fast_time
async def test_what_takes_longer_is_polled_less_often():
    began = asyncio.get_running_loop().time() - 8
    server_cache = ServerCache(1.2)
    assert (
        await ServerPoller(server_cache).wait_for("A", is_active, began, MinimumDuration(), 5)
    ).server.status == "ACTIVE"
    assert len(server_cache.looks) <= 4


@in_fast_time
async def test_what_takes_minutes_is_polled_once_a_second_and_never_without_a_pause():
    loop = asyncio.get_running_loop()
    server_cache, asked = ServerCache(9), loop.time()
    await ServerPoller(server_cache).wait_for("A", is_active, asked - 200, MinimumDuration(), 1.5)
    assert len(server_cache.looks) == 2 and loop.time() - asked >= 1.4


@in_fast_time
async def test_a_deleted_server_is_none_and_after_the_limit_the_server_is_returned_as_it_is():
    began = asyncio.get_running_loop().time()
    assert (
        await ServerPoller(ServerCache(0, gone=True)).wait_for("A", is_active, began, MinimumDuration(), 5)
    ).server is None
    server, at_least = await ServerPoller(ServerCache(9)).wait_for("A", is_active, began, MinimumDuration(), 0.1)
    assert server.status == "BUILD" and at_least is None, "nobody knows how long it will take"


@pytest.mark.parametrize("many, listed", [(2, False), (9, True)])
@in_fast_time
async def test_many_servers_are_read_from_lists_and_only_a_get_shows_that_one_is_deleted(many, listed):
    server_cache = ServerCache(0.2, gone=True)
    poller, began = ServerPoller(server_cache), asyncio.get_running_loop().time()
    waits = [poller.wait_for(name, is_active, began, MinimumDuration(), 5) for name in "ABCDEFGHI"[:many]]
    assert [sight.server for sight in await asyncio.gather(*waits)] == [None] * many
    assert bool(server_cache.lists) == listed and len(server_cache.looks) >= many
