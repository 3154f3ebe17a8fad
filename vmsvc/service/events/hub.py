"""Fan-out of committed events to the sockets and event streams of this replica, in memory.

The feed publishes, in order of `seq`. All that comes in one turn of the loop goes to a socket in one send: with
bursts of 50 events of 300 bytes the kernel's price of a send, some 10 us, is paid once and not 50 times (measured by
`make bench`). Sockets with the same filter share the bytes, and so do event streams. Publishing never waits for a
socket: what a socket cannot take now, its writer queues up to a limit.

The newest events are kept in memory: clients that reconnect after a cut or a restart, all of them at once, get from
there what they missed, and the database is not read.
"""

import asyncio
import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from vmsvc.service.events.frames import EventFilter, Framing, Message, encode, websocket_frame

log = logging.getLogger(__name__)

#: How many of the newest events are kept in memory.
RECENT = 1024
#: How many sockets are served before other work of the loop has its turn: a few milliseconds.
SLICE = 256


class EndReason(StrEnum):
    """Why the hub ends a subscription."""

    SLOW = "slow"  # its peer does not read, or not fast enough
    STOPPED = "stopped"  # the service stops
    GONE = "gone"  # events were deleted before this replica had read them
    FAILED = "failed"  # a defect of the service


class Subscriber(Protocol):
    """What the hub sends events to, such as the writer of a socket."""

    def send(self, data: bytes) -> None:
        """Send some frames, in order. Never waits; does nothing once the subscription has ended."""

    def end(self, reason: EndReason) -> None:
        """The hub has ended this subscription and sends no more events."""


