"""Those who behave while others do not: a probe of /healthz, a client who creates and deletes VMs."""

import asyncio
import contextlib
import itertools
import math
import time

from tests.hostile.requests import head
from tests.hostile.wire import connect
from tests.system.client import Client

PERIOD = 0.05  # seconds
#: What the history says of a VM that somebody had deleted, or evicted.
TAKEN = {"delete/deleting", "evict/evicting"}


class Probe:
    """Asks /healthz over a fresh and over a kept connection, in turn; `seconds` is how long each answer took."""

    def __init__(self, port: int):
        self._port = port
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self._kept: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            await self._ask_on()
        finally:
            if self._kept is not None:
                self._kept[1].transport.abort()

    async def _ask_on(self) -> None:
        for fresh in itertools.cycle((True, False)):
            began = time.monotonic()
            try:
                async with asyncio.timeout(10):
                    await self._ask(fresh)
            except (OSError, asyncio.IncompleteReadError, AssertionError) as error:
                self.failures.append(f"{'fresh' if fresh else 'kept'}: {error!r}")
                self._kept = None
            self.seconds.append(time.monotonic() - began)
            await asyncio.sleep(PERIOD)

    async def _ask(self, fresh: bool) -> None:
        if fresh or self._kept is None:
            reader, writer = await connect(self._port)
            if not fresh:
                self._kept = reader, writer
        else:
            reader, writer = self._kept
        try:
            writer.write(head("GET", "/healthz"))
            said = await reader.readuntil(b"}")
            assert said.startswith(b"HTTP/1.1 200") and b'{"status": "ok"' in said, said
        finally:
            if fresh:
                writer.transport.abort()

    def share(self, part: float) -> float:
        """The milliseconds within which this part of the answers came."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[max(0, math.ceil(part * len(ordered)) - 1)]


class ControlClient:
    """Creates a VM and deletes it, again and again. Others in the project may delete it, or practise its eviction: a
    VM that is gone by somebody else's hand was `taken`, which the history has to say."""

    def __init__(self, client: Client):
        self._client = client
        self.served = 0
        self.taken = 0
        self.failures: list[str] = []

    async def run(self, over: asyncio.Event) -> None:
        """Until it is over."""
        while not over.is_set():
            made = await self._client.create(True, flavor="m1.tiny")
            gone = await self._client.delete(made.id) if made.status == 201 else made
            if gone.status == 200:
                self.served += 1
            elif gone.status in (404, 409) and await self._was_taken(made.headers["Location"].rpartition("/")[2]):
                self.taken += 1
            else:
                self.failures.append(f"{made.status} {gone.status}: {gone.json}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 0.2)

    async def _was_taken(self, ref: str) -> bool:
        return bool(TAKEN & set(await self._client.steps(ref)))
