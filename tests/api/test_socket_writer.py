"""The writer of one socket: nothing overtakes, no frame is torn, whoever else writes to the stream."""

import asyncio
import contextlib
import socket

import pytest
from tornado.iostream import IOStream
from tornado.websocket import websocket_connect

from vmsvc.web.channel.socket_writer import SocketWriter

BOUND = 1_000_000
#: What Tornado says itself, and what we send.
THEIRS, OURS = b"c" * 100, b"e" * 50


class Wire:
    """Both ends of a connection; `ends` is why the writer ended the subscription."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.peer = socket.create_connection(listening.getsockname())
            taken, _ = listening.accept()
        self.peer.setblocking(False)
        self.stream, self.ends = IOStream(taken), []
        self.writer = SocketWriter(self.stream, BOUND, self.ends.append)

    def fill(self):
        """Whatever the kernel takes; how much that was."""
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += self.stream.socket.send(b"." * 65536)
        return sent

    def taken(self, count):
        """What the peer has, at most so many bytes; the loop does not turn meanwhile."""
        got = b""
        with contextlib.suppress(BlockingIOError):
            while len(got) < count:
                got += self.peer.recv(count - len(got))
        return got

    async def rest(self, count):
        """So many bytes."""
        got = b""
        while len(got) < count:
            got += await asyncio.get_running_loop().sock_recv(self.peer, 1 << 20)
        return got

    async def close(self):
        """Both ends."""
        self.stream.close()
        self.peer.close()


@pytest.fixture(name="wire")
def _wire(io_loop):
    async def made():
        return Wire()

    wire = io_loop.run_sync(made)
    yield wire
    io_loop.run_sync(wire.close)


@pytest.mark.gen_test
async def test_what_other_code_could_not_write_whole_is_sent_first(wire):
    filled = wire.fill()
    wire.stream.write(THEIRS)
    wire.writer.wait_for_stream()
    assert wire.stream.writing()
    early = wire.taken(filled)  # there is room now, and the stream does not know it yet
    wire.writer.send(OURS)
    got = early + await wire.rest(filled + len(THEIRS + OURS) - len(early))
    assert got[filled:] == THEIRS + OURS
    await wire.writer.drained()
    wire.writer.send(OURS)
    assert await wire.rest(len(OURS)) == OURS and not wire.ends


@pytest.mark.gen_test
async def test_what_the_stream_has_already_when_the_writer_begins_is_sent_first(wire):
    filled = wire.fill()
    wire.stream.write(THEIRS)  # the answer to the handshake
    writer = SocketWriter(wire.stream, BOUND, wire.ends.append)
    early = wire.taken(filled)
    writer.send(OURS)
    got = early + await wire.rest(filled + len(THEIRS + OURS) - len(early))
    assert got[filled:] == THEIRS + OURS


@pytest.mark.gen_test
async def test_what_other_code_writes_after_the_writer_keeps_its_order(wire):
    filled = wire.fill()
    for _ in range(3):
        wire.writer.send(OURS)
        wire.stream.write(THEIRS)
        wire.writer.wait_for_stream()
    early = wire.taken(filled)
    wire.writer.send(OURS)
    whole = filled + 4 * len(OURS) + 3 * len(THEIRS)
    got = (early + await wire.rest(whole - len(early)))[filled:]
    # Theirs is in the stream at once, ours may wait in our queue: but each is whole, and ours are all there.
    assert got.startswith(OURS) and got.replace(THEIRS, b"") == 4 * OURS


@pytest.mark.gen_test
async def test_a_write_that_the_kernel_takes_delays_no_other(wire):
    wire.stream.write(THEIRS)
    wire.writer.wait_for_stream()
    wire.writer.send(OURS)
    assert await wire.rest(len(THEIRS + OURS)) == THEIRS + OURS


@pytest.mark.gen_test
async def test_what_waits_behind_other_code_s_bytes_is_bounded_too(wire):
    wire.fill()
    wire.stream.write(THEIRS)
    wire.writer.wait_for_stream()
    for _ in range(BOUND // len(OURS)):
        wire.writer.send(OURS)
    assert not wire.ends
    wire.writer.send(OURS)
    assert len(wire.ends) == 1


@pytest.mark.gen_test
async def test_all_that_tornado_says_itself_gives_notice(http_server, http_port, hub, monkeypatch):
    del http_server
    calls = []
    monkeypatch.setattr(SocketWriter, "wait_for_stream", lambda writer: calls.append(writer))  # pylint: disable=W0108
    client = await websocket_connect(f"ws://127.0.0.1:{http_port}/api/v1/events")
    while not hub:
        await asyncio.sleep(0.001)
    client.ping(b"who is there")
    while len(calls) < 1:
        await asyncio.sleep(0.001)
    client.close()
    while len(calls) < 2:
        await asyncio.sleep(0.001)
