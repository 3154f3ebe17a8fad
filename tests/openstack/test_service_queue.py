"""Requests that wait for capacity on a real cloud: in their order, until their deadline, or until they fall back; and
VMs that wait to be started again, with the address that they had."""

import os
import time

import pytest

from tests.openstack.http import until
from tests.openstack.service import GRACE, PREEMPTIBLE, instant

#: A real cloud needs more time for the VMs that are deleted and made before the first deadline.
WAIT, FALLBACK = (90, 20) if os.environ.get("VMSVC_TEST_CLOUD") == "bed" else (40, 10)
LATER = {"Prefer": "respond-async"}


def step(service, request: str, state: str) -> dict | None:
    """The event of this request, if it has come."""
    events = service("GET", f"/events?vm={request}&limit=1000").body["events"]
    return next((event for event in events if event["data"]["state"] == state), None)


#: On the simulated cloud other tests have both modes: see tests/system/test_kept_address.py.
BED = os.environ.get("VMSVC_TEST_CLOUD") == "bed"
MODES = ["tenant", "operator"] if BED else ["tenant"]


def kept_ports(project) -> list[dict]:
    """The ports that keep addresses in this project."""
    ports = project("GET", f"/ports?project_id={project.project}", service="network").body["ports"]
    return [port for port in ports if port["name"].startswith("vmsvc-")]


def addresses_of(project, server: str) -> list[str]:
    """The addresses of a server."""
    found = project.server(server)["addresses"]
    return sorted(one["addr"] for network in found.values() for one in network)


def newest(service, origin: str, restarts: int) -> dict | None:
    """The VM of a lineage, once it was started again so often."""
    shown = service("GET", f"/vm/{origin}")
    runs = shown.status == 200 and shown.body["state"] == "active" and shown.body["restarts"] == restarts
    return shown.body if runs else None


@pytest.mark.parametrize("mode", MODES, scope="module")
def test_a_successor_has_the_address_of_the_first_vm_and_the_port_goes_with_the_lineage(mode, service, project):
    """On the real cloud the service is killed in the middle of the eviction, and in the middle of the DELETE."""
    del mode
    made = service("POST", "/vm", {**PREEMPTIBLE, "flavor": "m1.tiny", "on_eviction": "restart", "keep_address": True})
    assert made.status == 201, made
    vm = made.body["vm"]
    (port,), addresses = kept_ports(project), addresses_of(project, vm["id"])
    assert port["device_id"] == vm["id"] and addresses == [port["fixed_ips"][0]["ip_address"]]
    assert service("POST", f"/vm/{vm['id']}/evict").status == 202
    assert service("POST", f"/vm/{vm['id']}/ack").status == 200
    until("it is being evicted", lambda: step(service, vm["vmsvc_id"], "evicting"))
    kill(service)
    before, vm = vm, until("it runs again", lambda: newest(service, made.body["vm"]["origin"], 1), 240)
    assert vm["restart_of"] == before["vmsvc_id"] and addresses_of(project, vm["id"]) == addresses
    assert project.server(vm["id"])["metadata"]["vmsvc_restarts"] == "1"
    assert project("GET", f"/servers/{before['id']}").status == 404
    assert [(one["id"], one["device_id"]) for one in kept_ports(project)] == [(port["id"], vm["id"])]
    assert service("DELETE", f"/vm/{vm['origin']}", headers=LATER).status == 202
    kill(service)
    until("its server is gone", lambda: project("GET", f"/servers/{vm['id']}").status == 404)
    until("its port is gone", lambda: not kept_ports(project))


def kill(service) -> None:
    """kill -9 of the service, on the real cloud: it goes on when the leases of the dead one have ended."""
    if BED:
        service.kill()
        service.start()


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
