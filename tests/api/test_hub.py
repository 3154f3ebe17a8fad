"""The hub by itself: order, one piece for each turn of the loop, what is remembered, and an end that comes once."""

import asyncio
import json
import struct

import pytest

from tests.api.standin import event
from vmsvc.service.events.frames import EventFilter, encode
from vmsvc.service.events.hub import SLICE, EndReason, Hub
from vmsvc.web.channel.frames import text_frame


class RecordingSubscriber:
    """A subscriber that writes down what it gets: `sends` as they came, `ends` why it had to go."""

    def __init__(self):
        self.sends: list[list[int]] = []
        self.ends: list[EndReason] = []
        self.on_send = lambda: None

    def send(self, data):
        """Note the seqs."""
        self.sends.append([json.loads(text)["data"]["seq"] for text in texts(data)])
        self.on_send()

    def end(self, why):
        """Note why."""
        self.ends.append(why)

    @property
    def seen(self):
        """All seqs in order."""
        return sum(self.sends, [])


def texts(data):
    """The payloads of the text frames."""
    while data:
        assert data[0] == 0x81
        length, start = data[1], 2
        if length == 126:
            length, start = *struct.unpack("!H", data[2:4]), 4
        elif length == 127:
            length, start = *struct.unpack("!Q", data[2:10]), 10
        yield data[start : start + length]
        data = data[start + length :]


@pytest.fixture(name="hub")
def _hub():
    return Hub(text_frame, recent=5, clock=lambda: 1_795_435_202.5)


def live(hub, since=None, **wanted):
    """A subscriber that has caught up."""
    subscriber = RecordingSubscriber()
    hub.register(subscriber)
    assert hub.subscribe(subscriber, EventFilter(**wanted), hub.last_seq if since is None else since)
    return subscriber


async def turns(count=3):
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_all_that_is_published_in_one_turn_comes_as_one_piece(hub):
    subscribers = [live(hub) for _ in range(3)]
    hub.publish([event(1), event(2)])
    hub.publish([event(3)])
    assert not subscribers[0].sends, "publishing sends nothing by itself"
    await turns()
    hub.publish([event(4)])
    await turns()
    assert [subscriber.sends for subscriber in subscribers] == [[[1, 2, 3], [4]]] * 3


@pytest.mark.gen_test
async def test_an_event_that_was_published_before_is_ignored(hub):
    subscriber = live(hub)
    for seq in (7, 7, 6, 8):
        hub.publish([event(seq)])
    await turns()
    assert subscriber.seen == [7, 8]
    assert hub.last_seq == 8


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "wanted, seqs",
    [
        ({}, [1, 2, 3]),
        ({"types": frozenset({"evict"})}, [2]),
        ({"vm": "a"}, [1, 2]),
        ({"vm": "own-b"}, [3]),
        ({"vm": "a", "types": frozenset({"create", "delete"})}, [1]),
        ({"vm": "c"}, []),
        ({"preemptible": True}, [1, 2]),
        ({"preemptible": False}, [3]),
        ({"preemptible": False, "vm": "a"}, []),
    ],
)
async def test_a_subscriber_gets_what_it_wants_live_and_from_memory(hub, wanted, seqs):
    subscriber = live(hub, **wanted)
    hub.publish([event(1, vm="a"), event(2, kind="evict", vm="a"), event(3, vm="b", preemptible=False)])
    await turns()
    assert subscriber.seen == seqs
    messages, reached = hub.page(EventFilter(**wanted), 0, 10)
    assert [message.seq for message in messages] == seqs and reached == 3


@pytest.mark.gen_test
async def test_a_subscriber_gets_new_events_and_one_that_lacks_some_is_not_subscribed(hub):
    first = live(hub)
    hub.publish([event(1), event(2)])
    joined = live(hub)  # before the fan-out of what it was not there for
    ahead = live(hub, since=4)
    assert not hub.subscribe(RecordingSubscriber(), EventFilter(), 1)
    hub.publish([event(3), event(4), event(5)])
    await turns()
    assert (first.seen, joined.seen, ahead.seen) == ([1, 2, 3, 4, 5], [3, 4, 5], [5])


