"""The life of a server, step by step on a clock that stands still."""

import hashlib


def placement_of(admin, server_id):
    return admin.api.get(f"/placement/allocations/{server_id}")["allocations"]


def ports_of(admin, server_id):
    return admin.api.get(f"/network/v2.0/ports?device_id={server_id}")["ports"]


def test_a_boot_passes_the_states_of_a_real_one(sim, demo, admin):
    sim.set("settings", schedule_seconds=1, boot_seconds=10)
    server_id = demo.boot()
    seen = []
    for _ in range(25):
        server = demo.show(server_id)
        step = (
            server["status"],
            server["OS-EXT-STS:task_state"],
            bool(server["hostId"]),
            bool(ports_of(admin, server_id)),
            bool(placement_of(admin, server_id)),
            bool(server["addresses"]),
        )
        if step not in seen:
            seen.append(step)
        sim.wait(0.5)
    assert seen == [
        ("BUILD", "scheduling", False, False, False, False),
        ("BUILD", "scheduling", False, False, True, False),
        ("BUILD", None, False, False, True, False),
        ("BUILD", "networking", True, False, True, False),
        ("BUILD", "spawning", True, True, True, False),
        ("ACTIVE", None, True, True, True, True),
    ]


def test_the_host_id_is_the_hash_of_project_and_host_and_the_host_is_the_admins(sim, demo, admin):
    server_id = demo.boot()
    sim.wait(5)
    host = admin.show(server_id)["OS-EXT-SRV-ATTR:host"]
    assert demo.show(server_id)["hostId"] == hashlib.sha224((demo.project_id + host).encode()).hexdigest()
    assert "OS-EXT-SRV-ATTR:host" not in demo.show(server_id)


def test_a_delete_frees_port_then_allocation_then_the_record(sim, demo, admin):
    sim.set("settings", delete_seconds=2)
    server_id = demo.boot()
    sim.wait(5)
    assert demo.delete(server_id) == 204
    assert demo.state(server_id) == ("ACTIVE", "deleting")
    sim.wait(1.9)
    assert demo.state(server_id) == ("ACTIVE", "deleting") and ports_of(admin, server_id)
    sim.wait(0.15)
    assert not ports_of(admin, server_id) and placement_of(admin, server_id)
    sim.wait(0.1)
    assert demo.state(server_id) == ("DELETED", None) and not placement_of(admin, server_id)
    assert demo.delete(server_id) == 204
    sim.wait(0.1)
    assert demo.show(server_id) is None and demo.delete(server_id) == 404


def test_no_capacity_is_202_and_then_an_error_whose_fault_comes_a_little_later(sim, demo, admin):
    sim.set("settings", fault_lag_seconds=1)
    for _ in range(4):
        demo.boot(flavor="m1.large")
    sim.wait(5)
    server_id = demo.boot(flavor="m1.tiny")
    sim.wait(0.3)
    server = demo.show(server_id)
    assert (server["status"], server["hostId"], server["addresses"]) == ("ERROR", "", {}) and "fault" not in server
    sim.wait(1)
    fault = demo.show(server_id)["fault"]
    assert (fault["code"], fault["message"]) == (500, "No valid host was found. ") and "details" not in fault
    assert "details" in admin.show(server_id)["fault"]
    assert demo.api.get("/compute/v2.1/limits")["limits"]["absolute"]["totalInstancesUsed"] == 5
    demo.delete(server_id)
    sim.wait(0.02)
    assert demo.show(server_id) is None


def test_a_filtered_host_gives_the_other_sentence(sim, demo):
    for number in range(1, 5):
        sim.set(f"hosts/sim-{number}", refuses=True)
    server_id = demo.boot()
    sim.wait(5)
    assert demo.show(server_id)["fault"]["message"] == (
        "No valid host was found. There are not enough hosts available."
    )


def test_a_failing_spawn_is_tried_on_three_hosts(sim, demo, admin):
    fault = sim.add("faults", kind="spawn_fails", name="^boom", text="the disk is gone")
    server_id = demo.boot(name="boom")
    sim.wait(10)
    assert demo.show(server_id)["fault"]["message"] == (
        f"Exceeded maximum number of retries. Exceeded max scheduling attempts 3 for instance {server_id}. "
        "Last exception: the disk is gone"
    )
    assert not placement_of(admin, server_id) and not ports_of(admin, server_id)
    registered = sim.get("/sim/faults")["troubles"]
    assert [(each["id"], each["hits"]) for each in registered] == [(fault["id"], 3)]


def test_a_spawn_that_fails_once_ends_on_another_host(sim, demo):
    sim.add("faults", kind="spawn_fails", count=1)
    server_id = demo.boot()
    sim.wait(10)
    assert demo.state(server_id) == ("ACTIVE", None)


def test_a_delete_during_the_build_waits_for_its_end(sim, demo):
    sim.set("settings", boot_seconds=10)
    server_id = demo.boot()
    sim.wait(5)
    assert demo.delete(server_id) == 204
    assert demo.state(server_id) == ("BUILD", "deleting")
    sim.wait(5.25)
    assert demo.state(server_id) == ("ACTIVE", None)
    sim.wait(1)
    assert demo.show(server_id) is None


