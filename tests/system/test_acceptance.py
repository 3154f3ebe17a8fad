"""Requests that Nova refuses whatever room there is, on a cloud full of preemptible VMs: nobody is noticed for them."""

import asyncio
import time
import uuid
from dataclasses import replace

import pytest

from tests.system.marks import BOTH, EITHER, TENANT
from tests.system.timing import TIMING

TWO_HOSTS = pytest.mark.parametrize("hosts", [2])
pytestmark = pytest.mark.parametrize(
    "options", [{"grace_seconds": 0.3, "network": "bed-net", "image": "bed-image"}], ids=["grace0.3"]
)


async def full_cloud(client, sim, project):
    """One host, and the project's quota, full of preemptible VMs."""
    sim.quota(project, instances=4)
    return await client.fill(4)


def network_without_address(sim):
    """A network whose two addresses strangers have."""
    network = sim.network("full", "10.9.0.0/30")
    sim.take_addresses(network, 2)
    return network


#: What is made in the cloud, the body of the request, the field that is named.
BAD = {
    "too little memory": (lambda sim: {"image": sim.image("hungry", min_ram=8192)}, "flavor"),
    "too small a disk": (lambda sim: {"image": sim.image("large", min_disk=5)}, "flavor"),
    "by its name": (lambda sim: {"image": sim.image("starving", min_ram=8192) and "starving"}, "flavor"),
    "an image without bytes": (lambda sim: {"image": sim.image("queued", data=None)}, "image"),
    "of an encrypted volume": (lambda sim: {"image": sim.image("secret", cinder_encryption_key_id="1")}, "image"),
    "no subnet": (lambda sim: {"network": sim.network("bare")}, "network"),
    "no such image": (lambda sim: {"image": str(uuid.uuid4())}, "image"),
    "no such network": (lambda sim: {"network": "nowhere"}, "network"),
    "no such flavor": (lambda sim: {"flavor": "m1.huge"}, "flavor"),
    "no such key pair": (lambda sim: {"key_name": "lost"}, "key_name"),
    "no such zone": (lambda sim: {"availability_zone": "mars"}, "availability_zone"),
}


@BOTH
@pytest.mark.gen_test(timeout=60)
async def test_a_request_that_nova_refuses_is_refused_with_400_and_no_vm_is_noticed(client, sim, project):
    preemptible = await full_cloud(client, sim, project)
    wanted = {case: (bad[0](sim), bad[1]) for case, bad in BAD.items()}

    async def refused(case, query):
        body, field = wanted[case]
        began = time.monotonic()
        answer = await client.create(False, query=query, **body)
        said = (answer.status, answer.json["error"], answer.json["field"])
        assert said == (400, "invalid_request", field), (case, answer.json)
        assert time.monotonic() - began < 3, case

    for query in ("?dry_run=true", ""):
        await asyncio.gather(*(refused(case, query) for case in wanted))
    assert not await client.events(type="evict")
    assert sim.servers().keys() == set(preemptible)


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_a_flavor_without_a_disk_is_for_admins_as_the_policy_of_nova_has_it(client, sim, project, mode):
    sim.flavor("zero-disk", disk=0)
    await full_cloud(client, sim, project)
    planned = await client.create(False, query="?dry_run=true", flavor="zero-disk")
    answer = await client.create(False, flavor="zero-disk")
    if mode == "operator":
        assert planned.json["result"] == "evicts" and (answer.status, len(answer.json["evicted"])) == (201, 1)
    else:
        assert [(each.status, each.json["field"]) for each in (planned, answer)] == [(400, "flavor")] * 2
        assert not await client.events(type="evict")


HOSTLESS = {
    "another architecture": ({"hw_architecture": "aarch64"}, "aarch64"),
    "another hypervisor": ({"img_hv_type": "kvm"}, "kvm"),
    "a trait that no host has": ({"trait:CUSTOM_NOBODY": "required"}, "CUSTOM_NOBODY"),
}


