"""The address that a lineage keeps: one port, from its first server to its end."""

import asyncio

import pytest

from tests.system.client import until
from tests.system.marks import BOTH
from tests.system.test_lineage import age, next_of, restartable


@BOTH
@pytest.mark.gen_test(timeout=40)
async def test_each_successor_has_the_address_of_the_first_vm_until_the_lineage_ends(client, sim, database):
    vm = await restartable(client, keep_address=True)
    other = await restartable(client)
    first = sim.kept_ports()[vm["origin"]]
    assert first["server"] == vm["id"]
    for _ in range(2):
        age(database, vm["vmsvc_id"])
        await client.practise(vm["id"])
        vm = await next_of(client, vm)
        assert sim.kept_ports() == {vm["origin"]: {**first, "server": vm["id"]}}
    assert sim.ports()[first["id"]] == vm["id"] and len(sim.ports()) == 2
    await client.delete(other["origin"])
    assert (await client.delete(vm["origin"])).status == 200
    await until(lambda: not sim.kept_ports(), "the end of the port")
    await until(lambda: not database.rows("SELECT id FROM lineage WHERE port_id IS NOT NULL"), "the end on record")


@pytest.mark.gen_test(timeout=40)
async def test_a_lineage_that_ends_without_a_vm_gives_its_port_back(client, sim):
    vm = await restartable(client, keep_address=True, max_restarts=0)
    await client.practise(vm["id"])
    await client.wait_for_event("create/failed")
    await until(lambda: not sim.kept_ports(), "the end of the port")
    lost = await restartable(client, keep_address=True)
    await asyncio.to_thread(sim.vanish, lost["id"])
    await client.wait_for_event("delete/lost", lost["id"])
    await until(lambda: not sim.kept_ports(), "the end of the port")


@pytest.mark.gen_test(timeout=40)
async def test_a_port_whose_create_got_no_answer_is_found_and_made_once(client, sim):
    sim.fault(action="cut_after", method="POST", path="/v2.0/ports$", count=1)
    vm = await restartable(client, keep_address=True)
    assert sim.kept_ports()[vm["origin"]]["server"] == vm["id"]
    assert len(sim.calls(method="POST", path="/v2.0/ports$")) == 1


@pytest.mark.gen_test(timeout=40)
async def test_a_port_that_somebody_deleted_is_made_anew(client, sim, database):
    vm = await restartable(client, keep_address=True)
    await client.practise(vm["id"])
    await client.wait_for_event("evict/evicting", vm["id"])
    database.rows("UPDATE lineage SET port_id = '6f3a1c52-5d0e-4b5b-9f0e-0c7b8a3f2d11'")
    vm = await next_of(client, vm)
    assert sim.kept_ports()[vm["origin"]]["server"] == vm["id"]


@pytest.mark.gen_test(timeout=40)
async def test_a_port_of_no_lineage_is_removed_and_a_strangers_port_is_not(client, sim, database, project):
    await restartable(client, keep_address=True)
    (row,) = database.rows("SELECT boot ->> 'network_id' AS network, (SELECT id FROM deployment) AS deployment FROM vm")
    network, name = row["network"], f"vmsvc-{row['deployment']}"
    (stranger,) = sim.take_addresses(network, 1, project, name="vmsvc-of-others", description="no lineage")
    (of_others,) = sim.take_addresses(network, 1, "demo", name=name, description="of another project")
    sim.take_addresses(network, 1, project, name=name, description="0e4c4f1e-2a3f-4bb6-a4a7-6c5d9f2b8e77")
    await until(lambda: len(sim.kept_ports()) == 3, "the end of the port without a lineage", 20)
    assert {stranger, of_others} < {port["id"] for port in sim.kept_ports().values()}
    sim.drop_port(stranger)
    sim.drop_port(of_others)


def asked(sim, project: str, method: str, path: str, body: object = None):
    """The answer to a user of this project."""
    headers = {"X-Auth-Token": sim.token(project, project), "OpenStack-API-Version": "compute 2.93"}
    return sim.call(method, path, body, headers)


def boot(sim, project: str, port: str) -> str:
    """A server with this port, which a user makes; its id."""
    flavors = {one["name"]: one["id"] for one in asked(sim, project, "GET", "/compute/v2.1/flavors")["flavors"]}
    image = asked(sim, project, "GET", "/image/v2/images")["images"][0]["id"]
    wanted = {"name": "other", "flavorRef": flavors["m1.tiny"], "imageRef": image, "networks": [{"port": port}]}
    return asked(sim, project, "POST", "/compute/v2.1/servers", {"server": wanted})["server"]["id"]


