"""The live channel over real WebSockets: in order, each once, and a slow peer harms nobody but itself."""

import asyncio
import json
import socket
import struct
from dataclasses import replace

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.api.standin import UPGRADE, event
from vmsvc.domain.errors import CloudUnavailable
from vmsvc.service.events.hub import Hub
from vmsvc.web.channel.frames import text_frame
from vmsvc.web.channel.handlers import PAGE
from vmsvc.web.http.limits import MAX_SOCKET_READERS


@pytest.fixture(name="url")
def _url(http_server, http_port):
    del http_server
    return f"ws://127.0.0.1:{http_port}/api/v1/events"


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
    client.close()
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
async def test_with_since_it_gets_what_came_after_and_then_the_live_ones(url, commit, service):
    commit(*range(1, 2 * PAGE + 51))
    client = await websocket_connect(f"{url}?since=30")
    assert await read(client, 2 * PAGE + 20) == list(range(31, 2 * PAGE + 51))
    commit(2 * PAGE + 51)
    assert await read(client, 1) == [2 * PAGE + 51]
    assert not service.calls, "what the hub remembers is not read from the database"
    client.close()


@pytest.mark.gen_test
async def test_a_since_that_is_still_to_come_gets_what_comes_after_it(url, hub, commit):
    """A client that was told of an event by one replica may come to another that has not heard of it yet."""
    commit(1, 2)
    client = await websocket_connect(f"{url}?since=4")
    await until(lambda: len(hub) == 1)
    commit(3, 4, 5)
    commit(6)
    assert await read(client, 2) == [5, 6]
    client.close()


@pytest.mark.gen_test(timeout=20)
async def test_all_clients_that_come_back_at_once_are_served_from_memory(url, commit, service):
    commit(*range(1, 301))

    async def come_back(since):
        client = await websocket_connect(f"{url}?since={since}")
        seen = await read(client, 301 - since)
        client.close()
        return seen == list(range(since + 1, 302))

    comers = [asyncio.ensure_future(come_back(50 + number)) for number in range(60)]
    await asyncio.sleep(0.02)
    commit(301)
    assert all(await asyncio.gather(*comers))
    assert not service.calls


