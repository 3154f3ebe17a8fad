"""The short way of the list: it answers what the handler would have answered, or leaves it to the handler."""

import asyncio
import contextlib
import re

import pytest
from prometheus_client import CollectorRegistry

from tests.api.test_auth import bearer
from vmsvc.domain.principal import Identity
from vmsvc.service import tokens
from vmsvc.service.keystone import Keystone
from vmsvc.service.tokens import TokenFile
from vmsvc.web.app import make_app
from vmsvc.web.auth import KeystoneAuth, TokenAuth

VMS = "/api/v1/vm"
SHORT, LONG = "short", "long"
#: After the answer to this one the server closes.
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-Id: last\r\n\r\n"
#: What differs from one answer to the next in any case.
_OWN = re.compile(rb"(Date: |X-Request-Id: req-|\"request_id\": \"req-)[^\r\"]*")


@pytest.fixture(name="service")
def _service(service):
    service.vm_rows = {"one": {"id": "one", "name": "x" * 300_000, "links": []}}
    return service


@pytest.fixture(name="exchange")
def _exchange(http_server, http_port, service):
    """`way, bytes = await exchange(sent, kept=…)`: which way it went, and all that came for it."""
    del http_server

    async def exchange(sent, kept=True):
        service.kept = kept
        service.calls.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", http_port, limit=1 << 21)
        with contextlib.closing(writer):
            writer.write(sent + LAST)
            got = await reader.read()
        if b"X-Request-Id: last" in got:        # else the server closed before it
            got = got[:got.rindex(b"HTTP/1.1 200")]
        return LONG if ("vms",) in service.calls else SHORT, got
    return exchange


def ask(*lines, method="GET", path=VMS, version="1.1", host="localhost"):
    """A request."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", f"Host: {host}", *lines, "", ""]).encode()


def parts(answer):
    """The first line, the set of the other ones of the head, and the body."""
    head, _, body = _OWN.sub(rb"\1", answer).partition(b"\r\n\r\n")
    first, *others = head.split(b"\r\n")
    return first, sorted(others), body


async def etag(call):
    """The list's."""
    return (await call("GET", VMS)).headers["Etag"]


@pytest.mark.gen_test
@pytest.mark.parametrize("request_, way", [
    (ask(), SHORT),
    (ask("X-Request-Id: mine-1", "Connection: Keep-Alive", "Accept: */*"), SHORT),
    (ask("X-Request-Id: no id"), SHORT),
    (ask(method="HEAD"), SHORT),
    (ask("Origin: https://elsewhere.example", "Sec-Fetch-Site: cross-site"), SHORT),
    (ask("If-None-Match: \"another\""), LONG),
    (ask("If-None-Match: *"), LONG),
    (ask("If-None-Match: \"another\"", method="HEAD"), LONG),
    (ask("Connection: close"), LONG),
    (ask(path=f"{VMS}?a=b"), LONG),
    (ask(version="1.0"), LONG),
    (ask("Connection: keep-alive", version="1.0"), LONG),
    (ask("Content-Length: 2") + b"{}", LONG),
    (ask("Expect: 100-continue"), LONG),
], ids=lambda part: repr(part[:80]))
async def test_both_ways_answer_alike(exchange, request_, way):
    taken, short = await exchange(request_)
    assert taken == way
    _, long = await exchange(request_, kept=False)
    assert parts(short) == parts(long)
    assert b"HTTP/1.1 200" in short or short.startswith(b"HTTP/1.1 304")


@pytest.mark.gen_test
async def test_requests_that_come_together_are_answered_in_their_order(exchange):
    taken, got = await exchange(ask("X-Request-Id: a") + ask("X-Request-Id: b", method="HEAD") + ask("X-Request-Id: c"))
    assert taken == SHORT and got.count(b"HTTP/1.1 200") == 3
    assert re.findall(rb"X-Request-Id: (\w)", got) == [b"a", b"b", b"c"]


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_has_the_list_is_told_so_the_short_way(exchange, call, method):
    request = ask(f"If-None-Match: {await etag(call)}", method=method)
    taken, short = await exchange(request)
    assert taken == SHORT and short.startswith(b"HTTP/1.1 304") and short.endswith(b"\r\n\r\n")
    assert parts(short) == parts((await exchange(request, kept=False))[1])


