"""HTTP as the RFCs have it: HEAD wherever GET is, targets in absolute form, OPTIONS, a byte order mark."""

import asyncio
import contextlib
import re
from dataclasses import replace

import pytest

from tests.api.standin import CLOUD_1, OWN_1
from vmsvc.web.app import ROUTES
from vmsvc.web.http.auth import NoAuth

VMS = "/api/v1/vm"
FILLED = {
    "/api/v1/vm/{id}": f"{VMS}/{CLOUD_1}",
    "/api/v1/evictions/{id}": "/api/v1/evictions/1",
    "/api/v1/webhooks/{id}": f"/api/v1/webhooks/{OWN_1}",
    "/api/v1/webhooks/{id}/deliveries": f"/api/v1/webhooks/{OWN_1}/deliveries",
}
#: Everything that can be got.
GOT = [
    *(FILLED.get(handler.address, handler.address) for _, handler in ROUTES if "GET" in handler.methods()),
    "/",
    "/static/index.html",
    "/api/v1",
    "/api/v1/",
    "/api/v1/ui/initializer.js",
    "/api/v1/ui/swagger-ui.css",
]
#: What differs from one answer to the next in any case.
OWN = ("date", "x-request-id")


@pytest.fixture(name="speak")
def _speak(http_server, http_port):
    """`await speak(bytes)`: status, headers and body of the answer."""
    del http_server

    async def speak(sent):
        reader, writer = await asyncio.open_connection("127.0.0.1", http_port)
        with contextlib.closing(writer):
            writer.write(sent)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers, body

    return speak


def ask(method, target, *lines, host="localhost", version="1.1"):
    """A request, after which the server closes."""
    return "\r\n".join(
        [
            f"{method} {target} HTTP/{version}",
            *([f"Host: {host}"] if host is not None else []),
            "Connection: close",
            *lines,
            "",
            "",
        ]
    ).encode()


@pytest.fixture(name="some")
def _some(service, evictions):
    """One VM, one eviction."""
    service.vm_rows = {CLOUD_1: {"id": CLOUD_1, "name": "x", "links": []}}
    evictions.found = [{"id": 1}]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", GOT)
async def test_head_is_get_without_the_body(speak, some, path):
    del some
    status, headers, body = await speak(ask("GET", path))
    assert status in (200, 301)
    asked = await speak(ask("HEAD", path))
    assert (asked[0], asked[2]) == (status, b"")
    assert int(headers["content-length"]) == len(body)
    own = (*OWN, "content-length", "etag") if path == "/metrics" else OWN  # they count what is asked
    assert {name: value for name, value in asked[1].items() if name not in own} == {
        name: value for name, value in headers.items() if name not in own
    }
    assert asked[1].keys() == headers.keys()


@pytest.mark.gen_test
async def test_head_knows_what_the_client_has_and_what_is_not_ready(speak, service):
    _, headers, _ = await speak(ask("GET", "/api/v1/openapi.json"))
    status, _, body = await speak(ask("HEAD", "/api/v1/openapi.json", f"If-None-Match: {headers['etag']}"))
    assert (status, body) == (304, b"")
    service.parts = {"database": "no answer"}
    assert (await speak(ask("HEAD", "/readyz")))[0] == 503
    assert (await speak(ask("HEAD", "/nothing-here")))[0] == 404
    assert (await speak(ask("HEAD", "/api/v1/tickets")))[0] == 405, "there is no GET"


@pytest.mark.gen_test
async def test_a_head_with_an_upgrade_opens_no_socket(speak, hub):
    status, headers, body = await speak(
        ask(
            "HEAD",
            "/api/v1/events",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
    )
    assert (status, body, len(hub)) == (200, b"", 0)
    assert headers["content-type"].startswith("application/json")


@pytest.mark.gen_test
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "target, path",
    [
        ("http://localhost/healthz", "/healthz"),
        ("HTTP://127.0.0.1:8888/healthz", "/healthz"),
        ("https://localhost/api/v1/vm", VMS),
        ("http://[::1]:80/api/v1/events?since=0&limit=3", "/api/v1/events"),
        ("http://localhost", "/"),
        ("http://localhost?a=b", "/"),
    ],
)
async def test_a_target_in_absolute_form_is_its_path(speak, service, registry, target, path, kept):
    service.kept = kept
    assert (await speak(ask("GET", target, host="localhost")))[0] == 200
    route = "files" if path == "/" else path
    assert (
        registry.get_sample_value("vmsvc_http_requests_total", {"route": route, "method": "GET", "status": "200"}) == 1
    )
    if "limit" in target:
        assert service.calls[0][:3] == ("events", 0, 3)