class TestForgetful:
    """A hub that remembers nothing: history comes from the database."""

    @pytest.fixture(name="hub")
    def _hub(self):
        return Hub(text_frame, recent=0)

    @pytest.mark.gen_test
    async def test_what_memory_does_not_have_is_read_page_by_page(self, url, commit, service):
        commit(*range(1, 2 * PAGE + 51))
        client = await websocket_connect(f"{url}?since=30&type=create")
        assert await read(client, 2 * PAGE + 20) == list(range(31, 2 * PAGE + 51))
        commit(2 * PAGE + 51)
        assert await read(client, 1) == [2 * PAGE + 51]
        assert [call[1:3] for call in service.calls] == [(30, PAGE), (30 + PAGE, PAGE), (30 + 2 * PAGE, PAGE)]
        client.close()

    @pytest.mark.gen_test
    async def test_events_that_come_while_the_history_is_read_are_neither_lost_nor_doubled(self, url, commit, service):
        last = 600
        read_events = service.events

        async def slow_read(**kwargs):
            await asyncio.sleep(0)  # some come between the subscription and the reading,
            page = await read_events(**kwargs)
            await asyncio.sleep(0.002)  # and some after the reading, before it is sent
            return page

        async def keep_committing():
            for seq in range(1, last + 1):
                commit(seq)
                await asyncio.sleep(0.0005)

        async def follow(since):
            client = await websocket_connect(f"{url}?since={since}")
            seen = await read(client, last - since)
            client.close()
            return seen == list(range(since + 1, last + 1))

        service.events = slow_read
        committer = asyncio.create_task(keep_committing())
        followers = []
        for since in (0, 50, 100, 200, 300, 400):
            await until(lambda since=since: len(service.log) >= since + 30)
            followers.append(asyncio.create_task(follow(since)))
        assert all(await asyncio.gather(*followers))
        await committer

    @pytest.mark.gen_test
    async def test_an_event_that_is_in_the_history_and_comes_live_too_is_sent_once(self, url, hub, commit, service):
        read_events = service.events

        async def read_while_others_commit(**kwargs):
            service.events = read_events
            commit(3)  # published before the reading sees it,
            service.log.append(event(4))  # seen before it is published,
            page = await read_events(**kwargs)
            hub.publish([event(4)])
            commit(5)  # and one that the reading missed
            return page

        commit(1, 2)
        service.events = read_while_others_commit
        client = await websocket_connect(f"{url}?since=0")
        assert await read(client, 5) == [1, 2, 3, 4, 5]
        commit(6)
        assert await read(client, 1) == [6]
        client.close()

    @pytest.mark.gen_test
    async def test_a_history_that_grows_while_it_is_read_is_followed_to_its_end(self, url, commit, service):
        read_events, extra = service.events, iter([range(3, 13), range(13, 23), ()])

        async def read_while_others_commit(**kwargs):
            page = await read_events(**kwargs)
            commit(*next(extra))
            return page

        commit(1, 2)
        service.events = read_while_others_commit
        client = await websocket_connect(f"{url}?since=0")
        assert await read(client, 22) == list(range(1, 23))
        commit(23)
        assert await read(client, 1) == [23]
        client.close()

    @pytest.mark.gen_test
    async def test_a_since_older_than_the_history_is_closed_with_4009(self, url, hub, commit, service):
        commit(*range(1, 11))
        service.kept_from = 6
        code, reason, seen = await closed(await websocket_connect(f"{url}?since=4"))
        assert (code, reason, seen) == (4009, "history gone: reload the list", [])
        client = await websocket_connect(f"{url}?since=5")
        assert await read(client, 5) == [6, 7, 8, 9, 10]
        client.close()
        await until(lambda: len(hub) == 0)

    @pytest.mark.gen_test
    async def test_a_history_that_cannot_be_read_asks_the_client_to_come_back(self, url, commit, service):
        commit(1, 2)
        service.error = CloudUnavailable("the database does not answer")
        code, _, _ = await closed(await websocket_connect(f"{url}?since=1"))
        assert code == 1013

    @pytest.mark.gen_test
    async def test_a_storm_of_readers_reads_a_few_at_a_time(self, url, commit, service):
        read_events, reading, most = service.events, set(), []

        async def slow_read(**kwargs):
            reading.add(token := object())
            most.append(len(reading))
            await asyncio.sleep(0.001)
            reading.remove(token)
            return await read_events(**kwargs)

        commit(*range(1, 11))
        service.events = slow_read
        clients = await asyncio.gather(*(websocket_connect(f"{url}?since=0") for _ in range(40)))
        for client in clients:
            assert await read(client, 10) == list(range(1, 11))
            client.close()
        assert max(most) == MAX_SOCKET_READERS


class TestSmallQueues:
    """Sockets that may lag behind by 100 kB."""

    @pytest.fixture(name="settings")
    def _settings(self, settings):
        return replace(settings, max_queue=100_000)

    @pytest.mark.gen_test
    async def test_a_peer_that_stops_reading_is_closed_with_4008_and_delays_nobody(self, url, hub, commit, http_port):
        fast = await websocket_connect(url)
        slow = await stalling_client(http_port)
        await until(lambda: len(hub) == 2)
        seq = 0
        while len(hub) == 2:
            seq += 1
            commit(seq, padding="x" * 20_000)
            assert await read(fast, 1) == [seq]
        frames = await all_frames(slow)
        assert frames[-1] == (8, struct.pack("!H", 4008) + b"reconnect with since")
        seen = [json.loads(text)["data"]["seq"] for opcode, text in frames[:-1] if opcode == 1]
        assert seen == list(range(1, len(seen) + 1)) and len(seen) < seq
        fast.close()