@pytest.mark.parametrize("mode", ["operator"])
@pytest.mark.gen_test(timeout=30)
async def test_what_an_operator_sees_of_hosts_and_networks_evicts_no_vm_and_the_answer_says_why(client, sim, project):
    await full_cloud(client, sim, project)
    network = network_without_address(sim)
    for query in ("?dry_run=true", ""):
        refused = await client.create(False, query=query, network=network)
        assert (refused.status, refused.json["field"]) == (400, "network")
    for properties, said in HOSTLESS.values():
        image = sim.image("odd", **properties)
        planned = await client.create(False, query="?dry_run=true", image=image)
        assert (planned.json["result"], planned.json["error"]) == ("refused", "no_capacity")
        refused = await client.create(False, image=image)
        assert (refused.status, refused.json["error"]) == (409, "no_capacity") and said in refused.json["message"]
    assert not await client.events(type="evict")


@pytest.mark.parametrize("mode", ["operator"])
@TWO_HOSTS
@pytest.mark.gen_test(timeout=30)
async def test_capacity_for_another_architecture_is_made_where_it_runs(client, sim, hosts):
    assert hosts == 2
    sim.host("sim-2", arch="aarch64", traits=["HW_ARCH_AARCH64"])
    await client.fill(4)
    image = sim.image("arm", hw_architecture="aarch64")
    made = [(await client.create(True, image=image)).id for _ in range(4)]
    assert {sim.servers()[vm]["host"] for vm in made} == {"sim-2"}
    created = await client.create(False, image=image)
    assert created.status == 201 and set(created.json["evicted"]) < set(made)


# ---------------------------------------------------------------- what turns bad while a request waits


def deactivate(sim, image, _network):
    """The image can no longer be booted from."""
    sim.deactivate(image)


def drop_image(sim, image, _network):
    """It is gone."""
    sim.drop_image(image)


def raise_min_ram(sim, image, _network):
    """It needs more than the flavor has from now on."""
    sim.patch_image(image, min_ram=8192)


def drop_subnets(sim, _image, network):
    """The network has none any more."""
    sim.drop_subnets(network)


def fill_network(sim, _image, network):
    """Strangers have its addresses."""
    sim.take_addresses(network, 2)


@pytest.mark.parametrize(
    "mode, turn",
    [
        ("tenant", deactivate),
        ("operator", drop_image),
        ("tenant", raise_min_ram),
        ("operator", drop_subnets),
        ("operator", fill_network),
    ],
)
@pytest.mark.gen_test(timeout=30)
@pytest.mark.parametrize("timing", [replace(TIMING, settle=0.8)], ids=["timing"])
async def test_what_turns_bad_while_the_request_waits_evicts_no_vm(client, sim, project, turn):
    image, network = sim.image("fickle"), sim.network("fickle", "10.9.0.0/30")
    preemptible = await full_cloud(client, sim, project)
    creating = asyncio.ensure_future(client.create(False, name="late", image=image, network=network))
    await client.wait_for_event("create/pending", seconds=5)
    while not any(event["data"]["vm"]["name"] == "late" for event in await client.events(type="create")):
        await asyncio.sleep(0.02)
    turn(sim, image, network)
    async with asyncio.timeout(1.5):  # what Nova said of an equal request holds for a second
        while True:
            planned = await client.create(False, query="?dry_run=true", image=image, network=network)
            if planned.status == 400 or planned.json.get("error") == "invalid_request":
                break
            await asyncio.sleep(0.1)
    refused = await creating
    assert (refused.status, refused.json["error"]) == (400, "invalid_request"), refused.json
    assert not await client.events(type="evict")
    assert sim.servers().keys() == set(preemptible)


@TENANT
@pytest.mark.gen_test(timeout=30)
async def test_an_image_that_goes_while_a_vm_is_leaving_evicts_no_vm(client, sim, project):
    image = sim.image("fickle")
    preemptible = await full_cloud(client, sim, project)
    sim.settings(delete_seconds=1.0)
    deleting = asyncio.ensure_future(client.delete(preemptible[0]))
    await client.wait_for_event("delete/deleting")
    creating = asyncio.ensure_future(client.create(False, image=image))
    await asyncio.sleep(0.2)
    sim.drop_image(image)
    refused = await creating
    assert (refused.status, refused.json["error"]) == (400, "invalid_request")
    assert (await deleting).status == 200 and not await client.events(type="evict")
    sim.settings(delete_seconds=0.05)


