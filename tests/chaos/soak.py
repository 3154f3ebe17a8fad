"""A soak: creates and deletes at a steady rate for a long time, hundreds of sockets of which some never read, random
faults. What is measured in the end is what it was in the beginning: memory, threads, tasks, connections, descriptors.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import random
import re
import statistics
import time
from pathlib import Path

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from tests.chaos.fleet import Replica
from tests.chaos.sample import Sample, sample_of
from tests.chaos.system_under_test import HOSTS, Result, SystemUnderTest, Watcher, check_end_state
from tests.conftest import Database
from tests.hostile.witness import Probe
from vmsvc.domain.timing import Timing

RATE = 20  # creates a second; as many deletes
SOCKETS = 500
DEAF = 50  # of those never read
ALL_EVENTS_CLIENTS = 20  # of those get every event; the others only evictions, as a scheduler of batch jobs does
IN_FLIGHT = 300  # clients at once: after a call that hung many wait, and the rate gives way beyond that
SAMPLE_SECONDS = 5.0
#: Until so many requests the allocators of C and of Python still grow (measured: objects and traced memory are flat
#: from the start, resident memory after some 2,500). What comes then must be flat; a shorter soak has only the ceiling.
WARM_UP = 3000
CEILING_MB = 200
#: Shares of all calls to the cloud. Not so many a second: those would fall on ever fewer calls, and in the end on
#: each of them, when clients wait because of them.
FAULTS = (
    {"action": "status", "status": 500, "probability": 0.004},
    {"action": "cut_after", "probability": 0.004},
    {"action": "half_json", "probability": 0.004},
    {"action": "html", "probability": 0.004},
    {"action": "delay", "seconds": 1.0, "probability": 0.004},
    {"action": "hang", "probability": 0.0002},
    {"action": "status", "status": 503, "headers": {"Retry-After": "1"}, "probability": 0.004},
    {"action": "revoke", "probability": 0.001},
)
#: What fails inside the cloud, one now and then.
TROUBLES = ("spawn_fails", "delete_fails")
TROUBLE_SECONDS = 5.0
CUT_SECONDS = 30.0  # so often the sessions of the database are cut


class Soak:
    """One soak of one service."""

    def __init__(self, system: SystemUnderTest, seed: int):
        self._system = system
        self._chance = random.Random(seed)
        self._http = AsyncHTTPClient(force_instance=True, max_clients=4 * IN_FLIGHT)
        self._samples: list[Sample] = []
        self._keys = itertools.count(1)
        self._over = False
        self.result = Result()

    @property
    def _replica(self) -> Replica:
        return self._system.replicas[0]

    async def run(self, seconds: float) -> Result:
        """So long; then check."""
        began = time.monotonic()
        watchers = [Watcher(self._system.replicas, 0) for _ in range(2)]
        background = [asyncio.create_task(watcher.run()) for watcher in watchers]
        background += [asyncio.create_task(self._socket(number)) for number in range(SOCKETS)]
        probe = Probe(self._replica.client.port)
        probing = asyncio.create_task(probe.run())
        others = [asyncio.create_task(each) for each in (self._faults(), self._measure())]
        clients: set[asyncio.Task] = set()
        while (passed := time.monotonic() - began) < seconds and not any(task.done() for task in others):
            if len(clients) < IN_FLIGHT and self.result.requests < 2 * RATE * passed:
                clients.add(asyncio.create_task(self._client()))
            else:
                await asyncio.sleep(0.005)
            clients = self._under_way(clients)
        self._over = True
        self.result.seconds = time.monotonic() - began
        await asyncio.wait(clients or others)
        self._under_way(clients)
        await asyncio.gather(*others)
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
        await self._judge_health(probe)
        await check_end_state(self._system, watchers, self.result)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._nothing_leaked()
        self._http.close()
        return self.result

    def _under_way(self, clients: set[asyncio.Task]) -> set[asyncio.Task]:
        """Those that are; one that ended with an error is a problem."""
        for task in clients:
            if task.done() and (error := task.exception()):
                self.result.problems += f"a client got {error!r}; "
        return {task for task in clients if not task.done()}

    async def _client(self) -> None:
        """A create and its delete; a 503 is asked again."""
        self.result.requests += 2
        path, body = "/vm", json.dumps({"is_preemptible": self._chance.random() < 0.7, "flavor": "m1.tiny"})
        created = await self._ask(
            "POST", path, body, {"Idempotency-Key": f"soak-{next(self._keys)}", "Content-Type": "application/json"}
        )
        if created["code"] == "201":
            await self._ask("DELETE", f"/vm/{created['vm']['id']}", None, {})

    async def _ask(self, method: str, path: str, body: str | None, headers: dict) -> dict:
        while True:
            answer = await self._http.fetch(
                HTTPRequest(
                    f"http://127.0.0.1:{self._replica.client.port}/api/v1{path}",
                    method,
                    headers,
                    body,
                    request_timeout=120,
                ),
                raise_error=False,
            )
            if answer.code not in (429, 503, 504):
                assert answer.code in (200, 201, 404, 409, 502), (answer.code, answer.body)
                return json.loads(answer.body)
            await asyncio.sleep(0.5)

    async def _socket(self, number: int) -> None:
        """A WebSocket, opened again whenever it is closed. The first ones never read."""
        query = "" if number < DEAF + ALL_EVENTS_CLIENTS else "?type=evict"
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._replica.client.port, limit=2**16)
                try:
                    key = base64.b64encode(os.urandom(16)).decode()
                    writer.write(
                        (
                            f"GET /api/v1/events{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                            "Sec-WebSocket-Version: 13\r\n\r\n"
                        ).encode()
                    )
                    await reader.readuntil(b"\r\n\r\n")
                    if number < DEAF:
                        writer.transport.pause_reading()
                        await asyncio.sleep(60)
                    while await self._answered_pings(reader, writer):
                        pass
                finally:
                    writer.close()
            await asyncio.sleep(1)

    @staticmethod
    async def _answered_pings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read a frame; False at the end. A ping gets its pong, or the service would take us for dead."""
        first, length = await reader.readexactly(2)
        if length >= 126:
            length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
        await reader.readexactly(length)
        if first & 15 == 9:
            writer.write(b"\x8a\x80\0\0\0\0")
        return first & 15 != 8

    async def _faults(self) -> None:
        """The wire fails all the while; now and then something does inside the cloud, or the sessions of the database
        are cut."""
        for fault in FAULTS:
            self._system.sim.fault(seed=self._chance.randrange(10**6), **fault)
        while not self._over:
            await asyncio.sleep(TROUBLE_SECONDS)
            self._system.sim.fault(kind=self._chance.choice(TROUBLES), count=1)
            if self._chance.random() < TROUBLE_SECONDS / CUT_SECONDS:
                self.result.kills += self._system.cut_sessions() > 0
        self.result.faults = self._system.injected_faults() + self.result.kills
        self._system.sim.clear_faults()

    async def _measure(self) -> None:
        while not self._over:
            self._samples.append(await self._sample())
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _judge_health(self, probe: Probe) -> None:
        """/healthz had to answer all the while, and quickly."""
        # Those times have the lag of our own loop in them, which 500 sockets and all clients share.
        self.result.health = (
            f"p50 {probe.share(0.5):.0f}, p99 {probe.share(0.99):.0f}, most {probe.share(1):.0f} ms, "
            f"the service's loop less than 100 ms late in {await self._in_time():.3%} of all looks"
        )
        self.result.problems += "; ".join(probe.failures[:3])

    async def _in_time(self) -> float:
        exposed = (await self._http.fetch(f"http://127.0.0.1:{self._replica.client.port}/metrics")).body.decode()
        early, looks = (
            float(re.search(rf"^vmsvc_loop_lag_seconds_{name} (\S+)", exposed, re.M)[1])
            for name in (r'bucket\{le="0\.1"\}', "count")
        )
        return early / looks

    async def _sample(self) -> Sample:
        return await sample_of(self._replica, self._system.database, self.result.requests)

    async def _nothing_leaked(self) -> None:
        """Memory is flat once it has warmed up. And at rest there is no thread, task, connection or lease more than
        there must be."""
        await asyncio.sleep(3)
        rest = await self._sample()
        warm = [one.rss_mb for one in self._samples if one.requests > WARM_UP]
        judged = warm if len(warm) >= 10 else [one.rss_mb for one in self._samples]
        fifth = max(1, len(judged) // 5)
        early, late = statistics.mean(judged[:fifth]), statistics.mean(judged[-fifth:])
        self.result.memory = f"{early:.0f} -> {late:.0f} MiB"
        self.result.rest = (
            f"{rest.threads} threads, {rest.tasks} tasks, {rest.connections} connections, "
            f"{rest.descriptors} descriptors, {rest.leases} leases"
        )
        if judged is not warm:
            self.result.memory += " (warming up)"
        most = {
            "rss_mb": early * 1.1 + 10 if judged is warm else CEILING_MB,
            "threads": 60,
            "tasks": 40,
            "connections": 12,
            "descriptors": 100,
            "leases": 0,
        }
        for name, limit in most.items():
            value = late if name == "rss_mb" else getattr(rest, name)
            if value > limit:
                self.result.problems += f"{name} is {value:.0f}, more than {limit:.0f}; "


async def soak(folder: Path, postgres: Database, seconds: float, seed: int) -> Result:
    """A soak of so many seconds of one service with its usual patience."""
    system = SystemUnderTest(
        folder,
        postgres,
        "soak",
        replicas=1,
        timing=Timing(cooldown=5.0),
        cloud={"boot_seconds": 0.2, "delete_seconds": 0.1, "schedule_seconds": 0.05},
        settings={"grace_seconds": 1, "cloud_timeout": 5},
    )
    try:
        for number in range(HOSTS + 1, 100):
            system.sim.add_host(f"more-{number}")
        await system.open()
        return await Soak(system, seed).run(seconds)
    finally:
        await system.close()
