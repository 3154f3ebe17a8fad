"""The port's promises, kept by the adapter on a whole cloud."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from vmsvc.cloud.port import MARK, BootSpec, ComputeService, Occupant, Provider, Server
from vmsvc.domain.errors import (
    CloudUnavailable,
    Conflict,
    Forbidden,
    InvalidRequest,
    Locked,
    NoCapacity,
    NotFound,
    QuotaExceeded,
)
from vmsvc.domain.flavors import Traits, placement_request
from vmsvc.domain.resources import Resources

UNKNOWN = "0c4f0c4f-0000-4000-8000-000000000000"
pytestmark = pytest.mark.gen_test(timeout=60)


@pytest.fixture(name="spec")
def spec_maker(image_id, network_id):
    """A BootSpec with a mark of its own."""

    def spec(flavor_id: str = "m1.tiny", **more) -> BootSpec:
        mark = str(uuid4())
        wanted = {"image_id": image_id, "network_id": network_id, "metadata": {MARK: mark}, **more}
        return BootSpec(vmsvc_id=mark, name="adapter", flavor_id=flavor_id, **wanted)

    return spec


async def settled(cloud, server_id: str) -> Server:
    """The server once it is neither building nor busy."""
    async with asyncio.timeout(30):
        while (server := await cloud.server(server_id)).status == "BUILD" or server.task_state:
            await asyncio.sleep(0.05)
    return server


async def gone(cloud, server_id: str) -> None:
    """Wait for 404."""
    async with asyncio.timeout(30):
        while True:
            try:
                await cloud.server(server_id)
            except NotFound:
                return
            await asyncio.sleep(0.05)


async def test_credentials_decide_the_mode(connect, demo, admin):
    member, operator = await connect("demo"), await connect("admin")
    assert (member.mode, member.project_id) == ("tenant", demo.project)
    assert (operator.mode, operator.project_id) == ("operator", admin.project)


async def test_the_catalogue_of_what_can_be_asked_for(connect, image_id, network_id):
    for user in ("demo", "admin"):
        cloud = await connect(user)
        sizes = {flavor.name: (flavor.vcpus, flavor.ram_mb, flavor.disk_gb) for flavor in await cloud.flavors()}
        assert sizes == {
            "m1.tiny": (1, 1024, 1),
            "m1.small": (1, 2048, 1),
            "m1.medium": (2, 4096, 1),
            "m1.large": (4, 8192, 1),
        }
        assert [image.id for image in await cloud.images()] == [image_id]
        assert [network.id for network in await cloud.networks()] == [network_id]
        assert [zone.name for zone in await cloud.availability_zones()] == ["nova"]
        assert await cloud.key_names() == frozenset()


async def test_a_server_lives_and_dies(connect, spec):
    cloud = await connect("demo")
    wanted = spec()
    server_id = await cloud.create_server(wanted)
    [found] = await cloud.find_servers(wanted.vmsvc_id)
    assert found.id == server_id
    server = await settled(cloud, server_id)
    assert (server.status, server.vmsvc_id, server.host, server.failure) == ("ACTIVE", wanted.vmsvc_id, None, None)
    assert server.host_id and server.launched_at and server.flavor.ram_mb == 1024
    assert len(await cloud.ports(server_id)) == 1
    await cloud.stop(server_id)
    assert (await settled(cloud, server_id)).status == "SHUTOFF"
    with pytest.raises(Conflict):
        await cloud.stop(server_id)
    await cloud.delete(server_id)
    await gone(cloud, server_id)
    await cloud.delete(server_id)
    await cloud.delete(server_id, force=True)
    assert await cloud.ports(server_id) == ()
    assert await cloud.find_servers(wanted.vmsvc_id) == ()


async def test_force_delete_ends_in_404_too(connect, spec):
    cloud = await connect("demo")
    server_id = await cloud.create_server(spec())
    await settled(cloud, server_id)
    await cloud.delete(server_id, force=True)
    await gone(cloud, server_id)


async def test_servers_without_the_mark_are_not_found_by_it(connect, boot, demo):
    boot(demo)
    cloud = await connect("demo")
    assert await cloud.find_servers(str(uuid4())) == ()
    [foreign] = (await cloud.servers()).servers
    assert foreign.vmsvc_id is None


async def test_quota_is_reported_and_its_refusal_is_quota_exceeded(connect, spec, quota):
    cloud = await connect("demo")
    quota(instances=1, cores=-1, ram=4096)
    server_id = await cloud.create_server(spec())
    await settled(cloud, server_id)  # Nova counts a server when its conductor wrote it down, not at the 202
    told = await cloud.quota()
    assert told.limit == {"instances": 1, "ram": 4096}
    assert told.used == Resources({"instances": 1, "cores": 1, "ram": 1024})
    with pytest.raises(QuotaExceeded, match="Quota exceeded for instances: Requested 1, but already used 1 of 1"):
        await cloud.create_server(spec())
    assert [server.id for server in (await cloud.servers()).servers] == [server_id]


async def test_creates_that_race_for_the_last_of_the_quota_are_refused_now_or_a_little_later(connect, spec, quota):
    cloud = await connect("demo")
    quota(instances=1)
    answers = await asyncio.gather(*(cloud.create_server(spec()) for _ in range(5)), return_exceptions=True)
    made = [await settled(cloud, answer) for answer in answers if isinstance(answer, str)]
    assert made
    assert all(isinstance(answer, QuotaExceeded) for answer in answers if not isinstance(answer, str))
    assert all(isinstance(server.failure, QuotaExceeded) for server in made if server.status == "ERROR")
    assert sum(server.status == "ACTIVE" for server in made) <= 1


async def test_no_capacity_is_a_failed_server_that_is_found_by_its_mark(connect, spec, demo, fill):
    fill(demo)
    cloud = await connect("demo")
    refused = spec()
    server = await settled(cloud, await cloud.create_server(refused))
    assert (server.status, server.fault, server.host_id) == ("ERROR", "No valid host was found. ", "")
    assert isinstance(server.failure, NoCapacity)
    assert [found.id for found in await cloud.find_servers(refused.vmsvc_id)] == [server.id]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"flavor_id": "nope"}, "flavor"),
        ({"image_id": UNKNOWN}, "image"),
        ({"network_id": UNKNOWN}, "network"),
        ({"availability_zone": "nope"}, "availability_zone"),
        ({"key_name": "nope"}, "key_name"),
        ({"user_data": "not base 64!"}, "user_data"),
    ],
)
async def test_a_create_that_names_what_there_is_not_is_invalid_in_that_field(connect, spec, wrong, field):
    cloud = await connect("demo")
    with pytest.raises(InvalidRequest) as caught:
        await cloud.create_server(spec(**wrong))
    assert caught.value.field == field


async def test_without_a_network_the_only_one_is_taken(connect, spec):
    cloud = await connect("demo")
    server = await settled(cloud, await cloud.create_server(spec(network_id=None)))
    assert server.status == "ACTIVE"
    assert len(await cloud.ports(server.id)) == 1


async def test_metadata_can_be_merged_and_removed(connect, spec):
    cloud = await connect("demo")
    wanted = spec()
    server_id = await cloud.create_server(wanted)
    await settled(cloud, server_id)
    await cloud.set_metadata(server_id, {"vmsvc_evict_at": "2026-11-23T10:00:00Z"})
    metadata = (await cloud.server(server_id)).metadata
    assert metadata == {MARK: wanted.vmsvc_id, "vmsvc_evict_at": "2026-11-23T10:00:00Z"}
    for _ in range(2):
        await cloud.unset_metadata(server_id, "vmsvc_evict_at")
    assert (await cloud.server(server_id)).metadata == {MARK: wanted.vmsvc_id}
    with pytest.raises(NotFound):
        await cloud.set_metadata(UNKNOWN, {"a": "b"})
    await cloud.unset_metadata(UNKNOWN, "a")


async def test_a_change_is_seen_by_the_next_look(connect, spec):
    cloud = await connect("demo")
    start = await cloud.servers()
    assert start.servers == ()
    server_id = await cloud.create_server(spec())
    await settled(cloud, server_id)
    page = await cloud.servers(start.as_of)
    assert {server.id: server.status for server in page.servers}[server_id] == "ACTIVE"
    await cloud.delete(server_id)
    await gone(cloud, server_id)
    page = await cloud.servers(page.as_of)
    assert {server.id: server.status for server in page.servers}[server_id] == "DELETED"
    assert (await cloud.servers()).servers == ()


async def test_a_locked_server_is_locked_for_every_write(connect, spec, admin):
    cloud = await connect("demo")
    server_id = await cloud.create_server(spec())
    await settled(cloud, server_id)
    assert admin("POST", f"/servers/{server_id}/action", {"lock": None}).status == 202
    assert (await cloud.server(server_id)).locked
    for write in (
        cloud.delete(server_id),
        cloud.delete(server_id, force=True),
        cloud.stop(server_id),
        cloud.set_metadata(server_id, {"a": "b"}),
        cloud.unset_metadata(server_id, MARK),
    ):
        with pytest.raises(Locked):
            await write


async def test_a_member_is_refused_what_is_the_operators(connect, spec):
    cloud = await connect("demo")
    for call in (
        cloud.providers(),
        cloud.services(),
        cloud.providers_with_trait("COMPUTE_NODE"),
        cloud.allocations(UNKNOWN),
        cloud.occupants(datetime.now(UTC)),
        cloud.servers_and_occupants(datetime.now(UTC)),
        cloud.holders(Provider(UNKNOWN, "bed-1", (UNKNOWN,), 0)),
        cloud.content(Provider(UNKNOWN, "bed-1", (UNKNOWN,), 0)),
        cloud.create_server(spec(host="bed-1")),
    ):
        with pytest.raises(Forbidden):
            await call


async def test_an_operator_sees_hosts_and_what_servers_hold(connect, spec):
    cloud = await connect("admin")
    providers, services = await cloud.providers(), await cloud.services()
    assert len(providers) == 4 and {provider.host for provider in providers} == services.keys()
    assert all(service == ComputeService(True, True, "nova") for service in services.values())
    chosen = providers[-1]
    before = await cloud.content(chosen)
    assert {name: before.inventories[name].capacity for name in ("VCPU", "MEMORY_MB")} == {"VCPU": 4, "MEMORY_MB": 8192}
    assert not before.allocations and before.version == chosen.version
    server_id = await cloud.create_server(spec("m1.medium", host=chosen.host))
    server = await settled(cloud, server_id)
    held = placement_request(2, 4096, 1)
    assert (server.host, server.resources) == (chosen.host, held)
    assert await cloud.allocations(server_id) == {chosen.id: held}
    after = await cloud.content(chosen)
    assert after.allocations == {server_id: held} == await cloud.holders(chosen) and after.version > before.version
    assert {
        provider.host
        for provider, old in zip(await cloud.providers(), providers, strict=True)
        if provider.version != old.version
    } == {chosen.host}
    await cloud.delete(server_id)
    await gone(cloud, server_id)
    assert await cloud.allocations(server_id) == {}
    assert not (await cloud.content(chosen)).allocations
    with pytest.raises(NotFound):
        await cloud.content(Provider(UNKNOWN, "nowhere", (UNKNOWN,), 0))


async def test_an_operator_hears_of_what_others_make_and_not_of_its_own_in_that_list(connect, spec, boot, demo, admin):
    cloud = await connect("admin")
    start = (await cloud.servers()).as_of
    own = await settled(cloud, await cloud.create_server(spec()))
    other = boot(demo, flavorRef="m1.medium")["id"]
    page = await cloud.occupants(start)
    seen = {occupant.id: occupant for occupant in page.occupants}
    host = admin.server(other)["OS-EXT-SRV-ATTR:host"]
    assert seen[other] == Occupant(other, "ACTIVE", host, placement_request(2, 4096, 1))
    assert own.id not in seen
    ours, others = await cloud.servers_and_occupants(start)
    assert seen[other] in others.occupants and own.id not in {each.id for each in others.occupants}
    shown = {each.id: each for each in ours.servers}
    assert (shown[own.id].host, shown[own.id].metadata) == (own.host, own.metadata) and other not in shown
    await cloud.delete(other)
    await gone(cloud, other)
    assert {each.id: each.status for each in (await cloud.occupants(page.as_of)).occupants}[other] == "DELETED"


async def test_traits_are_found_by_their_names(connect):
    cloud = await connect("admin")
    assert await cloud.providers_with_trait("COMPUTE_NODE") == {provider.id for provider in await cloud.providers()}
    with pytest.raises(NotFound):
        await cloud.providers_with_trait("CUSTOM_NOBODY_HAS_THIS")


async def test_placement_names_the_hosts_with_the_capacity(connect, spec):
    cloud = await connect("admin")
    providers = await cloud.providers()
    large = placement_request(4, 8192, 1)
    assert await cloud.providers_with_capacity(large, Traits()) == {provider.id for provider in providers}
    await settled(cloud, await cloud.create_server(spec(host=providers[0].host)))
    assert await cloud.providers_with_capacity(large, Traits()) == {provider.id for provider in providers[1:]}
    assert await cloud.providers_with_capacity(large, Traits(frozenset({"COMPUTE_NODE"}))) == {
        each.id for each in providers[1:]
    }
    assert await cloud.providers_with_capacity(large, Traits(forbidden=frozenset({"COMPUTE_NODE"}))) == frozenset()
    for nothing in (placement_request(5, 1024, 1), Resources({"CUSTOM_NOBODY_HAS_THIS": 1}), Resources()):
        assert await cloud.providers_with_capacity(nothing, Traits()) == frozenset()


async def test_a_pin_to_a_full_host_has_no_capacity_and_to_none_is_invalid(connect, spec):
    cloud = await connect("admin")
    host = (await cloud.providers())[0].host
    await settled(cloud, await cloud.create_server(spec("m1.large", host=host)))
    server = await settled(cloud, await cloud.create_server(spec(host=host)))
    assert isinstance(server.failure, NoCapacity)
    with pytest.raises(InvalidRequest) as caught:
        await cloud.create_server(spec(host="nope"))
    assert caught.value.field == "host"


async def test_a_disabled_host_is_not_available(connect, admin):
    cloud = await connect("admin")
    [service, *_] = admin("GET", "/os-services?binary=nova-compute").body["services"]
    try:
        admin("PUT", f"/os-services/{service['id']}", {"status": "disabled"})
        assert [host for host, seen in (await cloud.services()).items() if not seen.enabled] == [service["host"]]
    finally:
        admin("PUT", f"/os-services/{service['id']}", {"status": "enabled"})
    assert all(seen.enabled for seen in (await cloud.services()).values())


async def test_thirty_two_calls_in_flight_work_over_one_connection_of_the_sdk(connect, spec):
    cloud = await connect("demo")
    await cloud.create_server(spec())
    pages = await asyncio.gather(*(cloud.servers() for _ in range(32)))
    assert {len(page.servers) for page in pages} == {1}


async def test_a_cloud_that_is_not_there_is_unavailable(connect, tmp_path, entries):
    name, entry = entries["demo"]
    nowhere = {**entry, "auth": {**entry["auth"], "auth_url": "http://127.0.0.1:9/v3"}}
    path = tmp_path / "clouds.yaml"
    path.write_text(str({"clouds": {name: nowhere}}))
    cloud = type(await connect("demo"))(cloud=name, config_file=str(path), timeout=5)
    with pytest.raises(CloudUnavailable):
        await cloud.connect()
    await cloud.close()
