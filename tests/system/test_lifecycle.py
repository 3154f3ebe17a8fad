"""Create, list, show, delete: the whole way from REST to the cloud and back."""

import asyncio
import threading
import time

import pytest

from tests.system.client import until
from tests.system.marks import BOTH, EITHER
from vmsvc.service import commands
from vmsvc.service.acting import await_build as build
from vmsvc.store import vms


@EITHER
@pytest.mark.gen_test(timeout=20)
@pytest.mark.parametrize("preemptible, kind", [(False, "Standart"), (True, "Preemptible")])
async def test_a_vm_is_created_listed_shown_and_deleted(client, sim, preemptible, kind):
    created = await client.create(preemptible)
    said = f"{kind} vm {created.id} was created succesfully"
    assert created.status == 201
    assert created.json == {"code": "201", "message:": said, "message": said, "vm": created.json["vm"], "evicted": []}
    assert created.headers["Location"] == f"/api/v1/vm/{created.id}"
    assert created.json["vm"]["state"] == "active"
    server = sim.servers()[created.id]
    assert server["status"] == "ACTIVE"

    listed = (await client.listed())[created.id]
    assert (listed["is_preemptible"], listed["state"], listed["evict_at"]) == (preemptible, "active", None)
    assert [link["rel"] for link in listed["links"]] == ["self", "bookmark"]
    own_id = created.json["vm"]["vmsvc_id"]
    for ref in (created.id, own_id):
        shown = await client.show(ref)
        assert (shown.status, shown.json["id"], shown.json["vmsvc_id"]) == (200, created.id, own_id)

    deleted = await client.delete(created.id)
    said = f"vm {created.id} was deleted succesfully"
    assert deleted.status == 200
    assert deleted.json == {"code": "204", "message:": said, "message": said, "vm": deleted.json["vm"]}
    assert created.id not in sim.servers()
    assert created.id not in await client.listed()
    assert (await client.show(created.id)).status == 404
    assert await client.steps(own_id) == [
        "create/pending",
        "create/building",
        "create/active",
        "delete/deleting",
        "delete/deleted",
    ]


@EITHER
@pytest.mark.gen_test(timeout=20)
async def test_servers_made_elsewhere_are_listed_and_never_touched(client, sim, project):
    foreign = sim.foreign(project)[0]
    mine = (await client.create(True)).id
    made = time.monotonic()
    while foreign not in (listed := await client.listed()):  # of what others do the list is up to a second old
        assert time.monotonic() < made + 2
        await asyncio.sleep(0.05)
    assert listed.keys() == {foreign, mine}
    assert "is_preemptible" not in listed[foreign]
    assert (await client.show(foreign)).json["id"] == foreign
    refused = await client.delete(foreign)
    assert (refused.status, refused.json["error"]) == (403, "forbidden")
    assert sim.servers()[foreign]["status"] == "ACTIVE"


@pytest.mark.gen_test(timeout=20)
@pytest.mark.parametrize("ref", ["nobody", "00000000-0000-4000-8000-000000000000"])
async def test_an_unknown_vm_is_404(client, ref):
    for answer in (await client.show(ref), await client.delete(ref)):
        assert (answer.status, answer.json["error"]) == (404, "not_found")


@EITHER
@pytest.mark.gen_test(timeout=30)
async def test_what_the_cloud_does_not_have_is_refused_without_asking_it(client, sim, database):
    for field, value in {
        "image": "no-such",
        "network": "no-such",
        "flavor": "m1.huge",
        "availability_zone": "moon",
        "key_name": "nobody's",
    }.items():
        answer = await client.create(False, **{field: value})
        assert (answer.status, answer.json["error"], answer.json["field"]) == (400, "invalid_request", field)
    assert not sim.calls(method="POST", path="/servers")
    assert not database.rows("SELECT id FROM vm")


@pytest.mark.gen_test(timeout=20)
async def test_a_client_that_does_not_wait_hears_where_the_answer_will_be(client):
    answer = await client.create(True, headers={"Prefer": "respond-async"})
    assert (answer.status, answer.json["code"]) == (202, "202")
    own_id = answer.json["vm"]["vmsvc_id"]
    assert answer.headers["Location"] == f"/api/v1/vm/{own_id}"
    assert (await client.wait_for_event("create/active", own_id))["data"]["vm"]["vmsvc_id"] == own_id
    assert (await client.show(own_id)).json["state"] == "active"


@pytest.mark.gen_test(timeout=20)
async def test_a_client_that_waits_a_while_gets_the_outcome_if_it_comes_by_then(client, sim):
    sim.settings(boot_seconds=1.5)
    late = await client.create(True, headers={"Prefer": "wait=1"})
    assert late.status == 202
    in_time = await client.create(True, headers={"Prefer": "wait=10"})
    assert in_time.status == 201
    # A delete can be left alone too.
    gone = await client.delete(in_time.id, {"Prefer": "respond-async"})
    assert (gone.status, gone.headers["Location"]) == (202, f"/api/v1/vm/{in_time.id}")
    await client.wait_for_event("delete/deleted", in_time.id)


@EITHER
@pytest.mark.gen_test(timeout=20)
async def test_a_vm_is_deleted_while_it_is_being_built(client, sim, database):
    sim.settings(boot_seconds=1)
    created = await client.create(False, headers={"Prefer": "respond-async"})
    own_id = created.json["vm"]["vmsvc_id"]
    await client.wait_for_event("create/building", own_id)
    deleted = await client.delete(own_id)
    assert deleted.status == 200
    assert await client.steps(own_id) == ["create/pending", "create/building", "delete/deleting", "delete/deleted"]
    assert not sim.servers()
    assert not database.rows("SELECT id FROM vm WHERE state <> 'deleted'")


