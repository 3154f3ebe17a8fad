"""One subscriber of the hub: it is sent what it lacks, page after page, and then joins the live events.

A subscriber that asks with `since` gets page after page, each when the page before has left, until it lacks no event.
At that moment it joins. Nothing is awaited in between, so no event is missed or sent twice. Pages come from the hub's
memory of the newest events, older ones from the database.
"""

from collections.abc import Awaitable, Callable

from vmsvc.service.events.frames import EventFilter, Framing, Message
from vmsvc.service.events.hub import Hub, concatenate
from vmsvc.web.channel.socket_writer import SocketWriter

PAGE = 100  # events that a subscriber is sent at once while it catches up

#: Reads a page of history after a seq: the messages, and the seq up to which they reach. Raises HistoryGone.
ReadPage = Callable[[int], Awaitable[tuple[list[Message], int]]]


class Subscription:
    """The place of one writer at the hub. `read_page` is for events that the hub no longer has in memory."""

    def __init__(
        self, hub: Hub, writer: SocketWriter, event_filter: EventFilter, framing: Framing, read_page: ReadPage
    ):
        self._hub = hub
        self.writer = writer
        self._filter = event_filter
        self._framing = framing
        self._read_page = read_page
        self.joined_at: int | None = None  # the seq from which it gets live events
        hub.register(writer)

    def join(self, since: int) -> bool:
        """Get the live events from now on. False, and nothing is done, when events after `since` are lacking."""
        if not self._hub.subscribe(self.writer, self._filter, since, self._framing):
            return False
        self.joined_at = since
        return True

    async def catch_up(self, sent: int) -> None:
        """Send all events after `sent`, then join. Raises HistoryGone, and what a reading of the database raises."""
        while not self.join(sent):
            messages, sent = await self.page(sent)
            if messages:
                self.writer.send(concatenate(messages, self._framing))
                await self.writer.drained()

    async def page(self, since: int) -> tuple[list[Message], int]:
        """The next events after `since`, from memory or from the database. Raises as `catch_up`."""
        return self._hub.page(self._filter, since, PAGE) or await self._read_page(since)

    def leave(self) -> None:
        """Send no more."""
        self.writer.close()
        self._hub.unregister(self.writer, self._filter, self._framing)
