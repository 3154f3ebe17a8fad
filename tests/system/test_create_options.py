"""What a create takes besides flavor and image: a wrong value of each costs nobody a VM; Nova gets the right ones."""

import asyncio
import uuid

import pytest

from tests.system.client import API, until
from tests.system.marks import BOTH, EITHER

pytestmark = pytest.mark.parametrize(
    "options", [{"grace_seconds": 0.3, "network": "bed-net", "image": "bed-image"}], ids=["grace0.3"]
)
TWO_HOSTS = pytest.mark.parametrize("hosts", [2])
NOBODY = str(uuid.uuid4())


def used_port(sim, project, network):
    """A port that a server uses."""
    port = sim.port(network, project)
    server = sim.direct(
        project,
        {"name": "s", "flavorRef": "m1.tiny", "imageRef": sim.image("own"), "networks": [{"port": port}]},
    )
    return port, server


#: What stands for the names in the table below: `own` is a network of the project, `taken` an address of it.
BAD = {
    "no such network": ({"networks": [{"network": "nowhere"}]}, "networks"),
    "no such port": ({"networks": [{"port": NOBODY}]}, "networks"),
    "no such port by name": ({"networks": [{"port": "nobody's"}]}, "networks"),
    "another project's port": ({"networks": [{"port": "{foreign}"}]}, "networks"),
    "a port in use": ({"networks": [{"port": "{used}"}]}, "networks"),
    "the second one": ({"networks": [{"network": "own"}, {"port": NOBODY}]}, "networks"),
    "a network without a subnet": ({"networks": [{"network": "own"}, {"network": "bare"}]}, "networks"),
    "an address that is taken": ({"networks": [{"network": "own", "fixed_ip": "{taken}"}]}, "networks"),
    "an address elsewhere": ({"networks": [{"network": "own", "fixed_ip": "192.0.2.1"}]}, "networks"),
    "no such security group": ({"security_groups": ["nobody's"]}, "security_groups"),
    "two of one name": ({"security_groups": ["twin"]}, "security_groups"),
    "no such server group": ({"server_group": NOBODY}, "server_group"),
    "another project's server group": ({"server_group": "{strangers}"}, "server_group"),
    "no such server group in a hint": ({"scheduler_hints": {"group": NOBODY}}, "scheduler_hints"),
    "a hint that contradicts": (
        {"server_group": "apart", "scheduler_hints": {"group": "together"}},
        "scheduler_hints",
    ),
    "no such server": ({"scheduler_hints": {"same_host": [NOBODY]}}, "scheduler_hints"),
    "no server to keep away from": ({"scheduler_hints": {"different_host": NOBODY}}, "scheduler_hints"),
    "a hint that vmsvc cannot plan by": ({"scheduler_hints": {"query": "[]"}}, "scheduler_hints"),
    "tags": ({"tags": ["a/b"]}, "tags"),
    "hostname": ({"hostname": "-x"}, "hostname"),
    "config drive": ({"config_drive": "maybe"}, "config_drive"),
    "certificates": ({"trusted_image_certificates": []}, "trusted_image_certificates"),
}


def offered(sim, project):
    """What the table of bad values names: text in braces -> what stands for it."""
    other = {"demo": "admin", "admin": "demo"}[project]
    own = sim.network("own", "10.9.0.0/24", project, shared=False)
    sim.network("bare", None, project, shared=False)
    sim.server_group("apart", "anti-affinity", project)
    sim.server_group("together", "affinity", project)
    for _ in range(2):
        sim.security_group("twin", project)
    port, server = used_port(sim, project, own)
    net = sim.network("others", "10.10.0.0/24", other, shared=False)
    return server, {
        "{foreign}": sim.port(net, other),
        "{used}": port,
        "{taken}": sim.port_of(sim.port(own, project))["fixed_ips"][0]["ip_address"],
        "{strangers}": sim.server_group("strangers", "affinity", other),
    }


def with_names(body, names):
    """The body, with what stands for the texts in braces."""
    if isinstance(body, dict):
        return {key: with_names(value, names) for key, value in body.items()}
    if isinstance(body, list):
        return [with_names(each, names) for each in body]
    return names.get(body, body)


@BOTH
@pytest.mark.gen_test(timeout=60)
async def test_a_bad_value_of_each_field_is_400_and_no_vm_is_noticed(client, sim, project):
    server, names = offered(sim, project)
    await until(lambda: sim.servers()[server]["status"] == "ACTIVE")
    sim.quota(project, instances=4)
    preemptible = await client.fill(3)

    async def refused(case, query):
        body, field = BAD[case]
        answer = await client.create(False, query=query, **with_names(body, names))
        assert (answer.status, answer.json["error"], answer.json["field"]) == (400, "invalid_request", field), (
            case,
            answer.json,
        )

    for query in ("?dry_run=true", ""):
        await asyncio.gather(*(refused(case, query) for case in BAD))
    assert not await client.events(type="evict")
    assert sim.servers().keys() == {server, *preemptible}
    sim.vanish(server)


