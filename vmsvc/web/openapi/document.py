"""Builds the OpenAPI document from the handlers, and serves it and the Swagger UI that shows it."""

import re
from collections.abc import Iterable
from inspect import cleandoc, getdoc
from pathlib import Path
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import resolve_schema_cls
from marshmallow import Schema
from swagger_ui_bundle import swagger_ui_path

from vmsvc import __version__
from vmsvc.domain import errors
from vmsvc.web.http.handler import HTTP_REFUSALS, INTERNAL, Handler, route, status_of
from vmsvc.web.http.static_files import Files, PackageFiles
from vmsvc.web.openapi import responses
from vmsvc.web.openapi.operations import Operation, Response, describe

JSON = "application/json"
METHODS = ("get", "post", "patch", "delete")
#: Errors of every operation, and of every operation of the API, besides its own.
ALWAYS = (errors.VmsvcError, 413)
COMMON = (
    errors.InvalidRequest,
    errors.Unauthenticated,
    errors.Forbidden,
    errors.TooManyRequests,
    errors.CloudUnavailable,
    errors.Unavailable,
)

#: They have no examples: Swagger UI would send these, and every user the same Idempotency-Key.
REQUEST_HEADERS = {
    "Prefer": ("RFC 7240: `respond-async` and `wait=<seconds>`", {"type": "string"}),
    "Idempotency-Key": (
        "the same key and body give the same VM and the same answer",
        {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
    ),
    "Last-Event-ID": (
        "of an event stream: only events with a higher seq. `EventSource` sends it when it reconnects",
        {"type": "string", "pattern": "^[0-9]{0,18}$"},
    ),
    "If-None-Match": ("the `ETag` of what the client has, or several", {"type": "string"}),
}
SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "`VMSVC_AUTH=token`: a token of the token file"},
    "keystone": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Auth-Token",
        "description": "`VMSVC_AUTH=keystone`: a token of Keystone's for the service's own project",
    },
}
RESPONSE_HEADERS = {
    "ETag": "the body's strong entity tag: equal bodies have equal tags, from every replica",
    "Location": "the address of what was made",
    "Preference-Applied": "which preferences were honoured",
    "Retry-After": "seconds to wait before trying again",
    "WWW-Authenticate": "how to authenticate",
    "X-Request-Id": "the request's id: the client's own if it sent up to 128 of A-Z a-z 0-9 . _ : -",
}
#: The headers of an error with this status.
ERROR_HEADERS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}


def document(handlers: Iterable[type[Handler]]) -> dict[str, Any]:
    """The OpenAPI 3.0.3 document of the handlers whose methods are described."""
    spec = APISpec(
        "vmsvc",
        __version__,
        "3.0.3",
        plugins=[MarshmallowPlugin(_component_name)],
        info={
            "description": "Standard and preemptible VMs on any OpenStack cloud. A preemptible VM may be evicted, "
            "after notice, when a standard one needs its capacity."
        },
    )
    for name, scheme in SECURITY.items():
        spec.components.security_scheme(name, scheme)
    spec.components.schema("Error", schema=responses.Error)
    spec.components.schema("Event", schema=responses.EventSchema)
    for handler in handlers:
        operations = {
            name: _operation(handler, name) for name in METHODS if hasattr(getattr(handler, name), "operation")
        }
        if operations:
            spec.path(handler.address, operations=operations, parameters=_path_parameters(handler))
    return spec.to_dict()


def _component_name(schema: type[Schema]) -> str:
    """A schema's name in the document: its own `component` if it has one, else its class's without "Schema". Generated
    clients call their classes so, and the name outlives a renaming of ours."""
    cls = resolve_schema_cls(schema)
    assert isinstance(cls, type)
    name: str = cls.__dict__.get("component", cls.__name__.removesuffix("Schema"))
    return name


def _path_parameters(handler: type[Handler]) -> list[dict[str, Any]]:
    found = []
    for name in re.findall(r"\{(\w+)\}", handler.address):
        text, pattern = handler.parameters[name]
        found.append(
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": text,
                "schema": {"type": "string", "pattern": f"^{pattern}$"},
            }
        )
    return found


