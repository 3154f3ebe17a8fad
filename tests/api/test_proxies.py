"""Whose address counts when a request was passed on."""

from ipaddress import ip_network

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from vmsvc.web.proxies import look_behind

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::1"))


def seen(peer, trusted=TRUSTED, **headers):
    """Address and protocol of a request that `peer` sent."""
    request = HTTPServerRequest(start_line=RequestStartLine("GET", "/", "HTTP/1.1"), headers=HTTPHeaders(
        {"Host": "vms.example"} | {name.replace("_", "-"): value for name, value in headers.items()}))
    request.remote_ip, request.protocol = peer, "http"
    look_behind(request, trusted)
    return request.remote_ip, request.protocol


def test_a_trusted_proxy_says_for_whom_it_calls():
    assert seen("10.0.0.1", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https") == ("192.0.2.7", "https")
    assert seen("fd00::1", X_Forwarded_For="2001:db8::7") == ("2001:db8::7", "http")
    assert seen("::ffff:10.0.0.1", X_Forwarded_For="192.0.2.7") == ("192.0.2.7", "http")


def test_nobody_else_is_believed():
    headers = {"X_Forwarded_For": "192.0.2.7", "X_Forwarded_Proto": "https"}
    assert seen("192.0.2.1", **headers) == ("192.0.2.1", "http")
    assert seen("fd00::2", **headers) == ("fd00::2", "http")
    assert seen("10.0.0.1", trusted=(), **headers) == ("10.0.0.1", "http")


def test_what_a_client_has_put_before_the_proxys_own_word_does_not_count():
    assert seen("10.0.0.1", X_Forwarded_For="127.0.0.1, 192.0.2.7")[0] == "192.0.2.7"
    assert seen("10.0.0.1", X_Forwarded_For="127.0.0.1, 192.0.2.7, 10.0.0.2")[0] == "192.0.2.7"
    assert seen("10.0.0.1", X_Forwarded_Proto="https, http")[1] == "http"


@pytest.mark.parametrize("headers", [
    {"X_Real_Ip": "192.0.2.7"}, {"Forwarded": "for=192.0.2.7;proto=https"}, {"X_Scheme": "https"},
    {"X_Forwarded_For": ""}, {"X_Forwarded_For": "unknown"}, {"X_Forwarded_For": "192.0.2.7, <script>"},
    {"X_Forwarded_Proto": "gopher"}])
def test_other_words_count_for_nothing(headers):
    assert seen("10.0.0.1", **headers) == ("10.0.0.1", "http")


@pytest.mark.parametrize("said", [
    "192.0.2.7:4711", "[2001:db8::7]", "[2001:db8::7]:4711", "fe80::7%eth0", "fe80::7%made-up-17", "unknown", "_hidden",
    "192.0.2.007", "0xC0000207", "192.0.2.7/32", "192.0.2.7 192.0.2.8", ""])
def test_what_is_no_address_is_nobodys(said):
    """A stranger who could put anything there would have as many addresses, and budgets, as he can make up."""
    assert seen("10.0.0.1", X_Forwarded_For=said)[0] == "10.0.0.1"
    assert seen("10.0.0.1", X_Forwarded_For=f"{said}, 192.0.2.9")[0] == "192.0.2.9"
    assert seen("10.0.0.1", X_Forwarded_For=f"192.0.2.9, {said}")[0] == "10.0.0.1"


@pytest.mark.parametrize(("said", "address"), [
    ("2001:DB8:0:0:0:0:0:7", "2001:db8::7"), ("2001:db8::0007", "2001:db8::7"), ("::ffff:192.0.2.7", "192.0.2.7")])
def test_an_address_has_one_spelling(said, address):
    assert seen("10.0.0.1", X_Forwarded_For=said)[0] == address
