"""What the service must never act on: every bad request is refused by name, and the service is not asked."""

import asyncio
import json
import uuid
from dataclasses import replace

import pytest

from tests.api.standin import CLOUD_1

VMS = "/api/v1/vm"
GOOD = '{"is_preemptible": true}'


def with_field(name, value):
    """A body that is good but for one field."""
    return json.dumps({"is_preemptible": True} | {name: value})


NOT_AN_OBJECT = ["[]", "null", "1", '"is_preemptible"', "true"]
NOT_JSON = [
    "{",
    "{'is_preemptible': true}",
    '{"is_preemptible": True}',
    "is_preemptible=true",
    GOOD + "x",
    "\ufeff\ufeff" + GOOD,
    b"\xff" + GOOD.encode(),
    GOOD.encode("utf-16"),
    "[" * 100_000,
    '{"priority": NaN, "is_preemptible": true}',
    '{"priority": -Infinity, "is_preemptible": true}',
    '{"priority": ' + "9" * 5000 + "}",
    "{}{}",
]

BAD_FIELDS = [
    ("{}", "is_preemptible"),
    *[
        (with_field("is_preemptible", value), "is_preemptible")
        for value in ("true", "false", 1, 0, 1.0, None, [], {}, "")
    ],
    (with_field("ram", 512), "ram"),
    (with_field("isPreemptible", True), "isPreemptible"),
    ('{"is_preemptible": true, "is_preemptible": false}', "is_preemptible"),
    *[
        (with_field(name, value), name)
        for name in ("name", "flavor", "image", "network", "key_name", "availability_zone")
        for value in ("", "x" * 256, " x", "x ", "a\nb", "a\x7fb", "\u2028", 1, True, None, ["x"], {"id": "x"})
    ],
    (r'{"is_preemptible": true, "name": "a\u0000b"}', "name"),
    (r'{"is_preemptible": true, "name": "a\ud800b"}', "name"),
    (r'{"is_preemptible": true, "metadata": {"a": "\u0000"}}', "a"),
    (r'{"is_preemptible": true, "metadata": {"a": "\udfff"}}', "a"),
    (r'{"is_preemptible": true, "metadata": {"a": "x", "a": "y"}}', "a"),
    (with_field("availability_zone", "nova:host-1"), "availability_zone"),
    *[(with_field("on_eviction", value), "on_eviction") for value in ("", "stop", "Restart", 1, True, None, [])],
    ('{"is_preemptible": false, "on_eviction": "restart"}', "on_eviction"),
    *[
        (json.dumps({"is_preemptible": True, "on_eviction": "restart", name: value}), name)
        for name, values in (
            ("max_restarts", (-1, 1001, "1", 1.5, True, None)),
            ("restart_within_seconds", (0, 59, 604_801, "60", None)),
            ("fallback_after_evictions", (0, 101, "1", None)),
            ("keep_address", (0, "true", None)),
        )
        for value in values
    ],
    *[
        (json.dumps({"is_preemptible": True, name: value, **end}), name)
        for name, value in (
            ("max_restarts", 0),
            ("restart_within_seconds", 60),
            ("fallback_after_evictions", 1),
            ("keep_address", True),
        )
        for end in ({}, {"on_eviction": "end"})
    ],
    *[
        (with_field("user_data", value), "user_data")
        for value in ("", "#!/bin/sh", "YQ", "YQ==YQ==", "ü", "Y" * 65536, 1, None)
    ],
    *[
        (with_field("metadata", value), "metadata")
        for value in (
            None,
            [],
            "a=b",
            {"a": 1},
            {"a": True},
            {"a": None},
            {"a": "x" * 256},
            {"": "x"},
            {"k" * 256: "x"},
            {"a/b": "x"},
            {"ü": "x"},
            {"vmsvc_id": "x"},
            {"vmsvc_evict_at": "x"},
            {"vmsvc_": "x"},
            {"VMSVC_ID": "x"},
            {"Vmsvc_Deployment": "x"},
            {" vmsvc_id": "x"},
            {"vmsvc _id": "x"},
            {f"key{number}": "x" for number in range(129)},
        )
    ],
    *[(with_field("priority", value), "priority") for value in (-1001, 1001, "1", 1.0, 1.5, True, None)],
    ('{"is_preemptible": true, "priority": 1e400}', "priority"),
    *[
        (with_field(field, value), field)
        for field, values in (
            (
                "networks",
                (
                    "auto",
                    [],
                    [{}],
                    ["bed-net"],
                    [{"uuid": "n"}],
                    [{"network": "n", "port": "p"}],
                    [{"network": "n", "fixed_ip": "10.0.0"}],
                    [{"port": "p", "fixed_ip": "10.0.0.1"}],
                    [{"port": "p"}] * 2,
                    [{"network": "n", "fixed_ip": "10.0.0.1"}] * 2,
                    [{"network": "n\u2028"}],
                    [{"network": "n"}] * 17,
                ),
            ),
            ("security_groups", ("web", [], [1], ["web", "web"], ["a\u0000"], [{"name": "web"}], ["x" * 256])),
            (
                "tags",
                ("a", [], ["a,b"], ["a/b"], [""], ["x" * 61], ["a", "a"], ["a\u0000"], [f"t{n}" for n in range(50)]),
            ),
            ("server_group", ("", 1, [], " x", "a\u0000", None)),
            (
                "scheduler_hints",
                (
                    [],
                    {"query": "[]"},
                    {"build_near_host_ip": "10.0.0.1"},
                    {"same_host": "x"},
                    {"same_host": []},
                    {"group": 1},
                    {"same_host": [str(uuid.UUID(int=1))], "different_host": [str(uuid.UUID(int=1))]},
                ),
            ),
            ("config_drive", (1, "true", None)),
            ("hostname", ("x", "-x", "x-", "a.b", "a_b", "web\n", "x" * 64, 1, None)),
            ("trusted_image_certificates", ([], ["a", "a"], "a", [""], [f"c{n}" for n in range(51)])),
            (
                "block_device_mapping_v2",
                (
                    [],
                    [{}],
                    [{"source_type": "volume", "uuid": "v"}],
                    [{"source_type": "volume", "boot_index": 0}],
                    [{"source_type": "volume", "uuid": "v", "boot_index": 0, "volume_size": 1}],
                    [{"source_type": "image", "uuid": "i", "boot_index": 0}],
                    [{"source_type": "blank", "uuid": "i", "volume_size": 1, "boot_index": 0}],
                    [{"source_type": "snapshot", "uuid": "s", "boot_index": 0}],
                    [{"source_type": "volume", "uuid": "v", "boot_index": 0, "destination_type": "local"}],
                    [{"source_type": "volume", "uuid": "v", "boot_index": 0, "volume_type": "fast"}],
                    [{"source_type": "volume", "uuid": "v", "boot_index": 0}] * 2,
                    [{"source_type": "volume", "uuid": "v", "boot_index": True}],
                    [{"source_type": "volume", "uuid": "v", "boot_index": 0, "delete_on_termination": 1}],
                ),
            ),
        )
        for value in values
    ],
    (json.dumps({"is_preemptible": False, "network": "n", "networks": [{"network": "n"}]}), "networks"),
    *[
        (
            json.dumps({"is_preemptible": True, "on_eviction": "restart", "keep_address": True, "networks": networks}),
            "keep_address",
        )
        for networks in ([{"port": "p"}], [{"network": "n", "fixed_ip": "10.0.0.1"}], [{"network": "n"}] * 2)
    ],
    *[(with_field("min_run_seconds", value), "min_run_seconds") for value in (-1, 31_536_001, "60", 0.5, False, None)],
]


