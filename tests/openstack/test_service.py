"""The whole service on a cloud, with a member's credentials (tenant mode) and with an admin's (operator mode)."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.openstack.conftest import LARGE, ROOT, Api, Reply, send, until

GRACE = 8.0
USER_OF = {"tenant": "demo", "operator": "admin"}


class Service:
    """One vmsvc as its users meet it: a process and its REST interface."""

    def __init__(self, clouds: Path, cloud: str, folder: Path):
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(("VMSVC_", "OS_"))}
        environment |= {"OS_CLIENT_CONFIG_FILE": str(clouds), "OS_CLOUD": cloud, "VMSVC_DATA_DIR": str(folder),
                        "VMSVC_PORT": "0", "VMSVC_GRACE_SECONDS": str(GRACE), "VMSVC_FLAVOR": "m1.small"}
        self.log = folder / "service.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [sys.executable, "-m", "vmsvc"], cwd=ROOT, env=environment, stderr=log)
        self.url = until("the service listens", self._address)
        until("the service is ready", lambda: send("GET", f"{self.url}/readyz").status == 200)

    def _address(self) -> str | None:
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"listening on (http://\S+?)/?$", self.log.read_text(), re.MULTILINE)
        return found and found[1]

    def __call__(self, method: str, path: str, body: object = None) -> Reply:
        return send(method, f"{self.url}/api/v1{path}", body)

    def events(self, since: int) -> list[dict]:
        """All events after `since`."""
        return self("GET", f"/events?since={since}&limit=1000").body["events"]

    def seq(self) -> int:
        """The number of the newest event."""
        return self("GET", "/vm").body["seq"]

    def stop(self) -> None:
        """SIGTERM, and an orderly end."""
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0, self.log.read_text()


@pytest.fixture(scope="module", name="mode", params=["tenant", "operator"])
def fixture_mode(request) -> str:
    """How much the credentials allow."""
    return request.param


@pytest.fixture(scope="module", name="service")
def fixture_service(mode, clouds_yaml, entries, demo, admin):
    """A service on this cloud with a database of its own, in a project whose quota is no limit."""
    set_quota(admin, {"tenant": demo, "operator": admin}[mode], **LARGE)
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-"))
    service = Service(clouds_yaml, entries[USER_OF[mode]][0], folder)
    yield service
    service.stop()
    shutil.rmtree(folder)


@pytest.fixture(name="project")
def fixture_project(mode, demo, admin) -> Api:
    """The project's user, without vmsvc in between."""
    return {"tenant": demo, "operator": admin}[mode]


@pytest.fixture(autouse=True)
def fixture_everything_is_deleted(service):
    """The service forgets nothing and leaves nothing: after each test all that it made is deleted through it."""
    yield
    ours = [server["id"] for server in service("GET", "/vm").body["servers"] if "state" in server]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda server_id: service("DELETE", f"/vm/{server_id}"), ours))
    assert [reply.status for reply in replies] == [200] * len(ours)
    assert [server for server in service("GET", "/vm").body["servers"] if "state" in server] == []


def create_many(service: Service, number: int, body: dict) -> list[str]:
    """The ids of so many VMs, made side by side."""
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: service("POST", "/vm", body), range(number)))
    assert {reply.status for reply in replies} == {201}, [reply.body.get("message") for reply in replies]
    return [reply.body["vm"]["id"] for reply in replies]


def instant(text: str) -> datetime:
    """The moment that an RFC 3339 text means."""
    return datetime.fromisoformat(text)


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
    everybody = set(create_many(service, 16, {"is_preemptible": True, "flavor": "m1.small"}))
    refused = service("POST", "/vm", {"is_preemptible": True, "flavor": "m1.small"})
    assert (refused.status, refused.body["error"]) == (409, "no_capacity")
    since = service.seq()

    answers: list[Reply] = []
    asking = threading.Thread(target=lambda: answers.append(
        service("POST", "/vm", {"is_preemptible": False, "flavor": "m1.large"})))
    asking.start()
    noticed = until("four VMs are noticed", lambda: len(of(service, since, "noticed")) == 4
                    and of(service, since, "noticed"))
    victims = {event["subject"] for event in noticed}
    assert victims < everybody
    until("each guest can read its notice", lambda: all(
        project.server(victim)["metadata"].get("vmsvc_evict_at") for victim in victims))
    deadline = instant(noticed[0]["data"]["vm"]["evict_at"])
    while (asked_at := datetime.now(UTC)) < deadline:
        seen = [project.server(victim) for victim in victims]
        if datetime.now(UTC) < deadline:
            assert {server["status"] for server in seen} == {"ACTIVE"}, f"touched before {deadline}, at {asked_at}"
            assert {server["OS-EXT-STS:task_state"] for server in seen} == {None}
    asking.join(timeout=180)

    assert answers[0].status == 201, answers[0]
    assert set(answers[0].body["evicted"]) == victims
    standard = answers[0].body["vm"]["id"]
    left = {server["id"]: server["status"] for server in project("GET", "/servers/detail").body["servers"]}
    assert left == dict.fromkeys((everybody - victims) | {standard}, "ACTIVE")
    for victim in victims:
        states = [event["data"]["state"] for event in service.events(since) if event["subject"] == victim]
        assert states == ["noticed", "evicting", "evicted"]
    assert all(instant(event["time"]) >= instant(event["data"]["vm"]["evict_at"])
               for event in of(service, since, "evicting"))
    nothing_is_left_of(victims, admin)


def of(service: Service, since: int, state: str) -> list[dict]:
    """The events of eviction with this state."""
    return [event for event in service.events(since) if event["type"] == "evict" and event["data"]["state"] == state]


