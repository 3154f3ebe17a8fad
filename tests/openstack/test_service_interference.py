"""The whole service on a cloud on which others act: owners, outsiders, the keeper. On a cloud that is full of
preemptible VMs of a host's size, so that each standard VM costs exactly one."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.openstack.conftest import LARGE
from tests.openstack.http import until
from tests.openstack.service import PREEMPTIBLE, STANDARD, instant, nothing_is_left_of, set_quota


@pytest.fixture(name="full")
def fixture_full(service) -> list[str]:
    """The preemptible VMs that fill the cloud, one on each host."""
    return service.create_many(4, PREEMPTIBLE)


@contextmanager
def asked(service, **fields):
    """A standard VM is asked for: (the answer to be, a function that waits for the next one that is noticed)."""
    since, seen = service.seq(), set()
    with ThreadPoolExecutor(1) as pool:
        answer: Future = pool.submit(service, "POST", "/vm", {**STANDARD, **fields})

        def noticed() -> str:
            victim = until("somebody is noticed", lambda: next(iter(service.victims(since) - seen), None))
            seen.add(victim)
            return victim

        yield answer, noticed


def first(service, step: str, subject: str) -> dict | None:
    """The first event such as "evict/noticed" of a VM."""
    return next(
        (
            event
            for event in service.events(0)
            if event["subject"] == subject and f"{event['type']}/{event['data']['state']}" == step
        ),
        None,
    )


def states(project) -> dict[str, str]:
    """The project's servers and their statuses."""
    return {server["id"]: server["status"] for server in project("GET", "/servers/detail").body["servers"]}


def test_owners_who_stop_or_delete_a_victim_end_the_wait_and_capacity_that_appears_spares_one(service, project, full):
    with asked(service) as (answer, noticed):
        stopped = noticed()
        until("the guest can read it", lambda: "vmsvc_evict_at" in project.server(stopped)["metadata"])
        assert project("POST", f"/servers/{stopped}/action", {"os-stop": None}).status == 202
        one = answer.result(timeout=300)
    assert (one.status, one.body["evicted"]) == (201, [stopped])
    notice = first(service, "evict/noticed", stopped)
    assert first(service, "evict/evicting", stopped)["time"] < notice["data"]["evict_at"], "it ended its notice itself"

    with asked(service) as (answer, noticed):
        deleted = noticed()
        assert project("DELETE", f"/servers/{deleted}").status == 204
        two = answer.result(timeout=300)
    assert (two.status, two.body["evicted"]) == (201, [])
    assert first(service, "create/building", two.body["vm"]["id"]) or first(
        service, "create/building", two.body["vm"]["vmsvc_id"]
    )
    until("it is told as lost", lambda: first(service, "delete/lost", deleted))

    with asked(service) as (answer, noticed):
        spared = noticed()
        until("the guest can read it", lambda: "vmsvc_evict_at" in project.server(spared)["metadata"])
        assert service("DELETE", f"/vm/{one.body['vm']['id']}").status == 200
        three = answer.result(timeout=300)
    assert (three.status, three.body["evicted"]) == (201, [])
    assert first(service, "evict/reprieved", spared) and not first(service, "evict/evicting", spared)
    until("the key is gone", lambda: "vmsvc_evict_at" not in project.server(spared)["metadata"])
    assert states(project) == dict.fromkeys(
        {*full, two.body["vm"]["id"], three.body["vm"]["id"]} - {stopped, deleted}, "ACTIVE"
    )
    record = {row["vm"]["id"]: row for row in service.record() if row["vm"]["id"] in full}
    assert record[stopped]["acknowledged_at"] and record[stopped]["fulfilled_at"]
    assert record[deleted]["evicting_at"] is record[spared]["evicting_at"] is None
    assert record[spared]["state"] == "reprieved"


def test_a_thief_costs_two_rounds_at_most_and_all_of_it_is_on_record(
    service, project, outsider, admin, keeper, full, boot, gone
):
    set_quota(admin, outsider, **LARGE)
    robbed = []
    with keeper.slow_deletes(2), asked(service) as (answer, noticed):
        for _ in range(2):
            robbed.append(noticed())
            assert service("POST", f"/vm/{robbed[-1]}/ack").status == 200
            until("it is being deleted", lambda: project.server(robbed[-1])["OS-EXT-STS:task_state"] == "deleting")
            with service.paused():
                gone(project, robbed[-1])
                boot(outsider, flavorRef="m1.large")
        reply = answer.result(timeout=300)
    assert (reply.status, reply.body["error"]) == (409, "no_capacity")
    assert reply.body["message"].startswith("after 2 rounds of eviction there is no capacity for it")
    assert states(project) == dict.fromkeys(set(full) - set(robbed), "ACTIVE"), "nobody else went, no ERROR is left"
    until("both are on record as gone", lambda: service.victims(0, "evicted") >= set(robbed))
    record = [row for row in service.record() if row["vm"]["id"] in robbed]
    assert [(row["vm"]["id"], row["round"], row["state"]) for row in reversed(record)] == [
        (robbed[0], 1, "evicted"),
        (robbed[1], 2, "evicted"),
    ]
    assert {row["wasted"] for row in record} == {reply.body["message"]}


