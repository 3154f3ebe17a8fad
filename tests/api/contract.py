"""Holds every answer that a test gets against the OpenAPI document, so that the document cannot lie."""

import functools
import json
import re
from datetime import datetime
from typing import Any

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from jsonschema import Draft202012Validator

from vmsvc.web.app import api_document


def as_json_schema(part: Any) -> Any:
    """OpenAPI 3.0's `nullable` in the words of JSON Schema."""
    if isinstance(part, list):
        return [as_json_schema(item) for item in part]
    if not isinstance(part, dict):
        return part
    part = {name: as_json_schema(value) for name, value in part.items()}
    if part.get("nullable") is True:
        del part["nullable"]
        if "type" not in part:
            return {"anyOf": [part, {"type": "null"}]}
        part["type"] = [part["type"], "null"]
    return part


@functools.cache
def _components() -> dict[str, Any]:
    return as_json_schema(api_document()["components"])


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """A validator of a schema of the document's, whose references it can follow."""
    return Draft202012Validator(as_json_schema(schema) | {"components": _components()})


def described(method: str, path: str) -> dict[str, Any] | None:
    """What the document says of this call; None when it knows no such address or method."""
    return _described(method, path.partition("?")[0])


@functools.lru_cache(4096)
def _described(method: str, path: str) -> dict[str, Any] | None:
    for template, item in api_document()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return item.get("get" if method == "HEAD" else method.lower())
    return None


def check(method: str, path: str, status: int, headers: Any, raw: bytes) -> None:
    """Fail when the document does not tell of such an answer to this call."""
    operation = described(method, path)
    if status == 405 and raw:
        assert headers["Allow"] and json.loads(raw)["error"] == "method_not_allowed"
    if operation is None or status in (304, 405):
        return
    assert str(status) in operation["responses"], f"the document knows no {status} of {method} {path}"
    answer = operation["responses"][str(status)]
    for name in ("Location", "Retry-After", "Preference-Applied"):
        assert name not in headers or name in answer["headers"] or status >= 400, f"{name} is not in the document"
    for name, header in answer["headers"].items():
        assert name in headers or not header["required"], f"{name} is missing"
    if "content" in answer and raw:
        _check_body(method, path.partition("?")[0], status, raw)


@functools.lru_cache(1024)
def _check_body(method: str, path: str, status: int, raw: bytes) -> None:
    """A test that waits gets the same answer again and again: it is checked once."""
    media, said = _described(method, path)["responses"][str(status)]["content"]["application/json"], json.loads(raw)
    _body_validator(method, path, status).validate(said)
    assert said.get("error") in media.get("examples", {said.get("error")}), f"{said} is not in the document"


@functools.lru_cache(1024)
def _body_validator(method: str, path: str, status: int) -> Draft202012Validator:
    return validator(_described(method, path)["responses"][str(status)]["content"]["application/json"]["schema"])


@functools.cache
def _event_schema() -> Draft202012Validator:
    return validator(api_document()["components"]["schemas"]["Event"])


def check_event(event: dict[str, Any]) -> None:
    """Fail when this is not as the document has it, or no CloudEvent in the eyes of CloudEvents' own package."""
    _event_schema().validate(event)
    read = JSONFormat().read(CloudEvent, json.dumps(event))
    # The package fills in what is missing: what it writes must be what we wrote (it shows microseconds).
    assert json.loads(JSONFormat().write(read)) | {"time": event["time"]} == event
    assert read.get_time() == datetime.fromisoformat(event["time"])
