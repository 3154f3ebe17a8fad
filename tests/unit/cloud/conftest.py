"""A cloud that misbehaves on order: enough of Keystone to sign in, and a script for every other call."""

import importlib
import json
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.system.warm_start import LATE_IMPORTS
from vmsvc.cloud.openstack import calls, servers
from vmsvc.cloud.openstack.adapter import OpenStack

JSON = {"Content-Type": "application/json"}


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    token: str | None
    headers: dict
    body: object


def say(status: int, body: object = None, **headers: str) -> Callable:
    """Answer with this status; a string is sent as it is, anything else as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    kind = {"Content-Type": "text/html"} if isinstance(body, str) else JSON

    def answer(handler: "Handler") -> None:
        handler.reply(status, text, {**kind, **{name.replace("_", "-"): value for name, value in headers.items()}})

    return answer


def hang(handler: "Handler") -> None:
    """Say nothing until the test is over."""
    handler.cloud.released.wait(30)
    handler.close_connection = True


def cut(handler: "Handler") -> None:
    """Promise a body, send half of it, hang up."""
    handler.reply(200, '{"servers": [', {**JSON, "Content-Length": "1000"})
    handler.close_connection = True


def drip(handler: "Handler") -> None:
    """An answer that comes a character at a time and does not end."""
    handler.reply(200, '{"servers": [', {**JSON, "Content-Length": "100000"})
    with suppress(OSError):
        while not handler.cloud.released.wait(0.05):
            handler.wfile.write(b" ")
    handler.close_connection = True


def slowly(seconds: float, answer: Callable) -> Callable:
    """Answer after a while."""

    def late(handler: "Handler") -> None:
        time.sleep(seconds)
        answer(handler)

    return late


@dataclass
class RogueCloud:
    """`script[method, path]` holds the answers to come, the last of them for good; `seen` what arrived."""

    port: int = 0
    script: dict = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    valid: set[str] = field(default_factory=set)
    sign_ins: int = 0
    password: str = "open sesame"
    newest: str = "2.100"
    keep_alive: bool = True
    placement: bool = False
    scheme: str = "http"
    nothing: bool = False  # no OpenStack at all, but a web server
    server: ThreadingHTTPServer | None = None
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def on(self, method: str, path: str, *answers: Callable) -> None:
        """What to answer, one after the other."""
        self.script[method, path] = list(answers)

    def count(self, method: str, path: str) -> int:
        """How often such a request arrived."""
        return sum(1 for seen in self.seen if (seen.method, seen.path) == (method, path))

    def speak_tls(self, cert: Path, key: Path) -> None:
        """From now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.scheme = "https"

    def vanish(self) -> None:
        """Listen no more."""
        self.server.shutdown()
        self.server.server_close()

    def next_answer(self, method: str, path: str) -> Callable:
        """What the script says to such a request now."""
        with self.lock:
            answers = self.script.get((method, path), [say(404, {"itemNotFound": {"message": "nothing here"}})])
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def sign_in(self, asked: dict) -> tuple[int, dict, dict]:
        """Keystone's status, body and headers for a password."""
        with self.lock:
            if asked["auth"]["identity"]["password"]["user"]["password"] != self.password:
                return 401, {"error": {"code": 401, "message": "Wrong.", "title": "Unauthorized"}}, {}
            self.sign_ins += 1
            token = f"token-of-the-rogue-{self.sign_ins}"
            self.valid.add(token)
        catalog = [
            {
                "type": kind,
                "name": kind,
                "id": kind,
                "endpoints": [
                    {"id": kind, "interface": "public", "region": "r", "region_id": "r", "url": f"{self.url}/{path}"}
                ],
            }
            for kind, path in (("compute", "compute/v2.1"), ("image", "image/v2"), ("network", "network/v2.0"))
        ]
        if self.placement:
            catalog.append(
                {
                    "type": "placement",
                    "name": "placement",
                    "id": "placement",
                    "endpoints": [
                        {
                            "id": "p",
                            "interface": "public",
                            "region": "r",
                            "region_id": "r",
                            "url": f"{self.url}/place/ment",
                        }
                    ],
                }
            )
        body = {
            "token": {
                "methods": ["password"],
                "expires_at": "2099-01-01T00:00:00.000000Z",
                "issued_at": "2026-01-01T00:00:00.000000Z",
                "catalog": catalog,
                "roles": [],
                "project": {"id": "p1", "name": "p", "domain": {"id": "d", "name": "d"}},
                "user": {"id": "u", "name": "u", "domain": {"id": "d", "name": "d"}},
            }
        }
        return 201, body, {"X-Subject-Token": token}


