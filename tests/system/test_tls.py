"""HTTPS and WSS by the service itself."""

import asyncio
import contextlib
import json
import logging
import ssl
import time

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from tests import certificate
from tests.hostile.wire import reset
from vmsvc import access, bootstrap, config

#: How a TLS 1.2 handshake begins; of the rest only the length matters.
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100


@pytest.fixture(name="pair", scope="module")
def _pair(tmp_path_factory):
    """Files of a certificate of 127.0.0.1's and of its key."""
    return certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(name="options")
def _options(pair):
    return {"tls_cert": pair[0], "tls_key": pair[1]}


@pytest.mark.gen_test(timeout=60)
async def test_all_of_it_works_over_tls_and_nothing_without(new_replica, pair):
    replica, _ = await new_replica()
    port, http = replica.service.port, AsyncHTTPClient(force_instance=True)
    trusts = ssl.create_default_context(cafile=pair[0])
    socket = await websocket_connect(HTTPRequest(f"wss://127.0.0.1:{port}/api/v1/events?since=0", ssl_options=trusts))
    headers = {"Content-Type": "application/json", "Origin": f"https://127.0.0.1:{port}"}
    answer = await http.fetch(
        HTTPRequest(
            f"https://127.0.0.1:{port}/api/v1/vm", "POST", headers, '{"is_preemptible": true}', ssl_options=trusts
        )
    )
    assert answer.code == 201
    states = [json.loads(await socket.read_message())["data"]["state"] for _ in range(3)]
    assert states == ["pending", "building", "active"]
    lists = [await http.fetch(HTTPRequest(f"https://127.0.0.1:{port}/api/v1/vm", ssl_options=trusts)) for _ in range(5)]
    assert {json.loads(each.body)["servers"][0]["state"] for each in lists} == {"active"}
    socket.close()
    http.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert b"200" not in await reader.read()
    writer.close()


@pytest.mark.gen_test(timeout=30)
async def test_a_handshake_that_is_never_finished_holds_nobody_up_and_ends(new_replica, pair, monkeypatch):
    make_server = bootstrap.make_server

    def impatient(app, tls):
        server = make_server(app, tls)
        server.conn_params.header_timeout = 1.0
        return server

    monkeypatch.setattr(bootstrap, "make_server", impatient)
    replica, _ = await new_replica()
    port, trusts = replica.service.port, ssl.create_default_context(cafile=pair[0])
    stalled = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    for number, (_, writer) in enumerate(stalled):
        writer.write(CLIENT_HELLO[: number % 4 * 20])
    http, began = AsyncHTTPClient(force_instance=True), time.monotonic()
    answer = await http.fetch(HTTPRequest(f"https://127.0.0.1:{port}/healthz", ssl_options=trusts))
    assert answer.code == 200 and time.monotonic() - began < 1
    for reader, _ in stalled:
        with contextlib.suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 10)
    http.close()
    for _, writer in stalled:
        writer.close()


@pytest.mark.gen_test(timeout=30)
@pytest.mark.parametrize(
    "said", [b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\0" * 500, b"\x16\x03\x01\0\5hello"]
)
async def test_what_is_no_tls_is_hung_up_on_at_once(new_replica, said):
    replica, _ = await new_replica()
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.service.port)
    writer.write(said)
    with contextlib.suppress(ConnectionResetError):
        assert b"HTTP" not in await asyncio.wait_for(reader.read(), 3)
    writer.close()


@pytest.mark.gen_test(timeout=30)
async def test_a_client_that_goes_before_its_handshake_leaves_nothing_in_the_log(new_replica, pair, caplog):
    replica, _ = await new_replica()
    caplog.clear()
    for _ in range(30):
        _, writer = await asyncio.open_connection("127.0.0.1", replica.service.port)
        reset(writer)
    http = AsyncHTTPClient(force_instance=True)
    trusts = ssl.create_default_context(cafile=pair[0])
    for _ in range(5):  # by then it has seen to those before
        await http.fetch(HTTPRequest(f"https://127.0.0.1:{replica.service.port}/healthz", ssl_options=trusts))
    http.close()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("name", ["nothing-here", "key.pem"])
def test_a_certificate_that_cannot_be_used_is_refused_at_the_start(pair, name):
    with pytest.raises(config.ConfigError, match="VMSVC_TLS_CERT"):
        access.tls_of(config.load({"VMSVC_TLS_CERT": str(pair[0].parent / name)}))
