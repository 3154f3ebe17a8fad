"""Nova's own words about servers, over plain HTTP: what the adapter and the simulated cloud both rest on."""

import hashlib

import pytest

from tests.openstack.http import until

UNKNOWN = "0c4f0c4f-0000-4000-8000-000000000000"


def test_a_create_is_answered_202_with_an_id_and_a_password(demo, post):
    reply = post(demo)
    assert reply.status == 202
    assert set(reply.body["server"]) == {"id", "links", "OS-DCF:diskConfig", "security_groups", "adminPass"}
    assert reply.headers["Location"].endswith(f"/servers/{reply.body['server']['id']}")


def test_a_new_server_is_listed_at_once(demo, post):
    server_id = post(demo).body["server"]["id"]
    assert server_id in [server["id"] for server in demo("GET", "/servers").body["servers"]]


def test_an_active_server_shows_a_member_its_hash_of_the_host_and_not_the_host(demo, admin, boot):
    server = boot(demo, metadata={"vmsvc_id": "v1"})
    host = admin.server(server["id"])["OS-EXT-SRV-ATTR:host"]
    assert server["hostId"] == hashlib.sha224((demo.project + host).encode()).hexdigest()
    assert not [key for key in server if key.startswith("OS-EXT-SRV-ATTR:") and not key.endswith(":hostname")]
    assert "host_status" not in server
    assert server["metadata"] == {"vmsvc_id": "v1"}
    assert server["flavor"] == {
        "vcpus": 1,
        "ram": 1024,
        "disk": 1,
        "ephemeral": 0,
        "swap": 0,
        "original_name": "m1.tiny",
        "extra_specs": {},
    }
    assert (server["locked"], server["OS-EXT-STS:task_state"], server["tenant_id"]) == (False, None, demo.project)
    assert server["OS-EXT-AZ:availability_zone"] == "nova"
    assert server["OS-SRV-USG:launched_at"] and server["created"].endswith("Z")
    assert list(server["addresses"]) and "fault" not in server


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"flavorRef": "nope"}, "Flavor nope could not be found."),
        ({"imageRef": UNKNOWN}, "Can not find requested image"),
        ({"networks": [{"uuid": UNKNOWN}]}, f"Network {UNKNOWN} could not be found."),
        ({"availability_zone": "nope"}, "The requested availability zone is not available"),
        ({"key_name": "nope"}, "Invalid key_name provided."),
    ],
)
def test_a_create_that_names_what_there_is_not_is_refused_with_400(demo, post, wrong, message):
    reply = post(demo, **wrong)
    assert (reply.status, reply.body) == (400, {"badRequest": {"code": 400, "message": message}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"metadata": {"a": 1}},
        {"metadata": {"a": "x" * 256}},
        {"name": ""},
        {"surprise": 1},
        {"user_data": "not base 64!"},
    ],
)
def test_a_create_of_a_wrong_shape_is_refused_with_400(demo, post, wrong):
    reply = post(demo, **wrong)
    assert (reply.status, list(reply.body)) == (400, ["badRequest"])


def test_from_2_37_on_networks_have_to_be_named(demo, image_id):
    body = {"server": {"name": "n", "flavorRef": "m1.tiny", "imageRef": image_id}}
    assert demo("POST", "/servers", body).status == 400


@pytest.mark.parametrize(
    ("limits", "flavor", "message"),
    [
        ({"instances": 1}, "m1.tiny", "Quota exceeded for instances: Requested 1, but already used 1 of 1 instances"),
        ({"cores": 2}, "m1.medium", "Quota exceeded for cores: Requested 2, but already used 1 of 2 cores"),
        ({"ram": 2000}, "m1.small", "Quota exceeded for ram: Requested 2048, but already used 1024 of 2000 ram"),
        (
            {"instances": 1, "cores": 1, "ram": 1024},
            "m1.tiny",
            "Quota exceeded for cores, instances, ram: Requested 1, 1, 1024, but already used 1, 1, 1024 of 1, 1, "
            "1024 cores, instances, ram",
        ),
    ],
)
def test_the_quota_refuses_with_403_and_a_sentence_and_makes_nothing(demo, boot, post, quota, limits, flavor, message):
    first = boot(demo)
    quota(**limits)
    reply = post(demo, flavorRef=flavor)
    assert (reply.status, reply.body) == (403, {"forbidden": {"code": 403, "message": message}})
    assert reply.headers["Retry-After"] is None
    assert [server["id"] for server in demo("GET", "/servers").body["servers"]] == [first["id"]]


def test_the_quota_counts_what_is_used(demo, boot, quota):
    quota(instances=5, cores=7, ram=9000)
    boot(demo, flavorRef="m1.medium")
    limits = demo("GET", "/limits").body["limits"]["absolute"]
    assert {
        key: limits[key]
        for key in (
            "maxTotalInstances",
            "totalInstancesUsed",
            "maxTotalCores",
            "totalCoresUsed",
            "maxTotalRAMSize",
            "totalRAMUsed",
        )
    } == {
        "maxTotalInstances": 5,
        "totalInstancesUsed": 1,
        "maxTotalCores": 7,
        "totalCoresUsed": 2,
        "maxTotalRAMSize": 9000,
        "totalRAMUsed": 4096,
    }


def test_an_unlimited_quota_is_minus_one(demo, quota):
    quota(cores=-1)
    assert demo("GET", "/limits").body["limits"]["absolute"]["maxTotalCores"] == -1


