"""Servers that boot from a volume, on the simulated cloud, which has a Cinder: as Nova makes them."""

import asyncio
import uuid

import pytest

from tests.system.client import until
from tests.system.marks import BOTH, EITHER, grace

QUICK = grace(0.3, network="bed-net")
FIELD = "block_device_mapping_v2"


def boots(volume, **more):
    """A root disk that is there."""
    return {"boot_index": 0, "source_type": "volume", "uuid": volume, "destination_type": "volume", **more}


def made(source, size, **more):
    """A disk that Cinder makes."""
    return {"source_type": source, "destination_type": "volume", "volume_size": size, **more}


@BOTH
@QUICK
@pytest.mark.gen_test(timeout=60)
async def test_a_vm_that_boots_from_a_volume_is_as_one_that_nova_was_asked_for_directly(client, sim, project):
    image = sim.image("large", min_disk=2)
    roots = [sim.volume(project, 3, imageRef=image) for _ in range(2)]

    def devices(root):
        return [boots(root, delete_on_termination=True), made("blank", 5)]

    created = await client.create(False, **{FIELD: devices(roots[0])})
    assert created.status == 201, created.json
    direct = sim.direct(
        project,
        {"name": "standart", "flavorRef": "m1.tiny", "networks": "auto", "block_device_mapping_v2": devices(roots[1])},
    )
    await until(lambda: sim.servers()[direct]["status"] == "ACTIVE")

    def comparable(server):
        shown = sim.shown(server, project)
        attached = sorted(each["delete_on_termination"] for each in shown["os-extended-volumes:volumes_attached"])
        return shown["image"], shown["flavor"], attached, len(shown["addresses"]["bed-net"])

    assert comparable(created.id) == comparable(direct) and comparable(direct)[0] == ""
    assert comparable(direct)[2] == [False, True]
    assert sim.used()["sim-1"].keys() == {"VCPU", "MEMORY_MB"}, "the root disk is no host's"
    assert (await client.delete(created.id)).status == 200
    left = sim.volumes(project)
    assert roots[0] not in left and {each["size"] for each in left.values() if each["status"] == "available"} == {5}
    sim.vanish(direct)


@BOTH
@QUICK
@pytest.mark.gen_test(timeout=60)
async def test_a_volume_that_cannot_be_had_is_400_and_no_vm_is_noticed(client, sim, project):
    image, names = sim.image("large", min_disk=2), {}
    names["attached"] = sim.volume(project, 3, imageRef=image)
    server = sim.direct(
        project,
        {
            "name": "s",
            "flavorRef": "m1.tiny",
            "networks": "auto",
            "block_device_mapping_v2": [boots(names["attached"])],
        },
    )
    await until(lambda: sim.servers()[server]["status"] == "ACTIVE")
    root = sim.volume(project, 3, imageRef=image)
    empty, foreign = sim.volume(project, 3), sim.volume({"demo": "admin", "admin": "demo"}[project], 3, imageRef=image)
    tenant = sim.shown(server, project)["tenant_id"]
    sim.volume_quota(tenant, gigabytes=20)
    sim.quota(project, instances=4)
    await client.fill(3, image="bed-image")
    bad = {
        "no such volume": [boots(str(uuid.uuid4()))],
        "in use": [boots(names["attached"])],
        "not bootable": [boots(empty)],
        "no such image": [made("image", 3, uuid="nothing", boot_index=0)],
        "too small": [made("image", 1, uuid="large", boot_index=0)],
        "beyond the quota": [boots(root), made("blank", 12)],
        "no root": [made("blank", 1)],
        "an empty root": [made("blank", 1, boot_index=0)],
        "a disk of the host": [boots(root), {"source_type": "blank", "destination_type": "local", "volume_size": 1}],
        **({"another project's": [boots(foreign)]} if project == "demo" else {}),
    }

    async def refused(case, query):
        answer = await client.create(False, query=query, **{FIELD: bad[case]})
        assert (answer.status, answer.json["field"]) == (400, FIELD), (case, answer.json)

    for query in ("?dry_run=true", ""):
        await asyncio.gather(*(refused(case, query) for case in bad))
    assert not await client.events(type="evict")
    sim.vanish(server)


@EITHER
@grace(3, network="bed-net")
@pytest.mark.gen_test(timeout=60)
async def test_victims_are_reprieved_when_the_volume_goes_during_the_notice(client, sim, project):
    """Nova looks at volumes when it has taken all else, so no rehearsal tells."""
    root, other = sim.volume(project, 3, imageRef=sim.image("small")), sim.volume(project)
    sim.quota(project, instances=2)
    preemptible = await client.fill(2, image="bed-image")
    task = asyncio.ensure_future(client.create(False, **{FIELD: [boots(root), boots(other, boot_index=None)]}))
    await client.wait_for_event("evict/noticed")
    sim.drop_volume(other, project)
    refused = await task
    assert (refused.status, refused.json["error"]) == (400, "invalid_request"), refused.json
    await client.wait_for_event("evict/reprieved")
    assert sim.servers().keys() == {*preemptible}