@pytest.mark.gen_test
async def test_sockets_are_served_in_slices_and_one_that_joins_or_leaves_between_them_misses_nothing(hub):
    subscribers = [live(hub) for _ in range(2 * SLICE + 10)]
    hub.publish([event(1)])
    await turns(1)
    served = [subscriber for subscriber in subscribers if subscriber.sends]
    assert len(served) == SLICE, "other work of the loop has its turn"
    late, leaver = live(hub), next(subscriber for subscriber in subscribers if not subscriber.sends)
    hub.unregister(leaver, EventFilter())
    hub.publish([event(2)])
    await turns(8)
    assert late.seen == [2]
    assert all(subscriber.seen == [1, 2] for subscriber in subscribers if subscriber is not leaver)
    assert 2 not in leaver.seen and len(hub) == len(subscribers)


@pytest.mark.gen_test
async def test_a_subscriber_that_breaks_is_ended_and_costs_the_others_nothing(hub, caplog):
    subscribers = [live(hub) for _ in range(3)]
    subscribers[1].on_send = lambda: 1 / 0
    hub.publish([event(1)])
    await turns()
    assert [subscriber.seen for subscriber in subscribers] == [[1]] * 3
    assert [subscriber.ends for subscriber in subscribers] == [[], [EndReason.FAILED], []]
    assert [record.getMessage() for record in caplog.records] == ["a socket failed"]
    caplog.clear()


@pytest.mark.gen_test
async def test_memory_holds_the_newest_and_says_when_it_does_not_go_back_so_far(hub):
    hub.begin(10, [event(seq) for seq in (12, 13, 15)])
    assert hub.last_seq == 15
    assert hub.page(EventFilter(), 9, 10) is None
    assert [[message.seq for message in hub.page(EventFilter(), since, 2)[0]] for since in (10, 12, 14, 15)] == [
        [12, 13],
        [13, 15],
        [15],
        [],
    ]
    hub.publish([event(seq) for seq in (16, 17, 18)])
    assert hub.page(EventFilter(), 11, 10) is None and hub.page(EventFilter(), 12, 10) is not None
    hub.forget(16)
    assert hub.page(EventFilter(), 15, 10) is None
    assert [message.seq for message in hub.page(EventFilter(), 16, 10)[0]] == [17, 18]


@pytest.mark.gen_test
async def test_a_subscriber_of_events_that_no_longer_exist_is_ended(hub):
    subscriber, ahead = live(hub), live(hub, since=20)
    hub.skip(15)
    hub.publish([event(16), event(21)])
    assert (subscriber.ends, ahead.ends, hub.last_seq) == ([EndReason.GONE], [], 21)
    assert hub.page(EventFilter(), 14, 10) is None


@pytest.mark.gen_test
async def test_when_the_service_stops_all_are_ended_once_those_too_that_still_catch_up(hub):
    subscriber, catching_up = live(hub), RecordingSubscriber()
    hub.register(catching_up)
    assert len(hub) == 2
    hub.close()
    assert subscriber.ends == catching_up.ends == [EndReason.STOPPED] and hub.closed


@pytest.mark.gen_test
async def test_a_subscriber_that_has_left_gets_nothing(hub):
    subscriber = live(hub, vm="a")
    hub.unregister(subscriber, EventFilter(vm="a"))
    hub.unregister(subscriber, EventFilter(vm="a"))
    hub.publish([event(1, vm="a")])
    await turns()
    assert not subscriber.sends and len(hub) == 0


def test_lag_is_from_the_events_time_to_its_fan_out(hub):
    hub.publish([event(1) | {"time": "2026-11-23T12:00:00.000Z"}])
    assert hub.lag_seconds == 2.5
    hub.publish([event(2) | {"time": "2026-11-23T13:00:00.000Z"}])
    assert hub.lag_seconds == 0


def test_a_message_is_the_event_and_nothing_else():
    original = event(9)
    original["data"]["vm"]["name"] = "wörker \u2028"
    assert [json.loads(text) for text in texts(encode(original, text_frame).frame)] == [original]


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536, 70_000])
def test_a_frame_of_any_length_is_read_as_it_was_written(length):
    assert list(texts(text_frame(b"x" * length) * 2)) == [b"x" * length] * 2


@pytest.mark.gen_test
async def test_an_event_is_encoded_once_for_all(hub, monkeypatch):
    encoded = []
    monkeypatch.setattr("vmsvc.service.events.hub.encode", lambda *args: encoded.append(args) or encode(*args))
    subscribers = [live(hub) for _ in range(5)]
    hub.publish([event(1)])
    await turns()
    assert len(encoded) == 1 and all(subscriber.seen == [1] for subscriber in subscribers)