def nothing_is_left_of(servers: set[str], admin: Api) -> None:
    """No port and no allocation of theirs."""
    ports = admin("GET", "/ports", service="network").body["ports"]
    assert not servers & {port["device_id"] for port in ports}
    for server_id in servers:
        assert admin("GET", f"/allocations/{server_id}", service="placement").body["allocations"] == {}


def test_a_full_quota_evicts_exactly_one(service, project, admin):
    set_quota(admin, project, instances=3)
    try:
        made = create_many(service, 3, {"is_preemptible": True, "flavor": "m1.tiny"})
        refused = service("POST", "/vm", {"is_preemptible": True, "flavor": "m1.tiny"})
        assert (refused.status, refused.body["error"]) == (403, "quota_exceeded")
        reply = service("POST", "/vm", {"is_preemptible": False, "flavor": "m1.tiny"})
        assert reply.status == 201
        assert len(reply.body["evicted"]) == 1 and set(reply.body["evicted"]) < set(made)
    finally:
        set_quota(admin, project, **LARGE)


def test_what_no_eviction_can_make_room_for_evicts_nobody(service, project, admin):
    create_many(service, 2, {"is_preemptible": True, "flavor": "m1.tiny"})
    since = service.seq()
    set_quota(admin, project, cores=3)
    try:
        reply = service("POST", "/vm", {"is_preemptible": False, "flavor": "m1.large"})
        assert (reply.status, reply.body["error"]) == (403, "quota_exceeded")
    finally:
        set_quota(admin, project, **LARGE)
    assert not [event for event in service.events(since) if event["type"] == "evict"]


def set_quota(admin: Api, project: Api, **limits: int) -> None:
    """Change the project's quota as an admin does."""
    reply = admin("PUT", f"/os-quota-sets/{project.project}", {"quota_set": {**limits, "force": True}})
    assert reply.status == 200, reply


def test_two_at_once_are_asked_first_planned_together_acknowledged_and_on_record(service, project, admin):
    everybody = set(create_many(service, 16, {"is_preemptible": True, "flavor": "m1.small"}))
    since = service.seq()
    large = {"is_preemptible": False, "flavor": "m1.large"}
    foreseen = service("POST", "/vm?dry_run=true", large).body
    foreseen = foreseen.get("if_no_host_has_room", foreseen)      # a tenant's cloud says no only when it is asked
    assert (foreseen["result"], len(foreseen["victims"])) == ("evicts", 4)
    assert service.seq() == since, "asking writes nothing"

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(service, "POST", "/vm", large) for _ in range(2)]
        until("eight VMs are noticed", lambda: len(of(service, since, "noticed")) == 8)
        victims = [event["subject"] for event in of(service, since, "noticed")]
        acknowledged = [service("POST", f"/vm/{victim}/ack") for victim in victims]
        answers = [one.result(timeout=180) for one in asked]

    assert [reply.status for reply in acknowledged] == [200] * 8
    assert [reply.status for reply in answers] == [201, 201]
    gone = [victim for reply in answers for victim in reply.body["evicted"]]
    assert sorted(gone) == sorted(victims) and len(set(gone)) == 8
    assert set(foreseen["victims"]) < set(gone)
    left = {server["id"] for server in project("GET", "/servers").body["servers"]}
    assert left == (everybody - set(gone)) | {reply.body["vm"]["id"] for reply in answers}
    nothing_is_left_of(set(gone), admin)
    record = [one for one in service("GET", "/evictions?limit=50").body["evictions"] if one["vm"]["id"] in gone]
    assert len(record) == 8
    for one in record:
        steps = [one[step] for step in ("planned_at", "acknowledged_at", "evicting_at", "deleted_at", "freed_at",
                                        "fulfilled_at")]
        assert None not in steps and steps == sorted(steps)
        assert one["evicting_at"] < one["evict_at"], "it went early, at its own word"


def test_a_practised_notice_is_in_the_guest_and_goes_away(service, project):
    vm_id = create_many(service, 1, {"is_preemptible": True, "flavor": "m1.tiny"})[0]
    since = service.seq()
    reply = service("POST", f"/vm/{vm_id}/evict", {"notice_only": True})
    assert reply.status == 202
    until("the guest can read it", lambda: project.server(vm_id)["metadata"].get("vmsvc_evict_at"))
    until("it is reprieved", lambda: of(service, since, "reprieved"))
    until("the key is gone", lambda: "vmsvc_evict_at" not in project.server(vm_id)["metadata"])
    assert all(event["data"]["simulated"] for event in of(service, since, "noticed") + of(service, since, "reprieved"))
    assert project.server(vm_id)["status"] == "ACTIVE"


def test_a_victim_that_its_owner_locks_stays_and_nobody_goes_for_nothing(service, project):
    everybody = set(create_many(service, 16, {"is_preemptible": True, "flavor": "m1.small"}))
    host_of = {server["id"]: server["hostId"] for server in project("GET", "/servers/detail").body["servers"]}
    since = service.seq()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(service, "POST", "/vm", {"is_preemptible": False, "flavor": "m1.large"})
        until("four VMs are noticed", lambda: len(of(service, since, "noticed")) == 4)
        locked = of(service, since, "noticed")[0]["subject"]
        assert project("POST", f"/servers/{locked}/action", {"lock": None}).status == 202
        until("another plan is made", lambda: len(of(service, since, "noticed")) == 8)
        reply = asked.result(timeout=180)
    try:
        assert reply.status == 201
        left = {server["id"] for server in project("GET", "/servers").body["servers"]}
        gone = everybody - left
        assert set(reply.body["evicted"]) == gone and len(gone) == 4
        assert host_of[locked] not in {host_of[victim] for victim in gone}
        assert len(of(service, since, "reprieved")) == 4
    finally:
        project("POST", f"/servers/{locked}/action", {"unlock": None})
