"""Placement: capacity, allocations and hosts."""

import uuid


def provider(admin, name="sim-1"):
    return admin.api.get(f"/placement/resource_providers?name={name}")["resource_providers"][0]


def test_candidates_leave_full_hosts_out_and_know_nothing_of_disabled_ones(sim, demo, admin):
    sim.set("hosts/sim-4", disabled=True)
    demo.boot(flavor="m1.large")
    sim.wait(5)
    answer = admin.api.get("/placement/allocation_candidates?resources=VCPU:4,MEMORY_MB:8192,DISK_GB:1")
    names = {
        each["name"]
        for each in admin.api.get("/placement/resource_providers")["resource_providers"]
        if each["uuid"] in answer["provider_summaries"]
    }
    assert len(answer["allocation_requests"]) == 3 and "sim-4" in names
    assert admin.api.get("/placement/allocation_candidates?resources=VCPU:5")["allocation_requests"] == []


def test_capacity_is_total_less_reserved_times_ratio(sim, demo, admin):
    for number in (2, 3, 4):
        sim.set(f"hosts/sim-{number}", disabled=True)
    sim.set("hosts/sim-1", reserved={"VCPU": 2}, ratio={"VCPU": 1.5, "MEMORY_MB": 9.0})
    summary = admin.api.get("/placement/allocation_candidates?resources=VCPU:1")["provider_summaries"]
    assert summary[provider(admin)["uuid"]]["resources"]["VCPU"] == {"capacity": 3, "used": 0}
    ids = [demo.boot() for _ in range(4)]
    sim.wait(5)
    assert [demo.show(each)["status"] for each in ids] == ["ACTIVE"] * 3 + ["ERROR"]


def test_a_claim_respects_units_and_steps_and_generations(admin):
    uuid_ = provider(admin)["uuid"]
    path = f"/placement/resource_providers/{uuid_}/inventories/VCPU"
    inventory = admin.api.get(path)
    changed = {**inventory, "min_unit": 2, "step_size": 2}
    assert admin.api("PUT", path, {**changed, "resource_provider_generation": 99}).status_code == 409
    assert admin.api("PUT", path, changed).json()["step_size"] == 2

    def claim(vcpus):
        body = {
            "allocations": {uuid_: {"resources": {"VCPU": vcpus}}},
            "project_id": admin.project_id,
            "user_id": "u",
            "consumer_generation": None,
            "consumer_type": "TEST",
        }
        return admin.api("PUT", f"/placement/allocations/{uuid.uuid4()}", body).status_code

    assert [claim(1), claim(3), claim(2), claim(2), claim(2)] == [409, 409, 204, 204, 409]


def test_who_holds_what_of_a_host_is_one_call(sim, admin):
    (first,) = sim.add("servers", host="sim-1", flavor="m1.medium")["ids"]
    uuid_ = provider(admin)["uuid"]
    held = admin.api.get(f"/placement/resource_providers/{uuid_}/allocations")["allocations"]
    assert held == {first: {"resources": {"VCPU": 2, "MEMORY_MB": 4096, "DISK_GB": 1}, "consumer_generation": 1}}
    assert admin.api.get(f"/placement/resource_providers/{uuid_}/usages")["usages"]["VCPU"] == 2


def test_hosts_come_and_go_and_zones_with_them(sim, demo, admin):
    sim.add("hosts", name="big", vcpus=16, ram_mb=65536, az="mars")
    zones = demo.api.get("/compute/v2.1/os-availability-zone")["availabilityZoneInfo"]
    assert [zone["zoneName"] for zone in zones] == ["nova", "mars"] and zones[0]["hosts"] is None
    server_id = demo.boot(availability_zone="mars")
    sim.wait(5)
    assert admin.show(server_id)["OS-EXT-SRV-ATTR:host"] == "big"
    assert sim("DELETE", "/sim/hosts/big").status_code == 409
    demo.delete(server_id)
    sim.wait(5)
    assert sim("DELETE", "/sim/hosts/big").status_code == 204


def test_a_node_may_have_another_name_than_its_host(sim, admin):
    sim.add("hosts", name="rack1", node="rack1.example")
    server_id = admin.boot(host="rack1")
    sim.wait(5)
    server = admin.show(server_id)
    assert (server["OS-EXT-SRV-ATTR:host"], server["OS-EXT-SRV-ATTR:hypervisor_hostname"]) == ("rack1", "rack1.example")


def test_a_service_is_disabled_and_forced_down_by_its_id(sim, demo, admin):
    services = admin.api.get("/compute/v2.1/os-services?binary=nova-compute")["services"]
    for service in services:
        admin.api("PUT", f"/compute/v2.1/os-services/{service['id']}", {"status": "disabled", "disabled_reason": "x"})
    server_id = demo.boot()
    sim.wait(5)
    assert demo.show(server_id)["fault"]["message"].endswith("There are not enough hosts available.")
    admin.api("PUT", f"/compute/v2.1/os-services/{services[0]['id']}", {"forced_down": True})
    shown = admin.api.get("/compute/v2.1/os-hypervisors/detail")["hypervisors"][0]
    assert (shown["state"], shown["status"], shown["service"]["disabled_reason"]) == ("down", "disabled", "x")


def test_required_traits_and_aggregates_filter_providers(sim, admin):
    sim.set("hosts/sim-1", traits=["CUSTOM_GPU"], aggregates=["3f0b7b3c-4a2e-4d1c-9f0e-1a2b3c4d5e6f"])

    def names(query):
        found = admin.api.get(f"/placement/resource_providers?{query}")["resource_providers"]
        return [each["name"] for each in found]

    assert names("required=CUSTOM_GPU") == ["sim-1"] == names("member_of=3f0b7b3c-4a2e-4d1c-9f0e-1a2b3c4d5e6f")
    assert names("required=!CUSTOM_GPU") == ["sim-2", "sim-3", "sim-4"]
    assert names("resources=VCPU:4&name=sim-2") == ["sim-2"] and names("resources=VCPU:5") == []


def test_anti_affinity_spreads_servers_over_hosts(sim, demo):
    group = demo.api(
        "POST", "/compute/v2.1/os-server-groups", {"server_group": {"name": "g", "policy": "anti-affinity"}}
    ).json()["server_group"]["id"]
    body = {
        "server": {"name": "one", "flavorRef": "m1.tiny", "imageRef": demo.image, "networks": "auto"},
        "os:scheduler_hints": {"group": group},
    }
    ids = [demo.api("POST", "/compute/v2.1/servers", body).json()["server"]["id"] for _ in range(5)]
    sim.wait(5)
    assert len({demo.show(each)["hostId"] for each in ids[:4]}) == 4
    assert demo.show(ids[4])["fault"]["message"].endswith("There are not enough hosts available.")
