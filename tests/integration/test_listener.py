"""Which loops a commit wakes, one of this process or of another."""

import asyncio
import os
import socket

import pytest

from tests.integration.conftest import new_vm, request
from tests.system.client import until
from vmsvc.domain.lifecycle import State
from vmsvc.domain.timing import Timing
from vmsvc.service.events.listener import Listener
from vmsvc.service.loop_lag import LoopLag
from vmsvc.service.runtime import Runtime
from vmsvc.store import intents, vms
from vmsvc.store.db import CHANNEL, unit


@pytest.fixture(name="runtime")
def fixture_runtime(io_loop, store):
    """The pool and the loops."""
    del store
    runtime = Runtime(Timing(), 2)
    yield runtime
    io_loop.run_sync(runtime.stop)


@pytest.fixture(name="listener")
def fixture_listener(runtime, store):
    """Not listening yet."""
    return Listener(runtime, store.url)


async def listening(runtime, listener):
    """Let it listen. Returns two cleared events: one that every commit sets, and one that new intents set."""
    any_commit, new_intent = listener.wakeup(), listener.wakeup(intents_only=True)
    runtime.supervise("doorbell", listener.run, "not yet")
    await until(
        lambda: runtime.problems["doorbell"] is None and any_commit.is_set() and new_intent.is_set(), "listening"
    )
    any_commit.clear()
    new_intent.clear()
    return any_commit, new_intent


@pytest.mark.gen_test
async def test_an_event_does_not_wake_the_worker(runtime, listener):
    any_commit, new_intent = await listening(runtime, listener)
    await runtime.offload(new_vm)
    await asyncio.wait_for(any_commit.wait(), 10)
    assert not new_intent.is_set()


@pytest.mark.gen_test
async def test_an_intent_wakes_every_loop_also_when_events_are_committed_with_it(runtime, listener):
    any_commit, new_intent = await listening(runtime, listener)

    def place():
        with unit() as work:
            vm_id = vms.accept(work, "vm", request(), principal="anonymous", key=None)
            vms.move(work, vms.get(vm_id), State.BUILDING)
            intents.enqueue(work, intents.BOOT, vm_id)

    await runtime.offload(place)
    await asyncio.wait_for(new_intent.wait(), 10)
    assert any_commit.is_set()


@pytest.mark.gen_test
async def test_the_notification_of_an_older_release_wakes_every_loop(runtime, listener, store):
    any_commit, new_intent = await listening(runtime, listener)
    store.command(f"NOTIFY {CHANNEL}")
    await asyncio.wait_for(new_intent.wait(), 10)
    assert any_commit.is_set()


@pytest.mark.gen_test
async def test_a_listener_without_a_connection_wakes_the_loops_of_its_own_process(listener):
    any_commit, new_intent = listener.wakeup(), listener.wakeup(intents_only=True)
    listener.wake()
    assert any_commit.is_set() and new_intent.is_set()


@pytest.mark.gen_test
async def test_the_next_owner_of_a_lost_connection_s_descriptor_can_use_it(runtime, listener, store, monkeypatch):
    loop, readable, pair = asyncio.get_running_loop(), asyncio.Event(), []
    on_readable = listener._on_readable  # pylint: disable=protected-access

    def then_take_the_descriptor(connection, *others):
        descriptor = connection.fileno()
        on_readable(connection, *others)
        if connection.closed and not pair:  # libpq has closed it: the next connection gets this number
            pair.extend(socket.socketpair())
            if pair[0].fileno() != descriptor:
                os.dup2(pair[0].fileno(), descriptor)
                pair[0].close()
                pair[0] = socket.socket(fileno=descriptor)
            loop.add_reader(descriptor, readable.set)

    monkeypatch.setattr(listener, "_on_readable", then_take_the_descriptor)
    await listening(runtime, listener)
    store.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vmsvc-listen'")
    await until(lambda: pair, "the loss")
    await asyncio.sleep(0)  # the listener learns of it
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