def test_the_earlier_request_comes_first_and_nobody_gets_the_capacity_that_is_reserved_for_it(service, project, mode):
    servers_and_occupants = service.create_many(3, PREEMPTIBLE)
    half = service.create_many(1, {**PREEMPTIBLE, "flavor": "m1.medium", "priority": 5})
    room = service("GET", "/capacity").body
    assert (room["mode"], len(room["hosts"])) == (mode, 4)
    assert room["quota"]["reclaimable"]["cores"] == room["quota"]["preemptible"]["cores"] == 14
    fits = {flavor["name"]: (flavor["fits_now"], flavor["fits_after_evictions"]) for flavor in room["flavors"]}
    if mode == "operator":
        assert fits == {"m1.tiny": (2, 16), "m1.small": (2, 16), "m1.medium": (1, 8), "m1.large": (0, 4)}
    plan = service.ask(STANDARD)
    assert (plan["result"], len(plan["victims"])) == ("evicts", 1) and plan["criterion"] and plan["runner_up"]

    with ThreadPoolExecutor(5) as pool, asked(service, name="first") as (answer, noticed):
        victim = noticed()
        assert [victim] == plan["victims"] and victim in servers_and_occupants
        others = [pool.submit(service, "POST", "/vm", PREEMPTIBLE) for _ in range(4)]
        later = pool.submit(service, "POST", "/vm", {"is_preemptible": False, "flavor": "m1.medium", "name": "later"})
        if mode == "operator":
            assert later.result(timeout=60).status == 201, "what is left of the fourth host is nobody's"
            assert not answer.done()
        assert service("POST", f"/vm/{victim}/ack").status == 200
        created = answer.result(timeout=300)
        refused = [other.result(timeout=300) for other in others]
    assert (created.status, created.body["evicted"]) == (201, [victim])
    assert {(reply.status, reply.body["error"]) for reply in refused} == {(409, "no_capacity")}
    second = later.result()
    assert (second.status, second.body["evicted"]) == (201, [])
    if mode == "tenant":  # nobody says where it would go, so it has to wait
        assert built(service, created) < built(service, second)
    assert states(project) == dict.fromkeys(
        {*servers_and_occupants, *half, created.body["vm"]["id"], second.body["vm"]["id"]} - {victim}, "ACTIVE"
    )


def built(service, reply) -> str:
    """When the VM of an answer was ACTIVE."""
    return first(service, "create/active", reply.body["vm"]["id"])["time"]


def test_a_cloud_that_deletes_softly_gives_the_capacity_back_all_the_same(service, project, admin, keeper, full):
    with keeper.soft_deletes():
        until("the service is well again", lambda: service("GET", "/capacity").status == 200)
        with asked(service) as (answer, noticed):
            victim = noticed()
            assert service("POST", f"/vm/{victim}/ack").status == 200
            created = answer.result(timeout=300)
        assert (created.status, created.body["evicted"]) == (201, [victim])
        deleted = created.body["vm"]["id"]
        assert service("DELETE", f"/vm/{deleted}").status == 200
        assert states(project).keys() == set(full) - {victim}
        nothing_is_left_of({victim, deleted}, admin)


@pytest.fixture(name="force_down")
def fixture_force_down(admin):
    """Says that a host is down, which Nova then believes; all are up again in the end."""
    down = []

    def put(host: str, forced_down: bool) -> None:
        services = admin("GET", "/os-services?binary=nova-compute").body["services"]
        (service_id,) = [service["id"] for service in services if service["host"] == host]
        reply = admin("PUT", f"/os-services/{service_id}", {"forced_down": forced_down})
        assert reply.status == 200, reply

    def force_down(host: str) -> None:
        put(host, True)
        down.append(host)

    yield force_down
    for host in down:
        put(host, False)
    until(
        "all hosts are up",
        lambda: (
            {service["state"] for service in admin("GET", "/os-services?binary=nova-compute").body["services"]}
            == {"up"}
        ),
    )