async def refused(call, service, body, status=400, **kwargs):
    """POST it; it must be refused in the one shape of errors, and the service must not hear of it."""
    answer = await call("POST", VMS, body=body, **kwargs)
    assert answer.status == status
    said = answer.json
    assert said["code"] == str(status)
    assert said["message"] and said["message"] == said["message:"]
    assert said["request_id"] == answer.headers["X-Request-Id"]
    assert not service.calls
    return said


@pytest.mark.gen_test
@pytest.mark.parametrize("body", NOT_AN_OBJECT + NOT_JSON, ids=lambda body: repr(body[:30]))
async def test_a_body_that_is_no_json_object_is_refused(call, service, body):
    assert (await refused(call, service, body))["error"] == "invalid_request"


@pytest.mark.gen_test
@pytest.mark.parametrize("body, field", BAD_FIELDS, ids=lambda part: repr(part[:60]))
async def test_a_bad_field_is_refused_by_name(call, service, body, field):
    said = await refused(call, service, body)
    assert (said["error"], said["field"]) == ("invalid_request", field)
    assert field in said["message"]


@pytest.mark.gen_test
async def test_no_body_is_refused(call, service):
    assert (await refused(call, service, None))["error"] == "invalid_request"
    assert (await refused(call, service, ""))["error"] == "invalid_request"


@pytest.mark.gen_test
async def test_all_bad_fields_are_named_at_once(call, service):
    said = await refused(call, service, '{"is_preemptible": "yes", "flavour": "m1", "priority": 1e9}')
    assert all(name in said["message"] for name in ("is_preemptible", "flavour", "priority"))


@pytest.mark.gen_test
async def test_a_hostile_field_name_is_cut_short_in_the_answer(call, service):
    said = await refused(call, service, with_field("<script>" * 20_000, 1))
    assert len(json.dumps(said)) < 1000


@pytest.mark.gen_test
async def test_a_flavor_that_does_not_exist_is_refused_by_name_and_nothing_is_waited_for(call, service):
    answer = await call("POST", VMS, json_body={"is_preemptible": True, "flavor": "no-such-flavor"})
    assert (answer.status, answer.json["error"], answer.json["field"]) == (400, "invalid_request", "flavor")
    assert [name for name, *_ in service.calls] == ["create"]


