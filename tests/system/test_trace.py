"""One id from a client's request to the logs of Nova, and what is counted on the way."""

import asyncio
import json
import logging
import platform

import pytest

from tests.system.client import until
from vmsvc import __version__
from vmsvc.log import JsonLogFormatter
from vmsvc.service import deployment_figures, trace

ONE, OTHER = (f"req-0000000{number}-0000-4000-8000-000000000000" for number in (1, 2))


def calls_for(sim, request_id):
    """Method and last part of the path of the calls that came with this id."""
    return [
        (call["method"], call["path"].rpartition("/")[2])
        for call in sim.calls()
        if call["global_request_id"] == request_id
    ]


@pytest.mark.gen_test(timeout=40)
async def test_what_is_done_for_a_request_carries_its_id_to_the_cloud(client, sim):
    made = await client.create(True, headers={"X-Request-Id": ONE})
    assert ("POST", "servers") in calls_for(sim, ONE)
    deleted = await client.call("DELETE", f"/api/v1/vm/{made.id}", headers={"X-Request-Id": OTHER})
    assert deleted.status == 200
    assert ("DELETE", made.id) in calls_for(sim, OTHER)
    assert ("DELETE", made.id) not in calls_for(sim, ONE)


@pytest.mark.parametrize("options", [{"grace_seconds": 0.3}], ids=["grace0.3"])
@pytest.mark.gen_test(timeout=40)
async def test_an_eviction_carries_the_id_of_the_request_that_it_frees_capacity_for(client, sim):
    victims = await client.fill(4)
    created = await client.create(False, headers={"X-Request-Id": ONE})
    (victim,) = created.json["evicted"]
    assert victim in victims
    assert {("POST", "metadata"), ("POST", "action"), ("DELETE", victim), ("POST", "servers")} <= set(
        calls_for(sim, ONE)
    )


@pytest.mark.gen_test(timeout=40)
async def test_an_error_names_the_id_under_which_the_cloud_knows_it(client, sim):
    sim.fault(action="status", method="POST", path="/servers$", status=403, body={"forbidden": {"message": "no"}})
    answer = await client.create(True, headers={"X-Request-Id": ONE})
    assert answer.status == 403 and answer.json["request_id"] == ONE
    assert ("POST", "servers") in calls_for(sim, ONE)


@pytest.mark.parametrize("options", [{"grace_seconds": 0.3}], ids=["grace0.3"])
@pytest.mark.gen_test(timeout=40)
async def test_evictions_their_reasons_and_whether_the_notice_was_kept_are_counted(client):
    one, *_ = await client.fill(4)
    await client.practise(one, notice_only=True)
    await client.wait_for_event("evict/reprieved", one)
    assert (await client.create(False)).status == 201
    seen = {}
    async with asyncio.timeout(15):
        while 'vmsvc_evictions_total{outcome="evicted",reason="capacity"}' not in seen:
            lines = (await client.text("/metrics")).splitlines()
            seen = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}
    assert seen['vmsvc_evictions_total{outcome="noticed",reason="simulated"}'] == 1
    assert seen['vmsvc_evictions_total{outcome="reprieved",reason="simulated"}'] == 1
    assert seen['vmsvc_evictions_total{outcome="noticed",reason="capacity"}'] == 1
    assert seen['vmsvc_evictions_total{outcome="evicted",reason="capacity"}'] == 1
    assert (seen['vmsvc_notices_total{kept="yes"}'], seen['vmsvc_notices_total{kept="no"}']) == (1, 0)
    assert (seen["vmsvc_victims_count"], seen["vmsvc_victims_sum"]) == (1, 1)
    assert seen['vmsvc_events_total{kind="preemptible",state="active",type="create"}'] == 4
    assert seen["vmsvc_plan_seconds_count"] >= 5
    for gauge in ("requests_waiting", "intents_under_way", "database_calls", "parts_not_ready", "event_lag_seconds"):
        assert f"vmsvc_{gauge}" in seen


