"""Peers who only hold a connection: they give way, they are hung up on, and nobody else notices."""

import asyncio
import contextlib
import json
import logging
from dataclasses import replace

import pytest

from tests.hostile.wire import reset

ASK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(name="settings")
def _settings(settings):
    return replace(settings, max_connections=8, answer_timeout=0.1)


@pytest.fixture(name="connect")
def _connect(http_server, http_port, io_loop):
    """`reader, writer = await connect(sent)`; all are closed in the end."""
    del http_server
    opened = []

    async def connect(sent=b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", http_port)
        opened.append(writer)
        writer.write(sent)
        return reader, writer

    yield connect

    async def close():
        for writer in opened:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    io_loop.run_sync(close)


async def answer_of(reader):
    """The status and the body of an answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    fields = dict(line.lower().split(": ", 1) for line in head.splitlines() if ": " in line)
    length = int(fields["content-length"])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


@pytest.mark.gen_test
async def test_the_connection_that_has_waited_longest_gives_way_to_one_with_a_request(connect):
    silent = [await connect() for _ in range(8)]
    kept, _ = await connect(ASK)
    assert (await answer_of(kept))[0] == 200
    assert await silent[0][0].read() == b""
    status, _ = await answer_of((await connect(ASK))[0])
    assert status == 200 and await silent[1][0].read() == b""
    silent[7][1].write(ASK)
    assert (await answer_of(silent[7][0]))[0] == 200


@pytest.mark.gen_test
async def test_when_all_connections_have_requests_one_more_gets_503(connect, http_server):
    slow = (
        b"POST /api/v1/vm HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    )
    for _ in range(8):
        await connect(slow)
    while len(http_server) < 8 or http_server.waiting:
        await asyncio.sleep(0)
    status, body = await answer_of((await connect(ASK))[0])
    assert (status, body["error"], body["message"]) == (503, "unavailable", "too many connections are open")


@pytest.mark.gen_test(timeout=20)
async def test_who_does_not_take_an_answer_is_hung_up_on(connect, http_server):
    reader, writer = await connect()
    writer.transport.pause_reading()
    writer.write(ASK.replace(b"/healthz", b"/api/v1/openapi.json") * 600)
    while len(http_server) == 0:  # it has been accepted
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while len(http_server):
            await asyncio.sleep(0.01)
    del reader


@pytest.mark.gen_test
async def test_connections_that_end_are_no_longer_counted(connect, http_server):
    for _ in range(20):
        reader, writer = await connect(ASK)
        assert (await answer_of(reader))[0] == 200
        writer.close()
    async with asyncio.timeout(5):
        while len(http_server):
            await asyncio.sleep(0)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "length, status", [("9" * 5000, 413), ("0" * 5000 + "5", 413), ("-1", 400), ("5, 6", 400), ("1e3", 400)]
)
async def test_a_length_that_is_none_is_refused(connect, length, status):
    reader, _ = await connect(
        f"POST /api/v1/vm HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
    )
    assert int((await reader.readline()).split()[1]) == status


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "name, value",
    [
        ("Connection", "close"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Version", "x"),
        ("Sec-WebSocket-Key", ""),
        ("Sec-WebSocket-Key", "AAAA"),
        ("Sec-WebSocket-Key", "*" * 24),
    ],
)
async def test_half_a_handshake_is_refused_by_name(connect, name, value):
    headers = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "A" * 22 + "==",
        name: value,
    }
    head = "".join(f"{key}: {text}\r\n" for key, text in headers.items())
    reader, _ = await connect(f"GET /api/v1/events HTTP/1.1\r\n{head}\r\n".encode())
    status, body = await answer_of(reader)
    assert (status, body["error"], body["field"]) == (400, "invalid_request", name)


@pytest.mark.gen_test
async def test_a_peer_that_disconnects_during_its_handshake_is_no_error(connect, hub, caplog):
    for _ in range(30):
        _, writer = await connect(
            b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + b"\x88\x80\0\0\0\0"
        )
        await asyncio.sleep(0.001)
        reset(writer)
    async with asyncio.timeout(5):
        while len(hub):
            await asyncio.sleep(0.01)
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.gen_test
async def test_what_a_peer_asked_before_it_went_is_not_worked_on(connect, http_server, caplog):
    caplog.set_level(logging.DEBUG, "vmsvc.access")
    _, writer = await connect()
    writer.transport.pause_reading()
    writer.write(ASK.replace(b"/healthz", b"/api/v1/openapi.json") * 1000)
    while not caplog.records:
        await asyncio.sleep(0.01)
    reset(writer)
    async with asyncio.timeout(5):
        while len(http_server):
            await asyncio.sleep(0.01)
    assert len([record for record in caplog.records if record.name == "vmsvc.access"]) < 500
