"""The web layer over real HTTP, in front of a stand-in of the service."""

import json

import pytest
from prometheus_client import CollectorRegistry
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from tests.api.contract import check
from tests.api.standin import Evictions, Service, Webhooks, event
from vmsvc.service.events.hub import Hub
from vmsvc.web.app import make_app, make_server
from vmsvc.web.channel.frames import text_frame
from vmsvc.web.http.settings import WebSettings


@pytest.fixture(name="service")
def _service():
    return Service()


@pytest.fixture(name="evictions")
def _evictions():
    return Evictions()


@pytest.fixture(name="registry")
def _registry():
    return CollectorRegistry()


@pytest.fixture(name="hub")
def _hub():
    return Hub(text_frame)


@pytest.fixture(name="settings")
def _settings(tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><title>vmsvc</title>")
    return WebSettings(static_path=tmp_path, request_timeout=7)


@pytest.fixture(name="app")
def _app(service, evictions, hub, settings, registry):
    return make_app(service, hub, settings, evictions=evictions, tickets=None, webhooks=Webhooks(), registry=registry)


@pytest.fixture(name="http_server")
def _http_server(request, io_loop, _unused_port, app):
    """As pytest-tornado's, with the limits of the real server."""
    server = make_server(app)
    server.add_socket(_unused_port[0])

    def stop():
        server.stop()
        io_loop.run_sync(server.close_all_connections, timeout=5)

    request.addfinalizer(stop)
    return server


class Answer:
    """An HTTP answer; `json` is its body."""

    def __init__(self, response):
        self.status, self.headers, self.raw = response.code, response.headers, response.body

    @property
    def json(self):
        return json.loads(self.raw)


@pytest.fixture(name="call")
def _call(http_server, base_url, request):
    """`await call(method, path, json_body=…, body=…, headers=…)`; what comes must be as documented."""
    del http_server
    client = AsyncHTTPClient(force_instance=True)
    request.addfinalizer(client.close)

    async def fetch(method, path, *, json_body=None, body=None, headers=None, **kwargs):
        headers = dict(headers or {})
        if json_body is not None:
            body = json.dumps(json_body)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        wanted = HTTPRequest(
            base_url + path, method, headers, body, allow_nonstandard_methods=True, follow_redirects=False, **kwargs
        )
        answer = Answer(await client.fetch(wanted, raise_error=False))
        check(method, path, answer.status, answer.headers, answer.raw)
        return answer

    return fetch


@pytest.fixture(name="commit")
def _commit(service, hub):
    """Commit events and publish them, as outbox and feed do."""

    def write(*seqs, **kwargs):
        for seq in seqs:
            service.log.append(event(seq, **kwargs))
            hub.publish([service.log[-1]])

    return write
