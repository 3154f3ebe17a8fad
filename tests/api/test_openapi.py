"""The OpenAPI document: complete, consistent, and what the service is. (Each answer in these tests is held against
it; see contract.py.)"""

import json
import re

import pytest
from jsonschema import Draft202012Validator

from tests.api.contract import as_json_schema, validator
from tests.api.standin import event
from vmsvc.service.events.hub import EndReason
from vmsvc.web.api.vms import VmHandler, VmsHandler
from vmsvc.web.app import ROUTES, api_document
from vmsvc.web.channel import close_codes
from vmsvc.web.http import static_files
from vmsvc.web.http.handler import STATUS, status_of
from vmsvc.web.http.settings import STATIC
from vmsvc.web.openapi.document import swagger_routes

OPERATIONS = [
    (path, method, operation)
    for path, item in api_document()["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
]
NAMES = [f"{method} {path}" for path, method, _ in OPERATIONS]


@pytest.mark.gen_test
async def test_the_document_is_served_as_it_is_made(call):
    answer = await call("GET", "/api/v1/openapi.json")
    assert (answer.status, answer.json) == (200, json.loads(json.dumps(api_document())))
    assert answer.json["openapi"] == "3.0.3"


def test_every_route_and_method_is_in_it():
    written = {
        (handler.address, method.lower())
        for _, handler in ROUTES
        for method in handler.methods()
        if method not in ("HEAD", "OPTIONS")
    }
    assert written == {(path, method) for path, method, _ in OPERATIONS}
    assert not [
        handler
        for _, handler, *_ in [*static_files.routes(STATIC), *swagger_routes]
        if handler.address in api_document()["paths"]
    ]


def test_every_reference_leads_somewhere_and_every_schema_is_one():
    text = json.dumps(api_document())
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
        part = api_document()
        for step in reference.split("/"):
            part = part[step]
    for schema in api_document()["components"]["schemas"].values():
        Draft202012Validator.check_schema(as_json_schema(schema))


def test_operations_have_names_of_their_own():
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path, method, operation", OPERATIONS, ids=NAMES)
def test_an_operation_says_what_it_does_and_what_each_status_means(path, method, operation):
    assert operation["summary"] and not operation["summary"].endswith(".")
    assert operation["responses"]
    for answer in operation["responses"].values():
        assert answer["description"]
        assert "X-Request-Id" in answer["headers"]
    placeholders = re.findall(r"\{(\w+)\}", path)
    shared = api_document()["paths"][path].get("parameters", [])
    assert [one["name"] for one in shared] == placeholders and method in ("get", "post", "patch", "delete")


@pytest.mark.parametrize("path, method, operation", OPERATIONS, ids=NAMES)
def test_every_example_is_an_example_of_its_schema(path, method, operation):
    del path, method
    contents = [answer["content"] for answer in operation["responses"].values() if "content" in answer]
    if "requestBody" in operation:
        contents.append(operation["requestBody"]["content"])
    for content in contents:
        media = content["application/json"]
        examples = [one["value"] for one in media.get("examples", {}).values()] or [media["example"]]
        for example in examples:
            validator(media["schema"]).validate(example)


def test_every_kind_of_error_is_documented_with_its_status():
    told = {
        (int(status), slug)
        for _, _, operation in OPERATIONS
        for status, answer in operation["responses"].items()
        if "content" in answer
        for slug in answer["content"]["application/json"].get("examples", {})
    }
    assert {(status_of(kind), kind.slug) for kind in STATUS} <= told


def test_every_answer_of_a_create_is_documented():
    post = api_document()["paths"][VmsHandler.address]["post"]
    assert [int(status) for status in sorted(post["responses"])] == [
        200,
        201,
        202,
        400,
        401,
        403,
        409,
        413,
        415,
        422,
        429,
        500,
        502,
        503,
        504,
    ]
    refused = post["responses"]["403"]["content"]["application/json"]
    assert set(refused["examples"]) == {"forbidden", "quota_exceeded"}
    assert {one["name"] for one in post["parameters"]} == {"dry_run", "count", "Prefer", "Idempotency-Key"}


def test_no_example_of_a_key_is_there_for_swagger_ui_to_send_for_everybody():
    (key,) = [
        one
        for one in api_document()["paths"][VmsHandler.address]["post"]["parameters"]
        if one["name"] == "Idempotency-Key"
    ]
    assert "example" not in key and "examples" not in key and "example" not in key["schema"]


def identifier(name):
    """What a generator of clients makes of a property's name."""
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()


def test_no_two_properties_of_a_schema_become_one_name_in_a_client():
    schemas = api_document()["components"]["schemas"]
    for title, schema in schemas.items():
        names = [identifier(name) for name in schema.get("properties", {})]
        assert len(names) == len(set(names)), f"{title}: {names}"
    for title in ("Error", "Created", "Accepted", "Done"):
        assert "message" in schemas[title]["properties"] and schemas[title]["additionalProperties"] is not False
        assert "`message:`" in schemas[title]["properties"]["message"]["description"]


def test_what_swagger_ui_sends_with_a_delete_by_itself_names_no_vm():
    body = api_document()["paths"][VmHandler.address]["delete"]["requestBody"]["content"]["application/json"]
    assert next(iter(body["examples"].values()))["value"] == {}
    assert "required" not in api_document()["components"]["schemas"]["DeleteVm"]


def test_the_limits_of_a_request_are_documented():
    wish = api_document()["components"]["schemas"]["CreateVm"]
    assert wish["required"] == ["is_preemptible"] and wish["additionalProperties"] is False
    assert (wish["properties"]["priority"]["minimum"], wish["properties"]["metadata"]["maxProperties"]) == (-1000, 120)


@pytest.mark.gen_test
async def test_events_are_as_documented(call, service):
    service.log = [event(1), event(2, kind="evict")]
    page = (await call("GET", "/api/v1/events?since=0")).json
    assert [one["data"]["seq"] for one in page["events"]] == [1, 2]
    validator(api_document()["components"]["schemas"]["Event"]).validate(page["events"][0])


def test_the_channel_tells_of_every_close_code_and_what_to_do_then():
    text = api_document()["paths"]["/api/v1/events"]["get"]["description"]
    rows = re.findall(r"^\| (\d{4}) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert [int(code) for code, *_ in rows] == [one.code for one in close_codes.CLOSE_CODES]
    assert {4008, 4009, 1012} <= {int(code) for code, *_ in rows}
    assert set(close_codes.BY_END_REASON) == set(EndReason)


def test_the_document_says_how_to_show_who_one_is_and_where_nobody_has_to():
    document = api_document()
    assert set(document["components"]["securitySchemes"]) == {"token", "keystone"}
    open_paths = {
        path
        for path, item in document["paths"].items()
        for operation in item.values()
        if isinstance(operation, dict) and "security" not in operation
    }
    assert open_paths == {"/healthz", "/readyz", "/api/v1/openapi.json"}


def test_every_field_is_described():
    schemas = api_document()["components"]["schemas"]
    assert [
        f"{title}.{name}"
        for title, schema in schemas.items()
        for name, field in schema.get("properties", {}).items()
        if not field.get("description") and "$ref" not in field
    ] == []
