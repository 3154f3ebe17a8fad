"""What a flow asks of the one who drives it, and what it gets back: the seam between decisions and input or output.

A flow is a generator. It yields steps (`Send`, `Pause`, `Listen`, `NextBlock`, `Give`), gets the result of each, and
returns what the caller wanted. `Client` carries steps out with blocking calls, `AsyncClient` with `await`; a test can
do it by hand. Neither decides anything.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from vmsvc.client.errors import ClientError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A request below `/api/v1`. `repeatable`: sending it twice does what sending it once does. `read_seconds`: how
    long the service may take to begin its answer."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = field(default=None, repr=False)  # user data may hold secrets
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    read_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer, with lower-case names of headers, and its body (of a stream: empty)."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of an event stream; without `data` it only moves the position."""

    id: str
    data: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request: gives the Answer. Raises NoAnswer in the flow."""

    request: Request


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Listen:
    """Open an event stream, and close the one before: gives the Answer, whose body is empty where it is a stream.
    Raises NoAnswer."""

    request: Request


@dataclass(frozen=True, slots=True)
class NextBlock:
    """Read the stream: gives a Block, or None at its end. Raises NoAnswer."""


@dataclass(frozen=True, slots=True)
class Give(Generic[T]):
    """Hand an item to the caller, who iterates."""

    item: T


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The flow has returned this. No flow yields it."""

    value: T


class NoAnswer(Exception):
    """An exchange failed. `sent` is False when the request certainly did not reach the service. `hopeless`: it would
    fail again, as with a certificate that is not trusted."""

    def __init__(self, reason: str, *, sent: bool, hopeless: bool = False):
        super().__init__(reason)
        self.reason = reason
        self.sent = sent
        self.hopeless = hopeless


Step = Send | Pause | Listen | NextBlock
Flow = Generator[Step, Any, T]
Stream = Generator[Step | Give[T], Any, None]


def resume(flow: Generator[Any, Any, Any], result: object = None, failure: NoAnswer | ClientError | None = None) -> Any:
    """Give a flow the result of its last step (at first None), or the failure of it: the next step, or Done."""
    try:
        return flow.send(result) if failure is None else flow.throw(failure)
    except StopIteration as end:
        return Done(end.value)
