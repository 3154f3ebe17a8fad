"""Server-Sent Events over real HTTP: in order, each once, from the position that the client returns with."""

import asyncio
import json
import socket
from dataclasses import replace

import pytest

from tests.api.contract import check_event
from vmsvc.domain.errors import CloudUnavailable, Unauthenticated
from vmsvc.domain.principal import Principal
from vmsvc.service.events.hub import Hub
from vmsvc.web.app import make_app
from vmsvc.web.channel.frames import text_frame
from vmsvc.web.channel.subscription import PAGE
from vmsvc.web.http.auth import NoAuth

PATH = "/api/v1/events"


class Stream:
    """A client that reads the bytes themselves."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.status, self.headers = 0, {}

    @classmethod
    async def open(cls, port, query="", *, version="1.1", buffer=None, **headers):
        """Ask for a stream; keyword arguments are headers, with underscores for hyphens."""
        sock = socket.socket()
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=buffer or 2**16)
        stream = cls(reader, writer)
        lines = [f"GET {PATH}{query} HTTP/{version}", f"Host: 127.0.0.1:{port}", "Accept: text/event-stream"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        stream.status = int((await reader.readline()).split()[1])
        while line := (await reader.readline()).decode().strip():
            name, _, value = line.partition(": ")
            stream.headers[name] = value
        return stream

    async def block(self):
        """The fields of the next block; {} at the end."""
        fields = {}
        while line := (await self.reader.readline()).decode():
            if line == "\n":
                return fields
            name, _, value = line.rstrip("\n").partition(":")
            fields[name or "comment"] = value.removeprefix(" ")
        return {}

    async def events(self, count):
        """The seqs of the next events; blocks without data fire none."""
        seqs = []
        while len(seqs) < count:
            block = await self.block()
            assert block, "the stream has ended"
            if "data" in block:
                body = json.loads(block["data"])
                assert block["id"] == body["id"]
                check_event(body)
                seqs.append(body["data"]["seq"])
        return seqs

    async def refusal(self):
        """The whole body of an answer that is an error, as JSON."""
        return json.loads(await self.reader.readexactly(int(self.headers["Content-Length"])))

    def close(self):
        self.writer.close()


@pytest.fixture(name="listen")
def _listen(http_server, http_port, io_loop):
    """`stream = await listen(query, Header=value)`; all are closed in the end."""
    del http_server
    opened = []

    async def open_stream(query="", **options):
        opened.append(await Stream.open(http_port, query, **options))
        return opened[-1]

    async def close():
        for stream in opened:
            stream.close()
        await asyncio.sleep(0)

    yield open_stream
    io_loop.run_sync(close)


async def until(condition):
    """Let the loop turn until something is so; the test's own time limit bounds it."""
    while not condition():
        await asyncio.sleep(0.001)


@pytest.mark.gen_test
async def test_without_a_position_it_gets_live_events_only_and_learns_where_it_is(listen, hub, commit):
    commit(1, 2)
    stream = await listen()
    assert stream.status == 200 and stream.headers["Content-Type"] == "text/event-stream"
    assert (stream.headers["Cache-Control"], stream.headers["X-Accel-Buffering"]) == ("no-store, no-transform", "no")
    assert await stream.block() == {"retry": "1000", "id": "2"}
    await until(lambda: hub.delivered_seq == 2)
    commit(3, 4)
    assert await stream.events(2) == [3, 4]
    stream.close()
    await until(lambda: len(hub) == 0)


@pytest.mark.gen_test
async def test_it_begins_after_since_and_a_reconnect_after_the_last_event(listen, hub, commit, service):
    commit(*range(1, 2 * PAGE + 51))
    first = await listen("?since=30")
    assert await first.events(50) == list(range(31, 81))
    first.close()
    # `EventSource` asks with the same address again.
    again = await listen("?since=30", Last_Event_ID="80")
    assert await again.events(2 * PAGE - 30) == list(range(81, 2 * PAGE + 51))
    commit(2 * PAGE + 51)
    assert await again.events(1) == [2 * PAGE + 51]
    assert not service.calls, "what the hub remembers is not read from the database"
    again.close()
    await until(lambda: len(hub) == 0)


@pytest.mark.gen_test
async def test_it_has_the_filters_of_the_socket(listen, commit):
    wanted = {"kind": "evict", "vm": "vm-7", "preemptible": True}
    streams = [await listen(f"?since=0&{query}") for query in ("type=evict", "vm=own-vm-7", "preemptible=true")]
    commit(1, preemptible=False)
    commit(2, **wanted)
    commit(3, preemptible=False)
    commit(4, **wanted)
    for stream in streams:
        assert await stream.events(2) == [2, 4]
        stream.close()


@pytest.mark.gen_test
async def test_a_proxy_that_speaks_http_1_0_gets_the_same_bytes(listen, commit):
    stream = await listen("?since=0", version="1.0")
    commit(1, 2)
    assert await stream.events(2) == [1, 2]


@pytest.mark.gen_test
async def test_a_position_that_is_no_seq_is_refused(listen):
    for text in ("abc", "-1", "1.5", str(2**63)):
        stream = await listen(Last_Event_ID=text)
        assert stream.status == 400
        assert (await stream.refusal())["field"] == "Last-Event-ID"
        stream.close()


