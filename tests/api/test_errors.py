"""Errors: one shape, a status for every kind, and nothing leaks."""

import inspect
import logging
import re
from pathlib import Path

import pytest

from tests.api.standin import CLOUD_9
from vmsvc.domain import errors
from vmsvc.web.app import make_app
from vmsvc.web.http.auth import Principal
from vmsvc.web.http.handler import HTTP_REFUSALS, INTERNAL, STATUS, STATUS_OF_SLUG

VMS = "/api/v1/vm"
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.VmsvcError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_has_a_status_of_its_own_or_of_its_meaning(kind):
    meanings = [cls for cls in kind.__mro__ if "slug" in vars(cls)]
    assert meanings[0] in STATUS


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "error, status, slug",
    [
        (errors.InvalidRequest("no"), 400, "invalid_request"),
        (errors.Unauthenticated("no"), 401, "unauthenticated"),
        (errors.Forbidden("no"), 403, "forbidden"),
        (errors.QuotaExceeded("no"), 403, "quota_exceeded"),
        (errors.NotFound("no"), 404, "not_found"),
        (errors.NoCapacity("no"), 409, "no_capacity"),
        (errors.Conflict("no"), 409, "conflict"),
        (errors.Locked("no"), 409, "conflict"),
        (errors.HistoryGone(5), 410, "history_gone"),
        (errors.IdempotencyMismatch("no"), 422, "idempotency_mismatch"),
        (errors.TooManyRequests("no", 0.2), 429, "too_many_requests"),
        (errors.CloudError("no"), 502, "cloud_error"),
        (errors.CloudUnavailable("no", 7.5), 503, "cloud_unavailable"),
        (errors.OutcomeUnknown("no"), 503, "cloud_unavailable"),
        (errors.Unavailable("no"), 503, "unavailable"),
        (errors.Timeout("no"), 504, "timeout"),
    ],
)
async def test_a_domain_error_is_reported_by_status_slug_and_message(call, service, error, status, slug):
    service.error = error
    method, path, body = {404: ("GET", f"{VMS}/{CLOUD_9}", None), 410: ("GET", "/api/v1/events?since=1", None)}.get(
        status, ("POST", VMS, {"is_preemptible": False})
    )
    answer = await call(method, path, json_body=body)
    assert answer.status == status
    assert answer.json == {
        "code": str(status),
        "message": error.message,
        "message:": error.message,
        "error": slug,
        "request_id": answer.headers["X-Request-Id"],
    }
    assert ("Retry-After" in answer.headers) == (status in (429, 503))
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_the_page_of_errors_has_every_one_with_its_status():
    page = Path(__file__).parents[2].joinpath("docs", "reference", "errors.md").read_text(encoding="utf-8")
    told = {(int(status), slug) for status, slug in re.findall(r"^\| (\d{3}) \| `(\w+)` \| ", page, re.MULTILINE)}
    known = {(status, slug) for status, (slug, _) in HTTP_REFUSALS.items()} | {(500, INTERNAL[0])}
    assert told == known | {(status, slug) for slug, status in STATUS_OF_SLUG.items()}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "error, seconds",
    [
        (errors.CloudUnavailable("no", 7.5), "8"),
        (errors.OutcomeUnknown("no"), "5"),
        (errors.TooManyRequests("no", 0.2), "1"),
    ],
)
async def test_who_should_come_back_hears_when(call, service, error, seconds):
    service.error = error
    assert (await call("GET", VMS)).headers["Retry-After"] == seconds


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "slug, status", [("quota_exceeded", 403), ("cloud_unavailable", 503), ("timeout", 504), ("no_such_slug", 500)]
)
async def test_a_create_that_failed_keeps_the_status_of_its_slug(call, service, slug, status):
    service.refusal = (slug, "it went wrong")
    answer = await call("POST", VMS, json_body={"is_preemptible": False})
    assert (answer.status, answer.json["message"]) == (status, "it went wrong")
    assert answer.json["error"] == (slug if status != 500 else "internal")
    assert ("Retry-After" in answer.headers) == (status == 503)


@pytest.mark.gen_test
async def test_an_unforeseen_error_tells_the_client_nothing_and_the_log_everything(call, service, caplog):
    service.error = RuntimeError("password=hunter2")
    answer = await call("GET", VMS, headers={"X-Request-Id": "mine-1"})
    assert (answer.status, answer.json["error"], answer.json["request_id"]) == (500, "internal", "mine-1")
    assert b"hunter2" not in answer.raw and b"Traceback" not in answer.raw
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "mine-1" in record.getMessage() and record.exc_info


