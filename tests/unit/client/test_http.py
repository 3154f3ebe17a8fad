"""How requests leave: addresses, tokens that nobody sees, and tokens that are renewed."""

import asyncio
import copy
import logging
import pickle
import traceback

import httpx
import pytest

from vmsvc.client import AsyncClient, Client, NotFound, Unauthenticated, Unreachable, results
from vmsvc.client.http import TokenAuth, base_url, options
from vmsvc.client.steps import Request
from vmsvc.web.api.webhooks import SECRET, WEBHOOK

TOKEN = "vmsvc-secret-secret"


@pytest.mark.parametrize("url", ["http://a:1", "http://a:1/", "http://a:1/api/v1", "http://a:1/api/v1/"])
def test_the_address_is_that_of_the_service_or_of_its_api(url):
    assert base_url(url) == "http://a:1/api/v1"


def test_a_service_below_a_path_keeps_it():
    assert base_url("https://a/vmsvc/") == "https://a/vmsvc/api/v1"


@pytest.mark.parametrize(
    "url", ["", "a:1", "ftp://a", "http://", "http://a/?x=1", f"http://me:{TOKEN}@a", "http://a:b"]
)
def test_what_is_no_address_is_refused_without_showing_a_password(url):
    with pytest.raises(ValueError, match="the address of the service|no address") as caught:
        base_url(url)
    assert TOKEN not in str(caught.value)


def test_no_proxy_of_the_environment_is_asked_about_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with httpx.Client(**options("http://127.0.0.1:1", "", True)) as client:
        proxied = {
            str(pattern.pattern): transport is not None for pattern, transport in vars(client)["_mounts"].items()
        }
    assert not proxied["all://127.0.0.1"] and not proxied["all://localhost"] and proxied["http://"]


def client_with(handler, token=TOKEN):
    """A client whose requests this function answers."""
    return httpx.Client(transport=httpx.MockTransport(handler), base_url="http://a/api/v1", auth=TokenAuth(token))


def test_a_token_goes_into_the_headers_of_both_ways_of_authentication():
    seen = []

    def handler(request):
        seen.append((request.headers["Authorization"], request.headers["X-Auth-Token"]))
        return httpx.Response(401)

    with client_with(handler) as client:
        assert client.get("/vm").status_code == 401
    assert seen == [(f"Bearer {TOKEN}", TOKEN)], "a token that cannot be renewed is not sent twice"


class Tokens:
    """A source that gives another token when one was refused."""

    def __init__(self):
        self.refused = []

    def __call__(self, refused):
        self.refused.append(refused)
        return "new" if "old" in self.refused else "old"


def renewing(request):
    """Takes the new token alone."""
    return httpx.Response(200 if request.headers["X-Auth-Token"] == "new" else 401)


def test_a_token_that_is_refused_is_renewed_once():
    tokens = Tokens()
    with client_with(renewing, tokens) as client:
        assert client.get("/vm").status_code == 200
        assert tokens.refused == ["", "old"]
        assert client.get("/vm").status_code == 200
    assert tokens.refused == ["", "old", ""]


def test_the_same_without_blocking_the_loop():
    tokens = Tokens()

    async def ask():
        transport = httpx.MockTransport(renewing)
        async with httpx.AsyncClient(transport=transport, base_url="http://a", auth=TokenAuth(tokens)) as client:
            return (await client.get("/vm")).status_code

    assert asyncio.run(ask()) == 200 and tokens.refused == ["", "old"]


@pytest.mark.parametrize("token", ["with\nnewline" + TOKEN, TOKEN + " ", "ä" + TOKEN])
def test_a_token_that_no_header_may_have_is_refused_without_showing_it(token):
    with client_with(lambda request: httpx.Response(200), token) as client:
        with pytest.raises(ValueError, match="the token is empty") as caught:
            client.get("/vm")
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_no_repr_no_error_and_no_log_line_has_a_token(caplog):
    caplog.set_level(logging.DEBUG)
    said = []
    for kind in (Client, AsyncClient):
        client = kind("http://127.0.0.1:1", token=TOKEN, patience=0)
        said += [repr(client), str(client), repr(client.core)]
        if kind is AsyncClient:
            asyncio.run(client.close())
    with Client("http://127.0.0.1:1", token=TOKEN, patience=0) as client:
        with pytest.raises(Unreachable) as caught:
            client.list()
    said += ["".join(traceback.format_exception(caught.value)), repr(caught.value), repr(TokenAuth(TOKEN))]
    said += [record.getMessage() for record in caplog.records]
    assert not [text for text in said if TOKEN in text]


def test_secrets_in_requests_and_answers_are_in_no_repr():
    made = results.read(results.NewSecret, {"webhook": WEBHOOK, "secret": SECRET})
    assert made.secret == SECRET and SECRET not in repr(made)
    assert "c2VjcmV0" not in repr(Request("POST", "/vm", body={"user_data": "c2VjcmV0"}))


def test_errors_can_be_copied_and_sent_to_other_processes():
    error = NotFound("no vm", status=404, code="not_found", request_id="req-1")
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(other), str(other), vars(other)) == (NotFound, str(error), vars(error))


def test_what_a_proxy_answers_401_is_no_loop():
    with client_with(lambda request: httpx.Response(401), Tokens()) as client:
        assert client.get("/vm").status_code == 401
    assert Unauthenticated.code == "unauthenticated"
