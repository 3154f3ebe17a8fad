"""Clients that follow the events while the service is killed again and again, and what they must have heard."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

from tests.system.client_forms import client_of
from tests.system.processes import Process
from vmsvc.client import AsyncClient, ClientError, Event, NotFound

#: Seconds for which a client waits for a service that starts again.
PATIENCE = 60.0
#: Form of the client and filter of each follower.
FOLLOWERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("blocking", {}),
    ("async", {}),
    ("async", {"types": ["create"], "preemptible": True}),
)


class Follower:
    """A client that notes what it hears, until it has heard the last event."""

    def __init__(self, form: str, url: str, wanted: dict[str, Any]):
        self.client = client_of(form, url)
        self.wanted = wanted
        self.heard: list[Event] = []
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for event in self.client.events(0, patience=PATIENCE, **self.wanted):
            self.heard.append(event)

    async def faults(self, history: list[Event]) -> list[str]:
        """What it heard otherwise than the history has it."""
        for _ in range(400):
            if len(self.heard) >= len(history) or self._task.done():
                break
            await asyncio.sleep(0.05)
        heard, had = [event.seq for event in self.heard], [event.seq for event in history]
        found = [] if heard[: len(had)] == had else [f"{self.wanted}: heard {heard}, and the history has {had}"]
        if sorted(set(heard)) != heard:  # also of what came later than the history was read
            found.append(f"{self.wanted}: heard {heard}")
        if not found and [event.body for event in self.heard[: len(had)]] != [event.body for event in history]:
            found.append(f"{self.wanted}: an event is another than the history has")
        if self._task.done() and self._task.exception():
            found.append(f"{self.wanted}: {self._task.exception()!r}")
        return found

    async def close(self) -> None:
        """Stop. A thread of a blocking client ends when its service does."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.client.close()


class Load:
    """Creates and deletes VMs all the time, without waiting for what becomes of them: what a killed service was about
    to do is done by the next one when its lease has ended. Each create makes one VM, however often it is sent."""

    def __init__(self, url: str):
        self._client = AsyncClient(url, patience=PATIENCE, timeout=2 * PATIENCE)
        self.creates = 0
        self.stopping = False
        self.faults: list[str] = []
        self._tasks = [asyncio.create_task(self._work()) for _ in range(3)]

    async def _work(self) -> None:
        while not self.stopping:
            try:
                self.creates += 1
                asked = await self._client.create(True, wait=False)
                await asyncio.sleep(0.1)
                if asked.vm:
                    await self._client.delete(asked.vm.vmsvc_id, wait=False)
            except NotFound:
                pass  # there was no capacity for it
            except ClientError as error:
                self.faults.append(repr(error))

    async def stop(self) -> list[str]:
        """End when the calls under way have; what went wrong, against what the history says."""
        self.stopping = True
        await asyncio.gather(*self._tasks)
        made = len({event.vm.vmsvc_id async for event in self._client.history() if event.state == "pending"})
        await self._client.close()
        return self.faults + ([] if made == self.creates else [f"{self.creates} creates made {made} VMs"])


async def follow_over_kills(
    start: Callable[[dict[str, str]], Process], environ: dict[str, str], kills: int, chance: random.Random
) -> tuple[list[str], int]:
    """What was not as promised, and how many events there were."""
    process = start(environ)
    port = (await process.ready()).port
    url, environ = f"http://127.0.0.1:{port}", {**environ, "VMSVC_PORT": str(port)}
    followers = [Follower(form, url, wanted) for form, wanted in FOLLOWERS]
    load = Load(url)
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        process.kill()
        process = start(environ)
        await process.ready()
    found = await load.stop()
    async with AsyncClient(url) as client:
        histories = [[event async for event in client.history(**one.wanted)] for one in followers]
    for follower, history in zip(followers, histories, strict=True):
        found += await follower.faults(history)
    process.kill()
    for follower in followers:
        await follower.close()
    return found, len(histories[0])
