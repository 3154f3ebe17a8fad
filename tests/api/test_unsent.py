"""Peers that do not read their answers: what these hold, and what gives way."""

import asyncio
import contextlib
import socket
import tracemalloc
from dataclasses import replace

import pytest

from vmsvc.web.http.settings import MAX_CONNECTIONS

VMS, DOCUMENT = "/api/v1/vm", "/api/v1/openapi.json"
SIZE = 3_200_000


@pytest.fixture(name="service")
def _service(service):
    service.vm_rows = {"one": {"id": "one", "name": "x" * SIZE, "links": []}}
    return service


@pytest.fixture(name="settings")
def _settings(settings):
    return replace(settings, max_unsent=8_000_000)


@pytest.fixture(name="deaf")
def _deaf(request, http_server, http_port):
    """`await deaf(number, path)`: so many peers that ask and do not read."""
    del http_server
    peers = []

    async def ask(number, path=VMS, extra=""):
        for _ in range(number):
            peer = socket.socket()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.setblocking(False)
            peers.append(peer)
            await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", http_port))
            await asyncio.get_running_loop().sock_sendall(
                peer, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode()
            )
        await asyncio.sleep(0.3)
        return peers[-number:]

    def close():
        for peer in peers:
            peer.close()

    request.addfinalizer(close)
    return ask


@pytest.mark.gen_test
async def test_the_list_is_one_piece_of_memory_for_all_who_do_not_read_it(app, service, deaf):
    page = service.page()
    service.page = lambda: page
    await deaf(1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await deaf(60)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 8_000_000, f"{grown / 1e6:.0f} MB"
    unsent = app.dependencies.unsent
    assert (len(unsent), unsent.size, unsent.closed_connections) == (61, len(page.body), 0)


@pytest.mark.gen_test
async def test_a_request_is_in_flight_until_its_answer_has_left(app, deaf):
    peers = await deaf(3)
    assert app.dependencies.limits.in_flight == 3
    peers[0].close()
    while app.dependencies.limits.in_flight > 2:
        await asyncio.sleep(0.01)
    size = 0
    while app.dependencies.limits.in_flight > 1:
        with contextlib.suppress(BlockingIOError):
            size += len(peers[1].recv(1 << 20))
        await asyncio.sleep(0)
    assert size > SIZE / 4


@pytest.mark.gen_test
async def test_unread_responses_are_dropped_and_clients_that_read_are_served(app, service, deaf, call):
    for number in range(12):
        service.vm_rows["one"]["name"] = f"{number}" + "x" * SIZE  # each has a list of his own
        await deaf(1)
    unsent = app.dependencies.unsent
    assert unsent.size <= 8_000_000 and unsent.closed_connections == 10
    assert (await call("GET", VMS)).status == 200
    assert len(unsent) <= 2 < MAX_CONNECTIONS


@pytest.mark.gen_test
async def test_nothing_is_left_when_the_peers_have_gone(app, deaf):
    for peer in await deaf(5) + await deaf(5, DOCUMENT):
        peer.close()
    async with asyncio.timeout(5):
        while app.dependencies.unsent.size or app.dependencies.limits.in_flight:
            await asyncio.sleep(0.01)
