"""Strangers with many connections: readers of ids that nobody has, senders of bad tokens, peers that do not read. What
each is beside a customer who creates VMs."""

import asyncio
import contextlib
import math
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable

from tests.hostile.requests import VM, head
from tests.hostile.wire import reset
from tests.system.client import Client


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """From another address than the other clients'."""
    return await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))


def unknown() -> bytes:
    """A GET of an id that nobody has."""
    return head("GET", f"{VM}/{uuid.uuid4()}")


def bad_token() -> bytes:
    """A GET of the list with a token that nobody has."""
    return head("GET", VM, f"X-Auth-Token: gAAAA{uuid.uuid4().hex}\r\n")


class TokenlessCrowd:
    """`number` connections, each of which asks as soon as it is answered; `hasty` ones ask anew twice a second, and
    wait for no answer."""

    def __init__(self, port: int, number: int, ask: Callable[[], bytes], hasty: int = 0):
        self._port = port
        self._ask = ask
        self._number, self._hasty = number, hasty
        self.answers: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """While the block runs."""
        tasks = [asyncio.create_task(self._one()) for _ in range(self._number)]
        tasks += [asyncio.create_task(self._hurry()) for _ in range(self._hasty)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await _connect(self._port)
                try:
                    while True:
                        writer.write(self._ask())
                        said = await reader.readuntil(b"\r\n\r\n")
                        lines = dict(line.split(b": ", 1) for line in said.split(b"\r\n")[1:] if b": " in line)
                        await reader.readexactly(int(lines.get(b"Content-Length", 0)))
                        self.answers[said.split()[1].decode()] += 1
                finally:
                    reset(writer)

    async def _hurry(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await _connect(self._port)
                try:
                    writer.write(self._ask())
                    await asyncio.sleep(0.5)
                finally:
                    reset(writer)


class UnreadSockets:
    """So many peers that ask for the list and do not read it."""

    def __init__(self, port: int, number: int):
        self._port = port
        self._number = number
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "UnreadSockets":
        for _ in range(self._number):
            _, writer = await _connect(self._port)
            writer.transport.pause_reading()
            self._writers.append(writer)
            writer.write(head("GET", VM))
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            reset(writer)
        await asyncio.sleep(0)


async def creates(client: Client, number: int, headers: dict | None = None) -> list[float]:
    """Create so many VMs one after the other, and delete each; the seconds that each create took."""
    took = []
    for _ in range(number):
        began = time.monotonic()
        made = await client.create(True, flavor="m1.tiny", headers=headers)
        took.append(time.monotonic() - began)
        assert made.status == 201, made.json
        assert (await client.delete(made.id, headers)).status == 200
    return took


def share(seconds: list[float], part: float) -> float:
    """Within how many seconds this part of them came."""
    return sorted(seconds)[max(0, math.ceil(part * len(seconds)) - 1)]