class Hub:
    """All subscribers of this replica. To be used from the loop's thread alone. `frame` turns an event's JSON into the
    bytes that subscribers are sent; `recent` is how many of the newest events are kept."""

    def __init__(self, frame: Callable[[bytes], bytes], recent: int = RECENT, clock: Callable[[], float] = time.time):
        self._frame = frame
        self._max_recent = recent
        self._clock = clock
        self._subscribers: set[Subscriber] = set()
        #: By what they are sent: the subscribers, and the seq up to which each needs nothing.
        self._subscriptions: dict[tuple[EventFilter, Framing], dict[Subscriber, int]] = {}
        self._recent: list[Message] = []
        self._since = 0  # every event after this is in `_recent`
        self._pending: list[Message] = []
        self._deliveries_left: Iterator[bool] | None = None
        self.last_seq = 0
        self.delivered_seq = 0  # every subscriber has been sent all events up to this
        self.lag_seconds = 0.0  # from the last event's `time` to its fan-out
        self.closed = False

    def __len__(self) -> int:
        return len(self._subscribers)

    def encode(self, event: Mapping[str, Any]) -> Message:
        """The message of a CloudEvents object, framed as those that the hub publishes."""
        return encode(event, self._frame)

    def register(self, subscriber: Subscriber) -> None:
        """Count a subscriber; it gets nothing until it subscribes."""
        self._subscribers.add(subscriber)

    def subscribe(
        self, subscriber: Subscriber, event_filter: EventFilter, since: int, framing: Framing = websocket_frame
    ) -> bool:
        """Send it what is published from now on, after `since`. Returns False, and does nothing, when the subscriber
        lacks earlier events."""
        if since < self.last_seq:
            return False
        self._subscriptions.setdefault((event_filter, framing), {})[subscriber] = since
        return True

    def unregister(self, subscriber: Subscriber, event_filter: EventFilter, framing: Framing = websocket_frame) -> None:
        """Forget a subscriber; one that is not known is no error."""
        self._subscribers.discard(subscriber)
        group = self._subscriptions.get((event_filter, framing), {})
        group.pop(subscriber, None)
        if not group:
            self._subscriptions.pop((event_filter, framing), None)

    def page(self, event_filter: EventFilter, since: int, limit: int) -> tuple[list[Message], int] | None:
        """Of the next `limit` events after `since` those that the filter admits, and the seq of the last of the
        `limit`; None when memory does not go back so far."""
        if since < self._since:
            return None
        first = bisect_right(self._recent, since, key=lambda message: message.seq)
        found = self._recent[first : first + limit]
        return [message for message in found if event_filter.admits(message)], found[-1].seq if found else since

    def begin(self, since: int, events: Iterable[Mapping[str, Any]]) -> None:
        """Take the newest of the events that were committed before this replica started: all after `since`."""
        self.skip(since)
        self._add_recent(events)

    def publish(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Send committed events, in order, to every subscriber. An event that was published before is ignored."""
        new = self._add_recent(events)
        if new and self._subscriptions:
            self._pending += new
            if self._deliveries_left is None:
                self._deliveries_left = self._deliveries()
                asyncio.get_running_loop().call_soon(self._deliver_slice)
        elif self._deliveries_left is None:
            self.delivered_seq = self.last_seq

    def _add_recent(self, events: Iterable[Mapping[str, Any]]) -> list[Message]:
        new, newest = [], ""
        for event in events:
            message = self.encode(event)
            if message.seq > self.last_seq:
                self.last_seq, newest = message.seq, event["time"]
                new.append(message)
        if new:
            self.lag_seconds = max(0.0, self._clock() - datetime.fromisoformat(newest).timestamp())
        self._recent += new
        if len(self._recent) > self._max_recent:
            self.forget(self._recent[-self._max_recent - 1].seq)
        return new

    def forget(self, seq: int) -> None:
        """Drop the events up to `seq`: the history no longer has them, and a reader from before gets HistoryGone."""
        self._since = max(self._since, seq)
        del self._recent[: bisect_right(self._recent, seq, key=lambda message: message.seq)]

    def skip(self, seq: int) -> None:
        """Pass over the events up to `seq`, which no longer exist: subscribers that lack them have to reload."""
        for subscriber in [
            one for group in self._subscriptions.values() for one, since in group.items() if since < seq
        ]:
            subscriber.end(EndReason.GONE)
        self.last_seq = max(self.last_seq, seq)
        if self._deliveries_left is None:
            self.delivered_seq = self.last_seq
        self.forget(seq)

    def close(self) -> None:
        """End every subscriber: the service stops."""
        self.closed = True
        for subscriber in tuple(self._subscribers):
            subscriber.end(EndReason.STOPPED)

    def _deliver_slice(self) -> None:
        """Serve a slice of the sockets, then let the loop turn before the next."""
        if self._deliveries_left is None or not next(self._deliveries_left, False):
            self._deliveries_left = self._deliveries() if self._pending else None
        if self._deliveries_left:
            asyncio.get_running_loop().call_soon(self._deliver_slice)
        else:
            self.delivered_seq = self.last_seq

    def _deliveries(self) -> Iterator[bool]:
        """Send what is pending, a slice of the subscribers in each step. A subscriber that joins meanwhile has it."""
        messages, self._pending = self._pending, []
        served = 0
        for (event_filter, framing), group in tuple(self._subscriptions.items()):
            admitted = [message for message in messages if event_filter.admits(message)]
            for batch, data in _batches(group, admitted, framing):
                for first in range(0, len(batch), SLICE):
                    served += _send(batch[first : first + SLICE], data)
                    if served >= SLICE:
                        yield True
                        served = 0


def _batches(
    group: Mapping[Subscriber, int], messages: list[Message], framing: Framing
) -> list[tuple[list[Subscriber], bytes]]:
    """Which subscribers get which bytes: all of them the same, but for those that joined later and have some of the
    messages already."""
    if not messages:
        return []
    joined_later = {one: since for one, since in group.items() if since >= messages[0].seq}
    return [
        (
            [one for one in group if one not in joined_later] if joined_later else list(group),
            concatenate(messages, framing),
        ),
        *(
            ([one], concatenate((message for message in messages if message.seq > since), framing))
            for one, since in joined_later.items()
        ),
    ]


def _send(subscribers: list[Subscriber], data: bytes) -> int:
    """Send each subscriber the data; returns their number. With thousands of sockets the memory that is read for each
    of them costs more than the work: this loop reads the subscriber alone."""
    for subscriber in subscribers:
        try:
            subscriber.send(data)
        except Exception:  # pylint: disable=broad-exception-caught; one must not cost the others an event
            log.exception("a socket failed")
            asyncio.get_running_loop().call_soon(subscriber.end, EndReason.FAILED)
    return len(subscribers)


def concatenate(messages: Iterable[Message], framing: Framing) -> bytes:
    """The bytes of some messages in their order."""
    return b"".join([framing(message) for message in messages])
