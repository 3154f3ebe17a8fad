"""What clients do while the service dies under them. Each scenario says in the end what must be true for its client;
what must always be true is checked by `tests.system.invariants`."""

import asyncio
from collections.abc import Callable

from tornado.httpclient import HTTPClientError
from tornado.simple_httpclient import HTTPStreamClosedError

from tests.chaos.fleet import Replica
from tests.system.client import Answer
from tests.system.simulated import Sim

LATER = {"Prefer": "respond-async"}
PATIENCE = 40.0  # seconds in which a client gets its answer, however often the service dies


class Clients:
    """Clients as they should be: an `Idempotency-Key` on each create; who is cut off, or told to come back, asks
    again, wherever somebody listens. `replicas` is a list that changes under them."""

    def __init__(self, replicas: list[Replica], patience: float = PATIENCE):
        self._replicas = replicas
        self._patience = patience

    async def ask(self, method: str, path: str, body: object = None, headers: dict | None = None) -> Answer:
        """An answer that is no "come back"."""
        async with asyncio.timeout(self._patience):
            while True:
                for replica in reversed(self._replicas):
                    if replica.client is None:
                        continue
                    try:
                        answer = await replica.client.call(method, f"/api/v1{path}", body, headers)
                    except (OSError, HTTPStreamClosedError, HTTPClientError):
                        continue
                    if answer.status not in (202, 503) or answer.status == 202 and headers and "Prefer" in headers:
                        return answer
                await asyncio.sleep(0.1)

    async def create(self, key: str, preemptible: bool, flavor: str, headers: dict | None = None, **more) -> Answer:
        """POST /vm with a key."""
        return await self.ask(
            "POST",
            "/vm",
            {"is_preemptible": preemptible, "flavor": flavor, **more},
            {"Idempotency-Key": key, **(headers or {})},
        )

    async def created(self, key: str, preemptible: bool, flavor: str, **more) -> Answer:
        """The same, with success, and again: the same answer."""
        answer = await self.create(key, preemptible, flavor, **more)
        assert answer.status == 201, answer.json
        again = await self.create(key, preemptible, flavor, **more)
        assert (again.status, again.json) == (201, answer.json)
        return answer

    async def delete(self, ref: str) -> None:
        """DELETE: gone, or gone before (by a DELETE whose answer was lost)."""
        answer = await self.ask("DELETE", f"/vm/{ref}")
        assert answer.status == 200 or answer.status == 404 and "was deleted" in answer.json["message"], answer.json

    async def steps(self, ref: str) -> list[str]:
        """The history of one VM in short."""
        answer = await self.ask("GET", f"/events?since=0&limit=1000&vm={ref}")
        return [f"{event['type']}/{event['data']['state']}" for event in answer.json["events"]]

    async def wait_for_event(self, step: str, ref: str) -> None:
        """Wait for an event."""
        async with asyncio.timeout(PATIENCE):
            while step not in await self.steps(ref):
                await asyncio.sleep(0.1)


async def life(clients: Clients, sim: Sim) -> int:
    """A preemptible VM is created, evicted for a standard one, and that is deleted."""
    victim = await clients.created("victim", True, "m1.large")
    winner = await clients.created("winner", False, "m1.large")
    assert winner.json["evicted"] == [victim.id]
    assert list(sim.servers()) == [winner.id]
    await clients.delete(winner.id)
    assert not sim.servers()
    return 2


async def practice(clients: Clients, sim: Sim) -> int:
    """A notice that is only practised; an owner who deletes during the notice."""
    vm = await clients.created("one", True, "m1.small")
    await _practise(clients, vm.id, True)
    await clients.wait_for_event("evict/reprieved", vm.id)
    await _practise(clients, vm.id, False)
    # A notice runs on while the service is dead: it may have gone when somebody can be asked again.
    assert (await clients.ask("DELETE", f"/vm/{vm.id}")).status in (200, 404)
    assert not sim.servers()
    return 1


async def _practise(clients: Clients, vm: str, notice_only: bool) -> None:
    """Until it is noticed: an answer that was lost makes the second try a conflict."""
    noticed = (await clients.steps(vm)).count("evict/noticed")
    while (await clients.steps(vm)).count("evict/noticed") == noticed:
        await clients.ask("POST", f"/vm/{vm}/evict", {"notice_only": notice_only}, {"Prefer": "none"})


