"""Reading what a client sent, more strictly than `json.loads` and Tornado do: target, names, JSON body, `Prefer`."""

import json
import re
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tornado.httputil import HTTPInputError, HTTPServerRequest, split_host_and_port

from vmsvc.domain.errors import InvalidRequest

_REQUEST_ID = re.compile(r"[0-9A-Za-z._:-]{1,128}")

#: A target in absolute form (RFC 9112, 3.2.2): its authority, and its path.
_ABSOLUTE = re.compile(r"(?i:https?)://([^/?#]*)(.*)")
_AUTHORITY = re.compile(r"[0-9A-Za-z._~!$&'()*+;=%:\[\]-]+")

#: One preference of a list, and the part of it before its parameters: a quoted string may hold either separator.
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_HEAD = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')


def request_id_of(request: HTTPServerRequest) -> str:
    """The client's X-Request-Id when it has up to 128 harmless characters, else a new id."""
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req-{uuid.uuid4()}"


@lru_cache(64)
def host_name_of(host: str) -> str:
    """The name in a Host header, without a port; "" when there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def normalize_target(request: HTTPServerRequest) -> None:
    """Replace a target in absolute form, which clients send to proxies, by its path; its authority replaces the Host
    header. Raises HTTPInputError for an authority that is no host."""
    found = _ABSOLUTE.fullmatch(request.uri or "")
    if found is None:
        return
    host, rest = found.groups()
    if not _AUTHORITY.fullmatch(host):
        raise HTTPInputError("the target's authority is no host")
    if not rest and request.method == "OPTIONS":
        rest = "*"
    request.uri = rest if rest.startswith(("/", "*")) else f"/{rest}"
    request.path = request.uri.partition("?")[0]
    request.headers["Host"] = request.host = host
    request.host_name = split_host_and_port(host.lower())[0]


def shorten(text: str, limit: int = 80) -> str:
    """At most `limit` characters of a client's text, to be quoted in a message or a log line."""
    return text if len(text) <= limit else text[:limit] + "…"


def check_text(text: str, field: str) -> None:
    """Raises InvalidRequest for a NUL character, which PostgreSQL cannot store, and for a lone surrogate, which is no
    Unicode text."""
    if "\0" in text:
        raise InvalidRequest(f"{shorten(field)!a} holds a NUL character", field=shorten(field))
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidRequest(f"{shorten(field)!a} holds a lone surrogate", field=shorten(field))


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of a JSON object. A key that occurs twice is an error: parsers disagree on which value counts."""
    members: dict[str, Any] = {}
    for key, value in pairs:
        check_text(key, key)
        if key in members:
            raise InvalidRequest(f"{shorten(key)!a} is there twice", field=shorten(key))
        if isinstance(value, str):
            check_text(value, key)
        members[key] = value
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"the body is not JSON: {name} is no JSON value")


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises InvalidRequest for anything else. A byte order mark before the object, as some
    editors write it, is ignored (RFC 8259, 8.1)."""
    try:
        value = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_unique_members, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not JSON: it is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        cause = (
            f"line {error.lineno}, column {error.colno}: {error.msg}"
            if isinstance(error, json.JSONDecodeError)
            else "a number or a nesting is too large"
        )
        raise InvalidRequest(f"the body is not JSON: {cause}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    return value


@dataclass(frozen=True, slots=True)
class Prefer:
    """The two preferences of RFC 7240 that vmsvc honours. `wait` is whole seconds; None: the client gave no `wait`."""

    respond_async: bool = False
    wait: int | None = None

    def timeout(self, longest: float) -> float:
        """How many seconds to wait for an outcome before the answer is 202."""
        if self.wait is not None:
            return min(self.wait, longest)
        return 0.0 if self.respond_async else longest

    def applied(self, went_async: bool) -> str:
        """The value of `Preference-Applied`: the preferences that were honoured; "" when the client gave none."""
        parts = ["respond-async"] if self.respond_async and went_async else []
        if self.wait is not None:
            parts.append(f"wait={self.wait}")
        return ", ".join(parts)


def parse_prefer(header: str) -> Prefer:
    """The preferences in the joined values of `Prefer`. The first of a repeated preference counts; a preference that
    vmsvc does not understand is ignored, as RFC 7240 demands."""
    values: dict[str, str] = {}
    for preference in _PREFERENCE.findall(header):
        head = _HEAD.match(preference)
        name, _, value = (head[0] if head else "").partition("=")
        values.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = values.get("wait", "")
    return Prefer("respond-async" in values, int(wait) if re.fullmatch(r"[0-9]{1,9}", wait) else None)
