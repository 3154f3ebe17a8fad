"""Create, list, show, delete: the whole way from REST to the cloud and back."""

import pytest

BOTH = pytest.mark.parametrize("mode", ["operator", "tenant"])


@BOTH
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
    assert await client.steps(own_id) == ["create/pending", "create/building", "create/active", "delete/deleting",
                                          "delete/deleted"]
