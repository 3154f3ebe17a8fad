"""Who may do what, and what an operator sees, over plain HTTP."""

import pytest

from tests.openstack.http import send, until

DESTINATION = "Policy doesn't allow compute:servers:create:requested_destination to be performed."


def test_a_wrong_password_is_401(demo):
    reply = demo.sign_in(password="wrong")
    assert reply.status == 401
    assert reply.body["error"]["code"] == 401
    assert reply.body["error"]["title"] == "Unauthorized"


@pytest.mark.parametrize(
    ("service", "path"),
    [("compute", "/servers"), ("placement", "/resource_providers"), ("network", "/networks"), ("image", "/images")],
)
def test_a_token_that_is_none_is_401_everywhere(admin, service, path):
    assert admin("GET", path, service=service, token="nonsense").status == 401


def test_the_versions_are_reported(demo):
    version = send("GET", demo.endpoints["compute"] + "/", headers={"X-Auth-Token": demo.token}).body["version"]
    newest = tuple(int(part) for part in version["version"].split("."))
    assert newest >= (2, 93)
    assert version["min_version"] == "2.1"
    assert demo("GET", "/servers", version="2.9999").status == 406


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/os-hypervisors", "os_compute_api:os-hypervisors:list"),
        ("/os-hypervisors/detail", "os_compute_api:os-hypervisors:list-detail"),
        ("/os-services", "os_compute_api:os-services:list"),
        ("/servers?all_tenants=1", "os_compute_api:servers:index:get_all_tenants"),
    ],
)
def test_a_member_does_not_see_behind_the_cloud(demo, path, rule):
    reply = demo("GET", path)
    assert (reply.status, reply.body) == (
        403,
        {"forbidden": {"code": 403, "message": f"Policy doesn't allow {rule} to be performed."}},
    )


def test_a_member_does_not_see_placement(demo):
    reply = demo("GET", "/resource_providers", service="placement")
    assert reply.status == 403
    [error] = reply.body["errors"]
    assert (error["status"], error["title"], error["code"]) == (403, "Forbidden", "placement.undefined_code")
    assert error["detail"] == (
        "Access was denied to this resource.\n\n Policy does not allow "
        "placement:resource_providers:list to be performed.  "
    )
    assert demo("GET", f"/usages?project_id={demo.project}", service="placement").status == 200


def test_a_member_sees_zones_without_hosts(demo):
    [zone] = demo("GET", "/os-availability-zone").body["availabilityZoneInfo"]
    assert zone == {"zoneName": "nova", "zoneState": {"available": True}, "hosts": None}


def test_a_member_may_not_pin(demo, post):
    reply = post(demo, host="bed-1")
    assert (reply.status, reply.body) == (403, {"forbidden": {"code": 403, "message": DESTINATION}})


def test_an_admin_may_pin_to_a_host_that_exists(admin, boot, post):
    [first, *_] = admin("GET", "/os-hypervisors/detail").body["hypervisors"]
    host = first["service"]["host"]
    assert boot(admin, host=host)["OS-EXT-SRV-ATTR:host"] == host
    reply = post(admin, host="nope")
    assert (reply.status, reply.message) == (400, "Compute host nope could not be found.")


def test_a_pin_to_a_full_host_finds_no_valid_host_though_others_have_capacity(admin, boot, post):
    host = admin("GET", "/os-hypervisors/detail").body["hypervisors"][0]["service"]["host"]
    boot(admin, host=host, flavorRef="m1.large")
    server_id = post(admin, host=host).body["server"]["id"]
    fault = until("its fault is there", lambda: admin.server(server_id).get("fault"))
    assert fault["message"].startswith("No valid host was found.")


def test_an_admin_sees_hosts_providers_and_services(admin):
    hypervisors = admin("GET", "/os-hypervisors/detail").body["hypervisors"]
    providers = admin("GET", "/resource_providers", service="placement").body["resource_providers"]
    services = admin("GET", "/os-services?binary=nova-compute").body["services"]
    assert {item["id"] for item in hypervisors} == {item["uuid"] for item in providers}
    assert {item["hypervisor_hostname"] for item in hypervisors} == {item["name"] for item in providers}
    assert {item["service"]["host"] for item in hypervisors} == {item["host"] for item in services}
    assert {(item["state"], item["status"], item["zone"]) for item in services} == {("up", "enabled", "nova")}


def test_a_disabled_service_takes_no_server(admin, post):
    services = admin("GET", "/os-services?binary=nova-compute").body["services"]
    for service in services:
        assert admin("PUT", f"/os-services/{service['id']}", {"status": "disabled"}).status == 200
    try:
        server_id = post(admin).body["server"]["id"]
        fault = until("its fault is there", lambda: admin.server(server_id).get("fault"))
        assert fault["message"].startswith("No valid host was found.")
    finally:
        for service in services:
            admin("PUT", f"/os-services/{service['id']}", {"status": "enabled"})
        until(
            "all are enabled",
            lambda: all(service["status"] == "enabled" for service in admin("GET", "/os-services").body["services"]),
        )


def test_placement_shows_what_a_server_holds(admin, demo, boot):
    server = boot(demo, flavorRef="m1.medium")
    held = admin("GET", f"/allocations/{server['id']}", service="placement").body["allocations"]
    [(provider_id, entry)] = held.items()
    assert entry["resources"] == {"VCPU": 2, "MEMORY_MB": 4096, "DISK_GB": 1}
    path = f"/resource_providers/{provider_id}"
    holders = admin("GET", f"{path}/allocations", service="placement").body["allocations"]
    assert (
        holders == {server["id"]: {"resources": {"VCPU": 2, "MEMORY_MB": 4096, "DISK_GB": 1}, "consumer_generation": 1}}
        or holders[server["id"]]["resources"]["VCPU"] == 2
    )
    usages = admin("GET", f"{path}/usages", service="placement").body["usages"]
    assert (usages["VCPU"], usages["MEMORY_MB"]) == (2, 4096)
    inventory = admin("GET", f"{path}/inventories", service="placement").body["inventories"]["VCPU"]
    assert inventory == {
        "total": 4,
        "reserved": 0,
        "min_unit": 1,
        "max_unit": 4,
        "step_size": 1,
        "allocation_ratio": 1.0,
    }
    assert "traits" in admin("GET", f"{path}/traits", service="placement").body
    assert admin("GET", f"{path}/aggregates", service="placement").body["aggregates"] == []


def test_a_full_cloud_has_no_candidates(admin, demo, fill):
    query = "/allocation_candidates?resources=VCPU:4,MEMORY_MB:8192,DISK_GB:1"
    assert len(admin("GET", query, service="placement").body["allocation_requests"]) == 4
    fill(demo)
    assert admin("GET", query, service="placement").body["allocation_requests"] == []
