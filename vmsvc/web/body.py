"""Reading JSON that a stranger sent: stricter than `json.loads`, and never silent about what it drops."""

import json
from typing import Any, NoReturn

from vmsvc.domain.errors import InvalidRequest


def shorten(text: str, limit: int = 80) -> str:
    """A client's text, fit to be quoted back in a message."""
    return text if len(text) <= limit else text[:limit] + "…"


def check_text(text: str, field: str) -> None:
    """Refuse what PostgreSQL cannot keep (NUL) and what is no Unicode text (a lone surrogate)."""
    if "\0" in text:
        raise InvalidRequest(f"{shorten(field)!a} holds a NUL character", field=shorten(field))
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidRequest(f"{shorten(field)!a} holds a lone surrogate", field=shorten(field))


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key that comes twice is an error, for readers disagree on which one counts."""
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
    """The JSON object in a body; raises InvalidRequest for anything else. A byte order mark before it, as some editors
    write, is ignored (RFC 8259, 8.1)."""
    try:
        value = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_members, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not JSON: it is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        said = f"line {error.lineno}, column {error.colno}: {error.msg}" if isinstance(error, json.JSONDecodeError) \
            else "a number or a nesting is too large"
        raise InvalidRequest(f"the body is not JSON: {said}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    return value
