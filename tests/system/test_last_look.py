"""What strangers take during a notice: nobody leaves for a request that could not be carried out any more."""

import asyncio

import pytest

from tests.system.marks import BOTH
from tests.system.test_acceptance import full_cloud

pytestmark = pytest.mark.parametrize(
    "options", [{"grace_seconds": 3, "network": "bed-net", "image": "bed-image"}], ids=["grace3"]
)


@BOTH
@pytest.mark.parametrize("taken", ["address", "port"])
@pytest.mark.gen_test(timeout=30)
async def test_when_strangers_take_the_last_address_or_port_during_the_notice_no_vm_leaves(client, sim, project, taken):
    """The victim is on another network, so that it would not give an address back."""
    preemptible = await full_cloud(client, sim, project)
    network = sim.network("small", "10.9.0.0/30", project=project)
    sim.take_addresses(network, 1, project)
    creating = asyncio.ensure_future(client.create(False, network=network))
    victim = (await client.wait_for_event("evict/noticed"))["subject"]
    if taken == "address":
        sim.take_addresses(network, 1, project)
    else:
        sim.quota(project, instances=4, port=3)
    refused = await creating
    error = {"address": (400, "invalid_request"), "port": (403, "quota_exceeded")}[taken]
    assert (refused.status, refused.json["error"]) == error, refused.json
    spared = await client.wait_for_event("evict/reprieved", victim)
    assert spared["data"]["reason"] == f"the request was refused: {refused.json['message']}"
    assert sim.servers().keys() == set(preemptible)
    sim.quota(project, instances=-1)