def test_a_host_that_goes_down_is_left_before_any_eviction_for_it_and_costs_a_round_after_that(
    service, project, mode, keeper, full, force_down, gone, admin
):
    host_of = {vm: admin.server(vm)["OS-EXT-SRV-ATTR:host"] for vm in full}
    if mode == "tenant":  # nobody tells it of hosts: what it sees is that the cloud has no room
        a_host_is_lost_when_its_room_is_free(service, project, keeper, full, force_down, gone, host_of)
        return
    with asked(service) as (answer, noticed):
        spared = noticed()
        force_down(host_of[spared])
        victim = noticed()
        until("it is spared", lambda: first(service, "evict/reprieved", spared))
        assert service("POST", f"/vm/{victim}/ack").status == 200
        created = answer.result(timeout=300)
    assert (created.status, created.body["evicted"]) == (201, [victim])
    assert admin.server(created.body["vm"]["id"])["OS-EXT-SRV-ATTR:host"] == host_of[victim]
    assert project.server(spared)["status"] == "ACTIVE"
    assert instant(first(service, "evict/reprieved", spared)["time"]) < instant(
        first(service, "evict/noticed", spared)["data"]["evict_at"]
    )


def a_host_is_lost_when_its_room_is_free(service, project, keeper, full, force_down, gone, host_of):
    """The host of the victim goes down when its room is free: a second round, on another host."""
    with keeper.slow_deletes(2), asked(service) as (answer, noticed):
        vain = noticed()
        assert service("POST", f"/vm/{vain}/ack").status == 200
        until("it is being deleted", lambda: project.server(vain)["OS-EXT-STS:task_state"] == "deleting")
        with service.paused():
            gone(project, vain)
            force_down(host_of[vain])
        victim = noticed()
        assert service("POST", f"/vm/{victim}/ack").status == 200
        created = answer.result(timeout=300)
    assert (created.status, sorted(created.body["evicted"])) == (201, sorted([vain, victim]))
    assert states(project) == dict.fromkeys({*full, created.body["vm"]["id"]} - {vain, victim}, "ACTIVE")
    rounds = {row["vm"]["id"]: row["round"] for row in service.record() if row["vm"]["id"] in full}
    assert rounds == {vain: 1, victim: 2}


def test_a_vm_that_cannot_read_a_notice_is_skipped_by_a_tenant_and_evicted_by_event_by_an_operator(
    service, project, mode, admin
):
    """The owner fills the metadata of the two that would go first, up to Nova's limit."""
    full = [
        service("POST", "/vm", {**PREEMPTIBLE, "flavor": "m1.tiny", "priority": -10}).body["vm"]["id"] for _ in range(2)
    ]
    third = service("POST", "/vm", {**PREEMPTIBLE, "flavor": "m1.tiny", "priority": 5}).body["vm"]["id"]
    for vm in full:
        known = len(project.server(vm)["metadata"])
        items = {f"u{number}": "x" for number in range(128 - known)}
        assert project("POST", f"/servers/{vm}/metadata", {"metadata": items}).status == 200
        assert project("POST", f"/servers/{vm}/metadata", {"metadata": {"more": "x"}}).status == 403
    until(
        "the service has seen it",
        lambda: sum(len(server["metadata"]) == 128 for server in service("GET", "/vm").body["servers"]) == 2,
    )
    set_quota(admin, project, instances=3)
    try:
        with asked(service, flavor="m1.tiny") as (answer, noticed):
            victim = noticed()
            assert service("POST", f"/vm/{victim}/ack").status == 200
            created = answer.result(timeout=60)
    finally:
        set_quota(admin, project, **LARGE)
    assert (created.status, created.body["evicted"]) == (201, [victim])
    assert victim == third if mode == "tenant" else victim in full
    (one,) = [row for row in service.record() if row["vm"]["id"] in {*full, third}]
    assert (one["vm"]["id"], one["round"], one["exempt"]) == (victim, 1, None)
    assert one["delivery"] == ("metadata" if mode == "tenant" else "event")


def test_marks_that_an_owner_takes_off_come_back_and_the_vm_stays_a_candidate(service, project, admin):
    (vm,) = service.create_many(1, {**PREEMPTIBLE, "flavor": "m1.tiny"})
    marks = project.server(vm)["metadata"]
    assert project("PUT", f"/servers/{vm}/metadata", {"metadata": {"its": "own"}}).status == 200
    until("the marks are back", lambda: project.server(vm)["metadata"] == marks | {"its": "own"})
    set_quota(admin, project, instances=1)
    try:
        with asked(service, flavor="m1.tiny") as (answer, noticed):
            assert noticed() == vm
            assert service("POST", f"/vm/{vm}/ack").status == 200
            assert answer.result(timeout=60).body["evicted"] == [vm]
    finally:
        set_quota(admin, project, **LARGE)
