"""The whole service on a cloud, with a member's credentials (tenant mode) and with an admin's (operator mode)."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from tests.openstack.conftest import LARGE
from tests.openstack.http import Reply, until
from tests.openstack.service import GRACE, STANDARD, instant, nothing_is_left_of, set_quota


def test_a_bare_request_answers_in_the_documented_words(service):
    reply = service("POST", "/vm", {"is_preemptible": False})
    vm_id = reply.body["vm"]["id"]
    assert (reply.status, reply.body["code"]) == (201, "201")
    assert reply.body["message:"] == reply.body["message"] == f"Standart vm {vm_id} was created succesfully"
    reply = service("DELETE", f"/vm/{vm_id}", {"cloud_vm_id": vm_id})
    assert (reply.status, reply.body["code"]) == (200, "204")
    assert reply.body["message:"] == f"vm {vm_id} was deleted succesfully"
    assert service("GET", f"/vm/{vm_id}").status == 404


def test_a_standard_vm_on_a_full_cloud_evicts_the_planned_victims_after_their_notice(service, project, admin):
    servers_and_occupants = set(service.create_many(16, {"is_preemptible": True, "flavor": "m1.small"}))
    refused = service("POST", "/vm", {"is_preemptible": True, "flavor": "m1.small"})
    assert (refused.status, refused.body["error"]) == (409, "no_capacity")
    since = service.seq()

    answers: list[Reply] = []
    asking = threading.Thread(target=lambda: answers.append(service("POST", "/vm", STANDARD)))
    asking.start()
    until("four VMs are noticed", lambda: len(service.victims(since)) == 4)
    noticed, victims = service.evictions(since, "noticed"), service.victims(since)
    assert victims < servers_and_occupants
    until(
        "each guest can read its notice",
        lambda: all(project.server(victim)["metadata"].get("vmsvc_evict_at") for victim in victims),
    )
    deadline = instant(noticed[0]["data"]["vm"]["evict_at"])
    while (asked_at := datetime.now(UTC)) < deadline:
        time.sleep(0.05)
        seen = [project.server(victim) for victim in victims]
        if datetime.now(UTC) < deadline:
            assert {server["status"] for server in seen} == {"ACTIVE"}, f"touched before {deadline}, at {asked_at}"
            assert {server["OS-EXT-STS:task_state"] for server in seen} == {None}
    asking.join(timeout=300)

    assert answers[0].status == 201, answers[0]
    assert set(answers[0].body["evicted"]) == victims
    standard = answers[0].body["vm"]["id"]
    left = {server["id"]: server["status"] for server in project("GET", "/servers/detail").body["servers"]}
    assert left == dict.fromkeys((servers_and_occupants - victims) | {standard}, "ACTIVE")
    for victim in victims:
        states = [event["data"]["state"] for event in service.events(since) if event["subject"] == victim]
        assert list(dict.fromkeys(states)) == ["noticed", "evicting", "evicted"]
        (one,) = service.record(f"vm={victim}")
        told = instant(one["evicting_at"]) - instant(one["noticed_at"])
        assert told.total_seconds() >= GRACE, "the guest could read it all the while"
    assert all(
        instant(event["time"]) >= instant(event["data"]["vm"]["evict_at"])
        for event in service.evictions(since, "evicting")
    )
    nothing_is_left_of(victims, admin)


def test_a_full_quota_evicts_exactly_one(service, project, admin):
    set_quota(admin, project, instances=3)
    try:
        made = service.create_many(3, {"is_preemptible": True, "flavor": "m1.tiny"})
        refused = service("POST", "/vm", {"is_preemptible": True, "flavor": "m1.tiny"})
        assert (refused.status, refused.body["error"]) == (403, "quota_exceeded")
        since = service.seq()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(service, "POST", "/vm", {"is_preemptible": False, "flavor": "m1.tiny"})
            (victim,) = until("one is noticed", lambda: service.victims(since))
            assert service("POST", f"/vm/{victim}/ack").status == 200
            reply = asked.result(timeout=300)
        assert (reply.status, reply.body["evicted"]) == (201, [victim]) and victim in made
    finally:
        set_quota(admin, project, **LARGE)


def test_what_no_eviction_can_free_capacity_for_evicts_no_vm(service, project, admin):
    service.create_many(2, {"is_preemptible": True, "flavor": "m1.tiny"})
    since = service.seq()
    set_quota(admin, project, cores=3)
    try:
        reply = service("POST", "/vm", STANDARD)
        assert (reply.status, reply.body["error"]) == (403, "quota_exceeded")
    finally:
        set_quota(admin, project, **LARGE)
    assert not [event for event in service.events(since) if event["type"] == "evict"]


def test_two_at_once_are_asked_first_planned_together_acknowledged_and_on_record(service, project, admin):
    servers_and_occupants = set(service.create_many(8, {"is_preemptible": True, "flavor": "m1.medium"}))
    since = service.seq()
    foreseen = service.ask(STANDARD)
    assert (foreseen["result"], len(foreseen["victims"])) == ("evicts", 2)
    assert service.seq() == since, "asking writes nothing"

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(service, "POST", "/vm", STANDARD) for _ in range(2)]
        acknowledged = {}
        while len(acknowledged) < 4:
            victim = until(
                "another VM is noticed", lambda: next(iter(service.victims(since) - acknowledged.keys()), None)
            )
            acknowledged[victim] = service("POST", f"/vm/{victim}/ack").status
        answers = [one.result(timeout=300) for one in asked]

    assert acknowledged == dict.fromkeys(acknowledged, 200)
    assert [reply.status for reply in answers] == [201, 201]
    gone = [victim for reply in answers for victim in reply.body["evicted"]]
    assert sorted(gone) == sorted(acknowledged)
    assert set(foreseen["victims"]) < set(gone)
    left = {server["id"] for server in project("GET", "/servers").body["servers"]}
    assert left == (servers_and_occupants - set(gone)) | {reply.body["vm"]["id"] for reply in answers}
    nothing_is_left_of(set(gone), admin)
    record = [one for one in service.record() if one["vm"]["id"] in gone]
    assert len(record) == 4
    for one in record:
        steps = [one[step] for step in ("planned_at", "acknowledged_at", "evicting_at", "deleted_at")]
        assert None not in steps and steps == sorted(steps)
        # No order between these two: who waits for the room may see it before the victim is asked for.
        assert one["freed_at"] >= steps[-1] and one["fulfilled_at"] >= steps[-1]
        assert one["evicting_at"] < one["evict_at"], "it went early, at its own word"


def test_practised_evictions_are_as_real_ones_and_their_record_comes_in_pages_and_survives_a_restart(service, project):
    told, gone = service.create_many(2, {"is_preemptible": True, "flavor": "m1.tiny"})
    since = service.seq()
    for vm, body in ((told, {"notice_only": True}), (gone, None)):
        reply = service("POST", f"/vm/{vm}/evict", body)
        assert reply.status == 202
        evict_at = reply.body["vm"]["evict_at"]
        until("the guest can read it", lambda vm=vm: "vmsvc_evict_at" in project.server(vm)["metadata"])
        metadata = project.server(vm)["metadata"]
        assert instant(metadata["vmsvc_evict_at"]) >= instant(evict_at)
        assert metadata["vmsvc_evict_reason"] == "simulated by its owner"
    until("one is reprieved", lambda: service.evictions(since, "reprieved"))
    until("the other is gone", lambda: service.evictions(since, "evicted"))
    until("the key is gone", lambda: "vmsvc_evict_at" not in project.server(told)["metadata"])
    assert project.server(told)["status"] == "ACTIVE" and project("GET", f"/servers/{gone}").status == 404
    events = [event for event in service.events(since) if event["type"] == "evict"]
    assert all(event["data"]["simulated"] for event in events)
    states = {vm: sorted({event["data"]["state"] for event in events if event["subject"] == vm}) for vm in (told, gone)}
    assert states == {told: ["noticed", "reprieved"], gone: ["evicted", "evicting", "noticed"]}
    the_record_is_complete(service, told, gone)


def the_record_is_complete(service, told, gone):
    """It has these two evictions; pages and filters find them; a restart changes nothing."""
    whole = service.record()
    assert [one["id"] for one in whole] == sorted((one["id"] for one in whole), reverse=True)
    newest = {one["vm"]["id"]: one for one in whole[:2]}
    assert {vm: newest[vm]["state"] for vm in (told, gone)} == {told: "reprieved", gone: "evicted"}
    steps = [newest[gone][step] for step in ("planned_at", "noticed_at", "evicting_at", "deleted_at", "freed_at")]
    assert None not in steps and steps == sorted(steps)
    assert (instant(steps[2]) - instant(steps[1])).total_seconds() >= GRACE, "the guest could read it all the while"
    pages, before = [], ""
    while before is not None:
        page = service("GET", f"/evictions?limit=1{before and f'&before={before}'}").body
        pages, before = pages + page["evictions"], page["before"]
    assert pages == whole
    assert service.record(f"vm={gone}") == [newest[gone]]
    assert [one for one in service.record("reason=simulated") if one in whole[:2]] == whole[:2]
    assert service.record("reason=lifetime") == service.record("request=nobody") == []
    assert service("GET", f"/evictions/{newest[gone]['id']}").body == newest[gone]
    history = service.events(0)
    service.stop()
    service.start()
    assert service.record() == whole and service.events(0) == history


def test_a_victim_that_its_owner_locks_stays_and_no_vm_is_evicted_for_nothing(service, project):
    servers_and_occupants = set(service.create_many(8, {"is_preemptible": True, "flavor": "m1.medium"}))
    host_of = {server["id"]: server["hostId"] for server in project("GET", "/servers/detail").body["servers"]}
    since = service.seq()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(service, "POST", "/vm", STANDARD)
        until("two VMs are noticed", lambda: len(service.victims(since)) == 2)
        locked, other = service.victims(since)
        assert project("POST", f"/servers/{locked}/action", {"lock": None}).status == 202
        until("another plan is made", lambda: len(service.victims(since)) == 4)
        until("both are spared", lambda: service.victims(since, "reprieved") == {locked, other})
        for victim in service.victims(since) - {locked, other}:
            assert service("POST", f"/vm/{victim}/ack").status == 200
        reply = asked.result(timeout=300)
    try:
        assert reply.status == 201
        left = {server["id"] for server in project("GET", "/servers").body["servers"]}
        gone = servers_and_occupants - left
        assert set(reply.body["evicted"]) == gone and len(gone) == 2
        assert host_of[locked] not in {host_of[victim] for victim in gone}
    finally:
        project("POST", f"/servers/{locked}/action", {"unlock": None})