@pytest.mark.parametrize("mode", ["operator", "tenant"])
@pytest.mark.gen_test(timeout=40)
async def test_metrics_show_the_vms_and_the_capacity_while_the_cloud_tells_them(client, sim, monkeypatch):
    monkeypatch.setattr(deployment_figures, "_MAX_AGE", 0)
    await client.fill(3)
    assert (await client.create(False)).status == 201
    capacity = (await client.call("GET", "/api/v1/capacity")).json
    seen = await client.text("/metrics")
    values = dict(line.rsplit(" ", 1) for line in seen.splitlines() if line[0] != "#")
    for name, value in {
        'vmsvc_vms{kind="preemptible",state="active"}': 3,
        'vmsvc_vms{kind="standard",state="active"}': 1,
        'vmsvc_vms{kind="standard",state="noticed"}': 0,
        'vmsvc_quota{item="cores",type="limit"}': capacity["quota"]["limit"]["cores"],
        'vmsvc_quota{item="cores",type="preemptible"}': 3,
        'vmsvc_hosts{available="yes"}': len(capacity["hosts"]),
        'vmsvc_host_capacity{resource="VCPU",type="used"}': 4,
        'vmsvc_host_capacity{resource="VCPU",type="free"}': 0,
        f'vmsvc_build_info{{python="{platform.python_version()}",version="{__version__}"}}': 1,
    }.items():
        assert float(values[name]) == value, name
    assert "process_resident_memory_bytes " in seen and "_created" not in seen
    sim.fault(action="status", method="GET", path="/(servers|limits)", status=503)
    unknown = await client.text("/metrics")
    assert "vmsvc_build_info{" in unknown
    assert not [line for line in unknown.splitlines() if line.startswith(("vmsvc_vms{", "vmsvc_host", "vmsvc_quota{"))]


@pytest.mark.parametrize("options", [{"grace_seconds": 0.3, "log_format": "json"}], ids=["grace0.3"])
@pytest.mark.gen_test(timeout=60)
async def test_whatever_changes_a_vm_the_log_says_for_which_request_and_for_whom(new_process, environ):
    process = new_process(environ)
    client = await process.ready()
    first = [(await client.create(True, headers={"X-Request-Id": f"fill-{number}"})) for number in range(4)]
    created = await client.create(False, headers={"X-Request-Id": ONE})
    deleted = await client.call("DELETE", f"/api/v1/vm/{created.id}", headers={"X-Request-Id": OTHER})
    assert deleted.status == 200
    # The service writes the line of an answer after it has sent the answer.
    await until(lambda: f"DELETE /api/v1/vm/{created.id} 200 " in process.text(), "the line of the answer")
    lines = [json.loads(line) for line in process.text().splitlines()]
    told = [
        (
            line["message"].split()[1].rstrip(":"),
            line["message"].partition(": ")[2].partition(" (")[0],
            line.get("request_id"),
            line.get("principal"),
        )
        for line in lines
        if line["message"].startswith("vm ")
    ]
    own = created.json["vm"]["vmsvc_id"]
    (victim,) = [answer.json["vm"]["vmsvc_id"] for answer in first if answer.id in created.json["evicted"]]
    for vm, change, request in (
        (own, "pending -> building", ONE),
        (own, "building -> active", ONE),
        (victim, "active -> noticed", ONE),
        (victim, "noticed -> evicting", ONE),
        (victim, "evicting -> evicted", ONE),
        (own, "active -> deleting", OTHER),
        (own, "deleting -> deleted", OTHER),
    ):
        assert (vm, change, request, "anonymous") in told
        before, _, after = change.partition(" -> ")
        assert {"vm": vm, "state_from": before, "state_to": after}.items() <= {
            name: value
            for line in lines
            if line["message"].startswith(f"vm {vm}: {change}")
            for name, value in line.items()
        }.items()
    (answered,) = [line for line in lines if line.get("request_id") == OTHER and "route" in line]
    assert (answered["method"], answered["route"], answered["status"]) == ("DELETE", "/api/v1/vm/{id}", 200)
    assert answered["vm"] == created.id and 0 < answered["duration_ms"] < 60_000
    for number, answer in enumerate(first):
        assert (answer.json["vm"]["vmsvc_id"], "pending -> building", f"fill-{number}", "anonymous") in told


@pytest.mark.gen_test
async def test_a_line_of_the_log_says_for_which_request_it_was_written(io_loop):
    del io_loop
    record = logging.makeLogRecord({"msg": "vm a: pending -> building", "levelname": "INFO", "name": "vmsvc.store.db"})
    assert "request_id" not in json.loads(JsonLogFormatter().format(record))
    trace.begin(ONE)
    assert json.loads(JsonLogFormatter().format(record))["request_id"] == ONE
