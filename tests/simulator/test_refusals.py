"""What the cloud refuses, and with which messages."""

import pytest


def refusal(answer):
    ((kind, body),) = answer.json().items()
    assert body["code"] == answer.status_code
    return answer.status_code, kind, body["message"]


@pytest.mark.parametrize(
    "limits, flavor, message",
    [
        ({"instances": 1}, "m1.small", "Quota exceeded for instances: Requested 1, but already used 1 of 1 instances"),
        ({"cores": 2}, "m1.medium", "Quota exceeded for cores: Requested 2, but already used 1 of 2 cores"),
        ({"ram": 3000}, "m1.small", "Quota exceeded for ram: Requested 2048, but already used 2048 of 3000 ram"),
        (
            {"cores": 1, "instances": 1, "ram": 2048},
            "m1.tiny",
            "Quota exceeded for cores, instances, ram: Requested 1, 1, 1024, but already used 1, 1, 2048 of 1, 1, 2048 "
            "cores, instances, ram",
        ),
        ({"port": 1}, "m1.small", "Maximum number of ports exceeded"),
    ],
)
def test_quota_is_403_with_novas_sentence_and_makes_nothing(sim, demo, limits, flavor, message):
    demo.boot()
    sim.wait(5)
    sim.set("quotas/demo", **limits)
    assert refusal(demo.post(flavor=flavor)) == (403, "forbidden", message)
    assert demo.names() == ["one"]


def test_an_error_server_counts_against_quota_until_it_is_deleted(sim, demo):
    sim.add("faults", kind="no_valid_host")
    failed = demo.boot()
    sim.wait(5)
    sim.set("quotas/demo", instances=1)
    assert demo.post().status_code == 403
    demo.delete(failed)
    sim.wait(1)
    assert demo.post().status_code == 202


def test_min_count_is_counted_as_a_whole_and_max_count_is_trimmed(sim, demo):
    sim.set("quotas/demo", instances=2)
    assert refusal(demo.post(min_count=3))[2] == (
        "Quota exceeded for instances: Requested 3, but already used 0 of 2 instances"
    )
    assert demo.post(max_count=5).status_code == 202
    assert sorted(demo.names()) == ["one-1", "one-2"]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"flavor": "nope"}, "Flavor nope could not be found."),
        ({"imageRef": "70a599e0-31e7-49b7-b260-868f441e862b"}, "Can not find requested image"),
        (
            {"networks": [{"uuid": "70a599e0-31e7-49b7-b260-868f441e862b"}]},
            "Network 70a599e0-31e7-49b7-b260-868f441e862b could not be found.",
        ),
        ({"availability_zone": "mars"}, "The requested availability zone is not available"),
        ({"key_name": "none"}, "Invalid key_name provided."),
        ({"metadata": {"a": 1}}, "Invalid input for field/attribute a. Value: 1. 1 is not of type 'string'"),
    ],
)
def test_what_is_not_there_is_400(demo, values, message):
    assert refusal(demo.post(**values)) == (400, "badRequest", message)


def test_pins_are_the_admins(sim, demo, admin):
    assert refusal(demo.post(host="sim-2")) == (
        403,
        "forbidden",
        "Policy doesn't allow compute:servers:create:requested_destination to be performed.",
    )
    assert refusal(demo.post(availability_zone="nova:sim-2")) == (
        403,
        "forbidden",
        "Policy doesn't allow os_compute_api:servers:create:forced_host to be performed.",
    )
    assert refusal(admin.post(host="nope")) == (400, "badRequest", "Compute host nope could not be found.")
    pinned = [admin.boot(host="sim-2", flavor="m1.large"), admin.boot(hypervisor_hostname="sim-2")]
    sim.wait(5)
    assert [admin.show(each)["OS-EXT-SRV-ATTR:host"] for each in pinned] == ["sim-2", None]
    assert admin.show(pinned[1])["fault"]["message"] == "No valid host was found. "


@pytest.mark.parametrize(
    "path, rule",
    [
        ("/os-hypervisors", "os-hypervisors:list"),
        ("/os-services", "os-services:list"),
        ("/os-aggregates", "os-aggregates:index"),
        ("/servers?all_tenants=1", "servers:index:get_all_tenants"),
    ],
)
def test_hosts_are_not_for_members(demo, path, rule):
    assert refusal(demo.api("GET", f"/compute/v2.1{path}"))[2] == (
        f"Policy doesn't allow os_compute_api:{rule} to be performed."
    )


def test_placement_is_not_for_members_but_for_their_own_usages(sim, demo):
    demo.boot(flavor="m1.medium")
    sim.wait(5)
    answer = demo.api("GET", "/placement/resource_providers")
    assert answer.status_code == 403 and answer.json()["errors"][0]["detail"] == (
        "Access was denied to this resource.\n\n Policy does not allow placement:resource_providers:list to be "
        "performed.  "
    )
    usages = demo.api.get(f"/placement/usages?project_id={demo.project_id}")["usages"]
    assert usages == {"unknown": {"consumer_count": 1, "VCPU": 2, "MEMORY_MB": 4096, "DISK_GB": 1}}


def test_a_locked_server_takes_nothing_from_its_owner(sim, demo, admin):
    server_id = demo.boot()
    sim.wait(5)
    assert demo.act(server_id, "lock").status_code == 202
    locked = (409, "conflictingRequest", f"Instance {server_id} is locked")
    assert refusal(demo.api("DELETE", f"/compute/v2.1/servers/{server_id}")) == locked
    assert refusal(demo.act(server_id, "os-stop")) == locked
    path = f"/compute/v2.1/servers/{server_id}/metadata"
    assert refusal(demo.api("POST", path, {"metadata": {"a": "b"}})) == locked
    assert admin.delete(server_id) == 204


def test_a_server_of_another_project_is_404(sim, demo, admin):
    (foreign,) = sim.add("servers", project="admin", name="theirs")["ids"]
    assert demo.show(foreign) is None and demo.names() == [] and admin.names() == ["theirs"]
    assert refusal(demo.api("DELETE", f"/compute/v2.1/servers/{foreign}")) == (
        404,
        "itemNotFound",
        f"Instance {foreign} could not be found.",
    )


def test_a_stop_of_a_server_that_is_being_deleted_is_409(sim, demo):
    server_id = demo.boot()
    sim.wait(5)
    demo.delete(server_id)
    assert refusal(demo.act(server_id, "os-stop")) == (
        409,
        "conflictingRequest",
        f"Cannot 'stop' instance {server_id} while it is in task_state deleting",
    )
    path = f"/compute/v2.1/servers/{server_id}/metadata"
    assert demo.api("POST", path, {"metadata": {"late": "yes"}}).status_code == 200


@pytest.mark.parametrize(
    "version, status", [("2.1", 200), ("2.100", 200), ("latest", 200), ("2.101", 406), ("3.0", 406), ("two", 400)]
)
def test_microversions_beyond_the_range_are_406(demo, version, status):
    answer = demo.api("GET", "/compute/v2.1/servers", version=version)
    assert answer.status_code == status
    if status == 200:
        shown = answer.headers["OpenStack-API-Version"]
        assert shown == ("compute 2.100" if version == "latest" else f"compute {version}")
