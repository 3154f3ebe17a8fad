"""The client of webhooks on real sockets: to which addresses it connects, and what it takes from an answer."""

import asyncio
import contextlib
import socket
import ssl
from ipaddress import ip_network

import pytest
from tornado.tcpclient import TCPClient

from tests.certificate import make
from tests.integration.receiver import Receiver
from tests.unit.domain.test_webhook_url import MALFORMED, NEVER, NOT_GLOBAL
from vmsvc.service.webhooks.transport import TargetRefused, TransportFailed
from vmsvc.web.outgoing.client import OutgoingClient

LOOPBACK = [ip_network("127.0.0.0/8")]


class Names:
    """A name server: `answers` are the addresses of each look-up, the last one for ever."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, host, port, family=0, kind=0):
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (
                socket.AF_INET6 if ":" in one else socket.AF_INET,
                kind,
                0,
                "",
                (one, port) if ":" not in one else (one, port, 0, 0),
            )
            for one in addresses
        ]


@pytest.fixture(name="connections")
def fixture_connections(monkeypatch):
    """The addresses to which a connection was begun."""
    begun = []
    create_stream = TCPClient._create_stream  # pylint: disable=protected-access

    def record(self, max_buffer_size, af, addr, *args, **kwargs):
        begun.append(addr[0])
        return create_stream(self, max_buffer_size, af, addr, *args, **kwargs)

    monkeypatch.setattr(TCPClient, "_create_stream", record)
    return begun


@pytest.fixture(name="receiver")
def fixture_receiver(io_loop):
    """A receiver on loopback."""

    async def start():
        return Receiver()

    receiver = io_loop.run_sync(start)
    yield receiver
    io_loop.run_sync(receiver.close)


@pytest.fixture(name="new_client")
def fixture_new_client(io_loop):
    """`client = new_client(networks, look_up=…)`; all are closed in the end."""
    made = []

    def new_client(networks=(), timeout=2.0, **options):
        made.append(OutgoingClient(networks, timeout, **options))
        return made[-1]

    async def close():
        for client in made:
            client.close()

    yield new_client
    io_loop.run_sync(close)


@pytest.mark.gen_test(timeout=20)
async def test_no_hostile_url_makes_a_connection(new_client, connections, receiver):
    client = new_client()
    literals = [f"https://[{one}]/" if ":" in one else f"https://{one}/" for one in NOT_GLOBAL + NEVER]
    mine = [
        f"{scheme}://{host}:{receiver.port}/" for scheme in ("http", "https") for host in ("localhost", "127.0.0.1")
    ]
    refused = 0
    for url in MALFORMED + literals + mine:
        for call in (client.post(url, {}, b"{}"), client.ask_consent(url, "vmsvc"), client.check(url)):
            with pytest.raises(TransportFailed):
                await call
        refused += 1
    assert refused > 60 and not connections and not receiver.posts and not receiver.asked


@pytest.mark.gen_test(timeout=20)
async def test_no_name_that_stands_for_a_hostile_address_makes_a_connection(new_client, connections):
    names = Names([])
    client = new_client(look_up=names)
    for address in NOT_GLOBAL + NEVER:
        for names.answers in ([[address]], [["93.184.216.34", address]]):
            with pytest.raises(TargetRefused):
                await client.post("https://hostile.example/", {}, b"{}")
    assert len(names.asked) == 2 * len(NOT_GLOBAL + NEVER) and not connections


@pytest.mark.gen_test(timeout=20)
async def test_a_name_that_changes_after_the_look_up_changes_nothing(new_client, connections, receiver):
    """DNS rebinding: there is one look-up, and the connection goes to what was judged."""
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    client = new_client(LOOPBACK, look_up=names)
    assert await client.post(receiver.url(host="rebinding.example"), {}, b"{}") == 204
    assert names.asked == ["rebinding.example"] and connections == ["127.0.0.1"]
    with pytest.raises(TargetRefused):
        await client.post(receiver.url(host="rebinding.example"), {}, b"{}")
    assert connections == ["127.0.0.1"]


@pytest.mark.gen_test(timeout=20)
async def test_a_redirect_makes_no_second_connection(new_client, connections, receiver):
    receiver.answer = lambda event, headers: 302
    assert await new_client(LOOPBACK).post(receiver.url(), {}, b"{}") == 302
    assert connections == ["127.0.0.1"]


@pytest.mark.gen_test(timeout=20)
async def test_no_proxy_of_the_environment_is_used(new_client, connections, receiver, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://10.0.0.1:3128")
    assert await new_client(LOOPBACK).post(receiver.url(), {}, b"{}") == 204
    assert connections == ["127.0.0.1"]


@pytest.mark.gen_test(timeout=20)
async def test_tls_verifies_the_name_of_the_url_though_the_connection_goes_to_an_address(
    new_client, tmp_path, receiver
):
    del receiver
    certificate = make(tmp_path, "localhost")
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(*certificate)
    secure = Receiver(tls=server_side)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    client = new_client(LOOPBACK, tls=trusting, look_up=Names(["127.0.0.1"]))
    assert await client.post(secure.url(host="localhost", scheme="https"), {}, b"{}") == 204
    with pytest.raises(TransportFailed, match="certificate"):
        await client.post(secure.url(host="other.example", scheme="https"), {}, b"{}")
    with pytest.raises(TransportFailed, match="certificate"):
        await new_client(LOOPBACK, look_up=Names(["127.0.0.1"])).post(
            secure.url(host="localhost", scheme="https"), {}, b"{}"
        )
    await secure.close()


@contextlib.asynccontextmanager
async def answering(answer, pause=0.0):
    """The URL of a server that writes these bytes to whoever connects, until the peer has gone."""
    serving = []

    async def serve(reader, writer):
        serving.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            for part in answer:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()
    for task in serving:
        task.cancel()
    await asyncio.wait(serving)


@pytest.mark.gen_test(timeout=20)
async def test_of_an_answer_only_the_status_counts(new_client):
    for answer, pause in (
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"], 0.0),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\0\0"], 0.0),
        ([b"HTTP/1.1 200 OK\r\n\r\n"] + [b"x" * 65536] * 100, 0.0),
        ([b"HTTP/1.1 200 OK\r\n\r\n"] + [b"x"] * 1000, 0.05),  # for ever
    ):
        async with answering(answer, pause) as url:
            assert await new_client(LOOPBACK, 0.5).post(url, {}, b"{}") == 200


@pytest.mark.gen_test(timeout=20)
async def test_what_is_no_answer_is_said_without_a_word_of_it(new_client):
    for answer, pause in (
        ([b"SSH-2.0-secret\r\n"], 0.0),
        ([b""], 0.0),
        ([b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n"], 0.0),
        ([b"H"] * 1000, 0.05),
    ):
        async with answering(answer, pause) as url:
            with pytest.raises(TransportFailed) as failed:
                await new_client(LOOPBACK, 0.5).post(url, {}, b"{}")
        assert "secret" not in str(failed.value) and "127" not in str(failed.value)
    with pytest.raises(TransportFailed, match="no connection"):
        await new_client(LOOPBACK).post(url, {}, b"{}")
    with pytest.raises(TransportFailed, match="looked up"):
        await new_client(LOOPBACK, look_up=failing).post("https://nowhere.example/", {}, b"{}")


def failing(*args):
    """A name that nobody knows."""
    raise socket.gaierror(-2, "Name or service not known")
