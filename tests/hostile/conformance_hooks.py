"""What schemathesis has to know of this service. It imports this file by itself: see `conformance`."""

import os
import re
import unicodedata
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.openapi.checks import RejectedPositiveData

#: A body that OpenAPI 3.0 cannot tell from a good one may be refused with 400 when that names one of these: what the
#: cloud does not have; keys of an object; members that need or exclude one another; what is in the path too; a URL
#: whose host is no name and no address.
BEYOND_SCHEMA = {
    "POST /api/v1/vm": {
        "flavor",
        "image",
        "network",
        "key_name",
        "availability_zone",
        "metadata",
        "group",
        "max_unavailable",
        "fallback_after_seconds",
        "patience_seconds",
        "on_eviction",
        "max_restarts",
        "restart_within_seconds",
        "fallback_after_evictions",
        "keep_address",
        *("networks", "security_groups", "tags", "server_group", "scheduler_hints"),
        *("trusted_image_certificates", "block_device_mapping_v2", "count"),
    },
    "PATCH /api/v1/vm/{id}": {"on_eviction"},
    "POST /api/v1/webhooks": {"url"},
    "PATCH /api/v1/webhooks/{id}": {"url"},
    "DELETE /api/v1/vm/{id}": {"cloud_vm_id"},
    "GET /api/v1/advice": {"flavor"},
}

#: How the one who asks shows who he is, and what he may do: see `conformance.Caller`.
SCHEME, ROLE = os.environ.get("CONFORMANCE_SCHEME"), os.environ.get("CONFORMANCE_ROLE")
#: What a reader may do besides looking.
READERS = {"POST /api/v1/tickets"}

#: What no header may hold.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PRINTABLE = st.characters(exclude_categories=("C", "Zl", "Zp"))
schemathesis.openapi.format(
    "printable",
    st.text(_PRINTABLE, min_size=1, max_size=255).filter(
        lambda text: text == text.strip() and not any(unicodedata.category(one)[0] == "C" for one in text)
    ),
)


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict) -> None:
    """The document is one for every way of authentication; where tokens are asked for there is no way without."""
    for path, item in raw_schema["paths"].items():
        for operation in item.values():
            if isinstance(operation, dict) and "security" in operation:
                # /metrics wants to know nobody's name on the machine itself, and here all is on one machine.
                operation["security"] = [{SCHEME: []}] if SCHEME and path != "/metrics" else []


@schemathesis.hook
def after_call(_context: Any, _case: Any, response: Any) -> None:
    """Every answer is counted."""
    with open(os.environ["CONFORMANCE_ANSWERS"], "a", encoding="ascii") as answers:
        answers.write(f"{response.status_code}\n")


@schemathesis.hook
def filter_failure(_context: Any, failure: Any, case: Any, response: Any) -> bool:
    """False for what the contract wants to be as it is."""
    if response.status_code == 400 and any(_CONTROL.search(str(value)) for value in (case.headers or {}).values()):
        return False  # that is no HTTP, so there is no request: it ends with a bare 400
    if isinstance(failure, RejectedPositiveData) and response.status_code == 400:
        field = response.json().get("field")
        return field not in BEYOND_SCHEMA.get(case.operation.label, ()) and not _is_key_of_metadata(field, case.body)
    return True


def _is_key_of_metadata(field: str | None, body: Any) -> bool:
    keys = body.get("metadata") if isinstance(body, dict) else None
    return bool(field and keys) and any(key.startswith(field.rstrip("…")) for key in keys)


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    """OpenAPI 3.0 has no word for the keys of an object: most that are made up are turned into keys that Nova takes."""
    metadata = body.get("metadata") if isinstance(body, dict) else None
    if isinstance(metadata, dict):
        keys = {key: re.sub(r"[^a-zA-Z0-9_:. -]", "_", key)[:255] or "_" for key in metadata}
        if len(set(keys.values())) == len(keys):
            return body | {"metadata": {keys[key]: value for key, value in metadata.items()}}
    return body


@schemathesis.check
def documented_error(_context: Any, response: Any, case: Any) -> None:
    """The word in `error` is one that the document names under this status of this call, and the texts agree."""
    if response.status_code < 400 or "json" not in response.headers.get("content-type", [""])[0]:
        return
    body = response.json()
    if case.method.upper() != case.operation.method.upper():
        assert (response.status_code, body["error"]) == (405, "method_not_allowed"), body
    elif "error" in body:
        told = case.operation.definition.raw["responses"].get(str(response.status_code), {})
        words = told.get("content", {}).get("application/json", {}).get("examples", {})
        assert body["error"] in words, f"{case.operation.label}: no {response.status_code} {body['error']} is told"
        assert body["message"] == body["message:"] and body["code"] == str(response.status_code), body
        assert response.headers["x-request-id"] == [body["request_id"]], body


@schemathesis.check
def readers_only_read(_context: Any, response: Any, case: Any) -> None:
    """Whatever a reader wants to be done is refused: to him with 403, to nobody with 401."""
    known = case.method.upper() == case.operation.method.upper()
    if ROLE == "reader" and known and case.method.upper() != "GET" and case.operation.label not in READERS:
        assert response.status_code in (401, 403), f"a reader did {case.operation.label}: {response.status_code}"


@schemathesis.check
def no_traces(_context: Any, response: Any, _case: Any) -> None:
    """Nothing of the inside gets out."""
    assert "server" not in response.headers
    assert not re.search(rb"Traceback|psycopg|peewee|\.py\"", response.content), response.content[:500]
