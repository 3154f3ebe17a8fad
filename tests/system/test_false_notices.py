"""A guest reads the notice that its VM has, and no other: whoever copies, changes or removes one is put right."""

import pytest

from tests.system.client import until
from tests.system.marks import BOTH

NOTICE = {"vmsvc_evict_at": "2030-01-01T00:00:00.000Z", "vmsvc_evict_reason": "room for nobody"}


def writes(sim, vm, **items):
    """Somebody changes a server's metadata in the cloud; None removes an item."""
    metadata = {**sim.servers()[vm]["metadata"], **items}
    sim.change(vm, metadata={name: value for name, value in metadata.items() if value is not None})


@BOTH
@pytest.mark.gen_test(timeout=40)
async def test_a_notice_that_nobody_gave_is_removed_from_ours_and_a_stranger_s_server_is_not_touched(
    client, sim, project, caplog
):
    preemptible, standard = (await client.create(True)).id, (await client.create(False)).id
    (stranger,) = sim.foreign(project, metadata=NOTICE)
    writes(sim, preemptible, **NOTICE)
    writes(sim, standard, vmsvc_evict_reason="go away")
    await until(
        lambda: not NOTICE.keys() & {*sim.servers()[preemptible]["metadata"], *sim.servers()[standard]["metadata"]},
        "the end of false notices",
    )
    assert sim.servers()[preemptible]["metadata"]["vmsvc_kind"] == "preemptible"
    assert sim.servers()[stranger]["metadata"] == NOTICE
    assert not await client.events(type="evict")
    assert caplog.text.count("is not the one that it has") == 2
    sim.vanish(stranger)


@BOTH
@pytest.mark.parametrize("options", [{"grace_seconds": 30}], ids=["grace30"])
@pytest.mark.parametrize(
    "changed",
    [
        {"vmsvc_evict_at": None, "vmsvc_evict_reason": None},
        {"vmsvc_evict_at": "2030-01-01T00:00:00.000Z"},
        {"vmsvc_evict_reason": "a joke"},
    ],
    ids=["removed", "another time", "another reason"],
)
@pytest.mark.gen_test(timeout=40)
async def test_a_notice_that_was_changed_is_written_again_and_ends_when_it_should(client, sim, changed):
    (vm,) = await client.fill(1)
    await client.practise(vm)
    notice = await client.wait_for_event("evict/noticed", vm)
    await client.wait_for_notice(sim, vm, notice["data"]["evict_at"])
    told = sim.servers()[vm]["metadata"]
    writes(sim, vm, **changed)
    await until(lambda: sim.servers()[vm]["metadata"] == told, "the notice as it was")
    assert (await client.record())[0]["evict_at"] == notice["data"]["evict_at"]
    await client.acknowledge(vm)
    await client.wait_for_event("evict/evicted", vm)


@pytest.mark.parametrize("mode", ["tenant"])
@pytest.mark.parametrize("options", [{"grace_seconds": 4}], ids=["grace4"])
@pytest.mark.gen_test(timeout=40)
async def test_an_owner_who_removes_the_notice_and_fills_the_metadata_does_not_prevent_the_eviction(client, sim):
    (vm,) = await client.fill(1)
    await client.practise(vm)
    notice = await client.wait_for_event("evict/noticed", vm)
    await client.wait_for_notice(sim, vm, notice["data"]["evict_at"])
    kept = {name: value for name, value in sim.servers()[vm]["metadata"].items() if name not in NOTICE}
    sim.change(vm, metadata={**kept, **{f"key{number}": "" for number in range(128 - len(kept))}})
    await client.wait_for_event("evict/evicted", vm)
