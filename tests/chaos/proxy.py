"""A proxy between the service and any cloud, simulated or real: it lets calls through, or does to them what networks
and load balancers do. The service finds it by `http_proxy`, as every HTTP client does.

A fault strikes the first `count` calls whose method and path fit:
- `before`: the call never arrives, and the connection breaks;
- `after`: the call has its effect, and the connection breaks before the answer;
- `half`: ... and in the middle of the answer;
- `html`: ... and a page of HTML is the answer;
- `status`: the call never arrives; the answer is `status` with Retry-After: 1;
- `hang`: ... nor does an answer come, until `calm()`;
- `late`: the connection breaks at once, and the call arrives `seconds` later all the same.
"""

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_MOST = 2**20


@dataclass
class Fault:
    """What is done to which calls."""

    action: str
    method: str
    path: str
    count: int = 1
    status: int = 503
    seconds: float = 3.0


@dataclass
class Call:
    """A request as it came, to be passed on."""

    method: str
    url: str
    headers: list[bytes]
    body: bytes

    @property
    def path(self) -> str:
        """Without host and query."""
        return urlsplit(self.url).path

    async def sent(self) -> bytes:
        """The whole answer of whom it is for."""
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            writer.write(
                b"\r\n".join(
                    [f"{self.method} {target} HTTP/1.1".encode(), *self.headers, b"Connection: close", b"", self.body]
                )
            )
            return await reader.read(-1)
        finally:
            await _close(writer)


@dataclass
class Proxy:
    """`await open()`; `url` is for `http_proxy`; `await close()`."""

    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    struck: int = 0
    late: set[asyncio.Task] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _busy: set[asyncio.Task] = field(default_factory=set)
    _calm: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_MOST)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """End."""
        self.calm()
        self._server.close()
        await asyncio.gather(*self.late, *self._busy, return_exceptions=True)

    def calm(self) -> None:
        """No more faults; what hangs is cut."""
        self.faults.clear()
        self._calm.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._busy.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                writer.write(await self._answer(await _read(reader)))
                await writer.drain()
        finally:
            await _close(writer)
            self._busy.discard(task)

    async def _answer(self, call: Call) -> bytes:
        """What the client gets; nothing stands for a connection that breaks."""
        match fault := self._fault(call):
            case None:
                return await call.sent()
            case Fault(action="after"):
                await call.sent()
            case Fault(action="half"):
                whole = await call.sent()
                return whole[: whole.index(b"\r\n\r\n") + 4 + 10]
            case Fault(action="html"):
                await call.sent()
                return b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>It works!</html>"
            case Fault(action="status"):
                return (
                    f"HTTP/1.1 {fault.status} Sorry\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                ).encode()
            case Fault(action="hang"):
                await self._calm.wait()
            case Fault(action="late"):
                self.late.add(asyncio.create_task(self._later(call, fault.seconds)))
        return b""

    async def _later(self, call: Call, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await call.sent()

    def _fault(self, call: Call) -> Fault | None:
        for fault in self.faults:
            if fault.count and fault.method == call.method and re.search(fault.path, call.path):
                fault.count -= 1
                self.struck += 1
                return fault
        return None


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Call:
    """A request with its body, without the headers that concern this connection alone."""
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
    method, url, _ = lines[0].decode().split(" ")
    length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")), 0)
    headers = [line for line in lines[1:] if not line.lower().startswith((b"connection:", b"proxy-"))]
    return Call(method, url, headers, await reader.readexactly(length))
