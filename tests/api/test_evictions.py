"""Acknowledging, practising and the record of evictions over HTTP."""

import pytest

from tests.api.standin import CLOUD_1, OWN_2
from vmsvc.domain.errors import CloudUnavailable, Conflict, Forbidden, NotFound, Timeout
from vmsvc.web.api.evictions import EVICTION

VM = f"/api/v1/vm/{CLOUD_1}"
RECORD = "/api/v1/evictions"


@pytest.mark.gen_test
@pytest.mark.parametrize("body", [None, "{}"])
async def test_a_victim_is_let_go_early_with_or_without_an_empty_body(call, evictions, body):
    answer = await call("POST", f"{VM}/ack", body=body)
    said = f"vm {CLOUD_1} may go before its time"
    assert (answer.status, answer.json) == (200, {"code": "200", "message:": said, "message": said, "vm": evictions.vm})
    assert evictions.calls == [("acknowledge", CLOUD_1)]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "body, notice_only, end",
    [
        (None, False, "it goes at 2026-11-23T12:00:30.000Z"),
        ("{}", False, "it goes at 2026-11-23T12:00:30.000Z"),
        ('{"notice_only": false}', False, "it goes at 2026-11-23T12:00:30.000Z"),
        ('{"notice_only": true}', True, "it stays, and is reprieved at 2026-11-23T12:00:30.000Z"),
    ],
)
async def test_an_eviction_is_practised_to_the_end_unless_only_the_notice_is_wanted(
    call, evictions, body, notice_only, end
):
    answer = await call("POST", f"{VM}/evict", body=body)
    said = f"vm {CLOUD_1} was noticed; {end}"
    assert (answer.status, answer.json) == (202, {"code": "202", "message:": said, "message": said, "vm": evictions.vm})
    assert evictions.calls == [("practise", CLOUD_1, notice_only)]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "action, body, field",
    [
        ("ack", '{"notice_only": true}', "notice_only"),
        ("ack", '{"force": true}', "force"),
        ("evict", '{"noticeonly": true}', "noticeonly"),
        ("evict", '{"notice_only": true, "notice_only": false}', "notice_only"),
        *[("evict", f'{{"notice_only": {value}}}', "notice_only") for value in ('"true"', "1", "null", "[]")],
        *[(action, body, None) for action in ("ack", "evict") for body in ("[]", "null", "true", "{", "notice_only=1")],
    ],
)
async def test_a_bad_body_notices_no_vm(call, evictions, action, body, field):
    answer = await call("POST", f"{VM}/{action}", body=body)
    assert (answer.status, answer.json["error"], answer.json.get("field")) == (400, "invalid_request", field)
    assert not evictions.calls


@pytest.mark.gen_test
@pytest.mark.parametrize("action", ["ack", "evict"])
async def test_a_body_must_be_sent_as_json(call, evictions, action):
    answer = await call("POST", f"{VM}/{action}", body="{}", headers={"Content-Type": "text/plain"})
    assert (answer.status, evictions.calls) == (415, [])


@pytest.mark.gen_test
@pytest.mark.parametrize("action", ["ack", "evict"])
@pytest.mark.parametrize(
    "error, status",
    [
        (NotFound("no"), 404),
        (Forbidden("no"), 403),
        (Conflict("no"), 409),
        (CloudUnavailable("no"), 503),
        (Timeout("no"), 504),
    ],
)
async def test_what_the_service_refuses_is_reported(call, evictions, action, error, status):
    evictions.error = error
    answer = await call("POST", f"{VM}/{action}")
    assert (answer.status, answer.json["error"], answer.json["message"]) == (status, error.slug, "no")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/vm/%20/ack",
        "/api/v1/vm/a%00/evict",
        f"/api/v1/vm/{'x' * 65}/evict",
        f"{RECORD}/x",
        f"{RECORD}/-1",
        f"{RECORD}/1.5",
        f"{RECORD}/{'9' * 30}",
    ],
)
async def test_a_strange_id_is_404_without_asking_the_service(call, evictions, path):
    answer = await call("GET" if path.startswith(RECORD) else "POST", path)
    assert (answer.status, answer.json["error"]) == (404, "not_found")
    assert not evictions.calls


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path, methods",
    [(f"{VM}/ack", "POST"), (f"{VM}/evict", "POST"), (RECORD, "GET, HEAD"), (f"{RECORD}/1", "GET, HEAD")],
)
async def test_other_methods_are_405(call, path, methods):
    answer = await call("DELETE", path)
    assert (answer.status, set(answer.headers["Allow"].split(", "))) == (405, {"OPTIONS", *methods.split(", ")})


@pytest.mark.gen_test
async def test_the_record_is_shown_page_by_page(call, evictions):
    evictions.found, evictions.next = [EVICTION, EVICTION | {"id": 16, "request": None}], 16
    answer = await call("GET", f"{RECORD}?limit=2")
    assert (answer.status, answer.json) == (200, {"evictions": evictions.found, "before": 16})
    evictions.found, evictions.next = [EVICTION | {"id": 15, "runner_up": None}], None
    answer = await call("GET", f"{RECORD}?limit=2&before=16&vm={CLOUD_1}&request={OWN_2}&reason=capacity")
    assert answer.json == {"evictions": evictions.found, "before": None}
    nothing = {"before": None, "vm": None, "request": None, "reason": None}
    assert evictions.calls == [
        ("record", nothing | {"limit": 2}),
        ("record", {"before": 16, "limit": 2, "vm": CLOUD_1, "request": OWN_2, "reason": "capacity"}),
    ]


@pytest.mark.gen_test
async def test_a_page_has_a_hundred_unless_given_another_limit(call, evictions):
    assert (await call("GET", RECORD)).json == {"evictions": [], "before": None}
    assert evictions.calls[0][1]["limit"] == 100


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "query, field",
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("before=0", "before"),
        ("before=-1", "before"),
        ("before=9223372036854775808", "before"),
        ("vm=", "vm"),
        ("vm=a%20b", "vm"),
        ("vm=a&vm=b", "vm"),
        ("request=%00", "request"),
        ("reason=", "reason"),
        ("reason=thirst", "reason"),
        ("since=1", "since"),
    ],
)
async def test_a_bad_query_of_the_record_is_refused_by_name(call, evictions, query, field):
    answer = await call("GET", f"{RECORD}?{query}")
    assert (answer.status, answer.json.get("field")) == (400, field), answer.json
    assert not evictions.calls


@pytest.mark.gen_test
async def test_one_eviction_is_shown(call, evictions):
    evictions.found = [EVICTION]
    answer = await call("GET", f"{RECORD}/17")
    assert (answer.status, answer.json, evictions.calls) == (200, EVICTION, [("one", 17)])
    evictions.error = NotFound("there is no eviction 18")
    assert (await call("GET", f"{RECORD}/18")).status == 404
