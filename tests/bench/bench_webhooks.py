"""What webhooks cost everybody else: `python -m tests.bench.bench_webhooks`; ROUNDS (5).

The service runs as its users run it, in operator mode. Preemptible VMs are created one after the other and deleted
again, without webhooks; with one that answers at once; with ten that never answer, and ten whose port is closed. The
time of a create, and the time from an event's commit to a socket that listens, have to stay within 5 % of those without
webhooks. Rounds of all kinds take turns, so that what else the machine does falls on all alike.
"""

import asyncio
import json
import os
import socket
import statistics
import time
from datetime import datetime

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from tests.bench.deployment import Deployment
from tests.integration.receiver import Receiver

ROUNDS = int(os.environ.get("ROUNDS", "5"))
CREATES = 20  # in a round
ENDPOINTS = 10
GOAL = 5.0  # per cent
KINDS = ("none", "quick", "hanging", "closed")


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Bench:
    """A client, a socket that listens, and the endpoints of each kind."""

    def __init__(self, port: int):
        self._base = f"http://127.0.0.1:{port}/api/v1"
        self._http = AsyncHTTPClient(force_instance=True, max_clients=50)
        self._socket = None
        self._lags: list[float] = []
        self.quick = Receiver()
        self.hanging = Receiver(lambda event, headers: asyncio.sleep(60, 500))
        self._urls = {
            "none": [],
            "quick": [self.quick.url()],
            "hanging": [self.hanging.url(f"/{number}") for number in range(ENDPOINTS)],
            "closed": [f"http://127.0.0.1:{closed_port()}/" for _ in range(ENDPOINTS)],
        }

    async def call(self, method: str, path: str, body: object = None) -> dict:
        """One request; the JSON of its answer."""
        request = HTTPRequest(
            self._base + path,
            method,
            {"Content-Type": "application/json"},
            None if body is None else json.dumps(body),
            allow_nonstandard_methods=True,
            request_timeout=60,
        )
        return json.loads((await self._http.fetch(request)).body)

    async def listen(self) -> None:
        """Note for each event how long after its commit it comes."""
        self._socket = await websocket_connect(f"{self._base.replace('http', 'ws', 1)}/events")
        while (message := await self._socket.read_message()) is not None:
            self._lags.append(time.time() - datetime.fromisoformat(json.loads(message)["time"]).timestamp())

    async def round(self, kind: str) -> tuple[list[float], list[float]]:
        """Milliseconds of each create, and of each event, with endpoints of this kind."""
        hooks = [(await self.call("POST", "/webhooks", {"url": url}))["webhook"]["id"] for url in self._urls[kind]]
        if hooks:
            await asyncio.sleep(1.5)  # every replica has noticed that there are webhooks
        self._lags.clear()
        times, ids = [], []
        for _ in range(CREATES):
            began = time.perf_counter()
            ids.append((await self.call("POST", "/vm", {"is_preemptible": True}))["vm"]["id"])
            times.append(1000 * (time.perf_counter() - began))
        for vm in ids:
            await self.call("DELETE", f"/vm/{vm}")
        lags = [1000 * lag for lag in self._lags]
        for hook in hooks:
            await self.call("DELETE", f"/webhooks/{hook}")
        return times, lags

    async def run(self) -> dict[str, tuple[list[float], list[float]]]:
        """All rounds of all kinds: the first of each warms up."""
        listening = asyncio.create_task(self.listen())
        found: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in KINDS}
        for number in range(ROUNDS + 1):
            for kind in KINDS[number % len(KINDS) :] + KINDS[: number % len(KINDS)]:
                measured = await self.round(kind)
                if number:
                    for values, new in zip(found[kind], measured, strict=True):
                        values += new
        listening.cancel()
        return found


async def measure(port: int) -> None:
    """Print the table."""
    bench = Bench(port)
    found = await bench.run()
    print(
        "\n| webhooks | a create, ms, median | to those without | event to socket, ms, median | to those without |"
        "\n|---|---|---|---|---|"
    )
    worst = 0.0
    base = [statistics.median(values) for values in found["none"]]
    for kind, measured in found.items():
        cells = []
        for values, without in zip(measured, base, strict=True):
            middle = statistics.median(values)
            percent = 100 * (middle / without - 1)
            worst = max(worst, percent if kind in ("hanging", "closed") else 0.0)
            cells.append(f"{middle:.2f} | {percent:+.1f} %")
        print(f"| {kind} | {' | '.join(cells)} |")
    print(f"\nslow and dead endpoints: goal {GOAL:.0f} %, {worst:+.1f} %: {'met' if worst <= GOAL else 'MISSED'}")


def main() -> None:
    """Print the figures."""
    with Deployment(webhook_networks="127.0.0.0/8", webhook_hosts="127.0.0.1", webhooks_per_owner=50) as deployment:
        asyncio.run(measure(deployment.port))


if __name__ == "__main__":
    main()
