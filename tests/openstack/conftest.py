"""The clouds that the conformance tests run on: VMSVC_TEST_CLOUD=sim (the simulated one) or bed (a real OpenStack).

Both have the users demo (a member) and admin, four hosts of 4 vCPU and 8 GiB, the flavors m1.*, one image and one
network. What differs between them is in this file alone.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from vmsvc.cloud.openstack import OpenStack

BED = Path(__file__).parent / "bed" / "bed"
ROOT = Path(__file__).parents[2]
#: As large as the bed's own: no test meets it unless it asks for less.
LARGE = {"instances": 100000, "cores": 1000000, "ram": 1000000000}


@dataclass
class Reply:
    """A raw answer."""

    status: int
    headers: Any
    body: Any

    @property
    def message(self) -> str:
        """Nova's sentence in an error."""
        return next(iter(self.body.values()))["message"]


class Api:
    """One user of one cloud over plain HTTP: nothing of the SDK and nothing of ours in between."""

    def __init__(self, entry: dict):
        self.auth = entry["auth"]
        self.token, self.project, self.endpoints = "", "", {}
        self.sign_in()

    def sign_in(self, password: str | None = None) -> Reply:
        """POST /v3/auth/tokens."""
        user = {"name": self.auth["username"], "domain": {"name": "Default"},
                "password": password or self.auth["password"]}
        scope = {"project": {"name": self.auth["project_name"], "domain": {"name": "Default"}}}
        reply = send("POST", f"{self.auth['auth_url']}/auth/tokens", {"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}})
        if reply.status == 201:
            self.token = reply.headers["X-Subject-Token"]
            self.project = reply.body["token"]["project"]["id"]
            self.endpoints = {service["type"]: endpoint["url"].rstrip("/")
                              for service in reply.body["token"]["catalog"]
                              for endpoint in service["endpoints"] if endpoint["interface"] == "public"}
        return reply

    def __call__(self, method: str, path: str, body: object = None, *, service: str = "compute",
                 version: str | None = None, token: str | None = None) -> Reply:
        """One request; `path` begins below the service's endpoint in the catalogue."""
        headers = {"X-Auth-Token": token or self.token}
        if service in ("compute", "placement"):
            asked = version or {"compute": "2.93", "placement": "1.36"}[service]
            headers["OpenStack-API-Version"] = f"{service} {asked}"
        prefix = {"image": "/v2", "network": "/v2.0"}.get(service, "")
        return send(method, self.endpoints[service] + prefix + path, body, headers)

    def server(self, server_id: str) -> dict:
        """GET one server, which must be there."""
        reply = self("GET", f"/servers/{server_id}")
        assert reply.status == 200, reply
        return reply.body["server"]


def send(method: str, url: str, body: object = None, headers: dict | None = None) -> Reply:
    """An HTTP exchange without proxies, whatever the environment says."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", "Accept": "application/json",
                                                 **(headers or {})}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return _reply(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, error.headers, error.read())


def _reply(status: int, headers: Any, data: bytes) -> Reply:
    try:
        return Reply(status, headers, json.loads(data) if data else None)
    except ValueError:
        return Reply(status, headers, data.decode())


def until(what: str, look: Callable[[], object], seconds: float = 60) -> object:
    """Look again and again until it is true; returns what was seen."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds} s"
        time.sleep(0.05)
    return seen


@pytest.fixture(scope="session", name="clouds_yaml")
def running_cloud(tmp_path_factory) -> Iterator[Path]:
    """The clouds.yaml of a cloud that runs. What this starts it stops, and nothing else."""
    kind = os.environ.get("VMSVC_TEST_CLOUD", "sim")
    assert kind in ("sim", "bed"), f"VMSVC_TEST_CLOUD is sim or bed, not {kind}"
    yield from real_cloud() if kind == "bed" else simulated_cloud(tmp_path_factory.mktemp("cloud"))


def real_cloud() -> Iterator[Path]:
    """The real OpenStack of tests/openstack/bed."""
    was_up = subprocess.run([BED, "status"], capture_output=True, check=False, timeout=60).returncode == 0
    if not was_up:
        subprocess.run([BED, "up"], check=True, timeout=900)
    try:
        subprocess.run([BED, "reset"], check=True, timeout=300)
        shown = subprocess.run([BED, "env"], check=True, capture_output=True, text=True, timeout=60).stdout
        yield Path(re.search(r"OS_CLIENT_CONFIG_FILE=(\S+)", shown)[1])
        subprocess.run([BED, "reset"], check=True, timeout=300)
    finally:
        if not was_up:
            subprocess.run([BED, "down"], check=True, timeout=120)


def simulated_cloud(folder: Path) -> Iterator[Path]:
    """The simulated cloud, in a process of its own."""
    command = [sys.executable, "-m", "vmsvc.sim", "--dir", str(folder), "--schedule-seconds", "0.05",
               "--boot-seconds", "0.1", "--delete-seconds", "0.05", "--stop-seconds", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            started = process.stdout.readline()  # ends when the process does, so this cannot hang on one that failed
            yield Path(re.search(r"clouds.yaml at (.+)", started)[1])
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture(scope="session", name="entries")
def entries_of(clouds_yaml) -> dict:
    """The member's and the admin's entry: ('demo' and 'admin') -> (name in clouds.yaml, entry)."""
    clouds = yaml.safe_load(clouds_yaml.read_text())["clouds"]
    return {entry["auth"]["username"]: (name, entry) for name, entry in clouds.items()}


@pytest.fixture(scope="session", name="demo")
def member(entries) -> Api:
    """An ordinary project member."""
    return Api(entries["demo"][1])


@pytest.fixture(scope="session", name="admin")
def operator(entries) -> Api:
    """An admin, in a project of their own."""
    return Api(entries["admin"][1])


@pytest.fixture(scope="session", name="image_id")
def only_image(demo) -> str:
    """The image."""
    [image] = demo("GET", "/images", service="image").body["images"]
    return image["id"]


@pytest.fixture(scope="session", name="network_id")
def only_network(demo) -> str:
    """The network."""
    [network] = demo("GET", "/networks", service="network").body["networks"]
    return network["id"]


@pytest.fixture(name="quota")
def quota_setter(demo, admin) -> Iterator[Callable]:
    """Sets demo's quota; the large one is put back."""
    def put(**limits: int) -> None:
        reply = admin("PUT", f"/os-quota-sets/{demo.project}", {"quota_set": {**limits, "force": True}})
        assert reply.status == 200, reply
    yield put
    put(**LARGE)


@pytest.fixture(autouse=True)
def no_servers_are_left(admin) -> Iterator[None]:
    """Delete what the test left, whoever owns it, and wait until it is gone."""
    yield
    asked: set[str] = set()

    def gone() -> bool:
        left = {server["id"] for server in admin("GET", "/servers?all_tenants=1").body["servers"]}
        for server_id in left - asked:
            admin("DELETE", f"/servers/{server_id}")
        asked.update(left)
        return not left
    until("no server is left", gone, 120)


@pytest.fixture(name="post")
def poster(image_id, network_id) -> Callable[..., Reply]:
    """POST /servers with what every server needs; keywords add to the body or replace parts of it."""
    def post(api: Api, version: str | None = None, **more: object) -> Reply:
        server = {"name": "conformance", "flavorRef": "m1.tiny", "imageRef": image_id,
                  "networks": [{"uuid": network_id}], **more}
        return api("POST", "/servers", {"server": server}, version=version)
    return post


@pytest.fixture(name="boot")
def booter(post) -> Callable[..., dict]:
    """Makes a server and waits until it is ACTIVE, or in the status that is asked for; returns it as GET shows it."""
    def boot(api: Api, status: str = "ACTIVE", **more: object) -> dict:
        reply = post(api, **more)
        assert reply.status == 202, reply
        server_id = reply.body["server"]["id"]
        until(f"{server_id} is {status}", lambda: api.server(server_id)["status"] == status)
        return api.server(server_id)
    return boot


@pytest.fixture(name="fill")
def filler(post) -> Callable[..., list[dict]]:
    """Fills the cloud with four of the largest servers, one on each host; returns them."""
    def fill(api: Api) -> list[dict]:
        made = [post(api, flavorRef="m1.large").body["server"]["id"] for _ in range(4)]
        return [until(f"{server_id} is ACTIVE", lambda server_id=server_id: next(
            (server for server in [api.server(server_id)] if server["status"] == "ACTIVE"), None))
            for server_id in made]
    return fill


@pytest.fixture(name="gone")
def waiter_for_404() -> Callable[[Api, str], Reply]:
    """Waits until GET says 404; returns that answer."""
    def gone(api: Api, server_id: str) -> Reply:
        def look() -> Reply | None:
            reply = api("GET", f"/servers/{server_id}")
            return reply if reply.status == 404 else None
        return until(f"{server_id} is gone", look)
    return gone


@pytest.fixture(name="connect")
def connector(clouds_yaml, entries, io_loop) -> Iterator[Callable]:
    """Makes connected adapters: `await connect('demo')`. They are closed when the test ends."""
    made: list[OpenStack] = []

    async def connect(user: str) -> OpenStack:
        made.append(OpenStack(cloud=entries[user][0], config_file=str(clouds_yaml)))
        await made[-1].connect()
        return made[-1]
    yield connect
    for cloud in made:
        io_loop.run_sync(cloud.close)