def _operation(handler: type[Handler], name: str) -> dict[str, Any]:
    method = getattr(handler, name)
    operation: Operation = method.operation
    summary, _, description = (getdoc(method) or "").partition("\n")
    found: dict[str, Any] = {
        "operationId": name + handler.__name__.removesuffix("Handler"),
        "tags": [handler.tag],
        "summary": summary.rstrip("."),
        "description": "\n\n".join(filter(None, (cleandoc(description), operation.notes))),
        "parameters": _parameters(operation),
        "responses": _errors(handler, operation)
        | {str(response.status): _response(response) for response in operation.responses},
    }
    if handler.is_api or operation.guarded:
        found["security"] = [{name: []} for name in SECURITY] + [{}]  # one of them; none with VMSVC_AUTH=none
    if operation.body is not None:
        examples = {title: {"value": value} for title, value in operation.examples}
        found["requestBody"] = {
            "required": operation.body_required,
            "content": {JSON: {"schema": operation.body, "examples": examples}},
        }
    return found


def _parameters(operation: Operation) -> list[Any]:
    headers = []
    for name in operation.headers:
        text, schema = REQUEST_HEADERS[name]
        headers.append({"name": name, "in": "header", "description": text, "schema": schema})
    return ([{"in": "query", "schema": operation.query}] if operation.query else []) + headers


def _headers(*names: str, required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        name: {
            "description": RESPONSE_HEADERS[name],
            "required": name in (*required, "X-Request-Id"),
            "schema": {"type": "integer" if name == "Retry-After" else "string"},
        }
        for name in (*names, *required, "X-Request-Id")
    }


def _response(response: Response) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": response.description,
        "headers": _headers(*response.headers, required=response.always),
    }
    if response.links:
        found["links"] = dict(response.links)
    if response.schema is not None:
        found["content"] = {JSON: {"schema": response.schema, "example": response.example}}
        if response.stream is not None:
            found["content"]["text/event-stream"] = {"schema": {"type": "string"}, "example": response.stream}
    return found


def _errors(handler: type[Handler], operation: Operation) -> dict[str, Any]:
    """The errors by status: what each slug means, with an example of each."""
    kinds = [*ALWAYS, *(COMMON if handler.is_api else ()), *operation.errors]
    meanings: dict[int, dict[str, str]] = {}
    for kind in kinds:
        status, slug, meaning = _meaning(kind)
        meanings.setdefault(status, {})[slug] = meaning
    return {str(status): _error(status, slugs) for status, slugs in sorted(meanings.items())}


def _meaning(kind: type[errors.VmsvcError] | int) -> tuple[int, str, str]:
    if isinstance(kind, int):
        return kind, *HTTP_REFUSALS[kind]
    if kind is errors.VmsvcError:
        return 500, *INTERNAL
    text = " ".join((getdoc(kind) or "").split())
    return status_of(kind), getattr(kind, "slug"), text


def _error(status: int, slugs: dict[str, str]) -> dict[str, Any]:
    examples = {
        slug: {
            "value": responses.message_body(str(status), meaning, error=slug, request_id="req-5f8c"),
            "summary": meaning,
        }
        for slug, meaning in slugs.items()
    }
    return {
        "description": " ".join(f"`{slug}`: {meaning}" for slug, meaning in slugs.items()),
        "headers": _headers(required=ERROR_HEADERS.get(status, ())),
        "content": {JSON: {"schema": "Error", "examples": examples}},
    }


class DocumentHandler(Handler):
    """The document of this service."""

    address = "/api/v1/openapi.json"
    tag = "openapi"

    @describe(Response(200, "OpenAPI 3.0.3."), errors=(errors.Forbidden,))
    def get(self) -> None:
        """Show this document."""
        self.finish(self.settings["document"])


class AddSlash(Handler):
    """`/api/v1`: without the slash the page's relative addresses would lead elsewhere."""

    address = "/api/v1"

    def get(self) -> None:
        """Redirect to `/api/v1/`."""
        self.redirect("/api/v1/", permanent=True)


routes = [route(DocumentHandler)]
_page = {"path": str(Path(__file__).parent / "swagger")}
#: The rules for Swagger UI. The service's own files come before those of the package.
swagger_routes: list[tuple[Any, ...]] = [
    ("/api/v1", AddSlash),
    ("/api/v1/()", Files, _page | {"default_filename": "index.html"}),
    (r"/api/v1/ui/(initializer\.js)", Files, _page),
    ("/api/v1/ui/(.*)", PackageFiles, {"path": str(swagger_ui_path)}),
]
