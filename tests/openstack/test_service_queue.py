"""Requests that wait for capacity on a real cloud: in their order, until their deadline, or until they fall back."""

import os
import time

from tests.openstack.http import until
from tests.openstack.service import GRACE, PREEMPTIBLE, instant

#: A real cloud needs more time for the VMs that are deleted and made before the first deadline.
WAIT, FALLBACK = (90, 20) if os.environ.get("VMSVC_TEST_CLOUD") == "bed" else (40, 10)
LATER = {"Prefer": "respond-async"}


def step(service, request: str, state: str) -> dict | None:
    """The event of this request, if it has come."""
    events = service("GET", f"/events?vm={request}&limit=1000").body["events"]
    return next((event for event in events if event["data"]["state"] == state), None)


def test_of_twenty_that_wait_the_first_five_get_what_becomes_free_and_the_others_fail_in_time(service):
    held, asked = service.create_many(4, PREEMPTIBLE), []
    for number in range(20):
        reply = service("POST", "/vm", {**PREEMPTIBLE, "name": f"w{number}", "wait_seconds": WAIT}, LATER)
        assert reply.status == 202, reply
        asked.append(reply.body["vm"]["vmsvc_id"])
    until("all wait", lambda: service("GET", "/capacity").body["waiting"]["count"] == 20)
    waiting = {one["position"]: one["id"] for one in service("GET", "/vm").body["servers"] if one.get("position")}
    assert [waiting[position] for position in sorted(waiting)] == asked
    for number, request in enumerate(asked[:5]):
        assert service("DELETE", f"/vm/{held[number]}").status == 200
        held.append(until("it is active", lambda request=request: step(service, request, "active"))["subject"])
    for request in asked[5:]:
        failed = until("its wait is over", lambda request=request: step(service, request, "failed"), WAIT)
        assert failed["data"]["reason"] == "deadline"
        waited = instant(failed["time"]) - instant(failed["data"]["vm"]["created_at"])
        assert WAIT <= waited.total_seconds() <= WAIT + 2
    ours = {server["id"] for server in service("GET", "/vm").body["servers"] if "state" in server}
    assert ours == {*held[5:]}


def test_a_request_that_falls_back_evicts_one_vm_after_its_notice(service):
    service.create_many(4, PREEMPTIBLE)
    began = time.monotonic()
    made = service("POST", "/vm", {**PREEMPTIBLE, "wait_seconds": 300, "fallback_after_seconds": FALLBACK})
    spent = time.monotonic() - began
    assert made.status == 201 and len(made.body["evicted"]) == 1 and not made.body["vm"]["is_preemptible"], made.body
    request = made.body["vm"]["vmsvc_id"]
    fell_back, noticed = step(service, request, "fell_back"), service.evictions(0, "noticed")[-1]
    came, building = instant(made.body["vm"]["created_at"]), step(service, request, "building")
    assert FALLBACK <= (instant(fell_back["time"]) - came).total_seconds() <= FALLBACK + 2
    assert (instant(noticed["time"]) - instant(fell_back["time"])).total_seconds() <= 2
    assert spent >= FALLBACK + GRACE and building, spent