# ---------------------------------------------------------------- addresses and ports that victims give back


@TENANT
@pytest.mark.gen_test(timeout=30)
async def test_a_victim_gives_its_address_back(client, sim, project):
    sim.quota(project, instances=2)
    network = sim.network("small", "10.9.0.0/30", project=project)
    preemptible = await client.fill(2, network=network)
    created = await client.create(False, network=network)
    assert created.status == 201 and set(created.json["evicted"]) < set(preemptible), created.json


@TENANT
@pytest.mark.gen_test(timeout=30)
async def test_nobody_on_another_network_goes_for_an_address(client, sim, project):
    sim.quota(project, instances=3)
    network = sim.network("small", "10.9.0.0/30", project=project)
    sim.take_addresses(network, 1)
    (holder,) = await client.fill(1, network=network, min_run_seconds=600)
    others = await client.fill(2)
    refused = await client.create(False, network=network)
    assert (refused.status, refused.json["error"]) == (400, "invalid_request") and "address" in refused.json["message"]
    assert not await client.events(type="evict")
    assert sim.servers().keys() == {holder, *others}


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_a_quota_of_ports_below_what_is_used_evicts_no_vm(client, sim, project):
    preemptible = await full_cloud(client, sim, project)
    sim.quota(project, instances=4, port=2)
    refused = await client.create(False)
    assert (refused.status, refused.json["error"]) == (403, "quota_exceeded")
    assert not await client.events(type="evict") and sim.servers().keys() == set(preemptible)
    sim.quota(project, instances=4, port=4)
    created = await client.create(False)
    assert created.status == 201 and len(created.json["evicted"]) == 1, "a victim gives its port back"


@TENANT
@pytest.mark.gen_test(timeout=40)
async def test_what_a_tenant_cannot_see_costs_one_round_is_on_record_and_is_not_tried_again(client, sim, project):
    await full_cloud(client, sim, project)
    network = network_without_address(sim)
    failed = await client.create(False, network=network)
    assert failed.json["error"] == "cloud_error" and "No fixed IP addresses" in failed.json["message"]
    (round_one,) = await client.record()
    assert "No fixed IP addresses" in round_one["wasted"]
    await client.fill(1)
    for flavor, error, said in (("m1.tiny", "cloud_error", "No fixed IP"), ("m1.small", "invalid_request", "plugged")):
        for query in ("?dry_run=true", ""):
            again = await client.create(False, query=query, flavor=flavor, network=network)
            assert again.json["error"] == error and said in str(again.json), again.json
    assert len(await client.record()) == 1
    assert (await client.create(False)).status == 201, "on another network all is as before"


# ---------------------------------------------------------------- what a list leaves out, and what is new


@TENANT
@pytest.mark.gen_test(timeout=30)
async def test_images_that_the_list_leaves_out_are_found_by_their_ids(client, sim):
    for values in ({"visibility": "community", "project": "admin"}, {"visibility": "private", "os_hidden": True}):
        image = sim.image("unlisted", **values)
        created = await client.create(True, image=image)
        assert created.status == 201, created.json
        assert sim.call("GET", f"/sim/servers/{created.id}")["image"]["id"] == image
    strangers = await client.create(True, image=sim.image("theirs", project="admin", visibility="private"))
    assert (strangers.status, strangers.json["field"]) == (400, "image")


@EITHER
@pytest.mark.gen_test(timeout=30)
async def test_what_was_made_a_moment_ago_is_found(client, sim, project):
    await client.create(True, key_name="none")
    sim.key_pair("mine", project)
    sim.flavor("brand-new")
    sim.image("fresh")
    sim.network("fresh", "10.9.0.0/29")
    began = time.monotonic()
    created = await client.create(True, key_name="mine", flavor="brand-new", image="fresh", network="fresh")
    assert created.status == 201, created.json
    assert time.monotonic() - began < 4