@pytest.mark.gen_test
async def test_the_stopping_service_ends_the_stream(listen, hub, commit):
    stream = await listen("?since=0")
    commit(1)
    assert await stream.events(1) == [1]
    hub.close()
    assert await stream.block() == {}
    stream = await listen()
    assert stream.status == 503


@pytest.mark.gen_test
async def test_no_more_streams_and_sockets_are_open_than_allowed(app, listen):
    object.__setattr__(app.dependencies.settings, "max_sockets", 1)
    assert [(await listen()).status for _ in range(2)] == [200, 429]


class TestForgetful:
    """A hub that remembers nothing: history comes from the database."""

    @pytest.fixture(name="hub")
    def _hub(self):
        return Hub(text_frame, recent=0)

    @pytest.mark.gen_test
    async def test_what_memory_does_not_have_is_read_page_by_page(self, listen, commit):
        commit(*range(1, 2 * PAGE + 51))
        stream = await listen("?since=30&type=create")
        assert await stream.events(2 * PAGE + 20) == list(range(31, 2 * PAGE + 51))
        commit(2 * PAGE + 51)
        assert await stream.events(1) == [2 * PAGE + 51]
        stream.close()

    @pytest.mark.gen_test
    async def test_a_position_older_than_the_history_is_410(self, listen, commit, service):
        commit(*range(1, 11))
        service.kept_from = 6
        for query, headers in (("?since=4", {}), ("?since=9", {"Last_Event_ID": "4"})):
            stream = await listen(query, **headers)
            assert (stream.status, (await stream.refusal())["error"]) == (410, "history_gone")
        stream = await listen("?since=5")
        assert await stream.events(5) == [6, 7, 8, 9, 10]
        stream.close()

    @pytest.mark.gen_test
    async def test_a_history_that_cannot_be_read_is_503(self, listen, commit, service):
        commit(1, 2)
        service.error = CloudUnavailable("the database does not answer")
        assert (await listen("?since=1")).status == 503


class TestQuick:
    """Heartbeats come quickly, and few bytes may wait."""

    @pytest.fixture(name="settings")
    def _settings(self, settings):
        return replace(settings, stream_heartbeat=0.05, max_queue=100_000)

    @pytest.mark.gen_test
    async def test_a_heartbeat_moves_the_position_of_a_client_whose_filter_admits_nothing(self, listen, commit):
        stream = await listen("?type=delete")
        assert await stream.block() == {"retry": "1000", "id": "0"}
        commit(1, 2, 3)
        while (block := await stream.block())["id"] != "3":
            assert block == {"comment": "", "id": "0"}
        stream.close()

    @pytest.mark.gen_test
    async def test_a_heartbeat_never_moves_the_position_back(self, listen, commit):
        """A client that another replica served may know of events that this one has not heard of yet."""
        commit(1, 2)
        stream = await listen("?since=5")
        assert [(await stream.block())["id"] for _ in range(3)] == ["5"] * 3
        stream.close()

    @pytest.mark.gen_test
    async def test_a_peer_that_stops_reading_is_ended_and_delays_nobody(self, listen, hub, commit, registry):
        slow = await listen(buffer=4096)
        fast = await listen()
        seq = 0
        while len(hub) == 2:
            seq += 1
            commit(seq, padding="x" * 20_000)
            assert await fast.events(1) == [seq]
        assert registry.get_sample_value("vmsvc_sockets_ended_total", {"code": "4008"}) == 1
        slow.close()
        fast.close()

    @pytest.mark.gen_test
    async def test_a_peer_that_takes_nothing_for_a_heartbeat_is_ended(self, listen, hub, commit):
        slow = await listen(buffer=4096)
        for seq in range(1, 1000):
            if len(hub) == 0:
                break
            commit(seq, padding="x" * 5_000)
            await asyncio.sleep(0.01 if seq > 60 else 0)
        assert len(hub) == 0
        slow.close()


class TestLostAccess:
    """The principal loses its access while it listens."""

    @pytest.fixture(name="auth")
    def _auth(self):
        class Auth(NoAuth):
            """A client whose token may be lost."""

            lasting = False
            lost = False

            async def principal(self, request):
                del request
                return Principal("ann", False, "digest")

            async def recheck(self, principal, seconds):
                if self.lost:
                    raise Unauthenticated("this token is not known here")

        return Auth()

    @pytest.fixture(name="app")
    def _app(self, service, evictions, hub, settings, registry, auth):
        settings = replace(settings, stream_heartbeat=0.02)
        return make_app(
            service, hub, settings, auth, evictions=evictions, tickets=None, webhooks=None, registry=registry
        )

    @pytest.mark.gen_test
    async def test_its_stream_ends(self, listen, hub, auth, registry):
        stream = await listen()
        await stream.block()
        await stream.block()
        auth.lost = True
        while await stream.block():
            pass
        assert len(hub) == 0
        assert registry.get_sample_value("vmsvc_sockets_ended_total", {"code": "4001"}) == 1
