"""One simulated cloud for all these tests. It is reset before each test, and its clock stands still unless a test lets
it run."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.system.simulated import password_of
from vmsvc.simulator.process import RunningSimulator, start


class Api:
    """Requests as one user. Paths begin with the service: `/compute/v2.1/servers`."""

    def __init__(self, url: str, session: requests.Session, clouds: Path | None = None):
        self.url = url
        self._clouds = clouds
        self.token: dict = {}
        self._session = session

    def __call__(self, method: str, path: str, body: object = None, version: str = "2.93", **headers: str):
        named = {"OpenStack-API-Version": f"compute {version}, placement 1.39", **headers}
        return self._session.request(method, self.url + path, json=body, headers=named, timeout=10)

    def get(self, path: str, **options):
        """The JSON of a GET that must succeed."""
        answer = self("GET", path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def login(self, user: str) -> "Api":
        """An Api with a token of this user for the project of the same name."""
        scope = {"project": {"name": user, "domain": {"name": "Default"}}}
        identity = {
            "methods": ["password"],
            "password": {
                "user": {"name": user, "domain": {"name": "Default"}, "password": password_of(self._clouds, user)}
            },
        }
        answer = self("POST", "/identity/v3/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        session = requests.Session()
        session.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        other = Api(self.url, session, self._clouds)
        other.token = answer.json()["token"]
        return other


class Control(Api):
    """Requests to the control API."""

    def set(self, path: str, /, **values):
        """PUT to /sim/…"""
        answer = self("PUT", f"/sim/{path}", values)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def add(self, path: str, /, **values):
        """POST to /sim/…"""
        answer = self("POST", f"/sim/{path}", values)
        assert answer.ok, answer.text
        return answer.json()

    def wait(self, seconds: float) -> None:
        """Move the cloud's clock forward."""
        self.add("clock", advance=seconds)

    def calls(self, **query) -> dict:
        """The log of calls."""
        return requests.get(f"{self.url}/sim/calls", query, timeout=10).json()


class Tenant:
    """What most tests do as one user: create, show, act on and delete servers."""

    def __init__(self, api: Api):
        self.api = api
        self.project_id = api.token["project"]["id"]
        self.image = api.get("/image/v2/images")["images"][0]["id"]
        self.network = api.get("/network/v2.0/networks")["networks"][0]["id"]

    def post(self, flavor: str = "m1.small", version: str = "2.93", **values):
        """POST /servers."""
        server = {
            "name": "one",
            "flavorRef": flavor,
            "imageRef": self.image,
            "networks": [{"uuid": self.network}],
            **values,
        }
        return self.api("POST", "/compute/v2.1/servers", {"server": server}, version=version)

    def boot(self, **values) -> str:
        """Create a server. Returns its id."""
        answer = self.post(**values)
        assert answer.status_code == 202, answer.text
        return answer.json()["server"]["id"]

    def show(self, server_id: str) -> dict | None:
        """The server, None once it is gone."""
        answer = self.api("GET", f"/compute/v2.1/servers/{server_id}")
        return answer.json()["server"] if answer.status_code == 200 else None

    def state(self, server_id: str) -> tuple[str, str | None] | None:
        """(status, task_state), None once it is gone."""
        server = self.show(server_id)
        return server and (server["status"], server["OS-EXT-STS:task_state"])

    def delete(self, server_id: str) -> int:
        """DELETE; the status of the answer."""
        return self.api("DELETE", f"/compute/v2.1/servers/{server_id}").status_code

    def act(self, server_id: str, action: str, value: object = None):
        """POST an action."""
        return self.api("POST", f"/compute/v2.1/servers/{server_id}/action", {action: value})

    def names(self, query: str = "", **options) -> list[str]:
        """Names of the servers that a list shows."""
        return [server["name"] for server in self.api.get(f"/compute/v2.1/servers?{query}", **options)["servers"]]


@pytest.fixture(scope="session", name="running")
def _running(tmp_path_factory) -> Iterator[RunningSimulator]:
    running = start(tmp_path_factory.mktemp("cloud"))
    yield running
    os.kill(running.pid, signal.SIGTERM)
    os.waitpid(running.pid, 0)


@pytest.fixture(scope="session", name="users")
def _users(running) -> dict[str, Tenant]:
    nobody = Api(running.url, requests.Session(), running.clouds)
    return {name: Tenant(nobody.login(name)) for name in ("demo", "admin")}


@pytest.fixture(name="sim")
def _sim(running, users) -> Control:
    """The reset cloud, standing still."""
    control = Control(running.url, requests.Session())
    assert users and control("DELETE", "/sim/state").status_code == 204
    control.add("clock", frozen=True)
    return control


@pytest.fixture(name="demo")
def _demo(users, sim) -> Tenant:
    assert sim
    return users["demo"]


@pytest.fixture(name="admin")
def _admin(users, sim) -> Tenant:
    assert sim
    return users["admin"]