@TENANT
@pytest.mark.gen_test(timeout=30)
async def test_names_that_are_made_up_do_not_make_the_service_hammer_the_cloud(client, sim):
    sim.forget_calls()
    began = time.monotonic()
    answers = await asyncio.gather(
        *(client.create(True, image=str(uuid.uuid4())) for _ in range(60)),
        *(client.create(True, key_name=f"key-{number}") for number in range(60)),
    )
    seconds = time.monotonic() - began
    assert {answer.status for answer in answers} == {400, 429} and seconds < 10
    assert len(sim.calls(service="image", path="/images/")) <= 12 + 2 * seconds
    assert len(sim.calls(service="image", path="/images$")) <= 3 + seconds
    assert len(sim.calls(service="compute", path="/os-keypairs$")) <= 3 + seconds
    assert (await client.create(True)).status == 201


# ---------------------------------------------------------------- what goes after the notice, and silence


@BOTH
@pytest.mark.parametrize("gone", ["image", "key_name"])
@pytest.mark.gen_test(timeout=30)
async def test_what_went_between_the_eviction_and_the_boot_is_held_against_nobody_later(client, sim, project, gone):
    """A member who deletes his key pair then must not make the service refuse others for an hour."""
    await full_cloud(client, sim, project)
    body, ends = sim.names_of_one_request(project)
    creating = asyncio.ensure_future(client.create(False, **body))
    await client.wait_for_event("evict/evicting")
    ends[gone]()
    refused = await creating
    assert (refused.status, refused.json["error"]) == (400, "invalid_request"), refused.json
    assert [record["wasted"] for record in await client.record()] == [refused.json["message"]]
    await client.fill(1)
    if gone == "image":
        sim.activate(body["image"])
    else:
        body.pop("key_name")
    created = await client.create(False, **body)
    assert (created.status, len(created.json["evicted"])) == (201, 1)
    sim.quota(project, instances=-1)


@EITHER
@pytest.mark.parametrize(
    "fault",
    [{"action": "status", "status": 500}, {"action": "cut"}, {"action": "status", "status": 503}, {"action": "hang"}],
    ids=["500", "cut", "503", "hang"],
)
@pytest.mark.gen_test(timeout=30)
async def test_a_request_about_which_the_cloud_does_not_answer_holds_up_no_other(client, sim, project, fault):
    preemptible = await full_cloud(client, sim, project)
    sim.key_pair("poison", project)
    sim.fault(
        service="compute",
        method="POST",
        path="/servers$",
        body_matches='(?s)(?=.*os:scheduler_hints)(?=.*"poison")',
        **fault,
    )
    waiting = await client.create(False, key_name="poison", headers={"Prefer": "wait=1"})
    assert waiting.status == 202
    created = await client.create(False, headers={"Prefer": "wait=10"})
    assert (created.status, len(created.json["evicted"])) == (201, 1)
    assert (await client.call("GET", "/readyz")).status == 200
    plan = await client.create(False, key_name="poison", query="?dry_run=true")
    assert (plan.status, plan.json["error"]) == (503, "cloud_unavailable")
    assert len(sim.servers().keys() & set(preemptible)) == 3, "nobody goes for a request that may be refused"
    asked = [call for call in sim.calls(method="POST", path="/servers$") if call["status"] != 202]
    assert len(asked) < 10, "the longer there is no answer, the more rarely is it asked"
    sim.clear_faults()
    await client.delete(waiting.json["vm"]["vmsvc_id"])
    sim.quota(project, instances=-1)


@TENANT
@pytest.mark.parametrize("action", ["half_json", "html"])
@pytest.mark.gen_test(timeout=30)
async def test_an_answer_that_cannot_be_read_refuses_no_request(client, sim, project, action):
    preemptible = await full_cloud(client, sim, project)
    rehearsals = {"service": "compute", "method": "POST", "path": "/servers$", "body_matches": "os:scheduler_hints"}
    sim.fault(**rehearsals, action=action, count=2)
    created = await client.create(False, headers={"Prefer": "wait=20"})
    assert (created.status, len(created.json["evicted"])) == (201, 1)
    sim.fault(**rehearsals, action=action)
    waiting = await client.create(False, headers={"Prefer": "wait=1"})
    assert waiting.status == 202
    assert len(sim.servers().keys() & set(preemptible)) == 3
    await client.delete(waiting.json["vm"]["vmsvc_id"])
