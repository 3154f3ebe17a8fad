"""What OpenStack's real refusals mean to us. The bodies were heard from Nova 34, Placement 16, Neutron 29."""

import json

import pytest

from tests.servers import server_of
from vmsvc.cloud.openstack.exchange import LONGEST_PAUSE, Answer, CloudRequest, TurnedAway
from vmsvc.cloud.openstack.translate import error_of, reason
from vmsvc.cloud.port import Server
from vmsvc.domain.errors import (
    CloudError,
    CloudUnavailable,
    Conflict,
    Forbidden,
    Garbled,
    InvalidRequest,
    Locked,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    QuotaExceeded,
)

READ = CloudRequest("server", "compute", "GET", "/servers/x")
WRITE = CloudRequest("create_server", "compute", "POST", "/servers")


def nova(status: int, text: str, key: str = "forbidden") -> Answer:
    """A refusal in Nova's shape."""
    return Answer(status, {}, json.dumps({key: {"code": status, "message": text}}))


REFUSALS = [
    (nova(403, "Quota exceeded for instances: Requested 1, but already used 1 of 1 instances"), QuotaExceeded),
    (nova(403, "Quota exceeded for cores: Requested 2, but already used 2 of 3 cores"), QuotaExceeded),
    (
        nova(
            403,
            "Quota exceeded for cores, instances, ram: Requested 1, 1, 1024, but already used 2, 1, 4096 of 2, 1, "
            "4096 cores, instances, ram",
        ),
        QuotaExceeded,
    ),
    (nova(403, "Maximum number of ports exceeded"), QuotaExceeded),
    (
        nova(
            403,
            "Project 4f94 is over a limit for [Resource VCPU is over limit of 4 due to current usage 4 and delta 1]",
        ),
        QuotaExceeded,
    ),
    (
        nova(413, "Quota exceeded for ram: Requested 2048, but already used 4096 of 5000 ram", "overLimit"),
        QuotaExceeded,
    ),
    (
        Answer(
            409,
            {},
            json.dumps(
                {
                    "NeutronError": {
                        "type": "OverQuota",
                        "detail": "",
                        "message": "Quota exceeded for resources: ['port'].",
                    }
                }
            ),
        ),
        QuotaExceeded,
    ),
    (nova(403, "Policy doesn't allow compute:servers:create:requested_destination to be performed."), Forbidden),
    (nova(403, "Maximum number of metadata items exceeds 128"), InvalidRequest),
    (
        nova(
            403,
            "Project None is over a limit for [Resource server_metadata_items is over limit of 128 due to current "
            "usage 0 and delta 129]",
        ),
        InvalidRequest,
    ),
    (nova(409, "Instance 0c4f is locked", "conflictingRequest"), Locked),
    (nova(409, "Cannot 'stop' instance 0c4f while it is in task_state deleting", "conflictingRequest"), Conflict),
    (nova(409, "Cannot 'stop' instance 0c4f while it is in vm_state stopped", "conflictingRequest"), Conflict),
    (
        nova(409, "Multiple possible networks found, use a Network ID to be more specific.", "conflictingRequest"),
        InvalidRequest,
    ),
    (nova(404, "Instance 0c4f could not be found.", "itemNotFound"), NotFound),
    (nova(400, "Can not find requested image", "badRequest"), InvalidRequest),
    (
        Answer(
            403,
            {},
            json.dumps(
                {
                    "errors": [
                        {
                            "status": 403,
                            "title": "Forbidden",
                            "code": "placement.undefined_code",
                            "request_id": "req-1",
                            "detail": "Access was denied to this resource.\n\n Policy does not allow "
                            "placement:resource_providers:list to be performed.  ",
                        }
                    ]
                }
            ),
        ),
        Forbidden,
    ),
    (Answer(400, {}, '{"badRequest": {"code": 400, "message": "Can not fi'), Garbled),
    *((Answer(status, {}, "<html><body>Sorry</body></html>"), Garbled) for status in (302, 400, 403, 404, 405, 409)),
    (Answer(404, {}, '{"message": "no Route matched with those values"}'), Garbled),
    (nova(418, "teapot"), CloudError),
    (Answer(406, {}, json.dumps({"errors": [{"detail": "Version 2.200 is not supported by the API."}]})), CloudError),
    (nova(429, "This request was rate-limited.", "overLimit"), TurnedAway),
    (nova(413, "This request was rate-limited.", "overLimit"), TurnedAway),
    (Answer(413, {"Retry-After": "1"}, "<html>slow down</html>"), TurnedAway),
    (
        Answer(
            413,
            {"Retry-After": "0"},
            json.dumps(
                {
                    "overLimit": {
                        "code": 413,
                        "message": "Quota exceeded for cores: Requested 1, but already used 20 of 20 cores",
                    }
                }
            ),
        ),
        QuotaExceeded,
    ),
    (Answer(413, {}, "<html>Request Entity Too Large</html>"), InvalidRequest),
    (
        Answer(401, {}, json.dumps({"error": {"code": 401, "message": "The request you have made requires auth"}})),
        CloudUnavailable,
    ),
]


@pytest.mark.parametrize(("answer", "meaning"), REFUSALS, ids=lambda value: getattr(value, "__name__", None))
def test_a_refusal_means(answer, meaning):
    assert error_of(WRITE, answer).__class__ is meaning


