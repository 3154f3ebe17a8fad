"""Probes, metrics, capacity and limits."""

import asyncio
from dataclasses import replace

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from tests.api.standin import CLOUD_1, event
from vmsvc import __version__
from vmsvc.domain.errors import CloudUnavailable, TooManyRequests
from vmsvc.metrics import CloudMetrics
from vmsvc.web.app import make_app, make_metrics_app
from vmsvc.web.http.auth import TokenAuth
from vmsvc.web.http.limits import Limits

VMS = "/api/v1/vm"


@pytest.mark.gen_test
async def test_the_probes_answer_whatever_name_they_call_us_by(call):
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        answer = await call("GET", path, headers={"Host": "10.1.2.3:8888"})
        assert (answer.status, answer.json["status"]) == (200, status)


@pytest.mark.gen_test
async def test_healthz_names_the_release(call):
    assert (await call("GET", "/healthz")).json == {"status": "ok", "version": __version__}


@pytest.mark.gen_test
async def test_readiness_says_in_words_which_part_fails(call, service):
    service.parts = {"database": None, "cloud": "no answer since 12:00:03"}
    answer = await call("GET", "/readyz")
    assert answer.status == 503
    assert answer.json == {"status": "not ready", "parts": {"database": "ok", "cloud": "no answer since 12:00:03"}}
    assert (await call("GET", "/healthz")).status == 200


@pytest.mark.gen_test
async def test_capacity_is_the_services(call):
    answer = await call("GET", "/api/v1/capacity")
    assert (answer.status, answer.json["mode"]) == (200, "tenant")


@pytest.mark.gen_test
async def test_usage_is_of_the_last_six_hours_unless_others_are_asked_for(call, service):
    assert (await call("GET", "/api/v1/usage")).json["evictions"] == [0, 4]
    assert (await call("GET", "/api/v1/usage?hours=24")).status == 200
    assert service.calls == [("usage", 6), ("usage", 24)]
    for query in ("hours=0", "hours=169", "hours=x", "hour=1"):
        assert (await call("GET", f"/api/v1/usage?{query}")).status == 400


@pytest.mark.gen_test
async def test_advice_is_of_the_last_thirty_days_unless_others_are_asked_for(call, service):
    assert (await call("GET", "/api/v1/advice")).json["flavor"] == "m1.tiny"
    assert (await call("GET", "/api/v1/advice?flavor=m1.large&hours=24")).json["eviction_rate"]["too_few"] is True
    assert service.calls == [("advice", None, 720), ("advice", "m1.large", 24)]
    for query in ("hours=0", "hours=8761", "flavor=", "flavour=x", f"flavor={'x' * 256}"):
        assert (await call("GET", f"/api/v1/advice?{query}")).status == 400


@pytest.mark.gen_test
async def test_the_catalog_is_the_services_or_503_before_it_was_read(call, service):
    answer = await call("GET", "/api/v1/catalog")
    assert (answer.status, answer.json["defaults"]) == (200, {"flavor": "m1.tiny", "image": None, "network": "private"})
    service.error = CloudUnavailable("the cloud has not been read yet; try again in a moment")
    assert (await call("GET", "/api/v1/catalog")).status == 503