@pytest.mark.gen_test
@pytest.mark.parametrize("request_, status", [
    (ask(host="evil.example"), 403), (ask(method="PUT"), 405), (ask(path=f"{VMS}/"), 404)])
async def test_what_is_refused_is_refused_by_the_handler(exchange, request_, status):
    _, short = await exchange(request_)
    assert short.startswith(b"HTTP/1.1 %d" % status)
    assert parts(short) == parts((await exchange(request_, kept=False))[1])


@pytest.mark.gen_test
async def test_a_weak_tag_or_one_of_many_is_understood(exchange, call):
    tag = await etag(call)
    for given in (f"W/{tag}", f'"another", {tag}'):
        assert (await exchange(ask(f"If-None-Match: {given}")))[1].startswith(b"HTTP/1.1 304")


@pytest.mark.gen_test
async def test_a_peer_that_reads_slowly_gets_all_of_it(exchange, service, http_port):
    service.vm_rows["one"]["name"] = "x" * 12_000_000
    _, whole = await exchange(ask(), kept=False)
    service.kept = True
    service.calls.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", http_port, limit=1 << 16)
    with contextlib.closing(writer):
        writer.write(ask() + ask(method="HEAD"))        # the second waits for the first to leave
        got = await reader.readexactly(len(whole))
        assert parts(got) == parts(whole)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert ("vms",) not in service.calls


@pytest.mark.gen_test
async def test_a_peer_that_has_gone_costs_nothing(exchange, service, http_port, call):
    service.kept = True
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", http_port)
        writer.write(ask() * 5)
        writer.transport.abort()
    assert (await call("GET", VMS)).status == 200
    assert (await exchange(ask()))[0] == SHORT


@pytest.mark.gen_test
async def test_it_is_counted_and_its_line_is_written_as_any(exchange, registry, caplog):
    for kept in (True, False):
        with caplog.at_level("DEBUG", "vmsvc.access"):
            await exchange(ask("X-Request-Id: mine-1"), kept)
    lines = [re.sub(r"[\d.]+ ms", "", record.getMessage()) for record in caplog.records
             if record.name == "vmsvc.access" and "healthz" not in record.getMessage()]
    assert lines == ["GET /api/v1/vm 200  127.0.0.1 anonymous mine-1"] * 2
    labels = {"route": VMS, "method": "GET"}
    assert registry.get_sample_value("vmsvc_http_requests_total", labels | {"status": "200"}) == 2
    assert registry.get_sample_value("vmsvc_http_request_seconds_count", labels) == 2


@pytest.mark.gen_test
async def test_one_request_too_many_is_429_as_ever(app, exchange):
    limits = app.settings["limits"]
    limits.in_flight = 2000
    assert (await exchange(ask()))[1].startswith(b"HTTP/1.1 429")


class TestWithTokens:
    """Who is known goes the short way; whoever is not hears so from the handler."""

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
        return make_app(service, hub, settings, TokenAuth(file), evictions=evictions, registry=CollectorRegistry())

    @pytest.mark.gen_test
    async def test_a_token_of_the_file(self, exchange, token):
        header = f"Authorization: {bearer(token)['Authorization']}"
        assert (await exchange(ask(header)))[0] == SHORT
        for lines in ((), ("Authorization: Bearer wrong",), ("Authorization: Bearer ",), (f"X-Auth-Token: {token}",)):
            assert (await exchange(ask(*lines)))[1].startswith(b"HTTP/1.1 401")

    @pytest.mark.gen_test
    async def test_a_line_that_was_taken_out_ends_in_a_second(self, exchange, token, tmp_path, monkeypatch):
        (tmp_path / "tokens").write_text("", encoding="ascii")
        monkeypatch.setattr(tokens, "LOOK_SECONDS", 0.0)
        answer = (await exchange(ask(f"Authorization: Bearer {token}")))[1]
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
        return make_app(service, hub, settings, auth, evictions=evictions, registry=CollectorRegistry())

    @pytest.mark.gen_test
    async def test_whom_keystone_knows(self, exchange):
        header = "X-Auth-Token: good"
        assert [(await exchange(ask(header)))[0] for _ in range(3)] == [LONG, SHORT, SHORT]
        assert (await exchange(ask()))[1].startswith(b"HTTP/1.1 401")
