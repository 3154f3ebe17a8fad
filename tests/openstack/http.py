"""Plain HTTP: nothing of the SDK and nothing of ours in between."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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
        user = {
            "name": self.auth["username"],
            "domain": {"name": "Default"},
            "password": password or self.auth["password"],
        }
        scope = {"project": {"name": self.auth["project_name"], "domain": {"name": "Default"}}}
        reply = send(
            "POST",
            f"{self.auth['auth_url']}/auth/tokens",
            {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}},
        )
        if reply.status == 201:
            self.token = reply.headers["X-Subject-Token"]
            self.project = reply.body["token"]["project"]["id"]
            self.endpoints = {
                service["type"]: endpoint["url"].rstrip("/")
                for service in reply.body["token"]["catalog"]
                for endpoint in service["endpoints"]
                if endpoint["interface"] == "public"
            }
        return reply

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        service: str = "compute",
        version: str | None = None,
        token: str | None = None,
    ) -> Reply:
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


def send(method: str, url: str, body: object = None, headers: dict | None = None, timeout: float = 60) -> Reply:
    """An HTTP exchange without proxies, whatever the environment says."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data, {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}, method=method
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as answer:
            return _reply(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, error.headers, error.read())


def _reply(status: int, headers: Any, data: bytes) -> Reply:
    try:
        return Reply(status, headers, json.loads(data) if data else None)
    except ValueError:
        return Reply(status, headers, data.decode())


def until(what: str, look: Callable[[], object], seconds: float = 120) -> object:
    """Look again and again until it is true; returns what was seen."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds} s"
        time.sleep(0.05)
    return seen
