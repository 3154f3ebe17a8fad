"""The clients of an integrity run: they send random requests, and record every request with its answer."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.chaos.evidence import Attempt, Evidence, Page, ReceivedEvents
from tests.chaos.fleet import Replica

API = "/api/v1"
FLAVORS = ("m1.tiny", "m1.tiny", "m1.small", "m1.medium", "m1.large")
FINAL = frozenset({201, 403, 409})
PREFER = ({}, {}, {}, {"Prefer": "respond-async"}, {"Prefer": "wait=1"}, {"Prefer": "wait=4"})
TRIES = 200  # how often a create with an Idempotency-Key is sent, at most, until its answer is final
KINDS = (None, "create", "evict", "delete")


class RecordingClient:
    """Sends requests to the replicas, and records them in `evidence`. `doomed` are the pids of replicas that the run
    ends: a connection that one of them cuts is no defect."""

    def __init__(self, replicas: list[Replica], evidence: Evidence):
        self._replicas = replicas
        self._http = AsyncHTTPClient(force_instance=True, max_clients=500)
        self.evidence = evidence
        self.doomed: set[int] = set()

    def close(self) -> None:
        self._http.close()

    def open(self, chance: random.Random) -> list[Replica]:
        """The replicas that have started, in random order; empty when none has."""
        found = [replica for replica in self._replicas if replica.client]
        chance.shuffle(found)
        return found

    async def ask(
        self, replica: Replica, one: Attempt, method: str, path: str, body: object = None, headers: dict | None = None
    ) -> Attempt:
        """Send a request to this replica and return `one`, with the status, body and tag of the answer filled in: see
        `Attempt`."""
        self.evidence.attempts.append(one)
        began, limit = time.monotonic(), self.evidence.limit
        headers = {**({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})}
        if one.key:
            headers["Idempotency-Key"] = one.key
        try:
            answer = await self._http.fetch(
                HTTPRequest(
                    f"http://127.0.0.1:{replica.client.port}{API}{path}",
                    method,
                    headers,
                    None if body is None else json.dumps(body),
                    allow_nonstandard_methods=True,
                    request_timeout=limit + 1,
                ),
                raise_error=False,
            )
            one.status, one.body = answer.code, json.loads(answer.body) if answer.body else {}
            one.etag = answer.headers.get("ETag")
        except (OSError, AttributeError, HTTPStreamClosedError, HTTPTimeoutError, HTTPClientError):
            one.status = None if replica.pid in self.doomed or not replica.lives else 0
        one.seconds = time.monotonic() - began
        return one


class RandomClient:
    """A client that sends one random request after the other, until `over()` is true. `groups` has the budget of each
    eviction group."""

    def __init__(
        self,
        client: RecordingClient,
        name: str,
        chance: random.Random,
        groups: dict[str, int],
        over: Callable[[], bool],
    ):
        self._client, self._name, self._chance, self._groups, self._over = client, name, chance, groups, over
        self._made = 0
        self._mine: list[str] = []
        self._etag: str | None = None
        self._requests = (
            [self.create] * 8
            + [self.delete] * 5
            + [self.list] * 3
            + [self.practise, self.acknowledge, self.acknowledge, self.dry_run, self.show, self.history, self.read]
        )

    async def run(self) -> None:
        """Send random requests until `over()`."""
        while not self._over():
            request = self.delete if len(self._mine) > 3 else self._chance.choice(self._requests)
            with contextlib.suppress(IndexError):  # no replica has started, or no VM suits this request
                await request()
            await asyncio.sleep(self._chance.random() * 0.2)

    async def _send(
        self,
        what: str,
        ref: str,
        method: str,
        path: str,
        body: object = None,
        headers: dict | None = None,
        key: str | None = None,
        replica: Replica | None = None,
    ) -> Attempt:
        replica = replica or self._client.open(self._chance)[0]
        return await self._client.ask(replica, Attempt(what, ref, time.time(), key=key), method, path, body, headers)

    def _random_body(self, name: str) -> dict:
        chance, body = self._chance, {"name": name, "flavor": self._chance.choice(FLAVORS)}
        body["is_preemptible"] = chance.random() < 0.65
        if body["is_preemptible"]:
            body["priority"] = chance.randrange(3)
            if chance.random() < 0.3:
                body["group"] = chance.choice(sorted(self._groups))
                body["max_unavailable"] = self._groups[body["group"]]
        return body

    def _next(self, kind: str) -> str:
        self._made += 1
        return f"{kind}-{self._name}-{self._made}"

    async def create(self) -> None:
        """Create a VM. Mostly with an Idempotency-Key: then the request is sent, sometimes to two replicas at once,
        until an answer is final, and sometimes again after that. Without a key it is sent once."""
        name = self._next("vm")
        body, keyed, answer = self._random_body(name), self._chance.random() < 0.85, None
        for _ in range(TRIES if keyed else 1):
            replicas = self._client.open(self._chance)[: 2 if keyed and self._chance.random() < 0.25 else 1]
            found = await asyncio.gather(
                *(
                    self._send(
                        "create",
                        name,
                        "POST",
                        "/vm",
                        body,
                        self._chance.choice(PREFER),
                        name if keyed else None,
                        replica,
                    )
                    for replica in replicas
                )
            )
            answer = next((one for one in found if one.status in FINAL), answer)
            if answer is None and any(one.status == 502 for one in found) and self._chance.random() < 0.5:
                break
            if answer is not None and self._chance.random() < 0.7:
                break
            await asyncio.sleep(0.05 + self._chance.random() * 0.3)
        if answer is not None and answer.status == 201:
            self._mine.append(answer.body["vm"]["id"])

    async def delete(self) -> None:
        """Delete a VM that this client made, or sometimes any VM; mostly repeat that until the VM is gone."""
        if self._mine and self._chance.random() < 0.8:
            ref = self._mine.pop(0)
        else:
            vm = self._chance.choice(await self._listed(lambda vm: "vmsvc_id" in vm))
            ref = vm[self._chance.choice(["id", "vmsvc_id"])]
        for _ in range(self._chance.choice([1, 20, 20])):
            with contextlib.suppress(IndexError):
                answer = await self._send("delete", ref, "DELETE", f"/vm/{ref}", headers=self._chance.choice(PREFER))
                if answer.status in (200, 404):
                    return
            await asyncio.sleep(0.2)

    async def _listed(self, wanted: Callable[[dict], bool]) -> list[dict]:
        answer = await self._send("list", "", "GET", "/vm")
        return [vm for vm in (answer.body or {}).get("servers", ()) if wanted(vm)] if answer.status == 200 else []

    async def list(self) -> None:
        """List the VMs, with If-None-Match of the last list."""
        answer = await self._send("list", "", "GET", "/vm", headers={"If-None-Match": self._etag} if self._etag else {})
        self._etag = answer.etag or self._etag

    async def show(self) -> None:
        """Show a VM, by the cloud's id or by vmsvc's, or a server that vmsvc did not make."""
        vm = self._chance.choice(await self._listed(lambda vm: True))
        ref = vm[self._chance.choice(["id", "vmsvc_id"])] if "vmsvc_id" in vm else vm["id"]
        await self._send("show" if "vmsvc_id" in vm else "show foreign", ref, "GET", f"/vm/{ref}")

    async def acknowledge(self) -> None:
        """Acknowledge the notice of a victim."""
        vm = self._chance.choice(await self._listed(lambda vm: vm.get("state") == "noticed"))
        await self._send("ack", vm["id"], "POST", f"/vm/{vm['id']}/ack", {})

    async def practise(self) -> None:
        """Practise the eviction of a preemptible VM."""
        vm = self._chance.choice(await self._listed(lambda vm: vm.get("is_preemptible") and vm["state"] == "active"))
        await self._send(
            "practise", vm["id"], "POST", f"/vm/{vm['id']}/evict", {"notice_only": self._chance.random() < 0.5}
        )

    async def dry_run(self) -> None:
        name = self._next("dry")
        await self._send("dry run", name, "POST", "/vm?dry_run=true", self._random_body(name))

    async def history(self) -> None:
        """Read a page of the history that begins at a random seq, and record it."""
        newest = max(
            (received.events[-1]["data"]["seq"] for received in self._client.evidence.receivers if received.events),
            default=0,
        )
        page = Page(self._chance.randrange(newest + 1), self._chance.choice([1, 10, 1000]), self._chance.choice(KINDS))
        kind = f"&type={page.kind}" if page.kind else ""
        answer = await self._send("read", "", "GET", f"/events?since={page.since}&limit={page.limit}{kind}")
        if answer.status == 200:
            page.events, page.seq = answer.body["events"], answer.body["seq"]
            self._client.evidence.pages.append(page)

    async def read(self) -> None:
        await self._send(
            "read",
            "",
            "GET",
            self._chance.choice(
                ["/evictions?limit=20", "/capacity", "/usage?hours=1", "/advice?flavor=m1.tiny", "/catalog"]
            ),
        )


class EventReceiver:
    """A client of the WebSocket that records all events in `received`. It leaves after some seconds, and whenever a
    connection ends; then it connects to any replica, with the last `seq` that it received."""

    def __init__(self, client: RecordingClient, received: ReceivedEvents, chance: random.Random):
        self._client, self._received, self._chance = client, received, chance

    async def run(self) -> None:
        """Receive events, connection after connection, until this is cancelled."""
        while True:
            if channel := await self._connect():
                self._received.connections += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._chance.uniform(0.5, 8)):
                        while (text := await channel.read_message()) is not None:
                            self._received.events.append(json.loads(text))
                channel.close()
            else:
                await asyncio.sleep(0.1)

    async def _connect(self) -> WebSocketClientConnection | None:
        since = self._received.events[-1]["data"]["seq"] if self._received.events else 0
        kind = f"&type={self._received.kind}" if self._received.kind else ""
        for replica in self._client.open(self._chance)[:1]:
            with contextlib.suppress(Exception):  # the replica has died, or its database is away
                return await websocket_connect(
                    f"ws://127.0.0.1:{replica.client.port}{API}/events?since={since}{kind}", connect_timeout=5
                )
        return None
