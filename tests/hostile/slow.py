"""Peers who take their time, and crowds who only hold a connection."""

import asyncio
import contextlib
import random
import time

from tests.hostile.frames import handshake
from tests.hostile.requests import JSON, VM, head
from tests.hostile.wire import Tally, connect, reset

DRIPPERS = {
    "slow headers": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "slow body": head("POST", VM, f"{JSON}Content-Length: 5000\r\n"),
    "slow chunks": head("POST", VM, f"{JSON}Transfer-Encoding: chunked\r\n"),
    "slow first line": b"",
}
#: Beyond the limits of the service, which are 60 s for headers and for taking an answer, 30 s for a body.
LIMIT_SECONDS = 90.0


async def drip(port: int, kind: str, start: bytes, until: float, tally: Tally) -> None:
    """A byte a second, until we are hung up on; or until it is enough (by the clock of the loop)."""
    began = time.monotonic()
    reader, writer = await connect(port)
    heard = asyncio.create_task(reader.read())
    with contextlib.suppress(ConnectionError):
        writer.write(start)
        while not heard.done() and time.monotonic() < until:
            writer.write(b"1\r\n \r\n" if kind == "slow chunks" else b" ")
            await writer.drain()
            await asyncio.wait([heard], timeout=1)
    if heard.done():
        came = "hung up on"
        with contextlib.suppress(ConnectionError):
            heard.result()
    else:
        came = "hang" if time.monotonic() - began > LIMIT_SECONDS else "left"
        heard.cancel()
    reset(writer)
    tally.count(kind, came)


async def deaf(port: int, until: float, tally: Tally) -> None:
    """Ask for long answers, a thousand times, and read a byte a second."""
    reader, writer = await connect(port)
    writer.transport.pause_reading()
    with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
        writer.write(head("GET", "/api/v1/openapi.json") * 1000)
        while time.monotonic() < until and not writer.is_closing():
            writer.transport.resume_reading()
            await asyncio.sleep(0)
            writer.transport.pause_reading()
            await asyncio.sleep(1)
    del reader
    tally.count("slow reader", "hung up on" if writer.is_closing() else "left")
    reset(writer)


async def half_closed(port: int, tally: Tally) -> None:
    """Ask, and say that no more will come."""
    reader, writer = await connect(port)
    with contextlib.suppress(ConnectionError):
        writer.write(head("GET", "/healthz"))
        writer.write_eof()
        async with asyncio.timeout(20):
            first = await reader.readline()
    tally.count("half-closed", first.split()[1].decode() if first else "closed")
    writer.close()


async def slow_ones(port: int, seconds: float, tally: Tally) -> None:
    """Some of each, for so long."""
    until = time.monotonic() + seconds
    await asyncio.gather(
        *(drip(port, kind, start, until, tally) for kind, start in DRIPPERS.items() for _ in range(10)),
        *(deaf(port, until, tally) for _ in range(5)),
        *(half_closed(port, tally) for _ in range(20)),
    )


class SlowConnections:
    """Idle connections: half of them send nothing at all, half are WebSockets that never read."""

    def __init__(self, port: int, number: int, tally: Tally):
        self._port = port
        self._number = number
        self._tally = tally
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "SlowConnections":
        chance = random.Random(self._number)
        for number in range(self._number):
            reader, writer = await connect(self._port)
            self._writers.append(writer)
            if number % 2:
                writer.write(handshake(chance))
                first = await reader.readline()
                self._tally.count("idle WebSocket", first.split()[1].decode() if first else "closed")
                writer.transport.pause_reading()
            else:
                self._tally.count("idle TCP", "open")
        return self

    async def __aexit__(self, *_: object) -> None:
        for number, writer in enumerate(self._writers):
            if number % 3:
                writer.transport.abort()
            else:
                reset(writer)
        await asyncio.sleep(0)
