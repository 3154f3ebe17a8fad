"""The wire between the service and its cloud fails: exactly one server comes of one request, and nothing is left."""

import asyncio

import pytest

from tests.system.marks import EITHER

POST = {"method": "POST", "path": "/servers$"}


@EITHER
@pytest.mark.parametrize("action", ["cut_after", "cut_body", "half_json", "html", "status_after"])
@pytest.mark.gen_test(timeout=30)
async def test_a_create_whose_answer_is_spoiled_makes_exactly_one_server(client, sim, action):
    sim.fault(action=action, count=1, **POST, **({"status": 502} if action == "status_after" else {}))
    created = await client.create(False)
    assert created.status == 201, created.json
    assert list(sim.servers()) == [created.id]
    assert len(sim.calls(**POST)) == 1


@pytest.mark.parametrize("options", [{"cloud_timeout": 0.5}], ids=["timeout0.5"])
@pytest.mark.gen_test(timeout=30)
async def test_a_create_that_times_out_after_taking_effect_makes_exactly_one_server(client, sim):
    sim.fault(action="hang_after", count=1, **POST)
    created = await client.create(False)
    assert created.status == 201
    assert list(sim.servers()) == [created.id]
    assert len(sim.calls(**POST)) == 1
    sim.clear_faults()


@EITHER
@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.gen_test(timeout=30)
async def test_a_create_that_failed_without_effect_is_sent_again_in_the_end(client, sim, status):
    sim.fault(action="status", status=status, count=1, **POST)
    created = await client.create(True)
    assert created.status == 201
    assert list(sim.servers()) == [created.id]
    assert len(sim.calls(**POST)) == 2


#: What a proxy says that does not reach Nova, or will not let a call through.
PAGE = "<html><body><h1>Sorry</h1></body></html>"


@pytest.mark.parametrize("status", [302, 400, 403, 404, 409])
@pytest.mark.gen_test(timeout=30)
async def test_a_proxys_page_is_no_refusal_of_a_create(client, sim, status):
    sim.fault(action="status", status=status, body=PAGE, count=1, **POST)
    created = await client.create(False)
    assert created.status == 201, created.json
    assert list(sim.servers()) == [created.id]


@EITHER
@pytest.mark.gen_test(timeout=30)
async def test_what_a_proxy_says_of_a_server_does_not_end_its_build(client, sim):
    sim.fault(
        action="status",
        status=200,
        body={"message": "maintenance"},
        method="GET",
        count=8,
        path="/servers/[0-9a-f-]{36}$",
    )
    created = await client.create(True)
    assert created.status == 201, created.json
    assert list(sim.servers()) == [created.id]


@pytest.mark.parametrize("options", [{"grace_seconds": 0.3}], ids=["grace0.3"])
@pytest.mark.gen_test(timeout=40)
async def test_a_proxys_pages_make_no_vm_lost_nor_gone_and_skip_no_notice_and_no_shutdown(client, sim):
    (victim,) = await client.fill(1, flavor="m1.large")
    sim.forget_calls()
    for method, path, status in (
        ("GET", f"/servers/{victim}$", 404),
        ("POST", f"/servers/{victim}/metadata$", 403),
        ("POST", f"/servers/{victim}/action$", 409),
        ("DELETE", f"/servers/{victim}$", 404),
    ):
        sim.fault(action="status", status=status, body=PAGE, count=4, method=method, path=path)
    shown = await client.show(victim)
    assert shown.status == 502, shown.json
    winner = await client.create(False, flavor="m1.large")
    assert winner.json["evicted"] == [victim], winner.json
    assert list(sim.servers()) == [winner.id]
    (record,) = await client.record(vm=victim)
    assert record["delivery"] == "metadata" and record["noticed_at"] < record["evicting_at"]
    assert 202 in [call["status"] for call in sim.calls(method="POST", path=f"/servers/{victim}/action$")]


@pytest.mark.parametrize("status", [413, 429])
@pytest.mark.gen_test(timeout=30)
async def test_a_cloud_that_limits_the_rate_makes_a_create_later_and_none_fail(client, sim, status):
    sim.fault(
        action="status",
        status=status,
        headers={"Retry-After": "1"},
        count=1,
        **POST,
        body={"overLimit": {"code": status, "message": "This request was rate-limited."}},
    )
    created = await client.create(False)
    assert created.status == 201, created.json
    assert list(sim.servers()) == [created.id]
    assert len(sim.calls(**POST)) == 2


@EITHER
@pytest.mark.gen_test(timeout=30)
async def test_revoked_tokens_are_nobodys_trouble(client, sim):
    sim.call("DELETE", "/sim/tokens")
    answers = await asyncio.gather(*(client.create(True) for _ in range(4)), client.listed())
    assert [answer.status for answer in answers[:4]] == [201] * 4
    sim.fault(action="revoke", count=3)
    deleted = await asyncio.gather(*(client.delete(answer.id) for answer in answers[:4]))
    assert [answer.status for answer in deleted] == [200] * 4


