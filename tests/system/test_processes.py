"""The service as a process: killed at the worst moments, asked to stop, and two of them on one data folder."""

import asyncio
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from tornado.simple_httpclient import HTTPStreamClosedError

from tests.system.client import until
from vmsvc.simulator.process import FolderLock


def leases_run_out(database):
    """As if half a minute had passed: a killed replica renews nothing."""
    database.rows("UPDATE intent SET lease_until = clock_timestamp() WHERE done_at IS NULL")


@pytest.mark.parametrize("options", [{"grace_seconds": 4}], ids=["grace4"])
@pytest.mark.gen_test(timeout=60)
async def test_a_kill_during_the_notice_neither_shortens_nor_forgets_it(new_process, new_replica, environ, database):
    process = new_process(environ)
    client = await process.ready()
    await client.fill(4)
    creating = asyncio.ensure_future(client.create(False))
    notice = await client.wait_for_event("evict/noticed")
    victim, due = notice["subject"], notice["data"]["vm"]["evict_at"]
    process.kill()
    with pytest.raises(HTTPStreamClosedError):
        await creating
    leases_run_out(database)
    _, client = await new_replica()
    evicting = await client.wait_for_event("evict/evicting", victim)
    assert evicting["time"] >= due and evicting["data"]["vm"]["evict_at"] == due
    created = await client.wait_for_event("create/active", notice["data"]["makes_room_for"])
    assert created["data"]["evicted"] == [victim]


@pytest.mark.gen_test(timeout=60)
async def test_a_kill_right_after_the_cloud_made_the_server_leaves_one_server(
    new_process, new_replica, environ, sim, database
):
    process = new_process(environ)
    client = await process.ready()
    sim.fault(action="hang_after", method="POST", path="/servers$")
    accepted = await client.create(False, headers={"Prefer": "respond-async", "Idempotency-Key": "one"})
    await until(sim.servers, "the server")
    process.kill()
    sim.clear_faults()
    leases_run_out(database)
    _, client = await new_replica()
    created = await client.create(False, headers={"Idempotency-Key": "one"})
    assert created.status == 201
    assert created.json["vm"]["vmsvc_id"] == accepted.json["vm"]["vmsvc_id"]
    assert list(sim.servers()) == [created.id]
    assert len(sim.calls(method="POST", path="/servers$")) == 1


@pytest.mark.gen_test(timeout=60)
async def test_a_service_that_is_asked_to_stop_says_so_and_gives_its_work_to_others(
    new_process, new_replica, environ, sim, database
):
    sim.settings(boot_seconds=3)
    process = new_process(environ)
    client = await process.ready()
    channel = await client.channel()
    accepted = await client.create(False, headers={"Prefer": "respond-async"})
    await until(sim.servers, "the server")
    process.tell_to_stop()
    while await channel.read_message() is not None:
        pass
    assert channel.close_code == 1012
    channel.close()
    assert await process.exit_status() == 0
    assert "Traceback" not in process.text()
    assert not database.rows("SELECT * FROM intent WHERE done_at IS NULL AND lease_owner IS NOT NULL")
    _, client = await new_replica()
    await client.wait_for_event("create/active", accepted.json["vm"]["vmsvc_id"])
    assert len(sim.servers()) == 1


@pytest.mark.gen_test(timeout=60)
async def test_a_cloud_that_lets_nobody_in_is_reported_in_a_line_that_says_why(new_process, environ, tmp_path):
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(
        re.sub(
            r"http://[^/]+", "http://127.0.0.1:1", Path(environ["OS_CLIENT_CONFIG_FILE"]).read_text(encoding="utf-8")
        ),
        encoding="utf-8",
    )
    process = new_process({**environ, "OS_CLIENT_CONFIG_FILE": str(clouds)})
    client, why = await process.listening(), "http://127.0.0.1:1 refuses the connection: nobody listens there"
    async with asyncio.timeout(20):
        while (ready := (await client.call("GET", "/readyz")).json)["parts"]["cloud"] != why:
            assert ready["status"] == "not ready"
            await asyncio.sleep(0.05)
    told = [line for line in process.text().splitlines() if " WARNING " in line]
    assert told and all(line.endswith(f"vmsvc.service.runtime: cloud: {why}") for line in told), told
    assert "Traceback" not in process.text()


@pytest.mark.gen_test(timeout=60)
async def test_no_proxy_is_asked_for_the_embedded_parts(new_process, tmp_path):
    nobody = "http://127.0.0.1:1"
    process = new_process(
        {
            "VMSVC_DATA_DIR": str(tmp_path),
            "VMSVC_PORT": "0",
            "http_proxy": nobody,
            "https_proxy": nobody,
            "all_proxy": nobody,
            "no_proxy": "",
        }
    )
    client = await process.ready()
    assert (await client.create(True)).status == 201
    process.tell_to_stop()
    assert await process.exit_status() == 0


@pytest.mark.gen_test(timeout=90)
async def test_two_processes_on_one_data_folder_share_database_and_cloud(new_process):
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-two-"))
    try:
        environ = {"VMSVC_DATA_DIR": str(folder), "VMSVC_PORT": "0"}
        processes = [new_process(environ), new_process(environ)]
        first, second = [await process.ready() for process in processes]
        created = await first.create(True)
        assert created.status == 201
        assert (await second.show(created.id)).json["state"] == "active"
        assert (await second.delete(created.id)).status == 200
        assert await first.events() == await second.events()

        third = new_process(environ, "--port", str(first.port))
        assert await third.exit_status() == 2
        complaint = [line for line in third.text().splitlines() if line.startswith("vmsvc: ")]
        assert complaint == [f"vmsvc: 127.0.0.1:{first.port} is in use; stop who listens there or set VMSVC_PORT"]
        assert "Traceback" not in third.text()

        processes[0].tell_to_stop()
        assert await processes[0].exit_status() == 0
        again = await second.create(False)
        assert again.status == 201, "what the last one uses must live on"
        processes[1].tell_to_stop()
        assert await processes[1].exit_status() == 0
        assert not (folder / "postgres" / "postmaster.pid").exists()
        await until(lambda: FolderLock(folder / "cloud").live_address() is None, "the end of the cloud")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
