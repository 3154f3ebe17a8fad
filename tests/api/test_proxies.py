"""Whose address counts when a request was passed on."""

import asyncio
import contextlib
import logging
import socket
import threading
from ipaddress import ip_address, ip_network

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from tests.system.client import until
from vmsvc.web.http import proxies
from vmsvc.web.http.proxies import KEEP, TrustedProxies, apply_forwarded_headers, resolve

TRUSTED = TrustedProxies([ip_network("10.0.0.0/8"), ip_network("fd00::1")])


def seen(peer, trusted=TRUSTED, **headers):
    """Address and protocol of a request that `peer` sent."""
    request = HTTPServerRequest(
        start_line=RequestStartLine("GET", "/", "HTTP/1.1"),
        headers=HTTPHeaders(
            {"Host": "vms.example"} | {name.replace("_", "-"): value for name, value in headers.items()}
        ),
    )
    request.remote_ip, request.protocol = peer, "http"
    apply_forwarded_headers(request, trusted)
    return request.remote_ip, request.protocol


def test_a_trusted_proxy_says_for_whom_it_calls():
    assert seen("10.0.0.1", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https") == ("192.0.2.7", "https")
    assert seen("fd00::1", X_Forwarded_For="2001:db8::7") == ("2001:db8::7", "http")
    assert seen("::ffff:10.0.0.1", X_Forwarded_For="192.0.2.7") == ("192.0.2.7", "http")


def test_forwarded_headers_of_others_are_ignored():
    headers = {"X_Forwarded_For": "192.0.2.7", "X_Forwarded_Proto": "https"}
    assert seen("192.0.2.1", **headers) == ("192.0.2.1", "http")
    assert seen("fd00::2", **headers) == ("fd00::2", "http")
    assert seen("10.0.0.1", trusted=TrustedProxies(), **headers) == ("10.0.0.1", "http")


def test_what_a_client_has_put_before_the_proxys_own_word_does_not_count():
    assert seen("10.0.0.1", X_Forwarded_For="127.0.0.1, 192.0.2.7")[0] == "192.0.2.7"
    assert seen("10.0.0.1", X_Forwarded_For="127.0.0.1, 192.0.2.7, 10.0.0.2")[0] == "192.0.2.7"
    assert seen("10.0.0.1", X_Forwarded_Proto="https, http")[1] == "http"
    assert seen("10.0.0.1", X_Forwarded_For="10.0.0.2, 192.0.2.7", X_Forwarded_Proto="https, http") == (
        "192.0.2.7",
        "http",
    )


@pytest.mark.parametrize(
    ("said", "protocol"),
    [
        ("https, http", "https"),
        ("http, https", "http"),
        ("gopher, https, http", "https"),
        ("https", "https"),
        ("gopher, http", "http"),
    ],
)
def test_the_outermost_trusted_proxy_says_how_the_client_came(said, protocol):
    """A proxy with TLS in front of a balancer without: each of them has added its word."""
    assert seen("10.0.0.1", X_Forwarded_For="192.0.2.7, 10.0.0.2", X_Forwarded_Proto=said) == ("192.0.2.7", protocol)


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Real_Ip": "192.0.2.7"},
        {"Forwarded": "for=192.0.2.7;proto=https"},
        {"X_Scheme": "https"},
        {"X_Forwarded_For": ""},
        {"X_Forwarded_For": "unknown"},
        {"X_Forwarded_For": "192.0.2.7, <script>"},
        {"X_Forwarded_Proto": "gopher"},
    ],
)
def test_other_words_count_for_nothing(headers):
    assert seen("10.0.0.1", **headers) == ("10.0.0.1", "http")


@pytest.mark.parametrize(
    "said",
    [
        "192.0.2.7:4711",
        "[2001:db8::7]",
        "[2001:db8::7]:4711",
        "fe80::7%eth0",
        "fe80::7%made-up-17",
        "unknown",
        "_hidden",
        "192.0.2.007",
        "0xC0000207",
        "192.0.2.7/32",
        "192.0.2.7 192.0.2.8",
        "",
    ],
)
def test_what_is_no_address_counts_as_no_client(said):
    """A stranger who could put anything there would have as many addresses, and budgets, as he can make up."""
    assert seen("10.0.0.1", X_Forwarded_For=said)[0] == "10.0.0.1"
    assert seen("10.0.0.1", X_Forwarded_For=f"{said}, 192.0.2.9")[0] == "192.0.2.9"
    assert seen("10.0.0.1", X_Forwarded_For=f"192.0.2.9, {said}")[0] == "10.0.0.1"


