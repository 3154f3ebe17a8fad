"""Who is woken by what is committed, here and by others."""

import asyncio
import os
import socket

import pytest

from tests.integration.conftest import new_vm, request
from tests.system.client import until
from vmsvc.domain.lifecycle import State
from vmsvc.service.events.listener import Listener
from vmsvc.service.loop_lag import LoopLag
from vmsvc.service.runtime import Runtime
from vmsvc.store import intents, vms
from vmsvc.store.db import CHANNEL, unit


@pytest.fixture(name="runtime")
def fixture_runtime(io_loop, store):
    """The pool and the loops."""
    del store
    runtime = Runtime(2)
    yield runtime
    io_loop.run_sync(runtime.stop)


@pytest.fixture(name="doorbell")
def fixture_doorbell(runtime, store):
    """Not listening yet."""
    return Listener(runtime, store.url)


async def listening(runtime, doorbell):
    """Let it listen; the bells of one who follows the news and of one who carries out intents, both silent."""
    news, acts = doorbell.bell(), doorbell.bell(acts=True)
    runtime.supervise("doorbell", doorbell.run, "not yet")
    await until(lambda: runtime.problems["doorbell"] is None and news.is_set() and acts.is_set(), "listening")
    news.clear()
    acts.clear()
    return news, acts


@pytest.mark.gen_test
async def test_an_event_wakes_who_follows_the_news_and_lets_others_sleep(runtime, doorbell):
    news, acts = await listening(runtime, doorbell)
    await runtime.offload(new_vm)
    await asyncio.wait_for(news.wait(), 10)
    assert not acts.is_set()


@pytest.mark.gen_test
async def test_an_intent_wakes_everybody_also_when_events_are_committed_with_it(runtime, doorbell):
    news, acts = await listening(runtime, doorbell)

    def place():
        with unit() as work:
            vm_id = vms.accept(work, "vm", request(), principal="anonymous", key=None)
            vms.move(work, vms.get(vm_id), State.BUILDING)
            intents.enqueue(work, intents.BOOT, vm_id)

    await runtime.offload(place)
    await asyncio.wait_for(acts.wait(), 10)
    assert news.is_set()


@pytest.mark.gen_test
async def test_an_older_release_beside_us_wakes_everybody(runtime, doorbell, store):
    news, acts = await listening(runtime, doorbell)
    store.command(f"NOTIFY {CHANNEL}")
    await asyncio.wait_for(acts.wait(), 10)
    assert news.is_set()


@pytest.mark.gen_test
async def test_while_nobody_listens_our_own_commits_wake_us(doorbell):
    news, acts = doorbell.bell(), doorbell.bell(acts=True)
    doorbell.ring()
    assert news.is_set() and acts.is_set()


@pytest.mark.gen_test
async def test_whoever_gets_the_descriptor_of_a_lost_connection_can_use_it(runtime, doorbell, store, monkeypatch):
    loop, readable, pair = asyncio.get_running_loop(), asyncio.Event(), []
    heard = doorbell._heard  # pylint: disable=protected-access

    def heard_and_taken(connection, *others):
        descriptor = connection.fileno()
        heard(connection, *others)
        if connection.closed and not pair:  # libpq has closed it: the next connection gets this number
            pair.extend(socket.socketpair())
            if pair[0].fileno() != descriptor:
                os.dup2(pair[0].fileno(), descriptor)
                pair[0].close()
                pair[0] = socket.socket(fileno=descriptor)
            loop.add_reader(descriptor, readable.set)

    monkeypatch.setattr(doorbell, "_heard", heard_and_taken)
    await listening(runtime, doorbell)
    store.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vmsvc-listen'")
    await until(lambda: pair, "the loss")
    await asyncio.sleep(0)  # the doorbell learns of it
    pair[1].send(b"?")
    try:
        await asyncio.wait_for(readable.wait(), 5)
    finally:
        loop.remove_reader(pair[0].fileno())
        for one in pair:
            one.close()


@pytest.mark.gen_test
async def test_a_loop_that_is_kept_busy_is_measured_as_late(runtime):
    lags = []
    runtime.supervise("pulse", LoopLag(lags.append).run)
    await until(lambda: lags, "a first look")
    busy = asyncio.get_running_loop().time() + 0.2
    while asyncio.get_running_loop().time() < busy:
        pass
    await until(lambda: max(lags) > 0.1, "a late look")
