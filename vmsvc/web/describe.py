"""What the document says of a handler's method, kept beside the method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from marshmallow import Schema

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that is no error. Without a schema it has no JSON body. `links` are OpenAPI's: what may be
    asked next with what the answer says."""

    status: int
    description: str
    schema: type[Schema] | None = None
    example: Any = None
    headers: tuple[str, ...] = ()
    always: tuple[str, ...] = ()        # headers that are never missing
    links: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a method takes and gives. `errors` are classes of domain errors, or statuses that HTTP itself knows;
    `notes` is Markdown that follows the description."""

    answers: tuple[Answer, ...]
    query: type[Schema] | None = None
    headers: tuple[str, ...] = ()
    body: type[Schema] | None = None
    body_required: bool = True
    examples: tuple[tuple[str, Any], ...] = ()
    errors: tuple[type[BaseException] | int, ...] = ()
    notes: str = ""
    guarded: bool = False       # it wants to know who asks, though it is no part of the API


def describe(*answers: Answer, **details: Any) -> Callable[[F], F]:
    """Attach an Operation to a method; its docstring is the summary and the description."""
    def attach(method: F) -> F:
        method.operation = Operation(answers, **details)    # type: ignore[attr-defined]
        return method
    return attach
