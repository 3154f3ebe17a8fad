"""Fan-out of committed events to the sockets of this replica, in memory.

The feed publishes, in order of `seq`. All that comes in one turn of the loop goes to a socket as one piece: with
bursts of 50 events of 300 bytes the kernel's price of a send, some 10 us, is paid once and not 50 times (measured by
`make bench`). Sockets that want the same share the piece. Publishing never waits for a socket: what one cannot take is
its own to keep, within its own bound.

The newest events are kept, so that clients who come back after a cut or a restart, all of them at once, find there
what they missed and the database is not asked.
"""

import asyncio
import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from vmsvc.service.events.frames import Message, Wanted, encode

log = logging.getLogger(__name__)

#: How many of the newest events are kept in memory.
RECENT = 1024
#: How many sockets are served before other work of the loop has its turn: a few milliseconds.
SLICE = 256


class End(StrEnum):
    """Why the hub ends a subscription."""

    SLOW = "slow"  # its peer does not read, or not fast enough
    STOPPED = "stopped"  # the service stops
    GONE = "gone"  # events were forgotten before this replica had read them
    FAILED = "failed"  # a defect of ours


class Subscriber(Protocol):
    """What the hub sends events to, such as the writer of a socket."""

    def send(self, data: bytes) -> None:
        """Some frames, in order. Never waits; does nothing once it has ended."""

    def end(self, why: End) -> None:
        """The hub has ended this subscription and sends no more events."""


class Hub:
    """All subscribers of this replica. To be used from the loop's thread alone. `frame` turns an event's JSON into the
    bytes that subscribers are sent; `recent` is how many of the newest events are kept."""

    def __init__(self, frame: Callable[[bytes], bytes], recent: int = RECENT, clock: Callable[[], float] = time.time):
        self._frame = frame
        self._keep = recent
        self._clock = clock
        self._all: set[Subscriber] = set()
        self._live: dict[Wanted, dict[Subscriber, int]] = {}  # and the seq up to which each needs nothing
        self._recent: list[Message] = []
        self._since = 0  # every event after this is in `_recent`
        self._pending: list[Message] = []
        self._round: Iterator[bool] | None = None
        self.last_seq = 0
        self.lag_seconds = 0.0  # from the last event's `time` to its fan-out
        self.closed = False

    def __len__(self) -> int:
        return len(self._all)

    def encode(self, event: Mapping[str, Any]) -> Message:
        """The message of a CloudEvents object, framed as those that the hub publishes."""
        return encode(event, self._frame)

    def enter(self, subscriber: Subscriber) -> None:
        """Count a subscriber; it gets nothing until it joins."""
        self._all.add(subscriber)

    def join(self, subscriber: Subscriber, wanted: Wanted, since: int) -> bool:
        """Give it what is published from now on, after `since`. False, and nothing, when it lacks earlier events."""
        if since < self.last_seq:
            return False
        self._live.setdefault(wanted, {})[subscriber] = since
        return True

    def leave(self, subscriber: Subscriber, wanted: Wanted) -> None:
        """Forget a subscriber; one that is not known is no error."""
        self._all.discard(subscriber)
        group = self._live.get(wanted, {})
        group.pop(subscriber, None)
        if not group:
            self._live.pop(wanted, None)

    def page(self, wanted: Wanted, since: int, limit: int) -> tuple[list[Message], int] | None:
        """The wanted events after `since`, some of the first `limit`, and the seq up to which that reaches; None when
        memory does not go back so far."""
        if since < self._since:
            return None
        first = bisect_right(self._recent, since, key=lambda message: message.seq)
        found = self._recent[first : first + limit]
        return [message for message in found if wanted.admits(message)], found[-1].seq if found else since

    def begin(self, since: int, events: Iterable[Mapping[str, Any]]) -> None:
        """Know the newest of what was committed before we came: all events after `since`."""
        self.skip(since)
        self._remember(events)

    def publish(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Committed events, in order, for every subscriber. One that was published before is ignored."""
        fresh = self._remember(events)
        if fresh and self._live:
            self._pending += fresh
            if self._round is None:
                self._round = self._deliveries()
                asyncio.get_running_loop().call_soon(self._turn)

    def _remember(self, events: Iterable[Mapping[str, Any]]) -> list[Message]:
        fresh, newest = [], ""
        for event in events:
            message = self.encode(event)
            if message.seq > self.last_seq:
                self.last_seq, newest = message.seq, event["time"]
                fresh.append(message)
        if fresh:
            self.lag_seconds = max(0.0, self._clock() - datetime.fromisoformat(newest).timestamp())
        self._recent += fresh
        if len(self._recent) > self._keep:
            self.forget(self._recent[-self._keep - 1].seq)
        return fresh

    def forget(self, seq: int) -> None:
        """History up to `seq` is no longer kept: a reader from before it is to be told so."""
        self._since = max(self._since, seq)
        del self._recent[: bisect_right(self._recent, seq, key=lambda message: message.seq)]

    def skip(self, seq: int) -> None:
        """Events up to `seq` will never come: who waits for them has to reload."""
        for subscriber in [one for group in self._live.values() for one, since in group.items() if since < seq]:
            subscriber.end(End.GONE)
        self.last_seq = max(self.last_seq, seq)
        self.forget(seq)

    def close(self) -> None:
        """End every subscriber: the service stops."""
        self.closed = True
        for subscriber in tuple(self._all):
            subscriber.end(End.STOPPED)

    def _turn(self) -> None:
        """Serve a slice of the sockets, then let the loop turn before the next."""
        if self._round is None or not next(self._round, False):
            self._round = self._deliveries() if self._pending else None
        if self._round:
            asyncio.get_running_loop().call_soon(self._turn)

    def _deliveries(self) -> Iterator[bool]:
        """Send what is pending; each step is a slice of the subscribers. Who joins meanwhile has it already."""
        messages, self._pending = self._pending, []
        served = 0
        for wanted, group in tuple(self._live.items()):
            for some, piece in _shares(group, [message for message in messages if wanted.admits(message)]):
                for first in range(0, len(some), SLICE):
                    served += _send(some[first : first + SLICE], piece)
                    if served >= SLICE:
                        yield True
                        served = 0


def _shares(group: Mapping[Subscriber, int], messages: list[Message]) -> list[tuple[list[Subscriber], bytes]]:
    """Who gets what: all of them the same piece, but for those who joined later and have some of it already."""
    if not messages:
        return []
    later = {one: since for one, since in group.items() if since >= messages[0].seq}
    return [
        ([one for one in group if one not in later] if later else list(group), _joined(messages)),
        *(([one], _joined(message for message in messages if message.seq > since)) for one, since in later.items()),
    ]


def _send(subscribers: list[Subscriber], piece: bytes) -> int:
    """Send each the piece; how many they are. With thousands of sockets the memory that is looked at for each of them
    costs more than what is done: this loop looks at the subscriber alone."""
    for subscriber in subscribers:
        try:
            subscriber.send(piece)
        except Exception:  # pylint: disable=broad-exception-caught; one must not cost the others an event
            log.exception("a socket failed")
            asyncio.get_running_loop().call_soon(subscriber.end, End.FAILED)
    return len(subscribers)


def _joined(messages: Iterable[Message]) -> bytes:
    return b"".join([message.frame for message in messages])