@pytest.mark.gen_test(timeout=30)
async def test_an_eviction_succeeds_through_a_cloud_that_fails_every_fifth_call(client, sim):
    await client.fill(4)
    sim.fault(action="status", status=500, service="compute", probability=0.2, seed=7)
    created = await client.create(False)
    assert created.status == 201 and len(created.json["evicted"]) == 1
    sim.clear_faults()


@pytest.mark.gen_test(timeout=30)
async def test_a_delete_whose_answer_is_lost_deletes(client, sim):
    vm = (await client.create(True)).id
    sim.fault(action="cut_after", method="DELETE", path="/servers/", count=1)
    assert (await client.delete(vm)).status == 200
    assert not sim.servers()


@EITHER
@pytest.mark.gen_test(timeout=30)
async def test_a_teardown_that_fails_is_asked_for_again(client, sim):
    vm = (await client.create(True)).id
    sim.fault(kind="delete_fails", count=1)
    assert (await client.delete(vm)).status == 200
    assert not sim.servers()


@pytest.mark.gen_test(timeout=30)
async def test_a_cloud_that_is_away_is_said_so_and_what_was_accepted_is_done_when_it_is_back(client, sim):
    sim.fault(action="status", status=503)
    accepted = await client.create(True, headers={"Prefer": "respond-async"})
    assert accepted.status == 202
    async with asyncio.timeout(10):
        # A list that is younger than a second is still shown.
        while (listed := await client.call("GET", "/api/v1/vm")).status == 200:
            await asyncio.sleep(0.05)
        while (ready := await client.call("GET", "/readyz")).status == 200:
            await asyncio.sleep(0.05)
    assert (listed.status, listed.json["error"]) == (503, "cloud_unavailable")
    assert listed.headers["Retry-After"]
    assert ready.json["status"] == "not ready"
    assert (await client.call("GET", "/healthz")).status == 200
    sim.clear_faults()
    await client.wait_for_event("create/active", accepted.json["vm"]["vmsvc_id"], seconds=20)


#: What goes wrong at first, and by which calls: 2 s of it stand for 10 minutes.
OUTAGES = {
    "500": {"action": "status", "status": 500, "service": "compute"},
    "503 with Retry-After": {"action": "status", "status": 503, "headers": {"Retry-After": "1"}, "service": "compute"},
    "429": {"action": "status", "status": 429, "headers": {"Retry-After": "1"}, "service": "compute"},
    "no answer, no effect": {"action": "hang", "service": "compute"},
    "no connection": {"action": "cut", "service": "compute"},
    "slow": {"action": "delay_after", "seconds": 3.0, "service": "compute"},
    "HTML": {"action": "html", "service": "compute", "method": "GET"},
    "half JSON": {"action": "half_json", "service": "compute", "method": "GET"},
    "Keystone is down": {"action": "status", "status": 503, "service": "identity"},
    "all is down": {"action": "cut"},
}


async def seconds_of(call):
    """How long a call of a healthy service takes."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await call).status == 200
    return loop.time() - began


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("options", [{"cloud_timeout": 1}], ids=["timeout1"])
@pytest.mark.gen_test(timeout=60)
async def test_through_an_outage_nothing_is_lost_and_nobody_is_misled(client, sim, outage):
    before = (await client.create(True)).id
    calm = sorted([await seconds_of(client.call("GET", "/healthz")) for _ in range(20)])
    sim.fault(**OUTAGES[outage])
    sim.call("DELETE", "/sim/tokens")  # whoever may sign in has to do so now
    asked = [
        asyncio.ensure_future(client.create(False, headers={"Idempotency-Key": f"{number}"})) for number in range(2)
    ]
    probes, loop = [], asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < 2:
        probes.append(await seconds_of(client.call("GET", "/healthz")))
        shown = await client.call("GET", f"/api/v1/vm/{before}")
        assert shown.status in (200, 502, 503), "never 401, never 404"
        assert shown.status != 503 or int(shown.headers["Retry-After"]) > 0
    assert (await client.call("GET", "/readyz")).status in ((503, 200) if outage in ("slow", "429") else (503,))
    sim.clear_faults()
    answers = await asyncio.gather(*asked)
    assert [answer.status for answer in answers] == [201, 201], [answer.json for answer in answers]
    assert sim.servers().keys() == {before, *(answer.id for answer in answers)}
    assert not [event for event in await client.events() if event["data"]["state"] == "lost"]
    async with asyncio.timeout(20):
        while (await client.call("GET", "/readyz")).status != 200:
            await asyncio.sleep(0.05)
    # The client of this test and everybody else on this machine share the processors: nearly all will do, and not
    # much later than without an outage.
    assert sorted(probes)[int(0.9 * len(probes))] < 0.1 + 2 * calm[int(0.9 * len(calm))], "the loop was free"


@pytest.mark.parametrize("seconds", [3600, 40 * 86400])
@pytest.mark.gen_test(timeout=40)
async def test_the_cloud_s_clock_may_be_anywhere(client, sim, seconds):
    await client.fill(3)
    sim.call("POST", "/sim/clock", {"advance": seconds})
    await client.fill(1)
    created = await client.create(False)
    assert created.status == 201 and len(created.json["evicted"]) == 1
    assert (await client.delete(created.id)).status == 200
    assert not [event for event in await client.events() if event["data"]["state"] == "lost"]
