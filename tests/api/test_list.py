"""`GET /api/v1/vm` byte by byte: headers, 304, HEAD, pipelined requests, slow peers, and who may have the list."""

import asyncio
import contextlib
import re

import pytest
from prometheus_client import CollectorRegistry

from tests.api.test_auth import bearer
from vmsvc.domain.principal import Identity
from vmsvc.service.identity import tokens
from vmsvc.service.identity.keystone import Keystone
from vmsvc.service.identity.tokens import TokenFile
from vmsvc.web.api.vms import SHARED_BODY
from vmsvc.web.app import make_app
from vmsvc.web.http.auth import KeystoneAuth, TokenAuth

VMS = "/api/v1/vm"
#: After the answer to this one the server closes.
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-Id: last\r\n\r\n"
#: What differs from one answer to the next in any case.
_OWN = re.compile(rb"(Date: |X-Request-Id: req-|\"request_id\": \"req-)[^\r\"]*")
#: The headers of the list besides Date, X-Request-Id, Content-Length, Content-Type and Etag.
HEADERS = [
    b"Cache-Control: no-cache",
    b"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
    b"Cross-Origin-Opener-Policy: same-origin",
    b"Cross-Origin-Resource-Policy: same-origin",
    b"Referrer-Policy: no-referrer",
    b"X-Content-Type-Options: nosniff",
]
OF_A_BODY = b"Content-Type: application/json; charset=UTF-8"


