"""Creating, listing, showing and deleting VMs over HTTP: the contract to the letter."""

import pytest

from tests.api.standin import CLOUD_1, CLOUD_2, CLOUD_8, CLOUD_9, OWN_1
from vmsvc.domain.errors import NotFound
from vmsvc.service.create_vm import CreateVm

VMS = "/api/v1/vm"


@pytest.mark.gen_test
async def test_a_standard_vm_is_created_and_the_answer_is_spelled_as_documented(call, service):
    answer = await call("POST", VMS, json_body={"is_preemptible": False})
    assert answer.status == 201
    said = f"Standart vm {CLOUD_1} was created succesfully"
    assert answer.json == {
        "code": "201",
        "message:": said,
        "message": said,
        "vm": service.vm_rows[CLOUD_1],
        "evicted": [],
    }
    assert answer.headers["Location"] == f"/api/v1/vm/{CLOUD_1}"
    assert service.calls == [("create", CreateVm(is_preemptible=False), None, "anonymous"), ("outcome", OWN_1, 7)]


@pytest.mark.gen_test
async def test_a_preemptible_vm_has_its_own_sentence(call):
    answer = await call("POST", VMS, json_body={"is_preemptible": True})
    assert answer.json["message:"] == answer.json["message"] == f"Preemptible vm {CLOUD_1} was created succesfully"


@pytest.mark.gen_test
async def test_every_optional_field_reaches_the_service(call, service):
    fields = {
        "is_preemptible": True,
        "name": "wörker 1",
        "flavor": "m1.tiny",
        "image": "cirros",
        "network": "private",
        "key_name": "mine",
        "user_data": "IyEvYmluL3No",
        "metadata": {"role": "batch"},
        "availability_zone": "nova",
        "priority": -3,
        "min_run_seconds": 60,
    }
    assert (await call("POST", VMS, json_body=fields)).status == 201
    assert service.calls[0][1] == CreateVm(**fields)


@pytest.mark.gen_test
async def test_every_option_reaches_the_service(call, service):
    """One server of a hint may stand alone, as Nova takes it; the service gets a list."""
    one, other = CLOUD_8, CLOUD_9
    fields = {
        "is_preemptible": False,
        "networks": [{"network": "private", "fixed_ip": "10.0.0.9"}, {"port": "mine"}, {"network": "private"}],
        "security_groups": ["web", "default"],
        "tags": ["blue", "b c"],
        "server_group": "apart",
        "scheduler_hints": {"group": "apart", "same_host": [one], "different_host": [other]},
        "config_drive": False,
        "hostname": "web-1",
        "block_device_mapping_v2": [
            {"boot_index": 0, "source_type": "volume", "uuid": one, "delete_on_termination": True},
            {"source_type": "blank", "volume_size": 3, "destination_type": "volume", "boot_index": None},
        ],
    }
    body = {**fields, "scheduler_hints": {**fields["scheduler_hints"], "same_host": one}}
    assert (await call("POST", VMS, json_body=body)).status == 201
    assert service.calls[0][1] == CreateVm(**fields)
    certified = {"is_preemptible": False, "trusted_image_certificates": ["a", "b"]}
    assert (await call("POST", VMS, json_body=certified)).status == 201
    assert service.calls[2][1] == CreateVm(**certified)


@pytest.mark.gen_test
async def test_the_answer_names_the_victims(call, service):
    service.evicts = (CLOUD_8, CLOUD_9)
    answer = await call("POST", VMS, json_body={"is_preemptible": False})
    assert answer.json["evicted"] == [CLOUD_8, CLOUD_9]


@pytest.mark.gen_test
async def test_a_create_that_ended_badly_is_the_error_it_ended_with(call, service):
    service.refusal = ("no_capacity", "no host has room, and evicting would not make it")
    answer = await call("POST", VMS, json_body={"is_preemptible": False})
    assert answer.status == 409
    assert answer.json["error"] == "no_capacity"
    assert answer.json["message"] == answer.json["message:"] == service.refusal[1]
    assert answer.headers["Location"] == f"/api/v1/vm/{OWN_1}"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "header, waited, applied",
    [
        ("respond-async", 0, "respond-async"),
        ("wait=3", 3, "wait=3"),
        ("Respond-Async, Wait=2; foo=bar", 2, "respond-async, wait=2"),
        ("wait=100000", 7, "wait=100000"),
    ],
)
async def test_a_client_that_will_not_wait_gets_202_and_the_place_to_look(call, service, header, waited, applied):
    service.ends = False
    answer = await call("POST", VMS, json_body={"is_preemptible": False}, headers={"Prefer": header})
    assert answer.status == 202
    assert answer.headers["Location"] == f"/api/v1/vm/{OWN_1}"
    assert answer.headers["Preference-Applied"] == applied
    assert answer.json["code"] == "202"
    assert answer.json["message"] == answer.json["message:"] == f"Standart vm {OWN_1} is being created"
    assert answer.json["vm"]["vmsvc_id"] == OWN_1
    assert ("outcome", OWN_1, waited) in service.calls


