"""The notice as a protocol: what a victim hears, and how it says that it may go early."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.system.client import until
from tests.system.marks import BOTH, EITHER, grace
from tests.system.timing import TIMING


def flavor_of(mode):
    """One that fills a host four times over, or, where nobody sees free room, by half."""
    return "m1.tiny" if mode == "operator" else "m1.small"


async def evict_one(client, flavor="m1.tiny"):
    """A full host, a standard VM that wants in, and the notice of its victim: (its create, the event)."""
    await client.fill(4, flavor)
    creating = asyncio.ensure_future(client.create(False, flavor=flavor, name="wanted"))
    return creating, await client.wait_for_event("evict/noticed")


@BOTH
@grace(8)
@pytest.mark.gen_test(timeout=30)
async def test_a_notice_names_its_time_the_preemptor_and_the_reason(client, sim, mode):
    creating, notice = await evict_one(client, flavor_of(mode))
    victim, said = notice["subject"], notice["data"]
    (request,) = [server for server in (await client.listed()).values() if server["name"] == "wanted"]
    assert said["evict_at"] == said["vm"]["evict_at"] > notice["time"]
    assert (said["grace_seconds"], said["simulated"]) == (8, False)
    assert said["makes_room_for"] == request["vmsvc_id"]
    assert said["criterion"] and said["reason"] == f"room for wanted ({flavor_of(mode)})"
    shown = (await client.show(victim)).json
    assert (shown["state"], shown["evict_at"], shown["acknowledged_at"]) == ("noticed", said["evict_at"], None)
    assert shown["notice"]["request"] == "wanted"
    await client.wait_for_notice(sim, victim, said["evict_at"])
    assert sim.guest_metadata(victim)["vmsvc_evict_reason"] == f"{said['reason']}; {said['criterion']}"
    await client.acknowledge(victim)
    assert (await creating).status == 201


@BOTH
@grace(30)
@pytest.mark.gen_test(timeout=30)
async def test_a_victim_that_acknowledges_is_evicted_at_once_and_its_capacity_is_free_early(client, sim, mode):
    creating, notice = await evict_one(client, flavor_of(mode))
    victim, evict_at = notice["subject"], notice["data"]["evict_at"]
    await client.wait_for_notice(sim, victim, evict_at)
    said = await client.acknowledge(victim)
    assert (said.status, said.json["message"]) == (200, f"vm {victim} may go before its time")
    assert evict_at > said.json["vm"]["acknowledged_at"] > notice["time"]
    created = await creating
    assert (created.status, created.json["evicted"]) == (201, [victim])
    assert (await client.wait_for_event("create/active", created.id))["time"] < evict_at
    await client.wait_for_event("evict/evicted", victim)
    assert (await client.steps(victim))[-3:] == ["evict/noticed", "evict/evicting", "evict/evicted"]
    (one,) = await client.record()
    assert one["state"] == "evicted" and one["planned_at"] < one["acknowledged_at"] <= one["evicting_at"] < evict_at


@grace(30)
@pytest.mark.gen_test(timeout=30)
async def test_to_say_it_twice_or_by_the_other_id_changes_nothing(client):
    creating, notice = await evict_one(client)
    own_id = notice["data"]["vm"]["vmsvc_id"]
    answers = await asyncio.gather(*(client.acknowledge(ref) for ref in (notice["subject"], own_id) * 3))
    assert [answer.status for answer in answers] == [200] * 6
    assert len({answer.json["vm"]["acknowledged_at"] for answer in answers}) == 1
    assert (await creating).status == 201
    assert (await client.acknowledge(own_id)).status == 200
    assert len(await client.record()) == 1


@grace(1.5)
@pytest.mark.gen_test(timeout=30)
async def test_a_victim_that_lets_go_does_not_take_the_others_with_it(client):
    await client.fill(4)
    creating = asyncio.ensure_future(client.create(False, flavor="m1.medium"))
    first, second = await client.wait_for_events("evict/noticed", 2)
    await client.acknowledge(first["subject"])
    gone = await client.wait_for_event("evict/evicted", first["subject"])
    assert gone["time"] < first["data"]["evict_at"]
    assert (await creating).status == 201
    assert (await client.wait_for_event("evict/evicting", second["subject"]))["time"] >= second["data"]["evict_at"]


@pytest.mark.gen_test(timeout=20)
async def test_only_a_noticed_vm_can_acknowledge(client, sim, project):
    standard, preemptible, gone = [(await client.create(kind)).id for kind in (False, True, True)]
    await client.delete(gone)
    (foreign,) = sim.foreign(project)
    for ref, status, error in (
        (standard, 409, "conflict"),
        (preemptible, 409, "conflict"),
        (gone, 404, "not_found"),
        (foreign, 404, "not_found"),
        ("nobody", 404, "not_found"),
    ):
        answer = await client.acknowledge(ref)
        assert (answer.status, answer.json["error"]) == (status, error), ref
    assert {standard, preemptible} <= (await client.listed()).keys()
    assert sim.servers().keys() == {standard, preemptible, foreign}
    assert not await client.record()


@grace(30)
@pytest.mark.gen_test(timeout=30)
async def test_a_guest_that_powers_itself_off_ends_its_notice(client, sim):
    creating, notice = await evict_one(client)
    victim = notice["subject"]
    sim.power_off(victim)
    created = await creating
    assert (created.status, created.json["evicted"]) == (201, [victim])
    assert (await client.wait_for_event("create/active", created.id))["time"] < notice["data"]["evict_at"]
    assert (await client.record())[0]["acknowledged_at"]


@grace(1)
@pytest.mark.gen_test(timeout=30)
async def test_a_victim_that_was_off_before_its_notice_has_all_of_it_nevertheless(client, sim):
    """Its owner may be about to start it; to be off is no answer to a notice that it could not read."""
    mine = await client.fill(4)
    for vm in mine:
        sim.power_off(vm)
    created = await client.create(False)
    assert created.status == 201
    (victim,) = created.json["evicted"]
    due = (await client.wait_for_event("evict/noticed", victim))["data"]["evict_at"]
    assert (await client.wait_for_event("evict/evicting", victim))["time"] >= due
    assert (await client.record())[0]["acknowledged_at"] is None


METADATA = {"service": "compute", "method": "POST", "path": "/metadata$"}


def seconds_of_notice(one):
    """How long the guest could read its notice before its eviction began."""
    return (datetime.fromisoformat(one["evicting_at"]) - datetime.fromisoformat(one["noticed_at"])).total_seconds()


@EITHER
@grace(1.5)
@pytest.mark.gen_test(timeout=40)
async def test_a_notice_that_is_written_late_moves_evict_at_and_an_event_says_so(client, sim, mode):
    """The cloud takes the notice only when it was to be over."""
    sim.fault(action="delay", count=1, seconds=3, **METADATA)
    creating, notice = await evict_one(client, flavor_of(mode))
    victim = notice["subject"]
    again = (await client.wait_for_events("evict/noticed", 2, victim))[1]
    assert again["data"]["evict_at"] > notice["data"]["evict_at"]
    assert {**again["data"], "evict_at": 0, "seq": 0, "vm": 0} == {**notice["data"], "evict_at": 0, "seq": 0, "vm": 0}
    await client.wait_for_notice(sim, victim, again["data"]["evict_at"])
    assert (await client.show(victim)).json["evict_at"] == again["data"]["evict_at"]
    created = await creating
    assert (created.status, created.json["evicted"]) == (201, [victim])
    (one,) = await client.record()
    assert one["evict_at"] == again["data"]["evict_at"] and seconds_of_notice(one) >= 1.5


@grace(1)
@pytest.mark.gen_test(timeout=40)
async def test_even_a_little_late_the_guest_has_its_whole_notice(client, sim):
    sim.fault(action="delay", count=1, seconds=0.5, **METADATA)
    creating, _ = await evict_one(client)
    assert (await creating).status == 201
    (one,) = await client.record()
    assert seconds_of_notice(one) >= 1
    assert len([event for event in await client.events() if event["data"]["state"] == "noticed"]) == 1


@BOTH
@grace(0.3)
@pytest.mark.gen_test(timeout=40)
@pytest.mark.parametrize("timing", [replace(TIMING, unreadable_notice=1, unreadable_notice_poll=0.1)], ids=["timing"])
async def test_a_guest_that_cannot_read_its_notice_is_reprieved_and_another_vm_is_evicted(client, sim, mode):
    flavor = flavor_of(mode)
    await client.fill(4, flavor)
    plan = (await client.create(False, query="?dry_run=true", flavor=flavor)).json
    (deaf,) = plan.get("if_no_host_has_room", plan)["victims"]
    sim.fault(
        action="status",
        status=409,
        service="compute",
        method="POST",
        path=f"/{deaf}/metadata$",
        body={
            "conflictingRequest": {
                "code": 409,
                "message": f"Cannot 'update metadata' instance {deaf} while it is in task_state rebooting",
            }
        },
    )
    created = await client.create(False, flavor=flavor)
    assert created.status == 201 and deaf in sim.servers() and deaf not in created.json["evicted"]
    spared = await client.wait_for_event("evict/reprieved", deaf)
    assert spared["data"]["reason"] == "its guest could not read the notice"
    await client.wait_for_event("evict/evicted", created.json["evicted"][0])
    states = {one["vm"]["id"]: one["state"] for one in await client.record()}
    assert states == {deaf: "reprieved", created.json["evicted"][0]: "evicted"}
    sim.clear_faults()


@grace(1.5)
@pytest.mark.gen_test(timeout=40)
async def test_a_restart_forgets_no_notice_that_came_late(new_replica, sim):
    """The replica that was to write it stops before the cloud takes it; the next one starts the time anew."""
    replica, client = await new_replica()
    sim.fault(action="status", status=500, **METADATA)
    creating = (await client.fill(4)) and await client.create(False, headers={"Prefer": "respond-async"})
    notice = await client.wait_for_event("evict/noticed")
    victim, due = notice["subject"], datetime.fromisoformat(notice["data"]["evict_at"])
    await until(lambda: datetime.now(due.tzinfo) > due + timedelta(seconds=0.3), "the end of its time")
    assert sim.servers()[victim]["status"] == "ACTIVE", "its time is up, and it does not know"
    await replica.stop()
    sim.clear_faults()
    _, client = await new_replica()
    await client.wait_for_event("create/active", creating.json["vm"]["vmsvc_id"])
    (one,) = await client.record()
    assert one["vm"]["id"] == victim and seconds_of_notice(one) >= 1.5


@EITHER
@pytest.mark.parametrize("options", [{"grace_seconds": 0, "evict_action": "delete"}], ids=["grace0-delete"])
@pytest.mark.gen_test(timeout=30)
async def test_with_a_grace_period_of_zero_no_metadata_is_written_and_the_events_come_all_the_same(client, sim, mode):
    await client.fill(4, flavor_of(mode))
    created = await client.create(False, flavor=flavor_of(mode))
    assert created.status == 201
    (victim,) = created.json["evicted"]
    assert (await client.steps(victim))[-3:] == ["evict/noticed", "evict/evicting", "evict/evicted"]
    assert not sim.calls(method="POST", path="/metadata$")
    (one,) = await client.record()
    assert one["state"] == "evicted" and one["noticed_at"] is None and one["freed_at"]


@pytest.mark.parametrize("options", [{"grace_seconds": 0, "evict_action": "delete"}], ids=["grace0-delete"])
@pytest.mark.gen_test(timeout=30)
@pytest.mark.parametrize("timing", [replace(TIMING, pass_while_waiting=60)], ids=["timing"])
async def test_when_the_last_victim_has_gone_its_host_is_counted_and_nothing_else_is_asked_of_it(client, sim):
    await client.fill(4)
    sim.forget_calls()
    assert (await client.create(False)).status == 201
    asked = [call["path"].rpartition("/")[2] for call in sim.calls(path="/resource_providers/[^/]+/")]
    assert asked.count("inventories") == 1 and asked.count("allocations") == 2
    assert len(sim.calls(path="/limits")) == 2