@pytest.fixture(name="service", params=[SHARED_BODY // 2, SHARED_BODY + 1], ids=["short list", "long list"])
def _service(service, request):
    service.vm_rows = {"one": {"id": "one", "name": "x" * request.param, "links": []}}
    return service


@pytest.fixture(name="exchange")
def _exchange(http_server, http_port):
    """`await exchange(bytes)`: all that came for it."""
    del http_server

    async def exchange(sent):
        reader, writer = await asyncio.open_connection("127.0.0.1", http_port, limit=1 << 21)
        with contextlib.closing(writer):
            writer.write(sent + LAST)
            got = await reader.read()
        if b"X-Request-Id: last" in got:  # else the server closed before it
            got = got[: got.rindex(b"HTTP/1.1 200")]
        return got

    return exchange


def ask(*lines, method="GET", path=VMS, version="1.1", host="localhost"):
    """A request."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", f"Host: {host}", *lines, "", ""]).encode()


def parts(answer):
    """The first line, the other ones of the head in order, and the body."""
    head, _, body = _OWN.sub(rb"\1", answer).partition(b"\r\n\r\n")
    first, *others = head.split(b"\r\n")
    return first, sorted(others), body


def expected(page, *, request_id=b"X-Request-Id: req-", body=True, more=()):
    """The answer 200 with this list."""
    head = [
        *HEADERS,
        OF_A_BODY,
        b"Content-Length: %d" % len(page.body),
        b"Date: ",
        f"Etag: {page.etag}".encode(),
        request_id,
        *more,
    ]
    return b"HTTP/1.1 200 OK", sorted(head), page.body if body else b""


def unchanged(page):
    """The answer 304 to who has this list."""
    return (
        b"HTTP/1.1 304 Not Modified",
        sorted([*HEADERS, b"Date: ", f"Etag: {page.etag}".encode(), b"X-Request-Id: req-"]),
        b"",
    )


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "request_, differs",
    [
        (ask(), {}),
        (ask("X-Request-Id: mine-1", "Connection: Keep-Alive", "Accept: */*"), {"request_id": b"X-Request-Id: mine-1"}),
        (ask("X-Request-Id: no id"), {}),
        (ask(method="HEAD"), {"body": False}),
        (ask("Origin: https://elsewhere.example", "Sec-Fetch-Site: cross-site"), {}),
        (ask('If-None-Match: "another"'), {}),
        (ask('If-None-Match: "another"', method="HEAD"), {"body": False}),
        (ask("Connection: close"), {"more": [b"Connection: close"]}),
        (ask(path=f"{VMS}?a=b"), {}),
        (ask(version="1.0"), {}),
        (ask("Connection: keep-alive", version="1.0"), {"more": [b"Connection: Keep-Alive"]}),
        (ask("Content-Length: 2") + b"{}", {}),
        (ask("Expect: 100-continue"), {}),
    ],
    ids=lambda part: repr(part[:80]) if isinstance(part, bytes) else "",
)
async def test_the_list_has_these_headers_however_it_is_asked_for(exchange, service, request_, differs):
    got = await exchange(request_)
    if b"Expect:" in request_:
        assert got.startswith(b"HTTP/1.1 100 ")
        got = got.partition(b"\r\n\r\n")[2]
    assert parts(got) == expected(service.page(), **differs)


@pytest.mark.gen_test
async def test_requests_that_come_together_are_answered_in_their_order(exchange):
    got = await exchange(ask("X-Request-Id: a") + ask("X-Request-Id: b", method="HEAD") + ask("X-Request-Id: c"))
    assert got.count(b"HTTP/1.1 200") == 3
    assert re.findall(rb"X-Request-Id: (\w)", got) == [b"a", b"b", b"c"]


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_client_that_has_the_list_gets_304(exchange, service, method):
    page = service.page()
    got = await exchange(ask(f"If-None-Match: {page.etag}", method=method))
    assert parts(got) == unchanged(page)
    assert parts(await exchange(ask("If-None-Match: *", method=method))) == unchanged(page)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "request_, status", [(ask(host="evil.example"), 403), (ask(method="PUT"), 405), (ask(path=f"{VMS}/"), 404)]
)
async def test_what_is_refused_never_reaches_the_service(exchange, service, request_, status):
    assert (await exchange(request_)).startswith(b"HTTP/1.1 %d" % status)
    assert not service.calls


@pytest.mark.gen_test
async def test_a_weak_tag_or_one_of_many_is_understood(exchange, service):
    page = service.page()
    for given in (f"W/{page.etag}", f'"another", {page.etag}'):
        assert parts(await exchange(ask(f"If-None-Match: {given}"))) == unchanged(page)


@pytest.mark.gen_test
async def test_a_peer_that_reads_slowly_gets_all_of_it(exchange, service, http_port):
    service.vm_rows["one"]["name"] = "x" * 12_000_000
    whole = await exchange(ask())
    assert parts(whole) == expected(service.page())
    reader, writer = await asyncio.open_connection("127.0.0.1", http_port, limit=1 << 16)
    with contextlib.closing(writer):
        writer.write(ask() + ask(method="HEAD"))  # the second waits for the first to leave
        got = await reader.readexactly(len(whole))
        assert parts(got) == parts(whole)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.gen_test
async def test_a_peer_that_has_gone_costs_nothing(app, exchange, service, http_port):
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", http_port)
        writer.write(ask() * 5)
        writer.transport.abort()
    assert parts(await exchange(ask())) == expected(service.page())
    while app.dependencies.limits.in_flight or app.dependencies.unsent.size:
        await asyncio.sleep(0.001)


@pytest.mark.gen_test
async def test_it_is_counted_and_its_line_is_written_as_any(exchange, registry, caplog):
    for _ in range(2):
        with caplog.at_level("DEBUG", "vmsvc.access"):
            await exchange(ask("X-Request-Id: mine-1"))
    lines = [
        re.sub(r"[\d.]+ ms", "", record.getMessage())
        for record in caplog.records
        if record.name == "vmsvc.access" and "healthz" not in record.getMessage()
    ]
    assert lines == ["GET /api/v1/vm 200  127.0.0.1 anonymous mine-1"] * 2
    labels = {"route": VMS, "method": "GET"}
    assert registry.get_sample_value("vmsvc_http_requests_total", labels | {"status": "200"}) == 2
    assert registry.get_sample_value("vmsvc_http_request_seconds_count", labels) == 2


@pytest.mark.gen_test
async def test_one_request_too_many_is_429_as_ever(app, exchange):
    app.dependencies.limits.in_flight = 2000
    assert (await exchange(ask())).startswith(b"HTTP/1.1 429")


class TestWithTokens:
    """The list is for holders of a token."""

    @pytest.fixture(name="token")
    def fixture_token(self, tmp_path):
        """Bob's."""
        return tokens.add(tmp_path / "tokens", "bob", "reader")

    @pytest.fixture(name="app")
    def fixture_app(self, service, evictions, hub, settings, tmp_path, token):
        """With the file."""
        assert token
        file = TokenFile(tmp_path / "tokens")
        file.load()
        return make_app(
            service,
            hub,
            settings,
            TokenAuth(file),
            evictions=evictions,
            tickets=None,
            webhooks=None,
            registry=CollectorRegistry(),
        )

    @pytest.mark.gen_test
    async def test_a_token_of_the_file(self, exchange, token):
        header = f"Authorization: {bearer(token)['Authorization']}"
        assert (await exchange(ask(header))).startswith(b"HTTP/1.1 200")
        for lines in ((), ("Authorization: Bearer wrong",), ("Authorization: Bearer ",), (f"X-Auth-Token: {token}",)):
            assert (await exchange(ask(*lines))).startswith(b"HTTP/1.1 401")

    @pytest.mark.gen_test
    async def test_a_line_that_was_taken_out_ends_in_a_second(self, exchange, token, tmp_path, monkeypatch):
        (tmp_path / "tokens").write_text("", encoding="ascii")
        monkeypatch.setattr(tokens, "RELOAD_SECONDS", 0.0)
        answer = await exchange(ask(f"Authorization: Bearer {token}"))
        assert answer.startswith(b"HTTP/1.1 401")


class Cloud:
    """Knows one token."""

    project_id = "ours"

    async def identity(self, token):
        """Whose it is."""
        assert token == "good"
        return Identity("carol", "ours", frozenset({"reader"}), 3600.0)


class TestWithKeystone:
    """As with tokens."""

    @pytest.fixture(name="app")
    def fixture_app(self, service, evictions, hub, settings):
        """With a Keystone."""
        auth = KeystoneAuth(Keystone(Cloud(), ["member"], ["reader"]))
        return make_app(
            service, hub, settings, auth, evictions=evictions, tickets=None, webhooks=None, registry=CollectorRegistry()
        )

    @pytest.mark.gen_test
    async def test_whom_keystone_knows(self, exchange):
        header = "X-Auth-Token: good"
        for _ in range(3):
            assert (await exchange(ask(header))).startswith(b"HTTP/1.1 200")
        assert (await exchange(ask())).startswith(b"HTTP/1.1 401")