def kept(sim) -> list[str]:
    """All ports with the name of those that keep an address."""
    ports = asked(sim, "admin", "GET", "/network/v2.0/ports")["ports"]
    return [port["id"] for port in ports if port["name"].startswith("vmsvc-")]


async def paused_without_server(client, database) -> dict:
    """The VM of a lineage that keeps its address, in the pause after it: no server has the port."""
    vm = await restartable(client, keep_address=True)
    await client.practise(vm["id"])
    vm = await next_of(client, vm)
    await client.practise(vm["id"])
    await client.wait_for_event("evict/evicted", vm["id"])
    assert database.rows("SELECT id FROM vm WHERE state = 'pending' AND not_before > now()")
    return vm


@BOTH
@pytest.mark.gen_test(timeout=40)
async def test_a_port_that_was_given_to_another_server_keeps_no_successor_waiting(client, sim, database, project):
    vm = await paused_without_server(client, database)
    taken = sim.kept_ports()[vm["origin"]]["id"]
    stranger = boot(sim, project, taken)
    await until(lambda: sim.ports().get(taken) == stranger, "the stranger with the port")
    database.rows("UPDATE vm SET not_before = now() WHERE state = 'pending'")
    vm = await next_of(client, vm)
    assert sim.ports()[taken] == stranger
    (own,) = [port for port, server in sim.ports().items() if server == vm["id"]]
    assert own != taken and database.rows("SELECT port_id FROM lineage") == [{"port_id": own}]
    assert not [
        event
        for event in await client.events()
        if event["data"]["state"] == "noticed" and not event["data"]["simulated"]
    ]
    asked(sim, project, "DELETE", f"/compute/v2.1/servers/{stranger}")
    await until(lambda: kept(sim) == [own], "the end of the old port", 20)
    assert (await client.delete(vm["origin"])).status == 200
    await until(lambda: not sim.kept_ports(), "the end of the port")


@pytest.mark.gen_test(timeout=40)
async def test_a_lineage_that_ends_leaves_its_port_to_the_server_that_it_was_given_to(client, sim, database, project):
    vm = await paused_without_server(client, database)
    taken = sim.kept_ports()[vm["origin"]]["id"]
    stranger = boot(sim, project, taken)
    await until(lambda: sim.ports().get(taken) == stranger, "the stranger with the port")
    assert (await client.delete(vm["origin"])).status == 200
    await until(lambda: not database.rows("SELECT id FROM lineage WHERE port_id IS NOT NULL"), "the end of the lineage")
    await asyncio.sleep(1.5)
    assert sim.ports()[taken] == stranger
    asked(sim, project, "DELETE", f"/compute/v2.1/servers/{stranger}")
    await until(lambda: not sim.kept_ports(), "the end of the port", 20)


@pytest.mark.gen_test(timeout=40)
async def test_each_successor_gets_the_port_that_the_caller_made_and_the_other_options(client, sim, database, project):
    """The port is never vmsvc's to delete."""
    network = sim.network("own", "10.9.0.0/24", project, shared=False)
    port = sim.port(network, project)
    wanted = {"networks": [{"port": port}, {"network": "own", "fixed_ip": "10.9.0.77"}], "tags": ["blue"]}
    vm = await restartable(client, hostname="web-1", config_drive=True, **wanted)

    def built(server_id):
        shown = sim.shown(server_id, project)
        addresses = {each["addr"] for each in shown["addresses"]["own"]}
        return addresses, shown["OS-EXT-SRV-ATTR:hostname"], shown["config_drive"], "blue" in shown["tags"]

    first = built(vm["id"])
    assert "10.9.0.77" in first[0] and len(first[0]) == 2 and first[1:] == ("web-1", "True", True)
    age(database, vm["vmsvc_id"])
    await client.practise(vm["id"])
    vm = await next_of(client, vm)
    assert built(vm["id"]) == first and sim.port_of(port)["device_id"] == vm["id"]
    assert (await client.delete(vm["origin"])).status == 200
    assert sim.port_of(port)["device_id"] == "" and not sim.kept_ports()


@pytest.mark.gen_test(timeout=40)
async def test_a_kept_port_is_in_the_security_groups_of_the_request(client, sim, project):
    sim.security_group("web", project)
    vm = await restartable(client, keep_address=True, security_groups=["web"])
    assert [group["name"] for group in sim.shown(vm["id"], project)["security_groups"]] == ["web"]
