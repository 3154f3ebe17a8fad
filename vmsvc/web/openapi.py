"""The OpenAPI document: made from the routes, the schemas and what stands beside the handlers' methods."""

import re
from collections.abc import Iterable
from inspect import cleandoc, getdoc
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from vmsvc import __version__
from vmsvc.domain import errors
from vmsvc.web import answers
from vmsvc.web.api import ApiHandler
from vmsvc.web.base import HTTP_REFUSALS, INTERNAL, Handler, route, status_of
from vmsvc.web.describe import Answer, Operation, describe

JSON = "application/json"
METHODS = ("get", "post", "delete")
#: What any call can be refused with, and any call of the API, besides its own errors.
ALWAYS = (errors.VmsvcError, 413)
COMMON = (errors.InvalidRequest, errors.Unauthenticated, errors.Forbidden, errors.TooManyRequests,
          errors.CloudUnavailable, errors.Unavailable)

#: Without examples: Swagger UI would send them, and one Idempotency-Key for everybody.
REQUEST_HEADERS = {
    "Prefer": ("RFC 7240: `respond-async` and `wait=<seconds>`", {"type": "string"}),
    "Idempotency-Key": ("the same key and body give the same VM and the same answer",
                        {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"}),
    "If-None-Match": ("the `ETag` of what the client has, or several", {"type": "string"}),
}
SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "`VMSVC_AUTH=token`: a token of the token file"},
    "keystone": {"type": "apiKey", "in": "header", "name": "X-Auth-Token",
                 "description": "`VMSVC_AUTH=keystone`: a token of Keystone's for the service's own project"},
}
ANSWER_HEADERS = {
    "ETag": "the body's entity tag, strong: equal bytes have equal ones, from whichever replica",
    "Location": "where the VM is",
    "Preference-Applied": "which preferences were honoured",
    "Retry-After": "seconds to wait before trying again",
    "WWW-Authenticate": "what to show",
    "X-Request-Id": "the request's id, the client's own if it sent a sane one",
}
#: What comes with a refusal of this status.
ERROR_HEADERS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}


def document(handlers: Iterable[type[Handler]]) -> dict[str, Any]:
    """The OpenAPI 3.0.3 document of the handlers whose methods are described."""
    spec = APISpec("vmsvc", __version__, "3.0.3", plugins=[MarshmallowPlugin()], info={
        "description": "Standard and preemptible VMs on any OpenStack cloud. A preemptible VM may be evicted, after "
                       "notice, when a standard one needs the room."})
    for name, scheme in SECURITY.items():
        spec.components.security_scheme(name, scheme)
    spec.components.schema("Error", schema=answers.Error)
    spec.components.schema("Event", schema=answers.Event)
    for handler in handlers:
        operations = {name: _operation(handler, name) for name in METHODS
                      if hasattr(getattr(handler, name), "operation")}
        if operations:
            spec.path(handler.address, operations=operations, parameters=_path_parameters(handler))
    return spec.to_dict()


def _path_parameters(handler: type[Handler]) -> list[dict[str, Any]]:
    found = []
    for name in re.findall(r"\{(\w+)\}", handler.address):
        text, pattern = handler.parameters[name]
        found.append({"name": name, "in": "path", "required": True, "description": text,
                      "schema": {"type": "string", "pattern": f"^{pattern}$"}})
    return found


def _operation(handler: type[Handler], name: str) -> dict[str, Any]:
    method = getattr(handler, name)
    operation: Operation = method.operation
    summary, _, description = (getdoc(method) or "").partition("\n")
    found: dict[str, Any] = {
        "operationId": f"{name}{handler.__name__}",
        "tags": [handler.__module__.rpartition(".")[2]],
        "summary": summary.rstrip("."),
        "description": "\n\n".join(filter(None, (cleandoc(description), operation.notes))),
        "parameters": _parameters(operation),
        "responses": _errors(handler, operation) | {str(one.status): _answer(one) for one in operation.answers},
    }
    if issubclass(handler, ApiHandler) or operation.guarded:
        found["security"] = [{name: []} for name in SECURITY] + [{}]      # one of them, or none where none is asked for
    if operation.body is not None:
        examples = {title: {"value": value} for title, value in operation.examples}
        found["requestBody"] = {"required": operation.body_required,
                                "content": {JSON: {"schema": operation.body, "examples": examples}}}
    return found


def _parameters(operation: Operation) -> list[Any]:
    headers = []
    for name in operation.headers:
        text, schema = REQUEST_HEADERS[name]
        headers.append({"name": name, "in": "header", "description": text, "schema": schema})
    return ([{"in": "query", "schema": operation.query}] if operation.query else []) + headers


def _headers(*names: str, required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {name: {"description": ANSWER_HEADERS[name], "required": name in (*required, "X-Request-Id"),
                   "schema": {"type": "integer" if name == "Retry-After" else "string"}}
            for name in (*names, *required, "X-Request-Id")}


def _answer(one: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"description": one.description, "headers": _headers(*one.headers, required=one.always)}
    if one.links:
        found["links"] = dict(one.links)
    if one.schema is not None:
        found["content"] = {JSON: {"schema": one.schema, "example": one.example}}
    return found


def _errors(handler: type[Handler], operation: Operation) -> dict[str, Any]:
    """By status: what each of its slugs means, with an example of each."""
    kinds = [*ALWAYS, *(COMMON if issubclass(handler, ApiHandler) else ()), *operation.errors]
    meanings: dict[int, dict[str, str]] = {}
    for kind in kinds:
        status, slug, meaning = _meaning(kind)
        meanings.setdefault(status, {})[slug] = meaning
    return {str(status): _error(status, slugs) for status, slugs in sorted(meanings.items())}


def _meaning(kind: type[BaseException] | int) -> tuple[int, str, str]:
    if isinstance(kind, int):
        return kind, *HTTP_REFUSALS[kind]
    if kind is errors.VmsvcError:
        return 500, *INTERNAL
    text = " ".join((getdoc(kind) or "").split())
    return status_of(kind), getattr(kind, "slug"), text


def _error(status: int, slugs: dict[str, str]) -> dict[str, Any]:
    examples = {slug: {"value": answers.said(str(status), meaning, error=slug, request_id="req-5f8c"),
                       "summary": meaning} for slug, meaning in slugs.items()}
    return {
        "description": " ".join(f"`{slug}`: {meaning}" for slug, meaning in slugs.items()),
        "headers": _headers(required=ERROR_HEADERS.get(status, ())),
        "content": {JSON: {"schema": "Error", "examples": examples}},
    }


class Document(Handler):
    """The document of this service."""

    address = "/api/v1/openapi.json"

    @describe(Answer(200, "OpenAPI 3.0.3."), errors=(errors.Forbidden,))
    def get(self) -> None:
        """Show it."""
        self.finish(self.settings["document"])


routes = [route(Document)]