#: What each service itself says where it finds nothing, and what a proxy says in its place.
UNFOUND = [
    ("placement", '{"errors": [{"status": 404, "detail": "No resource provider with uuid 1 found"}]}', NotFound),
    ("placement", "<html>404 Not Found</html>", Garbled),
    ("image", "404 Not Found\n\nNo image found with ID 1\n\n   ", NotFound),
    ("image", "<html><title>404 Not Found</title><body>No image found with ID 1<br /></body></html>", NotFound),
    ("image", "<html>404 Not Found</html>", Garbled),
    ("network", "404 Not Found\n\nThe resource could not be found.", NotFound),
]


@pytest.mark.parametrize(("service", "text", "meaning"), UNFOUND)
def test_only_the_service_itself_can_say_that_there_is_no_such_thing(service, text, meaning):
    assert error_of(CloudRequest("x", service, "GET", "/x"), Answer(404, {}, text)).__class__ is meaning


@pytest.mark.parametrize("status", [401, 403, 404])
def test_only_keystone_itself_can_say_that_a_token_is_bad(status):
    asked = CloudRequest("identity", "identity", "GET", "/auth/tokens", token="t0ken")
    assert isinstance(error_of(asked, Answer(status, {}, "<html>Sorry</html>")), Garbled)
    assert not isinstance(error_of(asked, Answer(status, {}, '{"error": {"message": "No."}}')), Garbled)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_good_answer_is_no_error(status):
    assert error_of(WRITE, Answer(status, {}, "")) is None


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_broken_read_can_be_repeated_and_a_broken_write_may_have_been_done(status):
    answer = Answer(status, {"Retry-After": "9"}, "<html>Service Unavailable</html>")
    assert error_of(READ, answer).__class__ is CloudUnavailable
    assert error_of(WRITE, answer).__class__ is OutcomeUnknown
    assert error_of(WRITE, answer).retry_after == 9


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("Flavor nope could not be found.", "flavor"),
        ("Flavor's disk is too small for requested image. Flavor disk is 1 bytes", "flavor"),
        ("Can not find requested image", "image"),
        ("Image 5d1 is not active.", "image"),
        ("Network 9a1 could not be found.", "network"),
        ("The requested availability zone is not available", "availability_zone"),
        ("Invalid key_name provided.", "key_name"),
        ("Compute host nope could not be found.", "host"),
        ("Invalid input for field/attribute name. Value: . '' is too short", "name"),
        ("Invalid input for field/attribute flavorRef. Value: 7. 7 is not of type 'string'", "flavor"),
        ("Invalid input for field/attribute imageRef. Value: network. 'network' is not a 'uuid'", "image"),
        ("Something new", None),
    ],
)
def test_a_400_names_the_field_to_mend(text, field):
    error = error_of(WRITE, nova(400, text, "badRequest"))
    assert (error.message, error.field) == (text, field)


def test_user_data_is_not_repeated_in_what_nova_says_of_it():
    error = error_of(
        WRITE,
        nova(
            400, "Invalid input for field/attribute user_data. Value: s3cret. 's3cret' is not a 'base64'", "badRequest"
        ),
    )
    assert error.field == "user_data"
    assert "s3cret" not in error.message


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Mon, 23 Nov 2026 10:00:30 GMT", "Date": "Mon, 23 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"Retry-After": "Mon, 23 Nov 2020 10:00:30 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "²"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "86400"}, LONGEST_PAUSE),
        ({"Retry-After": "9" * 400}, LONGEST_PAUSE),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_PAUSE),
        ({"Retry-After": "Fri, 31 Dec 99999999999999999999 23:59:59 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert Answer(429, header, "").retry_after == seconds


@pytest.mark.parametrize("text", ["<html><body><h1>502</h1></body></html>", "", "[]", "7", '{"a": {"b": 1}}'])
def test_what_has_no_sentence_gives_no_reason_and_never_html(text):
    assert reason(Answer(502, {}, text)) == "no reason was given"


def in_error(fault: str | None, status: str = "ERROR") -> Server:
    """A server with this fault."""
    return server_of("s", status=status, fault=fault, host=None, host_id="", launched_at=None)


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        ("No valid host was found. ", NoCapacity),
        ("No valid host was found. There are not enough hosts available.", NoCapacity),
        ("Quota exceeded for cores: Requested 8, but already used 16 of 20 cores", QuotaExceeded),
        (
            "Exceeded maximum number of retries. Exceeded max scheduling attempts 3 for instance 0c4f. Last "
            "exception: No space left",
            CloudError,
        ),
        (
            "Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures for "
            "instance 0c4f.",
            CloudError,
        ),
        ("Build of instance 0c4f aborted: Failed to allocate the network(s), not rescheduling.", CloudError),
        (
            "Build of instance 0c4f aborted: VolumeSizeExceedsAvailableQuota: Requested volume exceeds quota",
            QuotaExceeded,
        ),
        (None, CloudError),
    ],
)
def test_a_fault_means(fault, meaning):
    assert in_error(fault).failure.__class__ is meaning


def test_a_server_that_is_not_in_error_has_no_failure():
    assert in_error("No valid host was found. ", status="ACTIVE").failure is None
