"""What an operator does and what happens to one: the scenario of the documents, kills, restarts, an upgrade."""

import asyncio
import json
import re
import subprocess
from contextlib import asynccontextmanager

from tests.docker.installation import docker

HOST_SIZED = "m1.large"


#: The pages that have the scenario.
SCENARIOS = ("README.md", "docs/tutorial/scenario.md")


def commands_of(page):
    """The lines to copy from a page's scenario."""
    section = page.partition("## A scenario to copy")[2].partition("\n## ")[0]
    return "".join(re.findall(r"(?ms)^```sh\n(.*?)^```$", section)).splitlines()


def objects(text):
    """The JSON objects in a text, one after the other."""
    found = []
    while text := text.strip():
        one, end = json.JSONDecoder().raw_decode(text)
        found.append(one)
        text = text[end:]
    return found


@asynccontextmanager
async def client_of(installation):
    """A client of the service when it is ready."""
    client = await installation.ready()
    try:
        yield client
    finally:
        client.close()


async def noticed(installation, client):
    """A whole host is asked for where all are full: the id of the request, and its victims' notices."""
    await client.fill(16)
    last = (await client.call("GET", "/api/v1/vm")).json["seq"]
    asked = await client.create(False, flavor=HOST_SIZED, headers={"Prefer": "respond-async"})
    assert asked.status == 202
    while len(notices := await client.events(last, type="evict")) < 4:
        await asyncio.sleep(0.1)
    # The guests can read it: a notice that a kill keeps from being written counts from when it is written.
    while installation.database.rows("SELECT 1 FROM eviction WHERE noticed_at IS NULL AND reprieved_at IS NULL"):
        await asyncio.sleep(0.1)
    return asked.json["vm"]["vmsvc_id"], notices


def test_the_readme_s_scenario_works_as_it_is_written(emptied):
    script = "\n".join(commands_of((emptied.tree / "README.md").read_text(encoding="utf-8")))
    script = script.replace(":8888", f":{emptied.port}")
    first, _, delete = script.rpartition("\n")
    address, _, _ = first.partition("\n")
    done = subprocess.run(["bash", "-c", first], capture_output=True, text=True, timeout=120, check=True)
    *_, dry_run, created, events, listed = objects(done.stdout)
    assert dry_run["result"] == "evicts" and len(dry_run["victims"]) == 4
    assert created["code"] == "201" and len(created["evicted"]) == 4
    assert len([event for event in events["events"] if event["data"]["state"] == "evicted"]) >= 4
    assert created["vm"]["id"] in {server["id"] for server in listed["servers"]}
    deleted = subprocess.run(
        ["bash", "-c", f"{address}\n{delete}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": "/usr/bin:/bin", "ID": created["vm"]["id"]},
    )
    assert json.loads(deleted.stdout)["code"] == "204"


def test_what_has_not_changed_is_not_started_anew_when_it_is_built_again(emptied):
    before = emptied.condition()
    emptied.build()
    assert emptied.condition() == before


def test_a_service_that_is_killed_in_a_notice_loses_nothing(emptied):
    async def story():
        async with client_of(emptied) as client:
            request, notices = await noticed(emptied, client)
            docker("kill", "-s", "KILL", emptied.container("vmsvc"))
            docker("start", emptied.container("vmsvc"))
        async with client_of(emptied) as client:
            active = await client.wait_for_event("create/active", request, 60)
            for notice in notices:
                (evicting,) = [
                    event for event in await client.events(vm=notice["subject"]) if event["data"]["state"] == "evicting"
                ]
                assert evicting["time"] >= notice["data"]["vm"]["evict_at"]
                assert evicting["data"]["vm"]["evict_at"] == notice["data"]["vm"]["evict_at"]
            assert sorted(active["data"]["evicted"]) == sorted(notice["subject"] for notice in notices)
            assert len(await client.listed()) == 13

    asyncio.run(story())


def test_a_database_that_restarts_in_a_notice_costs_no_restart_of_the_service(emptied):
    async def story():
        async with client_of(emptied) as client:
            request, notices = await noticed(emptied, client)
            (before,) = emptied.inspect("vmsvc")
            docker("restart", emptied.container("database"))
        async with client_of(emptied) as client:
            active = await client.wait_for_event("create/active", request, 60)
            assert sorted(active["data"]["evicted"]) == sorted(notice["subject"] for notice in notices)
            (after,) = emptied.inspect("vmsvc")
            assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])

    asyncio.run(story())


def test_what_is_taken_down_and_built_again_has_kept_everything(emptied):
    async def look():
        async with client_of(emptied) as client:
            return await client.listed(), await client.events(limit=100)

    async def make():
        async with client_of(emptied) as client:
            await client.fill(2)

    asyncio.run(make())
    before = asyncio.run(look())
    assert emptied.make("down").returncode == 0
    assert not emptied.containers("vmsvc")
    assert f"http://127.0.0.1:{emptied.port}/" in emptied.build()
    assert asyncio.run(look()) == before


def test_a_service_that_gets_sigterm_answers_what_is_under_way_and_ends_with_status_0(emptied):
    async def story():
        async with client_of(emptied) as client:
            channel = await client.channel()
            docker("stop", emptied.container("vmsvc"))
            assert await channel.read_message() is None
            assert channel.close_code == 1012
            channel.close()

    asyncio.run(story())
    (container,) = emptied.inspect("vmsvc")
    assert container["State"]["ExitCode"] == 0
    docker("start", emptied.container("vmsvc"))
    asyncio.run(emptied.ready()).close()
