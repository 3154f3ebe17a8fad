"""The ways to fan out, each a server in a process of its own: `python -m tests.bench.fanout_servers WAY`.

It prints its port, takes WebSockets at any address, and for each line on its standard input, a number, publishes that
many events at once. Nobody compresses; everybody encodes each event once.
"""

import asyncio
import gc
import importlib
import itertools
import json
import os
import sys
from collections.abc import Callable

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from vmsvc.service.events.hub import Hub
from vmsvc.web.app import make_app, make_server
from vmsvc.web.channel.frames import text_frame
from vmsvc.web.http.settings import WebSettings

EVENT_BYTES = 300
BACKLOG = 4096
#: All numbers have the same length, and so have all events.
SEQS = itertools.count(10_000_000)

Publish = Callable[[list[dict]], None]


def event() -> dict:
    """The next event; its text has EVENT_BYTES."""
    return _event(next(SEQS), "x" * PADDING)


def _event(seq: int, reason: str) -> dict:
    return {
        "specversion": "1.0",
        "id": str(seq),
        "source": "/vmsvc",
        "type": "create",
        "subject": "vm",
        "time": "2026-11-23T12:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {"seq": seq, "state": "active", "vm": {"id": "vm", "is_preemptible": True}, "reason": reason},
    }


def text_of(made: dict) -> str:
    """As it goes over the wire."""
    return json.dumps(made, separators=(",", ":"))


#: Reckoned once: nchan's events are made by the client, so the servers here are not to pay for making theirs.
PADDING = EVENT_BYTES - len(text_of(_event(10_000_000, "")))


async def vmsvc(port_of: Callable) -> Publish:
    """Our hub and channel, as the service builds them."""
    hub = Hub(text_frame)
    settings = WebSettings(max_sockets=20_000, max_in_flight=20_000, ping_interval=600)
    make_server(make_app(None, hub, settings, evictions=None, tickets=None, webhooks=None)).add_sockets(port_of())
    return hub.publish


async def bare(port_of: Callable) -> Publish:
    """The limit: one `send` for each socket and nothing else, whatever became of it."""
    sends: dict[WebSocketHandler, Callable[[bytes], int]] = {}

    class Channel(WebSocketHandler):  # pylint: disable=abstract-method; of request bodies
        """Everybody gets everything."""

        def open(self) -> None:
            self.set_nodelay(True)
            sends[self] = self.ws_connection.stream.socket.send

        def on_message(self, message: str | bytes) -> None:
            """Nobody says anything."""

        def on_close(self) -> None:
            del sends[self]

    def publish(events: list[dict]) -> None:
        piece = b"".join([text_frame(text_of(made).encode()) for made in events])
        for send in tuple(sends.values()):
            try:
                send(piece)
            except BlockingIOError:  # contextlib.suppress would be a part of what is measured
                pass

    HTTPServer(Application([(".*", Channel)])).add_sockets(port_of())
    return publish


async def tornado(port_of: Callable) -> Publish:
    """`write_message` to each socket."""
    handlers: set[WebSocketHandler] = set()

    class Channel(WebSocketHandler):  # pylint: disable=abstract-method; of request bodies
        """Everybody gets everything."""

        def open(self) -> None:
            handlers.add(self)

        def on_message(self, message: str | bytes) -> None:
            """Nobody says anything."""

        def on_close(self) -> None:
            handlers.discard(self)

    def publish(events: list[dict]) -> None:
        for text in map(text_of, events):
            for handler in handlers:
                handler.write_message(text)

    HTTPServer(Application([(".*", Channel)])).add_sockets(port_of())
    return publish


async def websockets(port_of: Callable) -> Publish:
    """The package's own `broadcast`."""
    package = importlib.import_module("websockets.asyncio.server")  # only `make bench` installs it
    connections = set()

    async def channel(connection) -> None:
        connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            connections.discard(connection)

    def publish(events: list[dict]) -> None:
        for text in map(text_of, events):
            package.broadcast(connections, text)

    await package.serve(channel, sock=port_of()[0], compression=None, ping_interval=None)
    return publish


async def aiohttp(port_of: Callable) -> Publish:
    """`send_str` to each socket, awaited, as its documentation shows."""
    web = importlib.import_module("aiohttp.web")
    responses = set()

    async def channel(request):
        response = web.WebSocketResponse(compress=False)
        await response.prepare(request)
        responses.add(response)
        try:
            async for _ in response:
                pass
        finally:
            responses.discard(response)
        return response

    async def send(events: list[dict]) -> None:
        for text in map(text_of, events):
            for response in tuple(responses):
                await response.send_str(text)

    tasks = set()

    def publish(events: list[dict]) -> None:
        tasks.add(task := asyncio.ensure_future(send(events)))
        task.add_done_callback(tasks.discard)

    app = web.Application()
    app.router.add_get("/{any:.*}", channel)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, port_of()[0]).start()
    return publish


WAYS = {way.__name__: way for way in (vmsvc, bare, tornado, websockets, aiohttp)}


async def main(name: str) -> None:
    """Serve until the standard input ends."""
    sockets = bind_sockets(0, "127.0.0.1", backlog=BACKLOG)
    publish = await WAYS[name](lambda: sockets)
    ended = asyncio.Event()

    def told() -> None:
        lines = os.read(0, 4096).split()
        for line in lines:
            publish([event() for _ in range(int(line))])
        if not lines:
            ended.set()

    asyncio.get_running_loop().add_reader(0, told)
    gc.collect()
    print(sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    os._exit(0)  # with thousands of sockets open a proper end takes long


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