@pytest.mark.gen_test
async def test_a_refusal_is_no_error_in_the_log(call, caplog):
    await call("GET", f"{VMS}/nobody")
    await call("GET", "/nowhere")
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path", ["/nowhere", "/api/v1/vms", "/api/v2/vm", "/api/v1/vm/", "/api/v1/vm/a/b", "//", "/metrics/x"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_an_unknown_address_is_404_in_the_same_shape(call, path, method):
    answer = await call(method, path)
    assert (answer.status, answer.json["error"], answer.json["code"]) == (404, "not_found", "404")
    assert answer.json["message"] == answer.json["message:"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("PUT", VMS, "GET, HEAD, POST, OPTIONS"),
        ("DELETE", VMS, "GET, HEAD, POST, OPTIONS"),
        ("PUT", f"{VMS}/x", "GET, HEAD, DELETE, PATCH, OPTIONS"),
        ("POST", f"{VMS}/x", "GET, HEAD, DELETE, PATCH, OPTIONS"),
        ("POST", "/api/v1/events", "GET, HEAD, OPTIONS"),
        ("BREW", VMS, "GET, HEAD, POST, OPTIONS"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_wrong_method_is_405_and_hears_which_are_right(call, service, method, path, allowed):
    answer = await call(method, path)
    assert (answer.status, answer.json["error"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed
    assert not service.calls


@pytest.mark.gen_test
async def test_head_is_get_without_a_body(call):
    answer = await call("HEAD", VMS)
    assert (answer.status, answer.raw) == (200, b"")
    assert int(answer.headers["Content-Length"]) == len((await call("GET", VMS)).raw)


@pytest.mark.gen_test
@pytest.mark.parametrize("given", ["abc-1.2:3_4", "x" * 128])
async def test_a_clients_request_id_comes_back(call, given):
    assert (await call("GET", VMS, headers={"X-Request-Id": given})).headers["X-Request-Id"] == given


@pytest.mark.gen_test
@pytest.mark.parametrize("given", ["", "a b", "<script>", "x" * 129, "é"])
async def test_a_request_id_that_is_no_sane_one_is_replaced(call, given):
    answer = await call("GET", VMS, headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"].startswith("req-")


@pytest.mark.gen_test
async def test_the_access_log_has_one_line_for_a_change_and_neither_body_nor_query(call, caplog):
    caplog.set_level(logging.DEBUG, "vmsvc.access")
    await call("GET", VMS)
    await call("POST", f"{VMS}?dry_run=true", json_body={"is_preemptible": True, "user_data": "c2VjcmV0"})
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "vmsvc.access"]
    assert [level for level, _ in lines] == ["DEBUG", "INFO"]
    assert lines[1][1].startswith("POST /api/v1/vm 200 ")
    assert "c2VjcmV0" not in caplog.text and "dry_run" not in caplog.text


class TestWithReaders:
    """A service where the header `Who` says who asks; none is nobody."""

    @pytest.fixture(name="app")
    def _app(self, service, hub, settings):
        class ByName:
            """Members may write."""

            challenge = "Keystone uri='http://cloud.example'"

            async def principal(self, request):
                """Whoever they say they are."""
                if "Who" not in request.headers:
                    raise errors.Unauthenticated("who are you?")
                return Principal(request.headers["Who"], may_write=request.headers["Who"] == "member")

        return make_app(service, hub, settings, ByName(), evictions=None, tickets=None, webhooks=None)

    @pytest.mark.gen_test
    async def test_who_is_not_known_gets_nothing_but_the_probes(self, call, service):
        for method, path in (("GET", VMS), ("POST", VMS), ("GET", "/api/v1/events"), ("GET", "/api/v1/capacity")):
            answer = await call(method, path)
            assert (answer.status, answer.json["error"]) == (401, "unauthenticated")
            assert answer.headers["WWW-Authenticate"].startswith("Keystone ")
        assert (await call("GET", "/healthz")).status == 200
        assert not service.calls

    @pytest.mark.gen_test
    async def test_a_reader_reads_and_a_member_writes(self, call, service):
        body = {"is_preemptible": True}
        assert (await call("GET", VMS, headers={"Who": "reader"})).status == 200
        assert (await call("POST", VMS, json_body=body, headers={"Who": "reader"})).status == 403
        assert (await call("DELETE", f"{VMS}/x", headers={"Who": "reader"})).status == 403
        assert (await call("PATCH", f"{VMS}/x", json_body=body, headers={"Who": "reader"})).status == 403
        assert not service.wrote()
        assert (await call("POST", VMS, json_body=body, headers={"Who": "member"})).status == 201
        assert service.calls[1][3] == "member"
