"""The same raw requests to the real OpenStack and to a simulated one: same status, same keys, same types, same order
where order is promised. Without a real one: the simulated cloud has an answer to each.

DIFFERENTIAL_CALLS=1000 DIFFERENTIAL_SEED=7 make test_openstack OPENSTACK_TESTS=tests/openstack/test_differential.py
tries more, and others.
"""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from tests.openstack.calls import Call, by_chance, filters, reads
from tests.openstack.conftest import simulated_cloud
from tests.openstack.http import Api, Reply, until

COUNT = int(os.environ.get("DIFFERENTIAL_CALLS", "150"))  # of the requests by chance
SEED = int(os.environ.get("DIFFERENTIAL_SEED", "1"))
IS_REAL = os.environ.get("VMSVC_TEST_CLOUD", "sim") == "bed"
#: Keys of a JSON object that are data: ids, names of networks, of traits and of settings of one cloud alone.
DATA = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|(bed|sim)-.*|nova-.*|vm|sim")
#: What differs in the clouds themselves, by the end of the path within a body.
IGNORED = ("links", "request_id", "updated_at", "catalog")


class Side:
    """One cloud with the things that the requests are about."""

    def __init__(self, entries: dict[str, dict]):
        self.apis = {user: Api(entry) for user, entry in entries.items()}
        self.names: dict[str, str] = {}

    def __enter__(self) -> "Side":
        demo, admin = self.apis["demo"], self.apis["admin"]
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGgkcMXQ0RFJ2qz8bJnrL2vTQ6dLtUuQnVv3mEJ7WvFv t"
        demo("POST", "/os-keypairs", {"keypair": {"name": "pair", "public_key": key}})
        self.names = {
            "key": key,
            "since": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "project": demo.project,
            "image": demo("GET", "/images?name=bed-image", service="image").body["images"][0]["id"],
            "network": demo("GET", "/networks?name=bed-net", service="network").body["networks"][0]["id"],
        }
        self.names["server"] = self._boot("stays")
        held = admin("GET", f"/allocations/{self.names['server']}", service="placement").body["allocations"]
        self.names["provider"] = next(iter(held))
        self._boot("second")
        self.names["gone"] = self._boot("gone")
        demo("DELETE", f"/servers/{self.names['gone']}")
        until("it is gone", lambda: demo("GET", f"/servers/{self.names['gone']}").status == 404)
        return self

    def _boot(self, name: str) -> str:
        demo = self.apis["demo"]
        body = {
            "name": name,
            "flavorRef": "m1.tiny",
            "imageRef": self.names["image"],
            "networks": [{"uuid": self.names["network"]}],
            "metadata": {"a": "b"},
            "tags": ["t"],
            "key_name": "pair",
        }
        reply = demo("POST", "/servers", {"server": body})
        assert reply.status == 202, reply
        server_id: str = reply.body["server"]["id"]
        until(f"{name} is ACTIVE", lambda: demo.server(server_id)["status"] == "ACTIVE")
        return server_id

    def __call__(self, call: Call) -> Reply:
        """Send a request, and undo at once what it made."""
        filled = call.filled(self.names)
        api = self.apis[call.user]
        reply = api(filled.method, filled.path, filled.body, service=filled.service, version=filled.version)
        self._undo(filled, reply)
        return reply

    def _undo(self, call: Call, reply: Reply) -> None:
        api, body = self.apis[call.user], reply.body if isinstance(reply.body, dict) else {}
        if call.method == "POST" and reply.status in (200, 201, 202):
            for key, path in (
                ("keypair", "/os-keypairs/"),
                ("server_group", "/os-server-groups/"),
                ("flavor", "/flavors/"),
            ):
                if key in body:
                    api("DELETE", path + (body[key]["name"] if key == "keypair" else body[key]["id"]))
            if "aggregate" in body:
                api("DELETE", f"/os-aggregates/{body['aggregate']['id']}")
            if call.path == "/servers":
                self._delete_made()
        if call.path.endswith("/action") and reply.status < 300:
            self._settle(call)
        if call.path.startswith("/os-quota-sets") and call.method == "PUT":
            large = {"instances": 100000, "cores": 1000000, "ram": 1000000000, "force": True}
            self.apis["admin"]("PUT", call.path, {"quota_set": large})

    def _delete_made(self) -> None:
        demo, kept = self.apis["demo"], ("stays", "second")
        made = [each["id"] for each in demo("GET", "/servers").body["servers"] if each["name"] not in kept]
        for server_id in made:
            demo("DELETE", f"/servers/{server_id}")
            until(
                f"{server_id} is gone", lambda server_id=server_id: demo("GET", f"/servers/{server_id}").status == 404
            )

    def _settle(self, call: Call) -> None:
        """Wait until the action is over, and bring the server back to what it was."""
        demo, admin, server_id = self.apis["demo"], self.apis["admin"], self.names["server"]
        until("the action is over", lambda: demo.server(server_id)["OS-EXT-STS:task_state"] is None)
        action = f"/servers/{server_id}/action"
        demo("POST", action, {"unlock": None})
        if demo.server(server_id)["status"] == "VERIFY_RESIZE":
            demo("POST", action, {"revertResize": None})
        elif demo.server(server_id)["status"] == "ERROR":
            admin("POST", action, {"os-resetState": {"state": "active"}})
        demo("PUT", f"/servers/{server_id}", {"server": {"name": "stays"}})
        until("it is ACTIVE", lambda: demo.server(server_id)["status"] == "ACTIVE")
        assert call.path

    def __exit__(self, *_: object) -> None:
        for image in self.apis["demo"]("GET", "/images?owner=" + self.names["project"], service="image").body["images"]:
            self.apis["demo"]("DELETE", f"/images/{image['id']}", service="image")
        for server in self.apis["demo"]("GET", "/servers").body["servers"]:
            self.apis["demo"]("DELETE", f"/servers/{server['id']}")
        self.apis["demo"]("DELETE", "/os-keypairs/pair")


