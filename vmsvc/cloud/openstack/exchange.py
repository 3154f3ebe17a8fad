"""One request to the cloud and its answer, as plain values: what the SDK's module takes and gives."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from vmsvc.domain.errors import CloudUnavailable, Garbled

quickly: Callable[[str], object]
try:
    from orjson import loads as quickly
except ImportError:  # it is a gain, no need
    from json import loads as quickly

#: A JSON object of the cloud; `parse` looks at what it has.
Json = Mapping[str, Any]

#: The longest Retry-After in seconds that counts: when a proxy says "come back in an hour", we must not wait an hour.
LONGEST_PAUSE = 60.0
#: So many characters of a secret in a row are one too.
_PIECE = 12


@dataclass(frozen=True, slots=True)
class CloudRequest:
    """`operation` names the call in metrics and logs; `service` is 'compute', 'placement', 'image', 'network' or
    'identity';
    `path` begins below that service's endpoint. `version` is a microversion instead of the newest. `token` is a
    client's, which is asked about with itself instead of with ours."""

    operation: str
    service: str
    method: str
    path: str
    params: Mapping[str, str] | None = None
    body: Mapping[str, object] | None = None
    version: tuple[int, int] | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def is_read(self) -> bool:
        """A read may be repeated; a write whose outcome is unknown must not be."""
        return self.method == "GET"

    def answered(self, status: int, headers: Mapping[str, str], text: str, token: str = "") -> "Answer":
        """The answer to it. A refusal may repeat what was sent, whole or in part, and others come to read it: that
        loses user data and tokens; `token` is the one that was shown."""
        if status >= 400:
            server = (self.body or {}).get("server")
            data = server.get("user_data") if isinstance(server, Mapping) else None
            text = without(text, [secret for secret in (token, self.token, data) if secret])
        return Answer(status, headers, text)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `headers` ignores case."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Json:
        """The body as an object; raises Garbled when it is none (a proxy's HTML, half a document)."""
        try:
            body = _object(self.text)
        except ValueError:
            raise Garbled(f"the cloud answered {self.status} with a body that is not JSON") from None
        if not isinstance(body, dict):
            raise Garbled(f"the cloud answered {self.status} with JSON that is no object")
        return body

    @property
    def date(self) -> datetime | None:
        """The cloud's clock when it answered, to the second."""
        return _http_date(self.headers.get("Date"))

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait, from 0 to LONGEST_PAUSE, as the cloud's Retry-After (a number or a date) asks; None without
        one."""
        value = self.headers.get("Retry-After", "").strip()
        if value.isascii() and value.isdigit():
            return min(float(value), LONGEST_PAUSE)
        when = _http_date(value)
        if when is None:
            return None
        return min(max(0.0, (when - (self.date or datetime.now(UTC))).total_seconds()), LONGEST_PAUSE)


class TurnedAway(CloudUnavailable):
    """The cloud refused a call because of a rate limit and did nothing: even a write may be sent again after
    `retry_after` seconds."""


class NotSent(Exception):
    """The request never left: no token, no connection, no time. Nothing was done."""


class NoAnswer(Exception):
    """The request went out, at least in part, and no whole answer came back."""


def _object(text: str) -> object:
    """While servers come and go the list of those that changed is most of what is read: a hundred of them cost json
    1.8 ms, and orjson 0.5. What only json takes (half a surrogate in a name) it shall have."""
    try:
        return quickly(text)
    except ValueError:
        return json.loads(text)


def without(text: str, secrets: Iterable[str]) -> str:
    """The text with *** for every piece of a secret."""
    pieces = {secret[at : at + _PIECE] for secret in secrets for at in range(len(secret) - _PIECE + 1)}
    shown, at = [], 0
    while at < len(text):
        end = at
        while text[end : end + _PIECE] in pieces:
            end += 1
        shown.append("***" if end > at else text[at])
        at = end + _PIECE - 1 if end > at else at + 1
    return "".join(shown)


def _http_date(value: str | None) -> datetime | None:
    try:
        when = parsedate_to_datetime(value) if value else None
    except (ValueError, OverflowError):
        return None
    return when if when is None or when.tzinfo else when.replace(tzinfo=UTC)
