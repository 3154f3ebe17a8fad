"""The live channel over real WebSockets: in order, each once, and a slow peer harms nobody but itself."""

import asyncio
import json
import socket
import struct

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from tests.api.standin import event
from vmsvc.web.channel import PAGE


@pytest.fixture
def url(http_server, http_port):
    del http_server
    return f"ws://127.0.0.1:{http_port}/api/v1/events"


@pytest.fixture
def commit(service, hub):
    """Commit events and publish them, as outbox and feed do."""
    def write(*seqs, **kwargs):
        for seq in seqs:
            service.log.append(event(seq, **kwargs))
            hub.publish(service.log[-1])
    return write


async def read(client, count):
    """The seqs of the next messages."""
    return [json.loads(await client.read_message())["data"]["seq"] for _ in range(count)]


async def until(condition):
    """Let the loop turn until something is so; the test's own time limit bounds it."""
    while not condition():
        await asyncio.sleep(0.001)


async def closed(client):
    """Read to the end; the code and reason of the close, and what came before."""
    seen = []
    while (message := await client.read_message()) is not None:
        seen.append(json.loads(message)["data"]["seq"])
    return client.close_code, client.close_reason, seen


@pytest.mark.gen_test
async def test_without_since_a_socket_gets_live_events_only(url, hub, commit):
    commit(1, 2)
    client = await websocket_connect(url)
    await until(lambda: len(hub) == 1)
    commit(3, 4)
    assert await read(client, 2) == [3, 4]
    client.close()


@pytest.mark.gen_test
async def test_with_since_it_gets_what_came_after_and_then_the_live_ones(url, hub, commit, service):
    commit(*range(1, 2 * PAGE + 51))
    client = await websocket_connect(f"{url}?since=30")
    await until(lambda: len(hub) == 1)
    assert await read(client, 2 * PAGE + 20) == list(range(31, 2 * PAGE + 51))
    commit(2 * PAGE + 51)
    assert await read(client, 1) == [2 * PAGE + 51]
    assert [call[2] for call in service.calls] == [PAGE, PAGE, PAGE]
    client.close()