@pytest.fixture(name="side", scope="module")
def fixture_side(entries) -> Iterator[Side]:
    """The cloud under test."""
    with Side({user: entry for user, (_, entry) in entries.items()}) as side:
        yield side


@pytest.fixture(autouse=True)
def no_servers_are_left() -> None:
    """In the place of that of all other tests: `Side` deletes its own in the end."""


def calls() -> list[Call]:
    """All of them, each once."""
    return list({str(call): call for call in (*reads(), *filters(), *by_chance(COUNT, SEED))}.values())


def kind(value: Any) -> str:
    """The type of a JSON value; a number is a number."""
    return "number" if type(value) in (int, float) else type(value).__name__


def merged(items: list[Any]) -> Any:
    """One item with the keys of all, so that a list of many compares with one of few."""
    if not items or not all(isinstance(each, dict) for each in items):
        return items[0] if items else None
    return {name: each[name] for each in reversed(items) for name in each}


def body_differences(real: Any, simulated: Any, path: str = "") -> Iterator[str]:
    """Where the keys and types of two bodies differ. The items of lists are compared where both sides have some; null
    has any type."""
    if isinstance(real, dict) and isinstance(simulated, dict):
        left, right = (
            {("*" if DATA.fullmatch(k) else k): v for k, v in each.items() if k not in IGNORED}
            for each in (real, simulated)
        )
        for name in sorted({*left, *right}):
            if name not in right:
                yield f"{path}.{name} is missing"
            elif name not in left:
                yield f"{path}.{name} is too much"
            else:
                yield from body_differences(left[name], right[name], f"{path}.{name}")
    elif isinstance(real, list) and isinstance(simulated, list):
        if real and simulated:
            yield from body_differences(merged(real), merged(simulated), f"{path}[]")
    elif real is not None and simulated is not None and kind(real) != kind(simulated):
        yield f"{path} is {kind(simulated)}, and really {kind(real)}"


def compared(call: Call, real: Reply, simulated: Reply) -> list[str]:
    """What differs in two answers."""
    if real.status != simulated.status:
        return [f"{simulated.status}, and really {real.status}: {str(simulated.body)[:200]} / {str(real.body)[:300]}"]
    found = list(body_differences(real.body, simulated.body))
    if real.status == 200 and "sort_key=display_name" in call.path:
        names = [[each["name"] for each in reply.body["servers"]] for reply in (real, simulated)]
        found += [] if names[0] == names[1] else [f"the order is {names[1]}, and really {names[0]}"]
    return found


@pytest.fixture(name="simulated", scope="module")
def fixture_simulated(tmp_path_factory) -> Iterator[Side | None]:
    """A simulated cloud beside a real one; None where the cloud under test is a simulated one itself."""
    if not IS_REAL:
        yield None
        return
    for path in simulated_cloud(tmp_path_factory.mktemp("other")):
        clouds = yaml.safe_load(path.read_text())["clouds"]
        with Side({entry["auth"]["username"]: entry for entry in clouds.values()}) as side:
            yield side


def test_the_simulated_cloud_answers_as_the_real_one(side, simulated):
    """Without a real one: it has an answer to each request, of which none is a defect of its own."""
    found = []
    for call in calls():
        reply = side(call)
        if simulated is None:
            lines = [str(reply)] if reply.status >= 500 else []
        else:
            lines = compared(call, reply, simulated(call))
        if lines:
            found.append(f"{str(call)[:160]}\n    {'; '.join(lines)[:400]}")
    assert not found, f"{len(found)} differences\n" + "\n".join(found)