def test_no_capacity_is_a_202_and_then_an_error_with_a_fault(demo, admin, fill, post):
    fill(demo)
    reply = post(demo)
    assert reply.status == 202
    server_id = reply.body["server"]["id"]
    until("the fault is there", lambda: demo.server(server_id).get("fault"))
    server = demo.server(server_id)
    fault = server["fault"]
    assert server["status"] == "ERROR"
    assert (fault["code"], fault["message"]) == (500, "No valid host was found. ")
    assert set(fault) == {"code", "created", "message"}
    assert "details" in admin.server(server_id)["fault"]
    assert (server["hostId"], server["addresses"]) == ("", {})
    assert admin.server(server_id)["OS-EXT-SRV-ATTR:host"] is None
    assert admin("GET", f"/allocations/{server_id}", service="placement").body["allocations"] == {}
    assert demo("GET", f"/ports?device_id={server_id}", service="network").body["ports"] == []
    # It counts until it is deleted.
    assert demo("GET", "/limits").body["limits"]["absolute"]["totalInstancesUsed"] == 5
    assert demo("DELETE", f"/servers/{server_id}").status == 204
    until("it counts no more", lambda: demo("GET", "/limits").body["limits"]["absolute"]["totalInstancesUsed"] == 4)


def test_a_delete_is_204_also_when_repeated_and_ends_in_404(demo, boot, gone):
    server = boot(demo)
    assert demo("DELETE", f"/servers/{server['id']}").status == 204
    again = demo("DELETE", f"/servers/{server['id']}")
    assert again.status in (204, 404)
    expected = {"itemNotFound": {"code": 404, "message": f"Instance {server['id']} could not be found."}}
    assert gone(demo, server["id"]).body == expected
    late = demo("DELETE", f"/servers/{server['id']}")
    assert (late.status, late.body) == (404, expected)


def test_when_get_says_404_the_capacity_the_quota_and_the_port_are_free(demo, admin, boot, gone):
    server = boot(demo)
    [port] = demo("GET", f"/ports?device_id={server['id']}", service="network").body["ports"]
    assert port["device_id"] == server["id"]
    demo("DELETE", f"/servers/{server['id']}")
    gone(demo, server["id"])
    assert admin("GET", f"/allocations/{server['id']}", service="placement").body["allocations"] == {}
    assert demo("GET", f"/ports?device_id={server['id']}", service="network").body["ports"] == []
    assert demo("GET", "/limits").body["limits"]["absolute"]["totalInstancesUsed"] == 0


def test_after_404_a_full_cloud_takes_a_new_server(demo, fill, boot, gone):
    servers = fill(demo)
    demo("DELETE", f"/servers/{servers[0]['id']}")
    gone(demo, servers[0]["id"])
    assert boot(demo, flavorRef="m1.large")["hostId"] == servers[0]["hostId"]


def test_a_delete_while_it_builds_is_204_and_ends_in_404(demo, post, gone):
    server_id = post(demo).body["server"]["id"]
    assert demo("DELETE", f"/servers/{server_id}").status == 204
    gone(demo, server_id)


def test_force_delete_is_open_to_a_member(demo, boot, gone):
    server = boot(demo)
    assert demo("POST", f"/servers/{server['id']}/action", {"forceDelete": None}).status == 202
    gone(demo, server["id"])


def test_a_stopped_server_keeps_its_capacity_and_its_quota(demo, admin, boot):
    server = boot(demo)
    path = f"/servers/{server['id']}"
    assert demo("POST", f"{path}/action", {"os-stop": None}).status == 202
    until("it is off", lambda: demo.server(server["id"])["status"] == "SHUTOFF")
    again = demo("POST", f"{path}/action", {"os-stop": None})
    assert (again.status, again.body) == (
        409,
        {
            "conflictingRequest": {
                "code": 409,
                "message": f"Cannot 'stop' instance {server['id']} while it is in vm_state stopped",
            }
        },
    )
    assert admin("GET", f"/allocations/{server['id']}", service="placement").body["allocations"]
    assert demo("GET", "/limits").body["limits"]["absolute"]["totalInstancesUsed"] == 1


def test_a_locked_server_refuses_its_owner(demo, admin, boot):
    server = boot(demo)
    path = f"/servers/{server['id']}"
    assert admin("POST", f"{path}/action", {"lock": None}).status == 202
    locked = {"conflictingRequest": {"code": 409, "message": f"Instance {server['id']} is locked"}}
    for reply in (
        demo("DELETE", path),
        demo("POST", f"{path}/action", {"os-stop": None}),
        demo("POST", f"{path}/action", {"forceDelete": None}),
        demo("POST", f"{path}/metadata", {"metadata": {"a": "b"}}),
    ):
        assert (reply.status, reply.body) == (409, locked)
    assert demo.server(server["id"])["locked"] is True


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/action", {"os-stop": None}),
        ("POST", "/action", {"forceDelete": None}),
        ("POST", "/metadata", {"metadata": {"a": "b"}}),
        ("DELETE", "/metadata/a", None),
    ],
)
def test_an_unknown_server_is_404(demo, method, path, body):
    reply = demo(method, f"/servers/{UNKNOWN}{path}", body)
    assert (reply.status, reply.body["itemNotFound"]["code"]) == (404, 404)
    assert reply.message.startswith(f"Instance {UNKNOWN} ")
