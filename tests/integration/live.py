"""What of a service brings events to sockets, without the rest."""

from urllib.parse import urlencode

from tornado.netutil import bind_sockets
from tornado.websocket import websocket_connect

from vmsvc.domain.timing import Timing
from vmsvc.service.commands import Commands
from vmsvc.service.events.feed import Feed
from vmsvc.service.events.hub import Hub
from vmsvc.service.events.listener import Listener
from vmsvc.service.events.waiters import Waiters
from vmsvc.service.runtime import Runtime
from vmsvc.web.app import make_app, make_server
from vmsvc.web.channel.frames import text_frame
from vmsvc.web.http.settings import WebSettings


class Replica:
    """Listener, feed, hub and channel, on a database that is open already."""

    def __init__(self, url: str, recent: int):
        self._runtime = Runtime(Timing(), 4)
        self.hub = Hub(text_frame, recent)
        self._listener = Listener(self._runtime, url)
        self.feed = Feed(self._runtime, self.hub, Waiters(), self._listener.wakeup())
        commands = Commands(self._runtime, None, None, None, None, None, None, None, verdicts=None, min_run_seconds=0)
        self._server = make_server(make_app(commands, self.hub, WebSettings(), evictions=None, tickets=None))
        self.port = 0

    async def start(self) -> None:
        """Start, and listen."""
        self._runtime.supervise("doorbell", self._listener.run)
        await self.feed.begin()
        self._runtime.supervise("feed", self.feed.run)
        sockets = bind_sockets(0, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        self._server.add_sockets(sockets)

    async def channel(self, **query):
        """A WebSocket on the events."""
        return await websocket_connect(f"ws://127.0.0.1:{self.port}/api/v1/events?{urlencode(query)}")

    async def stop(self) -> None:
        """Stop it."""
        self._server.stop()
        self.hub.close()
        await self._runtime.stop()
        await self._server.close_all_connections()