@pytest.mark.gen_test
async def test_a_wish_that_was_accepted_is_202_even_when_it_cannot_be_shown(call, service):
    service.ends = False

    async def vm(_ref):
        raise NotFound(f"vm {OWN_1} was deleted")

    service.vm = vm
    answer = await call("POST", VMS, json_body={"is_preemptible": False}, headers={"Prefer": "wait=1"})
    assert (answer.status, answer.headers["Location"]) == (202, f"/api/v1/vm/{OWN_1}")
    assert "vm" not in answer.json


@pytest.mark.gen_test
async def test_an_outcome_that_is_there_at_once_is_given_even_to_a_client_that_prefers_async(call):
    answer = await call("POST", VMS, json_body={"is_preemptible": False}, headers={"Prefer": "respond-async"})
    assert answer.status == 201
    assert "Preference-Applied" not in answer.headers


@pytest.mark.gen_test
async def test_the_idempotency_key_reaches_the_service(call, service):
    await call("POST", VMS, json_body={"is_preemptible": True}, headers={"Idempotency-Key": "8e03978e-40d5"})
    assert service.calls[0][2] == "8e03978e-40d5"


@pytest.mark.gen_test
async def test_a_dry_run_creates_nothing(call, service):
    answer = await call("POST", f"{VMS}?dry_run=true", json_body={"is_preemptible": False})
    assert (answer.status, answer.json["result"]) == (200, "placed")
    await call("POST", f"{VMS}?dry_run=true&count=3", json_body={"is_preemptible": False})
    assert not service.wrote()
    assert [count for _, _, count in service.calls] == [1, 3]


@pytest.mark.gen_test
@pytest.mark.parametrize("kept", [True, False])
async def test_the_list_has_the_servers_and_the_seq_to_go_on_from(call, service, kept):
    service.kept = kept
    await call("POST", VMS, json_body={"is_preemptible": False})
    answer = await call("GET", VMS)
    assert answer.status == 200
    assert [server["id"] for server in answer.json["servers"]] == [CLOUD_1]
    assert answer.json["seq"] == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("kept", [True, False])
async def test_a_list_that_did_not_change_is_not_sent_again(call, service, kept):
    service.kept = kept
    first = await call("GET", VMS)
    again = await call("GET", VMS, headers={"If-None-Match": first.headers["Etag"]})
    assert (again.status, again.raw) == (304, b"")


@pytest.mark.gen_test
@pytest.mark.parametrize("ref", [CLOUD_1, OWN_1])
async def test_one_vm_is_shown_by_either_id(call, ref):
    await call("POST", VMS, json_body={"is_preemptible": False})
    answer = await call("GET", f"{VMS}/{ref}")
    assert (answer.status, answer.json["id"]) == (200, CLOUD_1)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "ref",
    [
        CLOUD_9,
        "nobody",
        "detail",
        "%00",
        "a%20b",
        "x" * 65,
        "..%2f..",
        "%C3%BC",
        CLOUD_9.upper().replace("-", ""),
        f"{CLOUD_9}%3Fx",
        f"{CLOUD_9}%2F..",
    ],
)
async def test_a_vm_that_does_not_exist_is_404_and_only_an_id_reaches_the_service(call, service, ref):
    for method in ("GET", "DELETE"):
        answer = await call(method, f"{VMS}/{ref}")
        assert (answer.status, answer.json["error"]) == (404, "not_found")
    assert ref == CLOUD_9 or not service.calls


@pytest.mark.gen_test
@pytest.mark.parametrize("body", [None, {}, {"cloud_vm_id": CLOUD_1}])
async def test_a_deleted_vm_is_reported_with_the_documented_code_and_sentence(call, body):
    await call("POST", VMS, json_body={"is_preemptible": False})
    answer = await call("DELETE", f"{VMS}/{CLOUD_1}", json_body=body)
    assert answer.status == 200
    assert answer.json["code"] == "204"
    assert answer.json["message"] == answer.json["message:"] == f"vm {CLOUD_1} was deleted succesfully"


@pytest.mark.gen_test
@pytest.mark.parametrize("body", [{"cloud_vm_id": CLOUD_2}, {"cloud_vm_id": 1}, {"id": CLOUD_1}, [], CLOUD_1])
async def test_a_delete_whose_body_says_something_else_deletes_nothing(call, service, body):
    answer = await call("DELETE", f"{VMS}/{CLOUD_1}", json_body=body)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert not service.wrote()


@pytest.mark.gen_test
async def test_a_delete_that_takes_longer_than_the_client_waits_is_202(call, service):
    await call("POST", VMS, json_body={"is_preemptible": False})
    service.deletes_in_time = False
    answer = await call("DELETE", f"{VMS}/{CLOUD_1}", headers={"Prefer": "respond-async"})
    assert (answer.status, answer.json["code"]) == (202, "202")
    assert answer.headers["Location"] == f"/api/v1/vm/{CLOUD_1}"
    assert answer.json["message"] == answer.json["message:"]
