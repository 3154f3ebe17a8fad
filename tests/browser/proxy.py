"""A reverse proxy in front of a service: under a name and a path of its own, upgrades passed on. As plain as one can
be: each connection is one request, or one WebSocket."""

import asyncio
import contextlib
import threading
import weakref

NAME = "vmsvc.example"
LIMIT = 30  # seconds that a test thread waits for the proxy's thread
_BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class ReverseProxy:
    """Passes what comes under `prefix` on to a port of this machine, from a thread of its own."""

    def __init__(self, port: int, prefix: str):
        self._upstream, self._prefix = port, prefix
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._open: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(LIMIT)

    @property
    def url(self) -> str:
        """Where the page is for a browser of these tests, which finds this name here."""
        return f"http://{NAME}:{self.port}{self._prefix}"

    def stop(self) -> None:
        """End it and its thread."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(LIMIT)
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopped.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for writer in self._open:
            writer.transport.abort()  # each connection's task ends by itself then
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = self._rewritten(await reader.readuntil(b"\r\n\r\n"))
            if head is None:
                writer.write(_BAD_GATEWAY.replace(b"502 Bad Gateway", b"404 Not Found"))
                return
            try:
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            except OSError:
                writer.write(_BAD_GATEWAY)
                return
            with contextlib.closing(up_writer):
                up_writer.write(head)
                ways = [asyncio.ensure_future(_pass(*way)) for way in ((reader, up_writer), (up_reader, writer))]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()

    def _rewritten(self, head: bytes) -> bytes | None:
        """The head of a request as the service gets it; None when it is for somebody else."""
        request, *headers = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, path, version = request.split(" ")
        if not path.startswith(self._prefix):
            return None
        upgrade = any(header.lower().startswith("upgrade:") for header in headers)
        kept = [header for header in headers if upgrade or not header.lower().startswith("connection:")]
        lines = [
            f"{method} /{path.removeprefix(self._prefix)} {version}",
            *kept,
            *([] if upgrade else ["Connection: close"]),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