class Handler(BaseHTTPRequestHandler):
    """Routes by the first word of the path."""

    protocol_version = "HTTP/1.1"
    cloud: RogueCloud

    def reply(self, status: int, text: str, headers: dict) -> None:
        """Write a whole answer (or what claims to be one)."""
        data = text.encode()
        with suppress(OSError):
            self.send_response(status)
            connection = {} if self.cloud.keep_alive else {"Connection": "close"}
            for name, value in {"Content-Length": str(len(data)), **connection, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()

    def handle_any(self) -> None:
        """One request."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        path, _, query = self.path.partition("?")
        if self.cloud.nothing:
            self.reply(404, "<html>nothing</html>", {"Content-Type": "text/html"})
        elif path.startswith("/v3"):
            self.identity(path, body)
        elif path.rstrip("/") == "/place/ment":
            self.reply(
                200,
                json.dumps(
                    {
                        "versions": [
                            {
                                "id": "v1.0",
                                "min_version": "1.0",
                                "max_version": "1.39",
                                "status": "CURRENT",
                                "links": [{"rel": "self", "href": ""}],
                            }
                        ]
                    }
                ),
                JSON,
            )
        elif path.rstrip("/") in ("/compute/v2.1", "/image/v2", "/network/v2.0"):
            self.discovery(path.rstrip("/"))
        else:
            token = self.headers.get("X-Auth-Token")
            name = "/" + path.split("/", 3)[3]
            with self.cloud.lock:
                self.cloud.seen.append(Seen(self.command, name, token, dict(self.headers), body or query))
                valid = token in self.cloud.valid
            answer = self.cloud.next_answer(self.command, name) if valid else say(401, {"error": "no"})
            answer(self)

    do_GET = do_POST = do_DELETE = handle_any  # pylint: disable=invalid-name  # http.server's own names

    def identity(self, path: str, body: dict) -> None:
        """Keystone."""
        if path == "/v3/auth/tokens":
            status, answer, headers = self.cloud.sign_in(body)
            self.reply(status, json.dumps(answer), {**JSON, **headers})
        else:
            self.reply(
                200,
                json.dumps(
                    {
                        "version": {
                            "id": "v3.14",
                            "status": "stable",
                            "links": [{"rel": "self", "href": f"{self.cloud.url}/v3/"}],
                        }
                    }
                ),
                JSON,
            )

    def discovery(self, path: str) -> None:
        """The document that tells versions."""
        compute = {"min_version": "2.1", "version": self.cloud.newest} if path.startswith("/compute") else {}
        self.reply(
            200,
            json.dumps(
                {
                    "version": {
                        "id": path.rsplit("/", 1)[1],
                        "status": "CURRENT",
                        **compute,
                        "links": [{"rel": "self", "href": f"{self.cloud.url}{path}/"}],
                    }
                }
            ),
            JSON,
        )

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin  # http.server's own name
        """Quiet."""


@pytest.fixture(name="rogue")
def rogue_cloud():
    """A misbehaving cloud on a loopback port."""
    cloud = RogueCloud()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"cloud": cloud}))
    server.daemon_threads = True
    server.block_on_close = False
    cloud.port = server.server_address[1]
    cloud.server = server
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield cloud
    cloud.released.set()
    cloud.vanish()
    thread.join()


@pytest.fixture(name="imported", scope="session")
def fixture_imported():
    """What the SDK imports when it connects for the first time, which would be part of that test's time."""
    for name in LATE_IMPORTS:
        importlib.import_module(name)


@pytest.fixture(name="adapter")
def adapter_of_rogue(imported, rogue, tmp_path, io_loop, monkeypatch):
    """Makes adapters for the misbehaving cloud; they are closed when the test ends. They send again sooner than in
    earnest, unless the cloud names a time."""
    del imported
    monkeypatch.setattr(calls, "RETRIES", (0.01, 0.04))
    monkeypatch.setattr(servers, "FAULT_SECONDS", 0.05)
    made = []

    def make(password: str = "open sesame", **settings) -> OpenStack:
        path = tmp_path / "clouds.yaml"
        path.write_text(
            json.dumps(
                {
                    "clouds": {
                        "rogue": {
                            "auth": {
                                "auth_url": f"{rogue.url}/v3",
                                "username": "u",
                                "password": password,
                                "project_name": "p",
                                "user_domain_name": "d",
                                "project_domain_name": "d",
                            },
                            "region_name": "r",
                        }
                    }
                }
            )
        )
        made.append(OpenStack(cloud="rogue", config_file=str(path), **{"timeout": 5.0, **settings}))
        return made[-1]

    yield make
    rogue.released.set()
    for cloud in made:
        io_loop.run_sync(cloud.close)