async def failure(clients: Clients, sim: Sim) -> int:
    """A build that fails, for good, and one that fails once."""
    sim.fault(kind="spawn_fails", name="^doomed$")
    answer = await clients.create("doomed", False, "m1.tiny", name="doomed")
    assert answer.status in (409, 502), answer.json
    again = await clients.create("doomed", False, "m1.tiny", name="doomed")
    assert (again.status, again.json["message"]) == (answer.status, answer.json["message"])
    assert not sim.servers()
    sim.fault(kind="no_valid_host", name="^lucky$", count=1)
    lucky = await clients.create("lucky", True, "m1.tiny", name="lucky")
    assert lucky.status in (201, 409), lucky.json
    if lucky.status == 201:
        assert list(sim.servers()) == [lucky.id]
        await clients.delete(lucky.id)
    return 2


async def change_of_mind(clients: Clients, sim: Sim) -> int:
    """A VM is deleted while it is being built, and another while it waits for its room."""
    sim.fault(kind="build_hangs", name="^slow$", count=1)
    accepted = await clients.create("slow", False, "m1.tiny", LATER, name="slow")
    await clients.wait_for_event("create/building", name_in(accepted))
    await clients.delete(name_in(accepted))
    victim = await clients.created("victim", True, "m1.large")
    accepted = await clients.create("big", False, "m1.large", LATER)
    await clients.wait_for_event("evict/noticed", victim.id)
    await clients.delete(name_in(accepted))
    # It stays, unless its time was up before the request for its room had gone.
    assert (await clients.ask("DELETE", f"/vm/{victim.id}")).status in (200, 404)
    assert not sim.servers()
    return 3


async def queue(clients: Clients, sim: Sim) -> int:
    """Of two requests that wait one gets what becomes free, and one waits in vain; a third falls back and evicts."""
    held = await clients.created("held", True, "m1.large")
    first = name_in(await clients.create("first", True, "m1.large", LATER, wait_seconds=60))
    await clients.wait_for_event("create/queued", first)
    late = name_in(await clients.create("late", True, "m1.large", LATER, wait_seconds=1))
    await clients.wait_for_event("create/failed", late)
    await clients.delete(held.id)
    await clients.wait_for_event("create/active", first)
    (server,) = sim.servers()
    batch = await clients.created("batch", True, "m1.large", wait_seconds=60, fallback_after_seconds=1)
    assert batch.json["evicted"] == [server] and not batch.json["vm"]["is_preemptible"]
    assert (await clients.steps(batch.json["vm"]["vmsvc_id"])).count("create/fell_back") == 1
    await clients.delete(batch.id)
    assert not sim.servers()
    return 4


async def lineage(clients: Clients, sim: Sim) -> int:
    """A VM that keeps its address is evicted and started again. Its owner makes it standard and preemptible again, ends
    its restarts, and deletes it."""
    kept = {"on_eviction": "restart", "keep_address": True, "user_data": "cmVzdG9yZQ=="}
    first = await clients.created("batch", True, "m1.large", **kept)
    origin, made = first.json["vm"]["origin"], sim.made_with(first.id)
    port = sim.kept_ports()[origin]
    assert port["server"] == first.id
    await _practise(clients, first.id, False)
    vm = await _successor(clients, origin)
    assert sim.kept_ports() == {origin: {**port, "server": vm["id"]}} and list(sim.servers()) == [vm["id"]]
    assert sim.made_with(vm["id"]) == made
    for change in ({"is_preemptible": False}, {"is_preemptible": True}, {"on_eviction": "end"}):
        changed = await clients.ask("PATCH", f"/vm/{origin}", change)
        assert changed.status == 200 and changed.json["vm"]["vmsvc_id"] == vm["vmsvc_id"], changed.json
    assert (await clients.steps(vm["vmsvc_id"])).count("create/converted") == 2
    assert (changed.json["vm"]["is_preemptible"], changed.json["vm"]["restarts_left"]) == (True, 0)
    await clients.delete(origin)
    assert not sim.servers()
    return 2


async def _successor(clients: Clients, origin: str) -> dict:
    """The second VM of a lineage, once it runs."""
    async with asyncio.timeout(PATIENCE):
        while True:
            shown = await clients.ask("GET", f"/vm/{origin}")
            if shown.status == 200 and shown.json["restarts"] == 1 and shown.json["state"] == "active":
                return shown.json
            await asyncio.sleep(0.1)


def name_in(answer: Answer) -> str:
    """The id by which the answer calls the VM."""
    return answer.headers["Location"].rpartition("/")[2]


SCENARIOS: dict[str, Callable] = {
    "life": life,
    "practice": practice,
    "failure": failure,
    "change of mind": change_of_mind,
    "queue": queue,
    "lineage": lineage,
}