class TestPause:
    """Peers that stop reading for a while."""

    @pytest.fixture(name="settings")
    def _settings(self, settings):
        return replace(settings, max_queue=50_000_000)

    @pytest.mark.gen_test(timeout=20)
    async def test_a_peer_that_pauses_gets_all_of_it_later_whole_and_in_order(self, http_server, commit, http_port):
        del http_server
        reader, writer = await stalling_client(http_port)
        last = 400
        for seq in range(1, last + 1):
            commit(seq, padding="x" * (seq * 50))
            if seq % 4 == 0:
                await asyncio.sleep(0.0005)
            if seq == 200:
                writer.write(b"\x89\x80\0\0\0\0")  # a ping: Tornado's answer goes where the queue is
        seen, pongs = [], 0
        while len(seen) < last or not pongs:
            opcode, payload = await next_frame(reader)
            if opcode == 10:
                pongs += 1
            else:
                seen.append(json.loads(payload)["data"]["seq"])
        assert seen == list(range(1, last + 1)) and pongs == 1
        writer.close()


async def stalling_client(port):
    """A socket that is upgraded and then read only when asked to."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    writer.write(
        b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def all_frames(client):
    """(opcode, payload) of every frame up to the close."""
    reader, writer = client
    frames = []
    while not frames or frames[-1][0] != 8:
        frames.append(await next_frame(reader))
    writer.close()
    return frames


async def next_frame(reader):
    """(opcode, payload)."""
    head, length = await reader.readexactly(2)
    if length == 126:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", await reader.readexactly(8))
    return head & 15, await reader.readexactly(length)


@pytest.mark.gen_test
async def test_when_the_service_stops_every_socket_is_closed_with_its_code(url, hub, commit):
    clients = [await websocket_connect(url) for _ in range(3)]
    await until(lambda: len(hub) == 3)
    commit(1)
    assert [await read(client, 1) for client in clients] == [[1]] * 3
    hub.close()
    assert [(await closed(client))[0] for client in clients] == [1012] * 3
    assert len(hub) == 0


@pytest.mark.gen_test
async def test_two_views_get_what_each_asked_for(url, hub, commit):
    commit(1, kind="evict", vm="a")
    commit(2, kind="create", vm="a")
    evictions = await websocket_connect(f"{url}?since=0&type=evict,delete")
    one_vm = await websocket_connect(f"{url}?since=0&vm=own-b&type=create&type=delete")
    await until(lambda: len(hub) == 2)
    commit(3, kind="create", vm="b")
    commit(4, kind="evict", vm="b")
    commit(5, kind="delete", vm="b")
    assert await read(evictions, 3) == [1, 4, 5]
    assert await read(one_vm, 2) == [3, 5]
    evictions.close()
    one_vm.close()


@pytest.mark.gen_test
async def test_who_asks_for_preemptible_vms_or_for_standard_ones_hears_of_those_alone(url, call, hub, commit):
    for seq in (1, 2, 3, 4):
        commit(seq, preemptible=seq % 2 == 0)
    clients = [await websocket_connect(f"{url}?since=0&preemptible={word}") for word in ("true", "false")]
    await until(lambda: len(hub) == 2)
    for seq in (5, 6):
        commit(seq, preemptible=seq % 2 == 0)
    assert [await read(client, 3) for client in clients] == [[2, 4, 6], [1, 3, 5]]
    page = (await call("GET", "/api/v1/events?preemptible=true")).json
    assert [one["data"]["seq"] for one in page["events"]] == [2, 4, 6]
    for client in clients:
        client.close()


@pytest.mark.gen_test
async def test_a_client_that_leaves_is_forgotten(url, hub):
    client = await websocket_connect(url)
    await until(lambda: len(hub) == 1)
    client.close()
    await until(lambda: len(hub) == 0)


@pytest.mark.gen_test
async def test_what_a_client_says_is_dropped(url, hub, commit):
    client = await websocket_connect(url)
    await client.write_message("hello")
    await until(lambda: len(hub) == 1)
    commit(1)
    assert await read(client, 1) == [1]
    client.close()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "sent",
    [
        b"\x81\x05hello",
        b"\x82\x00",
        b"\x01\x02he",
        b"\x89\x02hi",
        b"\x8a\x00",
        b"\x81\x7e\x01\x00" + 256 * b"x",
        b"\x81\x85\0\0\0\0hello\x81\x05hello",
        b"\x01\x82\0\0\0\0he\x80\x03llo",
    ],
)
async def test_a_frame_without_a_mask_ends_the_socket(http_server, hub, http_port, sent):
    del http_server
    reader, writer = await stalling_client(http_port)
    await until(lambda: len(hub) == 1)
    writer.write(sent)
    *_, last = await all_frames((reader, writer))
    assert last == (8, struct.pack("!H", 1002) + b"a client masks its frames")
    assert await reader.read() == b""
    await until(lambda: len(hub) == 0)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "query, field",
    [
        ("since=-1", "since"),
        ("since=x", "since"),
        ("since=", "since"),
        ("since=1&since=2", "since"),
        ("since=9223372036854775808", "since"),
        ("type=creates", "type"),
        ("type=", "type"),
        ("vm=%00", "vm"),
        ("vm=a/b", "vm"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("sinc=1", "sinc"),
        ("preemptible=1", "preemptible"),
        ("preemptible=", "preemptible"),
        ("preemptible=True", "preemptible"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused_before_the_upgrade(call, service, query, field):
    for headers in ({}, UPGRADE):
        answer = await call("GET", f"/api/v1/events?{query}", headers=headers)
        assert (answer.status, answer.json["error"], answer.json["field"]) == (400, "invalid_request", field)
    assert not service.calls


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_the_page_of_another_site_gets_no_socket(call, hub, headers):
    answer = await call("GET", "/api/v1/events", headers=UPGRADE | headers)
    assert (answer.status, answer.json["error"]) == (403, "forbidden")
    assert len(hub) == 0


@pytest.mark.gen_test
async def test_our_own_page_gets_a_socket(url, http_port):
    client = await websocket_connect(HTTPRequest(url, headers={"Origin": f"http://127.0.0.1:{http_port}"}))
    client.close()


@pytest.mark.gen_test
async def test_of_the_subprotocols_the_name_is_chosen_and_never_the_token(url):
    client = await websocket_connect(url, subprotocols=["vmsvc", "bearer.c2VjcmV0"])
    assert client.selected_subprotocol == "vmsvc"
    client.close()


@pytest.mark.gen_test
async def test_a_service_that_stops_takes_no_more_sockets(call, hub):
    hub.close()
    answer = await call("GET", "/api/v1/events", headers=UPGRADE)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


class TestFewSockets:
    """A service with places for two sockets, that asks every 50 ms whether they are alive."""

    @pytest.fixture(name="settings")
    def _settings(self, settings):
        return replace(settings, max_sockets=2, ping_interval=0.05)

    @pytest.mark.gen_test
    async def test_one_socket_too_many_is_429_and_leaves_the_others_alone(self, url, call, hub, commit):
        clients = [await websocket_connect(url) for _ in range(2)]
        await until(lambda: len(hub) == 2)
        answer = await call("GET", "/api/v1/events", headers=UPGRADE)
        assert (answer.status, answer.json["error"]) == (429, "too_many_requests")
        commit(1)
        assert [await read(client, 1) for client in clients] == [[1], [1]]
        for client in clients:
            client.close()

    @pytest.mark.gen_test
    async def test_a_peer_that_answers_no_ping_is_closed(self, http_server, hub, http_port):
        del http_server
        client = await stalling_client(http_port)
        assert len(hub) == 1
        frames = await all_frames(client)
        assert [opcode for opcode, _ in frames] == [9, 8]
        assert frames[-1] == (8, struct.pack("!H", 4008) + b"reconnect with since")
        await until(lambda: len(hub) == 0)

    @pytest.mark.gen_test
    async def test_a_peer_that_answers_pings_stays(self, url, hub, commit):
        client = await websocket_connect(url)
        await asyncio.sleep(0.2)
        commit(1)
        assert await read(client, 1) == [1]
        assert len(hub) == 1
        client.close()
