"""The whole service on a cloud full of preemptible VMs, asked for what no eviction makes possible: nobody goes."""

import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.openstack.conftest import LARGE
from tests.openstack.http import Api, Reply
from tests.openstack.service import set_quota

SMALL = {"flavor": "m1.tiny"}
#: What a refusal may take. It is asked for twice, in words and in earnest.
SECONDS = 3.0


@pytest.fixture(name="image")
def fixture_image(admin) -> Iterator:
    """Makes images of a few bytes with what is asked for; they are removed in the end."""
    made = []

    def image(**fields: object) -> str:
        reply = admin(
            "POST",
            "/images",
            {"name": "odd", "container_format": "bare", "disk_format": "raw", "visibility": "public", **fields},
            service="image",
        )
        assert reply.status == 201, reply
        made.append(reply.body["id"])
        upload(admin, made[-1])
        return made[-1]

    yield image
    for image_id in made:
        admin("DELETE", f"/images/{image_id}", service="image")


@pytest.fixture(name="odd")
def fixture_odd(admin, project) -> Iterator[dict[str, str]]:
    """A flavor without a disk, which a policy of Nova's refuses to boot from an image, and a network without a subnet,
    into which nothing can be plugged."""
    flavor = admin("POST", "/flavors", {"flavor": {"name": "no-disk", "ram": 512, "vcpus": 1, "disk": 0}})
    network = project("POST", "/networks", {"network": {"name": "no-subnet"}}, service="network")
    assert (flavor.status, network.status) == (200, 201), (flavor, network)
    yield {"flavor": "no-disk", "network": network.body["network"]["id"]}
    admin("DELETE", f"/flavors/{flavor.body['flavor']['id']}")
    project("DELETE", f"/networks/{network.body['network']['id']}", service="network")


def upload(admin: Api, image_id: str) -> None:
    """Some bytes; without any the image would not be active."""
    request = urllib.request.Request(
        f"{admin.endpoints['image']}/v2/images/{image_id}/file",
        b"x",
        method="PUT",
        headers={"X-Auth-Token": admin.token, "Content-Type": "application/octet-stream"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        assert answer.status == 204


@pytest.fixture(name="refused")
def fixture_refused(service, mode, image_id, network_id):
    """Asks for a standard VM that cannot be, with these fields instead of `names`."""

    def ask(**fields: str) -> Reply:
        return asked_twice(service, mode, {**ask.names, **fields})

    ask.names = {"image": image_id, "network": network_id, **SMALL}
    return ask


def asked_twice(service, mode: str, fields: dict) -> Reply:
    """The answer to a standard VM that is asked for in words, then in earnest: both say no, soon."""
    body, began = {"is_preemptible": False, **fields}, time.monotonic()
    plan = service("POST", "/vm?dry_run=true", body)
    reply = service("POST", "/vm", body)
    took = time.monotonic() - began
    assert took < 2 * SECONDS, f"{took:.1f} s: {reply.body}"
    assert reply.status in (400, 403, 409), reply.body
    if plan.status == 200:  # what is wrong with the request itself is refused in words too
        answer = plan.body
        if answer["result"] == "placed" and mode == "tenant":
            answer = answer["if_no_host_has_room"]
        assert (answer["result"], answer["error"]) == ("refused", reply.body["error"]), (answer, reply.body)
    else:
        assert (plan.status, plan.body["error"]) == (reply.status, reply.body["error"])
    return reply


def test_what_no_eviction_makes_possible_evicts_no_vm(service, mode, project, admin, image, refused, odd):
    mine = service.create_many(3, {"is_preemptible": True, **refused.names})
    since = service.seq()
    # aarch64 while the cloud has room: a tenant's only evidence is that a VM of this size was built a moment ago.
    arm = image(hw_architecture="aarch64")
    assert refused(image=arm).body["error"] == "no_capacity"

    set_quota(admin, project, **{**LARGE, "instances": 3})
    for fields, status in (
        ({"image": image(min_ram=8192)}, 400),
        ({"image": image(min_disk=500)}, 400),
        ({"network": odd["network"]}, 400),
        ({"flavor": odd["flavor"]}, 400),
    ):
        if mode == "operator" and "flavor" in fields:
            continue  # an admin may
        reply = refused(**fields)
        assert (reply.status, reply.body["error"]) == (status, "invalid_request"), reply.body
    for limits, flavor in (({"cores": 1}, "m1.medium"), ({"ram": 1024}, "m1.medium"), ({"instances": 0}, "m1.tiny")):
        set_quota(admin, project, **{**LARGE, **limits})
        assert refused(flavor=flavor).status == 403
    set_quota(admin, project, **LARGE)

    assert not [event for event in service.events(since) if event["type"] == "evict"]
    left = {server["id"]: server["status"] for server in project("GET", "/servers/detail").body["servers"]}
    assert left == dict.fromkeys(mine, "ACTIVE")


@pytest.fixture(name="forbidding", scope="module", autouse=True)
def fixture_forbidding(admin) -> Iterator[str]:
    """A flavor that forbids a trait which does not exist: Placement refuses the query, so that no host ever takes it.
    It is there before the service reads the flavors: Nova takes a flavor and its extra specs in two requests."""
    reply = admin("POST", "/flavors", {"flavor": {"name": "forbids-nothing", "ram": 1024, "vcpus": 1, "disk": 1}})
    assert reply.status == 200, reply
    flavor_id = reply.body["flavor"]["id"]
    specs = {"extra_specs": {"trait:CUSTOM_NO_SUCH_TRAIT": "forbidden"}}
    assert admin("POST", f"/flavors/{flavor_id}/os-extra_specs", specs).status == 200
    yield "forbids-nothing"
    admin("DELETE", f"/flavors/{flavor_id}")


def test_a_flavor_that_forbids_a_trait_that_does_not_exist_evicts_no_vm(service, project, refused, forbidding):
    mine = service.create_many(4, {"is_preemptible": True, **refused.names, "flavor": "m1.large"})
    since = service.seq()
    assert refused(flavor=forbidding).body["error"] == "no_capacity"
    assert not service.evictions(since, "noticed")
    left = {server["id"]: server["status"] for server in project("GET", "/servers/detail").body["servers"]}
    assert left == dict.fromkeys(mine, "ACTIVE")
