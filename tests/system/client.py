"""A client of vmsvc, as small as a test can use it, and the one way in which tests wait."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from tests.api.contract import check
from tests.system.simulated import Sim

T = TypeVar("T")
API = "/api/v1"
_LONGEST_PAUSE = 0.1


async def until(look: Callable[[], T], what: str = "it", seconds: float = 15.0, pause: float = 0.02) -> T:
    """What `look()` gives as soon as it is true; fails after so many seconds. It is asked every `pause` seconds, and
    less often the longer it takes: a look costs the service and its cloud as much as their own work."""
    began = time.monotonic()
    while not (found := look()):
        waited = time.monotonic() - began
        assert waited < seconds, f"{what} did not happen within {seconds} s"
        await asyncio.sleep(max(pause, min(_LONGEST_PAUSE, waited / 20)))
    return found


class Answer:
    """An HTTP answer; `json` is its body."""

    def __init__(self, response):
        self.status, self.headers = response.code, response.headers
        self.json = json.loads(response.body) if response.body else None

    @property
    def id(self) -> str:
        """The cloud's id of the VM in the answer to a create."""
        return self.json["vm"]["id"]


class Client:
    """The verbs of the REST API."""

    def __init__(self, port: int):
        self.port = port
        self._http = AsyncHTTPClient(force_instance=True, max_clients=200)

    def close(self) -> None:
        """Give the sockets back."""
        self._http.close()

    async def call(self, method: str, path: str, body: object = None, headers: dict | None = None) -> Answer:
        """Any request; an error is an answer too."""
        headers = {**({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})}
        wanted = HTTPRequest(
            f"http://127.0.0.1:{self.port}{path}",
            method,
            headers,
            None if body is None else json.dumps(body),
            allow_nonstandard_methods=True,
            request_timeout=60,
        )
        response = await self._http.fetch(wanted, raise_error=False)
        if "/events" not in path:  # asked again and again; each event is held against the document at the end
            check(method, path, response.code, response.headers, response.body)
        return Answer(response)

    async def text(self, path: str) -> str:
        """The body of a GET, as it is."""
        return (await self._http.fetch(f"http://127.0.0.1:{self.port}{path}")).body.decode()

    async def create(self, preemptible: bool, *, headers: dict | None = None, query: str = "", **fields) -> Answer:
        """POST /vm."""
        return await self.call("POST", f"{API}/vm{query}", {"is_preemptible": preemptible, **fields}, headers)

    async def fill(self, count: int, flavor: str = "m1.tiny", **fields) -> list[str]:
        """That many preemptible VMs; their cloud ids, in the order of their creation."""
        answers = await asyncio.gather(*(self.create(True, flavor=flavor, **fields) for _ in range(count)))
        assert [answer.status for answer in answers] == [201] * count, [answer.json for answer in answers]
        return [answer.id for answer in answers]

    async def delete(self, ref: str, headers: dict | None = None) -> Answer:
        """DELETE /vm/{ref}."""
        return await self.call("DELETE", f"{API}/vm/{ref}", headers=headers)

    async def change(self, ref: str, **fields) -> Answer:
        """PATCH /vm/{ref}."""
        return await self.call("PATCH", f"{API}/vm/{ref}", fields)

    async def acknowledge(self, ref: str) -> Answer:
        """POST /vm/{ref}/ack."""
        return await self.call("POST", f"{API}/vm/{ref}/ack", {})

    async def practise(self, ref: str, **fields: bool) -> Answer:
        """POST /vm/{ref}/evict."""
        return await self.call("POST", f"{API}/vm/{ref}/evict", fields)

    async def record(self, **query) -> list[dict]:
        """GET /evictions: one page."""
        answer = await self.call("GET", f"{API}/evictions?{urlencode(query)}")
        assert answer.status == 200, answer.json
        return answer.json["evictions"]

    async def show(self, ref: str) -> Answer:
        """GET /vm/{ref}."""
        return await self.call("GET", f"{API}/vm/{ref}")

    async def listed(self) -> dict[str, dict]:
        """GET /vm: the servers by id."""
        answer = await self.call("GET", f"{API}/vm")
        assert answer.status == 200, answer.json
        return {server["id"]: server for server in answer.json["servers"]}

    async def events(self, since: int = 0, **query) -> list[dict]:
        """GET /events: one page of up to 1000."""
        answer = await self.call("GET", f"{API}/events?{urlencode({'since': since, 'limit': 1000, **query})}")
        assert answer.status == 200, answer.json
        return answer.json["events"]

    async def wait_for_notice(self, sim: Sim, vm: str, evict_at: str | None) -> None:
        """Wait until the guest can read a notice with this `evict_at`, or (None) no notice."""
        await until(lambda: sim.guest_metadata(vm).get("vmsvc_evict_at") == evict_at, f"notice of {evict_at}")

    async def steps(self, ref: str) -> list[str]:
        """The history of one VM in short: ["create/pending", ...]."""
        return [f"{event['type']}/{event['data']['state']}" for event in await self.events(vm=ref)]

    async def wait_for_event(self, step: str, ref: str | None = None, seconds: float = 15.0) -> dict:
        """Wait for an event such as "evict/noticed" (of this VM); returns it."""
        return (await self.wait_for_events(step, 1, ref, seconds))[0]

    async def wait_for_events(self, step: str, times: int, ref: str | None = None, seconds: float = 15.0) -> list[dict]:
        """Wait for that many events of a kind; returns them."""
        deadline = time.monotonic() + seconds
        while True:
            found = [
                event
                for event in await self.events(**({"vm": ref} if ref else {}))
                if step == f"{event['type']}/{event['data']['state']}"
            ]
            if len(found) >= times:
                return found
            assert time.monotonic() < deadline, f"{step}: {len(found)} of {times} within {seconds} s"
            await asyncio.sleep(0.1)

    async def channel(self, query: str = ""):
        """A WebSocket on the events."""
        return await websocket_connect(f"ws://127.0.0.1:{self.port}{API}/events{query}")
