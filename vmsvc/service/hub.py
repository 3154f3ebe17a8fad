"""Fan-out of committed events to the sockets of this replica, in memory.

The feed publishes, in order of `seq`; each socket holds a `Subscription` with a queue of its own. Publishing never
waits: a subscriber that does not keep up is ended, and its client comes back with the last `seq` it saw.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

#: How many events a subscriber may lag behind.
BOUND = 256


class End(StrEnum):
    """Why the hub ended a subscription."""

    OVERFLOW = "overflow"      # its queue was full: the peer reads too slowly
    STOPPED = "stopped"        # the service stops


@dataclass(frozen=True, slots=True)
class Message:
    """An event, encoded once for all who get it. `ids` are the names by which its VM is known."""

    seq: int
    type: str
    ids: frozenset[str]
    text: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a subscriber wants; an empty set of types means all, no vm means every VM."""

    types: frozenset[str] = frozenset()
    vm: str | None = None

    def admits(self, message: Message) -> bool:
        """True when the message is one of those."""
        return (not self.types or message.type in self.types) and (self.vm is None or self.vm in message.ids)


def encode(event: Mapping[str, Any]) -> Message:
    """The message of a CloudEvents object whose `data` carries `seq` and `vm`."""
    data = event["data"]
    vm = data.get("vm") or {}
    ids = {event.get("subject"), vm.get("id"), vm.get("vmsvc_id")}
    text = json.dumps(event, separators=(",", ":")).encode("ascii")
    return Message(int(data["seq"]), event["type"], frozenset(ids - {None}), text)


class Subscription:
    """One subscriber's queue, at most `bound` long.

    It begins in catching up: what does not fit is only noted, for the subscriber still reads the history and finds
    it there. Once live, a full queue ends the subscription.
    """

    def __init__(self, wanted: Wanted, on_end: Callable[[End], None], bound: int = BOUND):
        self.wanted = wanted
        self._on_end = on_end
        self._bound = bound
        self._queue: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._live = False
        self._missed = False
        self._ended = False

    def offer(self, message: Message) -> None:
        """Queue a message if it is wanted. Never waits."""
        if self._ended or not self.wanted.admits(message):
            return
        if len(self._queue) < self._bound:
            self._queue.append(message)
            self._arrived.set()
        elif self._live:
            self.end(End.OVERFLOW)
        else:
            self._missed = True

    def restart(self) -> None:
        """Forget what is queued: it was committed before now, so a read of the history that starts now has it."""
        self._queue.clear()
        self._missed = False

    def go_live(self) -> bool:
        """End the catching up. False when something was missed since `restart()`: read the history once more."""
        self._live = not self._missed
        return self._live

    async def take(self) -> Message:
        """The next message, when there is one."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    def end(self, why: End) -> None:
        """Stop for good and tell the subscriber, once."""
        if not self._ended:
            self._ended = True
            self._queue.clear()
            self._on_end(why)


class Hub:
    """All subscriptions of this replica. To be used from the loop's thread alone."""

    def __init__(self, bound: int = BOUND, clock: Callable[[], float] = time.time):
        self._bound = bound
        self._clock = clock
        self._subscriptions: set[Subscription] = set()
        self.last_seq = 0
        self.lag_seconds = 0.0      # from the last event's `time` to its fan-out
        self.closed = False

    def __len__(self) -> int:
        return len(self._subscriptions)

    def subscribe(self, wanted: Wanted, on_end: Callable[[End], None]) -> Subscription:
        """A new subscription; it gets what is published from now on. `on_end` is called when the hub ends it."""
        subscription = Subscription(wanted, on_end, self._bound)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription; one that is not known is no error."""
        self._subscriptions.discard(subscription)

    def publish(self, event: Mapping[str, Any]) -> None:
        """Offer a committed event to every subscriber. One that was published before is ignored."""
        message = encode(event)
        if message.seq <= self.last_seq:
            return
        self.last_seq = message.seq
        self.lag_seconds = max(0.0, self._clock() - datetime.fromisoformat(event["time"]).timestamp())
        for subscription in tuple(self._subscriptions):
            subscription.offer(message)

    def close(self) -> None:
        """End every subscription: the service stops."""
        self.closed = True
        for subscription in tuple(self._subscriptions):
            subscription.end(End.STOPPED)