@pytest.mark.parametrize(
    ("said", "address"),
    [("2001:DB8:0:0:0:0:0:7", "2001:db8::7"), ("2001:db8::0007", "2001:db8::7"), ("::ffff:192.0.2.7", "192.0.2.7")],
)
def test_an_address_has_one_spelling(said, address):
    assert seen("10.0.0.1", X_Forwarded_For=said)[0] == address


class Names:
    """A name server. `known` has the addresses of each name; another name has none. While `answers` is not set, a
    look-up hangs."""

    def __init__(self):
        self.known: dict[str, str] = {}
        self.asked = 0
        self.seconds = 0.0
        self.answers = threading.Event()
        self.answers.set()

    def resolve(self, name):
        """The addresses of a name, in the place of `proxies.resolve`."""
        self.asked += 1
        self.answers.wait(10)
        if name not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return frozenset(map(ip_address, self.known[name].split()))

    async def rounds(self, number=2):
        """Wait until so many look-ups are over."""
        before = self.asked
        await until(lambda: self.asked > before + number)


@pytest.fixture(name="names")
def _names(monkeypatch, caplog):
    monkeypatch.setattr(proxies, "EVERY", 0.01)
    caplog.set_level(logging.INFO, "vmsvc")
    return Names()


@contextlib.asynccontextmanager
async def following(names, *followed, networks=()):
    """Proxies that follow these names."""
    found = TrustedProxies(networks, followed, names.resolve, lambda: names.seconds)
    task = asyncio.ensure_future(found.run())
    try:
        yield found
        assert not task.done()
    finally:
        names.answers.set()
        task.cancel()
        await asyncio.wait([task])


BALANCER, MOVED = "172.18.0.5", "172.18.0.9"


@pytest.mark.gen_test
async def test_a_proxy_that_is_named_is_trusted_where_its_name_leads_to(names):
    async with following(names, "balancer", networks=[ip_network("10.0.0.0/8")]) as trusted:
        await names.rounds()
        assert seen(BALANCER, trusted, X_Forwarded_For="192.0.2.7")[0] == BALANCER
        names.known["balancer"] = f"{BALANCER} fd00::5"
        await until(lambda: ip_address(BALANCER) in trusted)
        for peer in (BALANCER, f"::ffff:{BALANCER}", "fd00::5", "10.0.0.1"):
            assert seen(peer, trusted, X_Forwarded_For="192.0.2.7")[0] == "192.0.2.7"
        assert seen("172.18.0.6", trusted, X_Forwarded_For="192.0.2.7")[0] == "172.18.0.6"
        names.known["balancer"] = MOVED
        await until(lambda: ip_address(MOVED) in trusted)
        assert ip_address(BALANCER) not in trusted


@pytest.mark.gen_test
async def test_a_name_server_that_is_away_for_a_moment_changes_nothing_and_a_name_that_is_gone_trusts_nobody(
    names, caplog
):
    async with following(names, "balancer") as trusted:
        await names.rounds()
        names.known["balancer"] = BALANCER
        await until(lambda: ip_address(BALANCER) in trusted)
        del names.known["balancer"]
        names.seconds += KEEP - 1
        await names.rounds()
        assert ip_address(BALANCER) in trusted
        names.seconds += 1
        await names.rounds()
        assert ip_address(BALANCER) not in trusted
        await names.rounds(5)
    said = [record.getMessage() for record in caplog.records]
    unknown = (
        "trusted proxy balancer has no address (Name or service not known): nobody is trusted by that name "
        "until it has one"
    )
    assert said == [unknown, f"trusted proxy balancer is {BALANCER}", unknown]


@pytest.mark.gen_test
async def test_a_name_server_that_does_not_answer_holds_up_neither_the_loop_nor_another_name(names):
    names.known["balancer"] = BALANCER
    names.answers.clear()
    async with following(names, "balancer", "other") as trusted:
        await until(lambda: names.asked == 2)
        assert ip_address(BALANCER) not in trusted
        names.answers.set()
        await until(lambda: ip_address(BALANCER) in trusted)


@pytest.mark.gen_test
async def test_an_end_does_not_wait_for_a_name_server(names):
    names.answers.clear()
    task = asyncio.ensure_future(TrustedProxies((), ["balancer"], names.resolve).run())
    await until(lambda: names.asked)
    task.cancel()
    try:
        assert (await asyncio.wait([task], timeout=1))[0]
    finally:
        names.answers.set()


@pytest.mark.gen_test
async def test_without_names_nothing_runs():
    await asyncio.wait_for(TrustedProxies([ip_network("10.0.0.0/8")]).run(), 1)


def test_what_the_resolver_of_the_system_says_is_addresses_or_an_oserror():
    assert ip_address("127.0.0.1") in resolve("localhost")
    for name in ("nobody.invalid", "a" * 64):
        with pytest.raises(OSError):
            resolve(name)