@pytest.mark.parametrize("mode", ["tenant"])
@pytest.mark.gen_test(timeout=30)
async def test_an_address_on_another_projects_network_is_refused_since_neutron_would_refuse_it_during_the_build(
    client, sim, project
):
    sim.network("others", "10.9.0.0/24", "admin")
    sim.quota(project, instances=2)
    await client.fill(2)
    answer = await client.create(False, networks=[{"network": "others", "fixed_ip": "10.9.0.9"}])
    assert (answer.status, answer.json["field"]) == (400, "networks")
    assert not await client.events(type="evict")


def everything(sim, project):
    """The body of a create with all options, and what Nova is to be told by whoever asks it directly."""
    own, other = (
        sim.network(name, cidr, project, shared=False)
        for name, cidr in (("own", "10.9.0.0/24"), ("two", "10.8.0.0/24"))
    )
    web, group = sim.security_group("web", project), sim.server_group("apart", "soft-anti-affinity", project)
    ports = [sim.port(other, project, name=name) for name in ("mine", "for-the-other")]
    ours = {
        "networks": [{"network": "own", "fixed_ip": "10.9.0.9"}, {"port": "mine"}, {"network": other}],
        "security_groups": ["web", "default"],
        "tags": ["blue", "b c"],
        "server_group": "apart",
        "config_drive": True,
        "hostname": "web-1",
        "trusted_image_certificates": ["0b5d2c72-12cc-4ba6-a8d7-3ff5cc1d8cb8"],
        "metadata": {"a": "b"},
        "name": "whole",
    }
    novas = {
        "networks": [{"uuid": own, "fixed_ip": "10.9.0.10"}, {"port": ports[1]}, {"uuid": other}],
        "security_groups": [{"name": web}, {"name": "default"}],
        **{
            name: ours[name]
            for name in ("tags", "config_drive", "hostname", "trusted_image_certificates", "metadata", "name")
        },
    }
    return ours, novas, group, ports


@BOTH
@pytest.mark.gen_test(timeout=60)
async def test_a_vm_with_all_options_is_as_one_that_nova_was_asked_for_directly(client, sim, project):
    ours, novas, group, ports = everything(sim, project)
    created = await client.create(False, **ours)
    assert created.status == 201, created.json
    image = sim.shown(created.id, project)["image"]["id"]
    direct = sim.direct(project, {**novas, "flavorRef": "m1.tiny", "imageRef": image}, {"group": group})
    await until(lambda: sim.servers()[direct]["status"] == "ACTIVE")

    def comparable(server_id):
        shown = sim.shown(server_id, project)
        for name in ("id", "links", "created", "updated", "OS-SRV-USG:launched_at", "hostId"):
            del shown[name]
        shown["metadata"] = {key: value for key, value in shown["metadata"].items() if not key.startswith("vmsvc_")}
        shown["tags"] = [tag for tag in shown["tags"] if tag in ours["tags"]]
        shown["addresses"] = {name: len(found) for name, found in shown["addresses"].items()}
        return {
            name: value
            for name, value in shown.items()
            if not name.startswith("OS-EXT-SRV-ATTR:") or "hostname" in name
        }

    mine, theirs = comparable(created.id), comparable(direct)
    for shown in (mine, theirs):  # by its own name on each host
        shown.pop("OS-EXT-SRV-ATTR:hypervisor_hostname", None)
    assert mine == theirs
    assert mine["server_groups"] == [group] and mine["config_drive"] == "True"
    assert sim.shown(created.id, project)["addresses"]["own"][0]["addr"] == "10.9.0.9"
    assert (await client.delete(created.id)).status == 200
    assert sim.port_of(ports[0])["device_id"] == "", "a port that the caller made stays"
    sim.vanish(direct)


@EITHER
@pytest.mark.gen_test(timeout=30)
async def test_a_retry_is_answered_by_the_request_that_has_the_port(client, sim, project):
    port = sim.port(sim.network("own", "10.9.0.0/24", project, shared=False), project)
    body = {"networks": [{"port": port}]}
    first, again = [await client.create(False, headers={"Idempotency-Key": "one"}, **body) for _ in range(2)]
    assert (first.status, again.status) == (201, 201) and first.id == again.id
    assert (await client.create(False, headers={"Idempotency-Key": "one"})).status == 422
    assert (await client.create(False, **body)).status == 400


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_of_two_requests_for_one_port_only_the_first_costs_vms(client, sim, project):
    port = sim.port(sim.network("own", "10.9.0.0/24", project, shared=False), project)
    sim.quota(project, instances=4)
    await client.fill(4)
    answers = await asyncio.gather(*(client.create(False, networks=[{"port": port}]) for _ in range(2)))
    assert sorted(answer.status for answer in answers) == [201, 409], [answer.json for answer in answers]
    assert len(await client.events(type="evict")) == 3  # of one victim


