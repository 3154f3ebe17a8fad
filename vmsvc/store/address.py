"""The address of the database: a URL or `keyword=value` words, as libpq reads them, checked before a connection.

libpq's own errors repeat what it could not read, and that may be a part of the password. Ours never do.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import connection, parse_dsn

#: The schemes that libpq knows.
_SCHEME = re.compile(r"postgres(ql)?://")
_ANY_SCHEME = re.compile(r"\s*[A-Za-z][\w+.-]*:")
#: `-c name=value` and `--name=value`, as PostgreSQL reads them in `options`; white space in a value has a backslash.
_OPTION = re.compile(r"(?<!\S)(?:-c\s*|--)(?P<name>[A-Za-z_][\w.-]*)=(?P<value>(?:\\.|[^\s\\])*)(?=\s|$)", re.DOTALL)
#: A host is a name, an address, a folder, or an abstract socket (`@name`).
_HOST = re.compile(r"/.*|@?[^@?#/\s]*", re.DOTALL)
_PORT = re.compile(r"\d{1,5}")

#: How we connect, unless the address says otherwise. A server that is cut off without a word is given up within half a
#: minute, as a statement that takes too long is.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}


class BadAddress(Exception):
    """The text is no address of a PostgreSQL; the message repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Address:
    """`parameters` are libpq's. `session` are the settings that `options` names: they are sent with each transaction,
    for a pooler takes none at the start of a connection, or loses them."""

    parameters: Mapping[str, str]
    session: Mapping[str, str]

    def connect(self, name: str) -> connection:
        """A new connection; `name` is what PostgreSQL calls it, unless the address has another."""
        defaults = {**_DEFAULTS, "fallback_application_name": name}
        parameters: dict[str, Any] = {**defaults, **self.parameters, "client_encoding": "UTF8"}
        opened: connection = psycopg2.connect(**parameters)
        return opened


def parse_url(text: str) -> Address:
    """The address that a text names. Raises BadAddress."""
    _require_form(text)
    try:
        parameters = dict(parse_dsn(text))
    except (psycopg2.Error, ValueError):  # ValueError: what is no text once %XX is taken for bytes
        raise BadAddress(_complaint("libpq cannot read it")) from None
    hosts = parameters.get("host", "").split(",")
    if not all(_HOST.fullmatch(host) for host in hosts):
        raise BadAddress(_complaint("a host has a character that no host has"))
    if not all(_PORT.fullmatch(port) for port in parameters.get("port", "").split(",") if port):
        raise BadAddress(_complaint("a port is not a number"))
    options = parameters.pop("options", "")
    session = {
        found["name"].replace("-", "_"): re.sub(r"\\(.)", r"\1", found["value"]) for found in _OPTION.finditer(options)
    }
    left = _OPTION.sub("", options).strip()
    if left:
        parameters["options"] = left
    return Address(parameters, session)


def _require_form(text: str) -> None:
    if scheme := _SCHEME.match(text):
        user = text[scheme.end() :].rpartition("@")[0]
        if "@" in user or "/" in user:  # libpq would take a part of the password for a host
            raise BadAddress(_complaint("there is an @ or a / before the last @"))
    elif _ANY_SCHEME.match(text) or "=" not in text:
        raise BadAddress(_complaint("it begins with neither of the two forms"))


def _complaint(reason: str) -> str:
    return (
        f"it is no address of a PostgreSQL ({reason}). It has to be postgresql://user:password@host:port/name or "
        "host=… port=… dbname=… user=…; in a URL each special character of the password is written as %XX, as %40 "
        "for @ and %2F for /"
    )
