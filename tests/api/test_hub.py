"""The hub by itself: order, bounds, and an end that comes once."""

import asyncio
import json

import pytest

from tests.api.standin import event
from vmsvc.service.hub import End, Hub, Wanted, encode


@pytest.fixture(name="ends")
def _ends():
    return []


@pytest.fixture(name="hub")
def _hub():
    return Hub(bound=3, clock=lambda: 1_795_435_202.5)


def live(hub, ends, **wanted):
    """A subscriber that has caught up."""
    subscription = hub.subscribe(Wanted(**wanted), ends.append)
    assert subscription.go_live()
    return subscription


async def drain(subscription):
    """The seqs in its queue."""
    seen = []
    while True:
        try:
            async with asyncio.timeout(0):
                seen.append((await subscription.take()).seq)
        except TimeoutError:
            return seen


@pytest.mark.gen_test
async def test_a_full_queue_ends_the_subscriber_and_nobody_else(hub, ends):
    slow, quick = live(hub, ends), live(hub, [])
    for seq in range(1, 5):
        hub.publish(event(seq))
        assert (await quick.take()).seq == seq
    hub.publish(event(5))
    assert ends == [End.OVERFLOW]
    assert await drain(quick) == [5] and not await drain(slow)
    hub.close()
    assert ends == [End.OVERFLOW]


@pytest.mark.gen_test
async def test_while_catching_up_a_full_queue_only_means_to_read_the_history_once_more(hub, ends):
    subscription = hub.subscribe(Wanted(), ends.append)
    for seq in range(1, 6):
        hub.publish(event(seq))
    assert not subscription.go_live()
    subscription.restart()
    hub.publish(event(6))
    assert subscription.go_live()
    assert await drain(subscription) == [6] and not ends


@pytest.mark.gen_test
async def test_an_event_that_was_published_before_is_ignored(hub, ends):
    subscription = live(hub, ends)
    for seq in (7, 7, 6, 8):
        hub.publish(event(seq))
    assert await drain(subscription) == [7, 8]
    assert hub.last_seq == 8


@pytest.mark.gen_test
@pytest.mark.parametrize("wanted, seqs", [
    ({}, [1, 2, 3]), ({"types": frozenset({"evict"})}, [2]), ({"vm": "a"}, [1, 2]), ({"vm": "own-b"}, [3]),
    ({"vm": "a", "types": frozenset({"create", "delete"})}, [1]), ({"vm": "c"}, []),
])
async def test_a_subscriber_gets_what_it_wants(hub, ends, wanted, seqs):
    subscription = live(hub, ends, **wanted)
    hub.publish(event(1, vm="a"))
    hub.publish(event(2, kind="evict", vm="a"))
    hub.publish(event(3, vm="b"))
    assert await drain(subscription) == seqs


def test_lag_is_from_the_events_time_to_its_fan_out(hub):
    hub.publish(event(1) | {"time": "2026-11-23T12:00:00.000Z"})
    assert hub.lag_seconds == 2.5
    hub.publish(event(2) | {"time": "2026-11-23T13:00:00.000Z"})
    assert hub.lag_seconds == 0


def test_a_message_is_the_event_and_nothing_else():
    original = event(9)
    original["data"]["vm"]["name"] = "wörker \u2028"
    assert json.loads(encode(original).text) == original


def test_an_event_is_encoded_once_for_all(hub, ends, monkeypatch):
    encoded = []
    monkeypatch.setattr("vmsvc.service.hub.encode", lambda one: encoded.append(one) or encode(one))
    for _ in range(5):
        live(hub, ends)
    hub.publish(event(1))
    assert len(encoded) == 1 and len(hub) == 5