async def metrics(call):
    """name{labels} -> value, of all that /metrics shows."""
    answer = await call("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    lines = [line.rsplit(" ", 1) for line in answer.raw.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


@pytest.mark.gen_test
async def test_metrics_count_requests_by_route_and_never_by_path(call):
    await call("POST", VMS, json_body={"is_preemptible": True})
    for name in (CLOUD_1, "nobody", "nobody-else"):
        await call("GET", f"{VMS}/{name}")
    await call("GET", "/no/such/place")
    await call("BREW", VMS)
    seen = await metrics(call)
    counted = {name: value for name, value in seen.items() if name.startswith("vmsvc_http_requests_total")}
    assert counted == {
        'vmsvc_http_requests_total{method="POST",route="/api/v1/vm",status="201"}': 1,
        'vmsvc_http_requests_total{method="GET",route="/api/v1/vm/{id}",status="200"}': 1,
        'vmsvc_http_requests_total{method="GET",route="/api/v1/vm/{id}",status="404"}': 2,
        'vmsvc_http_requests_total{method="GET",route="unknown",status="404"}': 1,
        'vmsvc_http_requests_total{method="other",route="/api/v1/vm",status="405"}': 1,
    }
    assert seen['vmsvc_http_request_seconds_count{method="POST",route="/api/v1/vm"}'] == 1


@pytest.mark.gen_test
async def test_metrics_show_sockets_and_how_far_behind_events_are(call, hub, http_port):
    clients = [await websocket_connect(f"ws://127.0.0.1:{http_port}/api/v1/events") for _ in range(2)]
    await asyncio.gather(*(client.write_message("so that the upgrade is over") for client in clients))
    hub.publish([event(41)])
    for client in clients:
        await client.read_message()
    seen = await metrics(call)
    assert (seen["vmsvc_sockets"], seen["vmsvc_event_seq"]) == (2, 41)
    hub.close()
    for client in clients:
        assert await client.read_message() is None
        client.close()
    seen = await metrics(call)
    assert (seen["vmsvc_sockets"], seen['vmsvc_sockets_ended_total{code="1012"}']) == (0, 2)


@pytest.mark.gen_test
async def test_metrics_show_what_other_layers_have_in_the_registry(call, registry):
    cloud = CloudMetrics(registry)
    for outcome, seconds in (("ok", 0.02), ("ok", 0.3), ("no_capacity", 0.1)):
        cloud.observe_call("create server", outcome, seconds)
    seen = await metrics(call)
    assert seen['vmsvc_cloud_calls_total{operation="create server",outcome="ok"}'] == 2
    assert seen['vmsvc_cloud_calls_total{operation="create server",outcome="no_capacity"}'] == 1
    assert seen['vmsvc_cloud_call_seconds_bucket{le="0.1",operation="create server"}'] == 2
    assert seen['vmsvc_cloud_call_seconds_count{operation="create server"}'] == 3


class TestOnThePortOfTheMetrics:
    """A service that asks everybody for a token, at an address that strangers reach."""

    @pytest.fixture(name="settings")
    def _settings(self, settings):
        return replace(settings, address="0.0.0.0", hosts=frozenset({"vms.example"}))

    @pytest.fixture(name="app")
    def _app(self, service, evictions, hub, settings, registry):
        auth = TokenAuth(None)
        parts = {"evictions": evictions, "tickets": None, "webhooks": None}
        return make_metrics_app(make_app(service, hub, settings, auth, registry=registry, **parts), "0.0.0.0")

    @pytest.mark.gen_test
    async def test_everybody_who_can_connect_gets_metrics_and_probes_and_nothing_else(self, http_server, base_url):
        del http_server
        statuses = {}
        for path in ("/metrics", "/healthz", "/readyz", VMS, "/", "/api/v1/openapi.json", "/static/index.html"):
            wanted = HTTPRequest(base_url + path, headers={"Host": "10.1.2.3:9101"})
            statuses[path] = (await AsyncHTTPClient().fetch(wanted, raise_error=False)).code
        assert list(statuses.values()) == [200, 200, 200, 404, 404, 404, 404]


class TestWithTightLimits:
    """At most two requests in flight, and a client that may write twice and then once in an hour."""

    @pytest.fixture(name="settings")
    def _settings(self, settings):
        return replace(settings, max_in_flight=2, write_burst=2, write_rate=1 / 3600)

    @pytest.mark.gen_test
    async def test_a_client_that_writes_too_often_gets_retry_after(self, call):
        answers = [await call("POST", VMS, json_body={"is_preemptible": True}) for _ in range(3)]
        assert [answer.status for answer in answers] == [201, 201, 429]
        assert 3500 < int(answers[2].headers["Retry-After"]) <= 3600
        assert (await call("GET", VMS)).status == 200

    @pytest.mark.gen_test
    async def test_one_request_too_many_in_flight_is_429_until_another_is_answered(self, app, call, service):
        done = asyncio.Event()
        show = service.vms

        async def slow():
            await done.wait()
            return await show()

        service.vms = slow
        waiting = [asyncio.create_task(call("GET", VMS)) for _ in range(2)]
        while app.dependencies.limits.in_flight < 2:
            await asyncio.sleep(0.001)
        refused = await call("GET", "/api/v1/capacity")
        assert (refused.status, refused.json["error"]) == (429, "too_many_requests")
        assert (await call("GET", "/healthz")).status == 200
        done.set()
        assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200]
        assert (await call("GET", "/api/v1/capacity")).status == 200


@pytest.mark.gen_test
async def test_the_outcome_of_a_client_that_has_disconnected_is_not_waited_for(app, http_server, http_port, service):
    del http_server
    asked, dropped = asyncio.Event(), asyncio.Event()

    async def outcome(_vmsvc_id, _timeout):
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            dropped.set()

    service.outcome = outcome
    _, writer = await asyncio.open_connection("127.0.0.1", http_port)
    writer.write(
        b"POST /api/v1/vm HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 24\r\n\r\n" + b'{"is_preemptible": true}'
    )
    await asked.wait()
    assert app.dependencies.limits.in_flight == 1
    writer.close()
    await dropped.wait()
    while app.dependencies.limits.in_flight:
        await asyncio.sleep(0.001)
    await writer.wait_closed()


@pytest.mark.gen_test
@pytest.mark.parametrize("start", ["POST /api/v1/vm", "GET /api/v1/events"])
async def test_a_client_that_leaves_in_the_middle_of_its_body_holds_no_place(app, http_server, http_port, start):
    del http_server
    limits = app.dependencies.limits
    _, writer = await asyncio.open_connection("127.0.0.1", http_port)
    writer.write(start.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    while not limits.in_flight:
        await asyncio.sleep(0)
    writer.close()
    await writer.wait_closed()
    while limits.in_flight or any(task.get_coro().__name__ == "_execute" for task in asyncio.all_tasks()):
        await asyncio.sleep(0.001)


def test_a_bucket_fills_at_its_rate_and_never_above_its_size():
    now = [0.0]
    limits = Limits(10, rate=2, burst=3, clock=lambda: now[0])

    def spent():
        count = 0
        while True:
            try:
                limits.spend_write("a")
            except TooManyRequests as error:
                return count, error.retry_after
            count += 1

    assert spent() == (3, 0.5)
    now[0] += 1
    assert spent() == (2, 0.5)
    now[0] += 3600
    assert spent() == (3, 0.5)
    limits.spend_write("b")
