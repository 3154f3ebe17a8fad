"""JSON Schema, as far as the APIs of OpenStack use it: whether a value has a form, and what is wrong if not.

What is wrong is said in the words of the library that the real services use. The keywords are those of the functions
below. As in Nova, `minimum` and `maximum` read a number out of a string.
"""

import base64
import ipaddress
import re
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from unicodedata import category
from urllib.parse import urlsplit

Schema = dict[str, Any]
Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """What is wrong: `path` leads to the value that has not the form. `is_name`: it is no name."""

    path: Path
    value: Any
    text: str
    is_name: bool = False


def first_problem(schema: Schema, value: Any) -> Problem | None:
    """The problem that is nearest to the top of a value, None for a value that has the form."""
    return min(problems(schema, value), key=lambda each: len(each.path), default=None)


def problems(schema: Schema, value: Any, path: Path = ()) -> Sequence[Problem]:
    """All problems of a value."""
    found: list[Problem] = []
    for keyword, expected in schema.items():
        if keyword in _CHECKS:
            found += _CHECKS[keyword](expected, value, schema, path)
    return found


_Check = Callable[[Any, Any, Schema, Path], Sequence[Problem]]
_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: (
        isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and value.is_integer()
    ),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}


def _type(expected: str | list[str], value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    names = [expected] if isinstance(expected, str) else expected
    for name in names:
        if _TYPES[name](value):
            return ()
    return [Problem(path, value, f"{value!r} is not of type {', '.join(map(repr, names))}")]


def _enum(expected: list[Any], value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    if any(each == value and isinstance(each, bool) == isinstance(value, bool) for each in expected):
        return ()
    return [Problem(path, value, f"{value!r} is not one of {expected!r}")]


def _pattern(expected: str, value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    if not isinstance(value, str) or re.search(expected, value):
        return ()
    return [Problem(path, value, f"{value!r} does not match {expected!r}")]


def _length(unit: type[str] | type[list[Any]] | type[dict[str, Any]], upper: bool) -> _Check:
    def check(expected: int, value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
        if not isinstance(value, unit) or (len(value) <= expected if upper else len(value) >= expected):
            return ()
        if upper:
            words = "has too many properties" if unit is dict else "is too long"
            return [Problem(path, value, f"{value!r} {words if expected else 'is expected to be empty'}")]
        words = "does not have enough properties" if unit is dict else "is too short"
        return [Problem(path, value, f"{value!r} {'should be non-empty' if expected == 1 else words}")]

    return check


def _limit(upper: bool) -> _Check:
    def check(expected: float, value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
        number = _number(value)
        if number is None or (number <= expected if upper else number >= expected):
            return ()
        words = "greater than the maximum" if upper else "less than the minimum"
        return [Problem(path, value, f"{number!r} is {words} of {expected!r}")]

    return check


def _number(value: Any) -> float | None:
    """The number that Nova compares: that of a text too."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    for kind in (int, float):
        try:
            number: float = kind(value)
            return number
        except ValueError:
            continue
    return None


def _format(expected: str, value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    if expected in _NAMES:
        right = isinstance(value, str) and _FORMATS[expected](value)
        return () if right else [Problem(path, value, expected, is_name=True)]
    if not isinstance(value, str) or _is_format(expected, value):
        return ()
    return [Problem(path, value, f"{value!r} is not a {expected!r}")]


def _is_format(name: str, text: str) -> bool:
    try:
        return _FORMATS[name](text)
    except ValueError:
        return False


def _properties(expected: dict[str, Schema], value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    found: list[Problem] = []
    if isinstance(value, dict):
        for name, each in value.items():
            if name in expected:
                found += problems(expected[name], each, (*path, name))
    return found


def _pattern_properties(expected: dict[str, Schema], value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    found: list[Problem] = []
    if isinstance(value, dict):
        for pattern, schema in expected.items():
            for name, each in value.items():
                if re.search(pattern, name):
                    found += problems(schema, each, (*path, name))
    return found


def _additional(expected: Any, value: Any, schema: Schema, path: Path) -> Sequence[Problem]:
    if not isinstance(value, dict) or expected is True:
        return ()
    patterns, known = schema.get("patternProperties", {}), schema.get("properties", {})
    extra = [name for name in value if name not in known and not any(re.search(pattern, name) for pattern in patterns)]
    if not extra:
        return ()
    if isinstance(expected, dict):
        return [problem for name in extra for problem in problems(expected, value[name], (*path, name))]
    if patterns:
        verb, shown = "does" if len(extra) == 1 else "do", ", ".join(map(repr, sorted(patterns)))
        names = ", ".join(map(repr, sorted(extra)))
        return [Problem(path, value, f"{names} {verb} not match any of the regexes: {shown}")]
    names, verb = ", ".join(map(repr, extra)), "was" if len(extra) == 1 else "were"
    return [Problem(path, value, f"Additional properties are not allowed ({names} {verb} unexpected)")]


def _required(expected: list[str], value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    if not isinstance(value, dict):
        return ()
    return [Problem(path, value, f"{name!r} is a required property") for name in expected if name not in value]


def _items(expected: Schema, value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    if not isinstance(value, list):
        return ()
    return [problem for index, each in enumerate(value) for problem in problems(expected, each, (*path, index))]


def _unique(expected: bool, value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    if expected and isinstance(value, list) and any(each in value[:index] for index, each in enumerate(value)):
        return [Problem(path, value, f"{value!r} has non-unique elements")]
    return ()


def _any_of(expected: list[Schema], value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    if any(not problems(schema, value) for schema in expected):
        return ()
    return [Problem(path, value, f"{value!r} is not valid under any of the given schemas")]


def _one_of(expected: list[Schema], value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    count = sum(not problems(schema, value) for schema in expected)
    if count == 1:
        return ()
    text = f"valid under each of {expected[-1]!r}" if count else "not valid under any of the given schemas"
    return [Problem(path, value, f"{value!r} is {text}")]


def _all_of(expected: list[Schema], value: Any, _schema: Schema, path: Path) -> Sequence[Problem]:
    return [problem for schema in expected for problem in problems(schema, value, path)]


_CHECKS: dict[str, _Check] = {
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "minLength": _length(str, False),
    "maxLength": _length(str, True),
    "minItems": _length(list, False),
    "maxItems": _length(list, True),
    "minProperties": _length(dict, False),
    "maxProperties": _length(dict, True),
    "minimum": _limit(False),
    "maximum": _limit(True),
    "format": _format,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "required": _required,
    "items": _items,
    "uniqueItems": _unique,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "allOf": _all_of,
}


@lru_cache(1024)
def _is_printable(text: str) -> bool:
    """True without control codes and without ends of lines and paragraphs (read: nova/api/validation)."""
    return text.isascii() and text.isprintable() or all(_printable(char) for char in text)


def _printable(char: str) -> bool:
    kind = category(char)
    return kind[0] != "C" and (kind[0] != "Z" or kind == "Zs") and char <= "\uffff"


def _is_name(text: str) -> bool:
    """True for printable characters that do not begin or end with a space."""
    return _is_printable(text) and all(category(char) != "Zs" for char in (text[:1], text[-1:]) if char)


def _is_loose_name(text: str) -> bool:
    """True for printable characters that are not all spaces."""
    return _is_printable(text) and any(category(char) != "Zs" for char in text)


def _is_base64(text: str) -> bool:
    base64.b64decode("".join(text.split()), validate=True)
    return True


def _is_uuid(text: str) -> bool:
    """True as in oslo.utils, which takes braces, hyphens at any place and a prefix."""
    return str(uuid.UUID(text)).replace("-", "") == (
        text.replace("urn:", "").replace("uuid:", "").strip("{}").replace("-", "").lower()
    )


def _is_regex(text: str) -> bool:
    try:
        return bool(text) and re.compile(text) is not None
    except re.error:
        return False


def _is_moment(text: str) -> bool:
    return datetime.fromisoformat(text) is not None


def _is_uri(text: str) -> bool:
    parts = urlsplit(text)
    return bool(parts.scheme and parts.netloc)


#: The formats of names, for which Nova has a sentence of its own.
_NAMES = ("name", "az_name", "loose_name")
_FORMATS: dict[str, Callable[[str], bool]] = {
    "name": _is_name,
    "az_name": lambda text: ":" not in text and _is_name(text),
    "loose_name": _is_loose_name,
    "base64": _is_base64,
    "uuid": _is_uuid,
    "regex": _is_regex,
    "date-time": _is_moment,
    "uri": _is_uri,
    "ipv4": lambda text: ipaddress.IPv4Address(text) is not None,
    "ipv6": lambda text: ipaddress.IPv6Address(text) is not None,
    "cidr": lambda text: "/" in text and ipaddress.ip_network(text, strict=False) is not None,
}


# Schemas are written with these.


def fields(properties: dict[str, Schema], *required: str, more: Any = False) -> Schema:
    """An object with these properties and, unless `more` allows some, no others."""
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": more}
    return {**schema, "required": list(required)} if required else schema


def string(least: int = 0, most: int = 255, **keywords: Any) -> Schema:
    """A string of so many characters."""
    return {"type": "string", "minLength": least, "maxLength": most, **keywords}


def one_of(*values: Any) -> Schema:
    return {"enum": list(values)}


def array(items: Schema, **keywords: Any) -> Schema:
    return {"type": "array", "items": items, **keywords}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*kinds, "null"]}


#: A boolean as Nova reads it: JSON's, or one of these words.
BOOLEAN: Schema = {
    "type": ["boolean", "string"],
    "enum": [
        *(True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes"),
        *(False, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no"),
    ],
}
UUID: Schema = {"type": "string", "format": "uuid"}
ANY: Schema = {}
NULL: Schema = {"type": "null"}
