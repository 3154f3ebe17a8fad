"""What Nova refuses whatever room there is: its own words, over plain HTTP, and what the service makes of them."""

import uuid
from collections.abc import Iterator

import pytest

from tests.openstack.http import until
from tests.openstack.offer import Offer
from tests.openstack.service import PREEMPTIBLE, set_quota
from vmsvc.cloud.port import BootSpec
from vmsvc.domain.errors import InvalidRequest, QuotaExceeded


@pytest.fixture(name="offer")
def fixture_offer(admin) -> Iterator[Offer]:
    """Makes images, networks and flavors for the test."""
    made = Offer(admin)
    yield made
    made.clear()


REFUSED = {
    "min_ram": (
        lambda offer, demo: {"imageRef": offer.image(demo, min_ram=8192)},
        400,
        "Flavor's memory is too small for requested image.",
    ),
    "min_disk": (
        lambda offer, demo: {"imageRef": offer.image(demo, min_disk=5)},
        400,
        "Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is "
        "1073741824 bytes, minimum size is 5368709120 bytes.",
    ),
    "queued": (lambda offer, demo: {"imageRef": offer.image(demo, data=None)}, 400, "is not active."),
    "encrypted": (
        lambda offer, demo: {"imageRef": offer.image(demo, cinder_encryption_key_id=str(uuid.uuid4()))},
        400,
        "Direct booting of an image uploaded from an encrypted volume is unsupported.",
    ),
    "no subnet": (
        lambda offer, demo: {"networks": [{"uuid": offer.network(demo)}]},
        400,
        "requires a subnet in order to boot instances on.",
    ),
    "zero disk": (
        lambda offer, demo: {"flavorRef": offer.flavor("conformance-zero", 0)},
        403,
        "Only volume-backed servers are allowed for flavors with zero disk.",
    ),
    "metadata": (
        lambda offer, demo: {"metadata": {f"k{number}": "v" for number in range(129)}},
        403,
        "Maximum number of metadata items exceeds 128",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_create_that_no_capacity_would_mend_is_refused_at_once(demo, post, offer, case):
    make, status, text = REFUSED[case]
    reply = post(demo, **make(offer, demo))
    assert reply.status == status and reply.message.endswith(text)
    assert demo("GET", "/servers").body["servers"] == []


def test_an_admin_boots_from_an_image_with_a_flavor_without_a_disk(admin, post, offer):
    assert post(admin, flavorRef=offer.flavor("conformance-zero", 0)).status == 202


HOSTLESS = {
    "architecture": ({"hw_architecture": "aarch64"}, "There are not enough hosts available."),
    "32 bits on the fake driver": ({"architecture": "i686"}, "There are not enough hosts available."),
    "hypervisor": ({"hypervisor_type": "kvm"}, "There are not enough hosts available."),
    "VM mode": ({"hw_vm_mode": "xen"}, "There are not enough hosts available."),
    "trait": ({"trait:CUSTOM_NOBODY": "required"}, ""),
}


@pytest.mark.parametrize("case", HOSTLESS)
def test_an_image_that_no_host_runs_ends_as_one_for_which_there_is_no_capacity(demo, boot, offer, case):
    properties, ending = HOSTLESS[case]
    server = boot(demo, "ERROR", imageRef=offer.image(demo, **properties))
    fault = until("it has a fault", lambda: demo.server(server["id"]).get("fault"))
    assert fault["message"] == f"No valid host was found. {ending}"


def test_a_network_without_a_free_address_aborts_the_build_for_good(demo, boot, offer):
    network = offer.network(demo, "10.9.0.0/30", taken=2)
    server = boot(demo, "ERROR", networks=[{"uuid": network}])
    fault = until("it has a fault", lambda: demo.server(server["id"]).get("fault"))
    assert fault["message"] == (
        f"Build of instance {server['id']} aborted: Failed to allocate the network(s) with "
        f"error No fixed IP addresses available for network: {network}, not rescheduling."
    )


def test_images_that_a_list_leaves_out_are_there_all_the_same(demo, admin, offer):
    community = offer.image(admin, visibility="community")
    hidden = offer.image(demo, os_hidden=True)
    shared = offer.image(admin, visibility="shared")
    assert admin("POST", f"/images/{shared}/members", {"member": demo.project}, service="image").status == 200
    private = offer.image(admin)
    listed = {image["id"] for image in demo("GET", "/images", service="image").body["images"]}
    assert not listed & {community, hidden, shared, private}
    assert [
        demo("GET", f"/images/{image}", service="image").status for image in (community, hidden, shared, private)
    ] == [200, 200, 200, 404]


def spec(image: str, network: str, **more: object) -> BootSpec:
    """A create of m1.tiny."""
    return BootSpec(
        **{
            "vmsvc_id": "rehearsal",
            "name": "rehearsal",
            "flavor_id": "m1.tiny",
            "image_id": image,
            "network_id": network,
            "metadata": {},
            **more,
        }
    )


@pytest.mark.gen_test(timeout=120)
async def test_a_rehearsal_finds_what_nova_refuses_and_makes_nothing(
    connect, demo, admin, offer, image_id, network_id, quota
):
    cloud = await connect("demo")
    tiny = {flavor.name: flavor.id for flavor in await cloud.flavors()}["m1.tiny"]
    quota(instances=0)
    await cloud.rehearse(spec(image_id, network_id, flavor_id=tiny))  # a quota is not its business
    for wrong, field in (
        ({"image_id": offer.image(demo, min_ram=8192)}, "flavor"),
        ({"image_id": offer.image(demo, data=None)}, "image"),
        ({"network_id": offer.network(demo)}, "network"),
        ({"key_name": "none"}, "key_name"),
        ({"flavor_id": offer.flavor("conformance-zero", 0)}, "flavor"),
        ({"metadata": {f"k{number}": "v" for number in range(129)}}, "metadata"),
    ):
        with pytest.raises(InvalidRequest) as raised:
            await cloud.rehearse(spec(image_id, network_id, **{"flavor_id": tiny, **wrong}))
        assert raised.value.field == field, raised.value.message
    assert admin("PUT", f"/quotas/{demo.project}", {"quota": {"port": 0}}, service="network").status == 200
    with pytest.raises(QuotaExceeded):
        await cloud.rehearse(spec(image_id, network_id, flavor_id=tiny))
    await cloud.rehearse(spec(image_id, None, flavor_id=tiny, networks="none"))
    assert await cloud.ports_left() == 0
    assert admin("PUT", f"/quotas/{demo.project}", {"quota": {"port": -1}}, service="network").status == 200
    assert await cloud.ports_left() is None
    assert admin("GET", "/servers?all_tenants=1").body["servers"] == []


@pytest.mark.parametrize("user", ["demo", "admin"])
@pytest.mark.gen_test(timeout=120)
async def test_addresses_are_counted_as_far_as_they_are_shown(connect, demo, admin, boot, offer, user):
    cloud, api = await connect(user), {"demo": demo, "admin": admin}[user]
    network = offer.network(api, "10.9.0.0/29", taken=2)
    server = boot(api, networks=[{"uuid": network}])["id"]
    found = await cloud.addresses(network)
    assert (found.total, found.used, found.free, found.holders) == (6, 3, 3, frozenset({server}))
    strangers = offer.network(admin, "10.9.1.0/30", taken=2, shared=True)
    assert (await cloud.addresses(strangers)).free == {"demo": 2, "admin": 0}[user]


def test_no_vm_is_noticed_for_what_nova_refuses(service, project, admin, mode, offer, image_id, network_id):
    """A quota full of preemptible VMs; every request has its answer quickly, dry or in earnest."""
    set_quota(admin, project, instances=2)
    service.create_many(2, {**PREEMPTIBLE, "flavor": "m1.tiny"})
    image = offer.image(project, min_ram=8192)
    for more, status in (
        ({"image": image}, 400),
        ({"network": offer.network(project)}, 400),
        ({"network": offer.network(project, "10.9.0.0/30", taken=2)}, 400),
        ({"flavor": offer.flavor("conformance-zero", 0)}, {"tenant": 400, "operator": None}[mode]),
        ({"image": offer.image(project, hw_architecture="aarch64")}, {"tenant": None, "operator": 409}[mode]),
    ):
        if status is None:
            continue
        body = {"is_preemptible": False, "flavor": "m1.tiny", "image": image_id, "network": network_id, **more}
        planned = service("POST", "/vm?dry_run=true", body)
        assert planned.status == status or planned.body["error"] == "no_capacity", planned.body
        assert service("POST", "/vm", body).status == status
    assert service.evictions(0, "noticed") == []
    set_quota(admin, project, instances=100000)