@pytest.mark.gen_test
async def test_a_body_of_two_mebibytes_is_413(call, service):
    body = with_field("name", "x" * 2 * 1024 * 1024)
    assert (await refused(call, service, body, 413))["error"] == "payload_too_large"


@pytest.mark.gen_test
async def test_a_body_of_two_mebibytes_without_a_length_is_413_too(call, service):
    async def pieces(write):
        await write(b'{"is_preemptible": true, "name": "')
        for _ in range(32):
            await write(b"x" * 65536)
        await write(b'"}')

    answer = await call("POST", VMS, body_producer=pieces, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.json["error"]) == (413, "payload_too_large")
    assert not service.calls


@pytest.mark.gen_test
async def test_the_largest_wish_that_is_allowed_is_accepted(call, service):
    wish = {
        "is_preemptible": False,
        "user_data": "YWJj" * 16383,
        "name": "ü" * 255,
        "metadata": {f"{number:0255}": "x" * 255 for number in range(120)},
    }
    assert (await call("POST", VMS, json_body=wish)).status == 201
    assert service.wrote()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json-patch+json",
        "multipart/form-data; boundary=x",
        "",
        "application/xml",
    ],
)
async def test_a_body_that_is_not_sent_as_json_is_415(call, service, media_type):
    said = await refused(call, service, GOOD, 415, headers={"Content-Type": media_type})
    assert said["error"] == "unsupported_media_type"


@pytest.mark.gen_test
async def test_a_compressed_body_is_415(call, service):
    await refused(call, service, GOOD, 415, headers={"Content-Encoding": "gzip"})


@pytest.mark.gen_test
@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
async def test_json_is_json_however_it_is_written(call, media_type):
    answer = await call("POST", VMS, body=GOOD, headers={"Content-Type": media_type})
    assert answer.status == 201


@pytest.mark.gen_test
@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel".encode("latin-1").decode("latin-1"), "a\tb"])
async def test_an_idempotency_key_that_cannot_be_one_is_refused(call, service, key):
    said = await refused(call, service, GOOD, headers={"Idempotency-Key": key})
    assert said["field"] == "Idempotency-Key"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "query, field",
    [
        ("dryrun=true", "dryrun"),
        ("dry_run=yes", "dry_run"),
        ("dry_run", "dry_run"),
        ("dry_run=true&dry_run=false", "dry_run"),
        ("x=1", "x"),
        ("count=2", "count"),
        ("dry_run=true&count=0", "count"),
        ("dry_run=true&count=51", "count"),
    ],
)
async def test_a_misspelt_dry_run_creates_nothing(call, service, query, field):
    answer = await call("POST", f"{VMS}?{query}", body=GOOD)
    assert (answer.status, answer.json["field"]) == (400, field)
    assert not service.calls


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:1"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": "127.0.0.1.evil.example"},
    ],
)
async def test_the_page_of_another_site_can_create_and_delete_nothing(call, service, headers):
    assert (await refused(call, service, GOOD, 403, headers=headers))["error"] == "forbidden"
    for method, body in (("DELETE", {}), ("PATCH", {"json_body": {"is_preemptible": False}})):
        answer = await call(method, f"{VMS}/{CLOUD_1}", headers=headers, **body)
        assert (answer.status, answer.json["error"]) == (403, "forbidden")
    assert not service.calls


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("PUT", "/api/v1/events?type=", "GET, HEAD, OPTIONS"),
        ("PATCH", "/api/v1/vm?x=1", "GET, HEAD, POST, OPTIONS"),
        ("GET", "/api/v1/vm/not%20an%20id/ack", "POST, OPTIONS"),
        ("QUERY", "/api/v1/vm", "GET, HEAD, POST, OPTIONS"),
    ],
)
async def test_a_method_that_is_not_known_is_405_whatever_else_is_wrong(call, method, path, allowed):
    answer = await call(method, path)
    assert (answer.status, answer.json["error"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed
    assert method == "QUERY" or (await call(method, "/api/v1/nothing-here")).status == 404


class TestWithShortTimeOuts:
    """A server that waits a tenth of a second for headers, and as long for a body."""

    @pytest.fixture(name="settings")
    def _settings(self, settings):
        return replace(settings, header_timeout=0.1, body_timeout=0.1)

    @pytest.mark.gen_test
    @pytest.mark.parametrize(
        "start",
        [
            b"",
            b"POST /api/v1/vm HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
            b"POST /api/v1/vm HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 23\r\n\r\n{",
        ],
    )
    async def test_a_client_that_never_finishes_is_hung_up_on(self, http_server, http_port, service, start):
        del http_server
        reader, writer = await asyncio.open_connection("127.0.0.1", http_port)
        writer.write(start)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert not service.calls