@EITHER
@pytest.mark.gen_test(timeout=30)
async def test_a_request_that_waits_shows_what_it_asks_for(client, sim, project):
    sim.quota(project, instances=1)
    await client.create(False)
    body = {"tags": ["blue"], "networks": [{"network": "bed-net"}], "config_drive": True}
    waits = await client.create(True, wait_seconds=60, headers={"Prefer": "respond-async"}, **body)
    assert waits.status == 202, waits.json
    assert (await client.show(waits.id)).json["options"] == body
    assert waits.id in await client.listed()
    assert (await client.delete(waits.id)).status == 200


# ---------------------------------------------------------------- server groups


@pytest.mark.parametrize("mode", ["operator"])
@TWO_HOSTS
@pytest.mark.gen_test(timeout=40)
async def test_an_operator_evicts_where_the_server_group_allows_the_vm(client, sim, project, hosts):
    """Cheapest would be a victim beside the member; Nova would not take the VM there."""
    assert hosts == 2
    sim.server_group("apart", "anti-affinity", project)
    first = await client.create(False, server_group="apart")
    home = sim.servers()[first.id]["host"]
    await client.fill(7)
    second = await client.create(False, server_group="apart")
    assert second.status == 201 and len(second.json["evicted"]) == 1, second.json
    assert sim.servers()[second.id]["host"] != home
    planned = await client.create(False, server_group="apart", query="?dry_run=true")
    assert (planned.json["result"], planned.json["error"]) == ("refused", "no_capacity")
    third = await client.create(False, server_group="apart")
    assert (third.status, third.json["error"]) == (409, "no_capacity") and "apart (anti-affinity)" in third.json[
        "message"
    ]
    assert len(await client.events(type="evict")) == 3


@BOTH
@TWO_HOSTS
@pytest.mark.gen_test(timeout=40)
async def test_nobody_is_evicted_where_affinity_forbids_the_host(client, sim, project, hosts, mode):
    """The group is on a host full of standard VMs, and preemptible ones fill the other."""
    assert hosts == 2
    sim.server_group("together", "affinity", project)
    sim.host("sim-2", disabled=True)
    members = [await client.create(False, server_group="together") for _ in range(4)]
    sim.host("sim-2", disabled=False)
    assert {sim.servers()[member.id]["host"] for member in members} == {"sim-1"}

    async def is_back() -> bool:
        shown = (await client.call("GET", f"{API}/capacity")).json
        return mode == "tenant" or all(one["available"] for one in shown["hosts"])

    while not await is_back():
        await asyncio.sleep(0.05)
    await client.fill(4)
    refused = await client.create(False, server_group="together")
    assert (refused.status, refused.json["error"]) == (409, "no_capacity")
    assert not await client.events(type="evict")


@BOTH
@TWO_HOSTS
@pytest.mark.gen_test(timeout=40)
async def test_hints_name_the_hosts_of_the_victims(client, sim, hosts):
    assert hosts == 2
    preemptible = await client.fill(8)
    hosts_of = {vm: sim.servers()[vm]["host"] for vm in preemptible}
    stays = preemptible[0]  # by chance the cheapest victim of its host, which it may not be
    there = await client.create(False, scheduler_hints={"same_host": stays})
    assert there.status == 201, there.json
    assert {hosts_of[victim] for victim in there.json["evicted"]} == {hosts_of[stays]}
    away = await client.create(False, scheduler_hints={"different_host": [there.id]})
    assert away.status == 201 and {hosts_of[victim] for victim in away.json["evicted"]} != {hosts_of[stays]}


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_a_group_that_has_as_many_members_as_nova_allows_takes_no_more_and_costs_nobody_a_vm(
    client, sim, project
):
    sim.server_group("pair", "soft-affinity", project)
    sim.quota(project, server_group_members=1)
    assert (await client.create(False, server_group="pair")).status == 201
    await client.fill(3)
    refused = await client.create(False, server_group="pair")
    sim.quota(project, server_group_members=10)
    assert (refused.status, refused.json["field"]) == (400, "server_group") and "Nova allows 1" in refused.json[
        "message"
    ]
    assert not await client.events(type="evict")


@pytest.mark.gen_test(timeout=30)
async def test_the_addresses_of_a_subnet_that_no_server_may_have_are_refused(client, sim, project):
    sim.network("own", "10.9.0.0/24", project, shared=False)
    for address in ("10.9.0.0", "10.9.0.255", "10.9.1.1"):
        refused = await client.create(True, networks=[{"network": "own", "fixed_ip": address}])
        assert (refused.status, refused.json["field"]) == (400, "networks"), address
