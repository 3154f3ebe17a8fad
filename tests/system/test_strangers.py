"""Ids that are not ours: what they cost the cloud, and servers of ours that no row names yet."""

import asyncio
import uuid

import pytest

from tests.system.client import API, until

SERVERS = {"service": "compute", "method": "GET", "path": "/servers"}


@pytest.fixture(name="mode")
def _mode():
    """An operator's service follows other projects' servers too, with the same kind of call."""
    return "tenant"


@pytest.mark.gen_test(timeout=40)
async def test_unknown_ids_cost_the_cloud_one_read_a_second_together(client, sim):
    await client.create(True)
    loop = asyncio.get_running_loop()
    sim.forget_calls()
    await asyncio.sleep(2)
    of_itself = len(sim.calls(**SERVERS)) / 2  # a second
    sim.forget_calls()
    began = loop.time()
    for _ in range(4):
        answers = await asyncio.gather(
            *(client.call(method, f"{API}/vm/{uuid.uuid4()}") for method in ("GET", "DELETE") for _ in range(50))
        )
        assert {answer.status for answer in answers} == {404}
    calls = sim.calls(**SERVERS)
    assert all(call["path"].endswith("/servers/detail") for call in calls)
    assert len(calls) <= 4 + (loop.time() - began) * (1 + of_itself)


@pytest.mark.gen_test(timeout=40)
async def test_a_server_that_was_made_elsewhere_a_moment_ago_is_found(client, sim, project):
    (server,) = sim.foreign(project, flavor="m1.tiny")
    assert (await client.show(server)).json["id"] == server
    answer = await client.delete(server)
    assert (answer.status, answer.json["error"]) == (403, "forbidden")
    assert (await client.show(server)).status == 200
    sim.vanish(server)
    await until(lambda: server not in sim.servers())
    deadline = asyncio.get_running_loop().time() + 2.5
    while (shown := await client.show(server)).status != 404:
        assert asyncio.get_running_loop().time() < deadline, shown.json
        await asyncio.sleep(0.1)


class TestWhileTheAnswerToACreateIsOut:
    """Nova has made the server; the list shows it, and its row does not name it yet."""

    @pytest.fixture(name="server")
    def _server(self, io_loop, client, sim):
        async def shown():
            sim.fault(action="delay_after", seconds=3, method="POST", path="/servers$", count=1)
            asked = await client.create(True, headers={"Prefer": "respond-async"})
            own = asked.json["vm"]["vmsvc_id"]
            async with asyncio.timeout(10):
                while not (
                    found := [
                        one
                        for one, view in (await client.listed()).items()
                        if view.get("vmsvc_id") == own and one != own
                    ]
                ):
                    await asyncio.sleep(0.05)
            return found[0], own

        return io_loop.run_sync(shown)

    @pytest.mark.gen_test(timeout=40)
    async def test_it_is_shown_as_ours_by_the_clouds_id(self, client, server, database):
        cloud_id, own = server
        assert database.rows("SELECT cloud_id FROM vm WHERE id = %s", own) == [{"cloud_id": None}]
        shown = await client.show(cloud_id)
        assert (shown.status, shown.json["id"], shown.json["vmsvc_id"]) == (200, cloud_id, own)
        for answer in (await client.practise(cloud_id), await client.acknowledge(cloud_id)):
            assert (answer.status, answer.json["error"]) == (409, "conflict"), "it is ours, and not active yet"

    @pytest.mark.gen_test(timeout=40)
    async def test_it_is_deleted_by_the_clouds_id(self, client, sim, server):
        cloud_id, own = server
        answer = await client.delete(cloud_id)
        assert (answer.status, answer.json["vm"]["vmsvc_id"]) == (200, own)
        assert cloud_id not in sim.servers()
