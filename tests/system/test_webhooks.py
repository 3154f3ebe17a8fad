"""Webhooks over REST: a whole service, a real receiver."""

import asyncio
import json

import pytest

from tests.integration.receiver import Receiver
from tests.system.client import API, until

HOOKS = f"{API}/webhooks"


@pytest.fixture(name="options")
def fixture_options():
    return {"webhook_networks": "127.0.0.0/8", "webhooks_per_owner": 2}


async def recorded(client, address):
    """Wait until what the receiver has taken is on record."""
    while (await client.call("GET", address)).json["webhook"]["pending"]:
        await asyncio.sleep(0.02)


@pytest.mark.gen_test(timeout=40)
async def test_the_life_of_a_webhook(client, caplog):
    receiver = Receiver()
    made = await client.call("POST", HOOKS, {"url": receiver.url("/T0KEN"), "types": ["create", "delete"]})
    hook, secret = made.json["webhook"], made.json["secret"]
    assert (made.status, made.headers["Location"], hook["status"]) == (201, f"{HOOKS}/{hook['id']}", "verified")
    (vm,) = await client.fill(1)
    await until(lambda: len(receiver.taken) == 3)
    assert receiver.taken == await client.events(type="create")
    receiver.verify(secret)

    address = f"{HOOKS}/{hook['id']}"
    assert (await client.call("POST", f"{address}/test")).json == {"delivered": True, "code": 204, "reason": None}
    assert (await client.call("PATCH", address, {"states": ["deleted"]})).json["webhook"]["states"] == ["deleted"]
    await client.delete(vm)
    await until(lambda: len(receiver.posts) == 5)
    assert receiver.taken[-1]["data"]["state"] == "deleted"
    rotated = (await client.call("POST", f"{address}/rotate")).json["secret"]
    assert (await client.call("POST", f"{address}/rotate")).status == 409
    await recorded(client, address)
    replayed = await client.call("POST", f"{address}/replay", {"since": 0})
    assert (replayed.status, replayed.json["count"]) == (202, 1)
    await until(lambda: len(receiver.posts) == 6)
    await recorded(client, address)
    page = (await client.call("GET", f"{address}/deliveries?status=done&limit=1")).json
    assert page["deliveries"][0]["state"] == "deleted" and page["before"] == page["deliveries"][0]["seq"]

    shown = [(await client.call("GET", where)).json for where in (HOOKS, address, f"{address}/deliveries")]
    metrics = await client.text("/metrics")
    assert 'vmsvc_webhook_deliveries_total{outcome="done"} 5.0' in metrics
    for text in (json.dumps(shown), metrics, caplog.text):
        assert secret not in text and rotated not in text and secret[6:] not in text
    assert "T0KEN" not in caplog.text.replace("POST /T0KEN", "").replace("OPTIONS /T0KEN", ""), "the receiver logs it"

    assert (await client.call("DELETE", address)).status == 200
    for method, where in (("GET", address), ("DELETE", address), ("POST", f"{address}/test"), ("GET", f"{HOOKS}/x")):
        assert (await client.call(method, where)).status == 404
    await receiver.close()


@pytest.mark.gen_test(timeout=20)
async def test_what_is_wrong_is_said_by_its_field(client):
    for body, field in (
        ({}, "url"),
        ({"url": "http://169.254.169.254/"}, "url"),
        ({"url": "https://user:pw@example.com/"}, "url"),
        ({"url": "http://127.0.0.1:1/", "types": ["created"]}, "types"),
        ({"url": "http://127.0.0.1:1/", "types": ["create", "create"]}, "types"),
        ({"url": "http://127.0.0.1:1/", "states": "active"}, "states"),
        ({"url": "http://127.0.0.1:1/", "since": -1}, "since"),
        ({"url": "http://127.0.0.1:1/", "preemptible": 1}, "preemptible"),
        ({"url": "http://127.0.0.1:1/", "vm": "a b"}, "vm"),
        ({"url": "http://127.0.0.1:1/", "secret": "mine"}, "secret"),
    ):
        answer = await client.call("POST", HOOKS, body)
        assert (answer.status, answer.json["field"]) == (400, field), answer.json
    for _ in range(2):
        made = await client.call("POST", HOOKS, {"url": "http://127.0.0.1:1/"})
        assert (made.status, made.json["webhook"]["status"]) == (201, "unverified")
    full = await client.call("POST", HOOKS, {"url": "http://127.0.0.1:1/"})
    assert (full.status, full.json["error"]) == (409, "conflict")
    address = f"{HOOKS}/{made.json['webhook']['id']}"
    assert (await client.call("PATCH", address, {"url": "http://10.0.0.1/"})).json["field"] == "url"
    assert (await client.call("POST", f"{address}/test")).json["delivered"] is False
