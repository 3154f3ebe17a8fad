"""What one client may ask of the cloud and the database, and what becomes of work whose client has gone."""

import asyncio
from dataclasses import replace

import pytest

from tests.api.standin import CLOUD_9
from vmsvc.domain.errors import TooManyRequests
from vmsvc.domain.principal import Principal
from vmsvc.web.api.evictions import EVICTION
from vmsvc.web.http import limits as module
from vmsvc.web.http.limits import Limits, client_of

VMS = "/api/v1/vm"
#: GETs behind which there is the cloud or the database.
COSTLY = (
    f"{VMS}/{CLOUD_9}",
    "/api/v1/capacity",
    "/api/v1/usage",
    "/api/v1/advice",
    "/api/v1/events?since=0",
    "/api/v1/evictions",
    "/api/v1/evictions/1",
)
FREE = (VMS, "/api/v1/catalog", "/healthz", "/readyz", "/metrics", "/api/v1/openapi.json")


class Endless:
    """Work that does not end by itself."""

    def __init__(self):
        self.asked, self.dropped = asyncio.Event(), asyncio.Event()

    async def work(self, *_args, **_kwargs):
        """Wait until this is cancelled. `asked` and `dropped` tell that it began and was cancelled."""
        self.asked.set()
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            self.dropped.set()
            raise


class TestReads:
    """Two reads, and then one in an hour."""

    @pytest.fixture(name="settings")
    def _settings(self, settings):
        return replace(settings, read_burst=2, read_rate=1 / 3600)

    @pytest.fixture(name="evictions")
    def _evictions(self, evictions):
        evictions.found = [EVICTION]
        return evictions

    @pytest.mark.gen_test
    @pytest.mark.parametrize("path", COSTLY)
    async def test_what_asks_the_cloud_or_the_database_has_a_budget(self, call, path, monkeypatch):
        monkeypatch.setattr(module, "MAX_DELAY", 0.05)
        statuses = [(await call("GET", path)).status for _ in range(4)]
        assert statuses[2:] == [429, 429] and 429 not in statuses[:2]
        for free in FREE:
            assert (await call("GET", free)).status == 200
        assert (await call("POST", VMS, json_body={"is_preemptible": True})).status == 201

    @pytest.mark.gen_test
    async def test_a_made_up_ticket_costs_its_address_a_read(self, call, app, monkeypatch):
        monkeypatch.setattr(module, "MAX_DELAY", 0.05)

        class Tickets:
            """Nobody's."""

            asked = 0

            async def redeem(self, _ticket):
                """Bad."""
                self.asked += 1
                raise TooManyRequests("a marker")

        tickets = Tickets()
        app.settings["dependencies"] = replace(app.dependencies, tickets=tickets)
        for _ in range(5):
            await call("GET", "/api/v1/events?ticket=x", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
        assert tickets.asked == 2


@pytest.mark.gen_test
async def test_a_read_whose_client_has_gone_is_stopped(app, http_server, http_port, service):
    """But for those of the history, at which PostgreSQL goes on: these stay in flight (test_history)."""
    del http_server
    slow = Endless()
    service.vm = slow.work
    _, writer = await asyncio.open_connection("127.0.0.1", http_port)
    writer.write(f"GET {VMS}/{CLOUD_9} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await slow.asked.wait()
    writer.close()
    await slow.dropped.wait()
    while app.dependencies.limits.in_flight:
        await asyncio.sleep(0.001)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path, name, found",
    [
        ("/api/v1/capacity", "capacity", {}),
        ("/api/v1/usage", "usage", {}),
        ("/api/v1/events?since=0", "events", ([], 0)),
    ],
)
async def test_work_that_goes_on_without_its_client_is_still_in_flight(
    app, http_server, http_port, service, path, name, found
):
    del http_server
    asked, end = asyncio.Event(), asyncio.Event()

    async def slow(*_args, **_kwargs):
        asked.set()
        await end.wait()
        return found

    setattr(service, name, slow)
    _, writer = await asyncio.open_connection("127.0.0.1", http_port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await asked.wait()
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.05)
    assert app.dependencies.limits.in_flight == 1
    end.set()
    while app.dependencies.limits.in_flight:
        await asyncio.sleep(0.001)


@pytest.mark.gen_test
async def test_who_is_refused_hears_it_in_turn_and_holds_no_place_meanwhile():
    now = [0.0]
    limits = Limits(10, rate=1, burst=1, read_rate=1, read_burst=1, clock=lambda: now[0])
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    real, asyncio.sleep = asyncio.sleep, sleep
    try:
        for _ in range(1000):
            await limits.delay_refusal("a")
        await limits.delay_refusal("b")
    finally:
        asyncio.sleep = real
    assert slept[:3] == pytest.approx([0.01, 0.02, 0.03])  # the first one did not wait
    assert max(slept) <= module.MAX_DELAY and len(slept) == 999, "another client does not stand in this row"
    assert limits.in_flight == limits.delayed_refusals == 0


@pytest.mark.parametrize(
    "principal, address, client",
    [
        (Principal("anonymous", True), "192.0.2.7", "from 192.0.2.7"),
        (None, "192.0.2.7", "from 192.0.2.7"),
        (None, "2001:db8:1:2:3:4:5:6", "from 2001:db8:1:2::/64"),
        (None, "2001:db8:1:2::", "from 2001:db8:1:2::/64"),
        (None, "@", "from elsewhere"),
        (Principal("alice", False, "digest"), "192.0.2.7", "alice"),
    ],
)
def test_whose_budget_it_is(principal, address, client):
    assert client_of(principal, address) == client