@pytest.mark.gen_test(timeout=20)
async def test_a_vm_whose_build_hangs_can_be_deleted_at_once(client, sim):
    sim.fault(kind="build_hangs", count=1)
    own_id = (await client.create(False, headers={"Prefer": "respond-async"})).json["vm"]["vmsvc_id"]
    await client.wait_for_event("create/building", own_id)
    assert (await client.delete(own_id, {"Prefer": "wait=8"})).status == 200
    assert not sim.servers()


@EITHER
@pytest.mark.gen_test(timeout=20)
async def test_a_request_is_deleted_while_the_cloud_refuses_it(client, sim):
    sim.fault(kind="no_valid_host")
    sim.settings(schedule_seconds=0.5)
    own_id = (await client.create(False, headers={"Prefer": "respond-async"})).json["vm"]["vmsvc_id"]
    await client.wait_for_event("create/building", own_id)
    assert (await client.delete(own_id)).status == 200
    assert (await client.steps(own_id))[-1] == "delete/deleted"


@pytest.mark.gen_test(timeout=20)
async def test_two_deletes_of_one_vm_are_both_answered_as_deleted(client):
    vm = (await client.create(True)).id
    answers = await asyncio.gather(client.delete(vm), client.delete(vm))
    assert [answer.status for answer in answers] == [200, 200]
    assert (await client.delete(vm)).status == 404


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_a_failed_build_evicts_no_vm_and_leaves_nothing(client, sim):
    await client.fill(2)
    sim.fault(kind="spawn_fails", name="^doomed$", text="Simulated spawn failure")
    answer = await client.create(False, name="doomed")
    assert (answer.status, answer.json["error"]) == (502, "cloud_error")
    assert "Simulated spawn failure" in answer.json["message"] or "maximum number of retries" in answer.json["message"]
    assert not [event for event in await client.events() if event["type"] == "evict"]
    assert len(sim.servers()) == 2
    own_id = answer.headers["Location"].rpartition("/")[2]
    assert (await client.show(own_id)).json["state"] == "failed"
    assert own_id not in await client.listed()
    assert (await client.delete(own_id)).status == 404


@pytest.mark.gen_test
async def test_a_request_that_is_deleted_while_the_scheduler_reads_is_left_alone(client, monkeypatch):
    of_ids, deleted = vms.of_ids, []

    def deleted_meanwhile(ids):
        if ids and not deleted:
            deleted.extend(ids)
            other = threading.Thread(target=commands._request_deletion, args=ids)  # pylint: disable=protected-access
            other.start()
            other.join(10)
        return of_ids(ids)

    monkeypatch.setattr(vms, "of_ids", deleted_meanwhile)
    answer = await client.create(True)
    assert (answer.status, answer.json["error"], len(deleted)) == (409, "conflict", 1)
    await client.wait_for_event("delete/deleted")
    assert await client.steps(deleted[0]) == ["create/pending", "delete/deleting", "delete/deleted"]


@EITHER
@pytest.mark.gen_test(timeout=20)
async def test_a_request_whose_server_has_just_failed_and_gone_is_still_shown(client, sim, database):
    sim.settings(boot_seconds=1)
    accepted = await client.create(True, headers={"Prefer": "respond-async"})
    ref = accepted.json["vm"]["vmsvc_id"]
    (row,) = await until(lambda: database.rows("SELECT cloud_id FROM vm WHERE cloud_id IS NOT NULL"), "its server")
    sim.fault(
        action="status",
        status=404,
        body={"itemNotFound": {"message": "Instance could not be found."}},
        method="GET",
        path=f"/servers/{row['cloud_id']}$",
    )
    shown = await client.show(ref)
    assert (shown.status, shown.json["vmsvc_id"], shown.json["state"]) == (200, ref, "building")
    sim.clear_faults()
    await client.wait_for_event("create/active", ref)
    assert (await client.show(ref)).json["state"] == "active"


@EITHER
@pytest.mark.parametrize("options", [{"request_timeout": 0.5}], ids=["timeout0.5"])
@pytest.mark.parametrize(
    "metadata, hint", [({"note": "plain ü"}, False), ({"note": "\N{ROCKET}"}, True)], ids=["plain", "emoji"]
)
@pytest.mark.gen_test(timeout=30)
async def test_a_build_that_never_ends_is_reported_while_it_lasts_and_given_up_at_the_limit(
    client, sim, monkeypatch, metadata, hint
):
    monkeypatch.setattr(build, "LIMIT", 3.0)
    sim.fault(kind="build_hangs")
    answer = await client.create(False, metadata=metadata)
    vm_id = answer.json["vm"]["vmsvc_id"]
    assert (answer.status, answer.json["vm"]["state"]) == (202, "building")
    for shown in (answer.json["vm"], (await client.show(vm_id)).json, *(await client.listed()).values()):
        assert (shown["state"], shown["status"]) == ("building", "BUILD")
        assert f"Nova has been building it since {shown['created'][:-1]}" in shown["message"]
        assert "removed when that takes 3 s" in shown["message"]
    failed = (await client.wait_for_event("create/failed", vm_id, seconds=15))["data"]
    assert failed["error"] == "cloud_error"
    assert failed["reason"].startswith("Nova was still building the server (BUILD) after 3 s")
    assert ("emoji" in failed["reason"]) == hint
    assert not sim.servers()
    assert (await client.show(vm_id)).json["message"] == failed["reason"]


@pytest.mark.gen_test(timeout=20)
async def test_a_build_that_ends_has_no_more_to_say(client):
    created = await client.create(True, name="\N{SNOWMAN}")
    assert created.status == 201
    assert "message" not in (await client.show(created.id)).json