def test_a_dead_host_keeps_builds_and_deletes_until_nova_calls_it_down(sim, demo, admin):
    for number in (2, 3, 4):
        sim.set(f"hosts/sim-{number}", disabled=True)
    old = demo.boot()
    sim.wait(5)
    sim.set("hosts/sim-1", alive=False)
    new = demo.boot()
    demo.delete(old)
    sim.wait(12)
    assert demo.state(new) == ("BUILD", "scheduling") and placement_of(admin, new)
    assert demo.show(new)["hostId"] == "" and demo.state(old) == ("ACTIVE", "deleting")
    sim.wait(10)
    assert demo.state(old) == ("ACTIVE", "deleting") and placement_of(admin, old)
    demo.delete(old)
    demo.delete(new)
    sim.wait(1)
    assert demo.show(old) is None and demo.show(new) is None and not placement_of(admin, old)


def test_a_host_that_comes_back_goes_on_where_it_was(sim, demo):
    sim.set("settings", boot_seconds=4)
    building, leaving = demo.boot(), demo.boot()
    sim.wait(10)
    for number in range(1, 5):
        sim.set(f"hosts/sim-{number}", alive=False)
    demo.delete(leaving)
    another = demo.boot()
    sim.wait(3)
    assert demo.state(leaving) == ("ACTIVE", "deleting") and demo.state(another)[0] == "BUILD"
    for number in range(1, 5):
        sim.set(f"hosts/sim-{number}", alive=True)
    sim.wait(10)
    assert demo.show(leaving) is None and demo.state(another) == demo.state(building) == ("ACTIVE", None)


def test_a_delete_that_hangs_ends_when_asked_again(sim, demo):
    sim.add("faults", kind="delete_hangs", count=1)
    server_id = demo.boot()
    sim.wait(5)
    demo.delete(server_id)
    sim.wait(1000)
    assert demo.state(server_id) == ("ACTIVE", "deleting")
    demo.delete(server_id)
    sim.wait(5)
    assert demo.show(server_id) is None


def test_soft_delete_frees_quota_and_keeps_the_allocation_until_it_is_reclaimed(sim, demo, admin):
    sim.set("settings", reclaim_seconds=100)
    first, second = demo.boot(), demo.boot()
    sim.wait(5)
    demo.delete(first)
    demo.delete(second)
    assert demo.state(first) == ("SOFT_DELETED", None) and placement_of(admin, first)
    assert demo.api.get("/compute/v2.1/limits")["limits"]["absolute"]["totalInstancesUsed"] == 0
    assert demo.act(first, "restore").status_code == 202
    sim.wait(5)
    assert demo.state(first) == ("ACTIVE", None)
    sim.wait(100)
    assert demo.show(second) is None and not placement_of(admin, second)
    demo.delete(first)
    assert demo.act(first, "forceDelete").status_code == 202
    sim.wait(5)
    assert demo.show(first) is None


def test_a_stopped_server_keeps_its_allocation_and_a_shelved_one_gives_it_up(sim, demo, admin):
    server_id = demo.boot()
    sim.wait(5)
    assert demo.act(server_id, "os-stop").status_code == 202
    assert demo.state(server_id) == ("ACTIVE", "powering-off")
    sim.wait(1)
    assert demo.state(server_id) == ("SHUTOFF", None) and placement_of(admin, server_id)
    demo.act(server_id, "shelve")
    sim.wait(1)
    assert demo.state(server_id) == ("SHELVED_OFFLOADED", None) and not placement_of(admin, server_id)
    assert ports_of(admin, server_id)[0]["status"] == "DOWN" and demo.show(server_id)["hostId"] == ""
    demo.act(server_id, "unshelve")
    sim.wait(5)
    assert demo.state(server_id) == ("ACTIVE", None)


def test_capacity_freed_by_404_takes_the_next_server(sim, demo):
    first = [demo.boot(flavor="m1.large") for _ in range(4)][0]
    sim.wait(5)
    demo.delete(first)
    too_early = demo.boot(flavor="m1.large")
    sim.wait(0.3)
    assert demo.state(too_early) == ("ERROR", None)
    sim.wait(5)
    in_time = demo.boot(flavor="m1.large")
    sim.wait(5)
    assert demo.state(in_time) == ("ACTIVE", None)


def test_a_thief_takes_the_capacity_before_a_client_sees_it_free(sim, demo, admin):
    sim.add("faults", kind="thief", count=1)
    servers = [demo.boot(flavor="m1.large") for _ in range(4)]
    sim.wait(5)
    for victim, outcome in ((servers[0], "ERROR"), (servers[1], "ACTIVE")):
        demo.delete(victim)
        sim.wait(5)
        server_id = demo.boot(flavor="m1.large")
        sim.wait(5)
        assert demo.show(server_id)["status"] == outcome
    assert admin.names() == ["thief"]
