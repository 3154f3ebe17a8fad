"""How a handler's method is described for the document. The description stands beside the method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from marshmallow import Schema

from vmsvc.domain.errors import VmsvcError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Response:
    """One response that is no error. Without a schema it has no JSON body; `stream` is an example of the event stream
    that it may be instead. `links` are OpenAPI's: which operations may
    follow with what the body has."""

    status: int
    description: str
    schema: type[Schema] | None = None
    example: Any = None
    stream: str | None = None
    headers: tuple[str, ...] = ()
    always: tuple[str, ...] = ()  # headers that every such response has
    links: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a method takes and returns. `errors` are classes of domain errors, or statuses of HTTP's own errors;
    `notes` is Markdown that follows the description."""

    responses: tuple[Response, ...]
    query: type[Schema] | None = None
    headers: tuple[str, ...] = ()
    body: type[Schema] | None = None
    body_required: bool = True
    examples: tuple[tuple[str, Any], ...] = ()
    errors: tuple[type[VmsvcError] | int, ...] = ()
    notes: str = ""
    guarded: bool = False  # the client is identified, though the handler is no ApiHandler


def describe(*responses: Response, **details: Any) -> Callable[[F], F]:
    """Attach an Operation to a method, whose docstring has the summary and the description."""

    def attach(method: F) -> F:
        setattr(method, "operation", Operation(responses, **details))
        return method

    return attach