@pytest.mark.gen_test
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "target, host, status",
    [
        (f"http://localhost{VMS}", "evil.example", 200),
        (f"http://evil.example{VMS}", "localhost", 403),
        (f"http://evil.example:80{VMS}", "localhost", 403),
        (f"http://localhost.evil.example{VMS}", "localhost", 403),
        (f"http://localhost@evil.example{VMS}", "localhost", 400),
        (f"http://{VMS}", "localhost", 400),
        (f"http://local,host{VMS}", "localhost", 400),
        (f"http://localhost{VMS}", None, 400),
        (f"ftp://localhost{VMS}", "localhost", 404),
    ],
)
async def test_the_authority_of_the_target_counts_as_host(speak, service, target, host, status, kept):
    service.kept = kept
    assert (await speak(ask("GET", target, host=host)))[0] == status


@pytest.mark.gen_test
@pytest.mark.parametrize("origin, status", [("http://localhost:81", 201), ("http://evil.example", 403)])
async def test_a_page_of_another_site_is_recognised_by_the_authority_too(speak, service, origin, status):
    body = '{"is_preemptible": true}'
    sent = (
        ask(
            "POST",
            f"http://localhost:81{VMS}",
            f"Origin: {origin}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            host="evil.example",
        )
        + body.encode()
    )
    assert (await speak(sent))[0] == status
    assert service.wrote() == (status == 201)


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [handler for _, handler in ROUTES], ids=lambda handler: handler.address)
async def test_options_says_which_methods_an_address_knows(speak, handler):
    path = re.sub(r"\{\w+\}", "1", handler.address)
    status, headers, body = await speak(ask("OPTIONS", path))
    assert (status, headers["allow"].upper(), body) == (204, ", ".join(handler.methods()), b"")
    refused, told, _ = await speak(ask("PUT", path))
    assert (refused, told["allow"]) == (405, headers["allow"])


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "target, allowed",
    [
        ("*", "get, head, post, patch, delete, options"),
        ("http://localhost", "get, head, post, patch, delete, options"),
        ("/", "get, head, options"),
        ("/api/v1/", "get, head, options"),
        ("/static/index.html", "get, head, options"),
        ("http://localhost/", "get, head, options"),
    ],
)
async def test_options_of_pages_and_of_the_whole_server(speak, target, allowed):
    status, headers, _ = await speak(ask("OPTIONS", target))
    assert (status, headers["allow"]) == (204, allowed)


@pytest.mark.gen_test
async def test_options_is_no_way_round_anything(speak):
    assert (await speak(ask("OPTIONS", VMS, host="evil.example")))[0] == 403
    assert (await speak(ask("OPTIONS", "/nothing-here")))[0] == 404
    assert (await speak(ask("GET", "*")))[0] == 404
    _, headers, _ = await speak(
        ask("OPTIONS", VMS, "Origin: http://evil.example", "Access-Control-Request-Method: DELETE")
    )
    assert not [name for name in headers if name.startswith("access-control")]


class Nobody(NoAuth):
    """Lets nobody in."""

    async def principal(self, request):
        raise AssertionError("nobody is to be asked who he is")


class TestWhereOneHasToSayWhoOneIs:
    """With authentication."""

    @pytest.fixture(name="app")
    def fixture_app(self, app):
        """Nobody is known."""
        app.settings["dependencies"] = replace(app.dependencies, auth=Nobody())
        return app

    @pytest.mark.gen_test
    @pytest.mark.parametrize("path", [VMS, f"{VMS}/x", "/api/v1/events", "/metrics"])
    async def test_not_even_a_token_is_needed_to_hear_which_methods_there_are(self, speak, path):
        assert (await speak(ask("OPTIONS", path)))[0] == 204


@pytest.mark.gen_test
async def test_a_byte_order_mark_before_json_is_ignored(call, service):
    answer = await call("POST", VMS, body=b'\xef\xbb\xbf{"is_preemptible": true}')
    assert answer.status == 201 and service.wrote()
    for body in (b"\xef\xbb\xbf", b'\xef\xbb\xbf\xef\xbb\xbf{"is_preemptible": true}'):
        assert (await call("POST", VMS, body=body)).status == 400
