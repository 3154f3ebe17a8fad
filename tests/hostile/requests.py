"""Bad requests as bytes, from a seeded chance: each kind is a function that makes one, and another one each time."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.hostile.bodies import bad_body

VM = "/api/v1/vm"
ADDRESSES = (
    VM,
    f"{VM}/x",
    "/api/v1/events",
    "/api/v1/capacity",
    "/api/v1/evictions",
    "/api/v1/usage",
    "/api/v1/advice",
    "/api/v1/catalog",
    "/api/v1/tickets",
    "/api/v1/",
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/static/app.css",
    "/nowhere",
)
METHODS = (
    "GET",
    "POST",
    "DELETE",
    "PUT",
    "PATCH",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "get",
    "BREW",
    "G\0T",
    "(",
    "",
    "X" * 5000,
)
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.10", "HTTP/9", "http/1.1", "HTTP/1.", "", "ICY")
JSON = "Content-Type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent. When it is `whole` the service has to answer or to hang up; else it waits for more, and we go."""

    kind: str
    data: bytes
    whole: bool = True


def junk(chance: random.Random, most: int) -> bytes:
    """Bytes of any value."""
    return chance.randbytes(chance.randrange(1, most))


def head(method: str, address: str, fields: str = "", version: str = "HTTP/1.1") -> bytes:
    """A request without its body; what is not Latin-1 goes out as UTF-8."""
    return f"{method} {address} {version}\r\nHost: localhost\r\n{fields}\r\n".encode("utf-8", "surrogateescape")


def line(chance: random.Random) -> Case:
    """No request line, or a strange one."""
    data = chance.choice(
        (
            lambda: head(chance.choice(METHODS), chance.choice(ADDRESSES), version=chance.choice(VERSIONS)),
            lambda: junk(chance, 2000).replace(b"\n", b"") + b"\r\n\r\n",
            lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + junk(chance, 300) + b"\r\n\r\n",  # TLS to a port without
            lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            lambda: b"GET  /healthz  HTTP/1.1\r\n\r\n",
            lambda: b"\r\n" * chance.randrange(3, 500) + b"x\r\n\r\n",
            lambda: b"GET\r\n\r\n",
            lambda: b"GET /healthz HTTP/1.1\n\n",
        )
    )()
    return Case("request line", data)


def path(chance: random.Random) -> Case:
    """Percent rubbish, NUL, `..`, other schemes, and very long ones."""
    tail = chance.choice(
        (
            "%",
            "%0",
            "%zz",
            "%00",
            "%ff%fe",
            "%c0%af",
            "..",
            "../../etc/passwd",
            "%2e%2e/%2e%2e/etc/passwd",
            "..%5c..",
            "\\..\\",
            "%ed%a0%80",
            "a" * chance.randrange(1000, 70_000),
            "/" * 500,
            "x?" * 300,
            "%25" * 500,
            ";a=b",
            "a%0d%0aX:y",
            "ü",
            "\x7f",
            "+",
            "*",
            "%F0%9F%92%A9",
            "{id}",
            "<script>",
            "'--",
            "${jndi:ldap://x}",
        )
    )
    start = chance.choice(
        ("/", f"{VM}/", "/static/", "/api/v1/ui/", "/api/v1/evictions/", "http://evil/", "", "//", "/api/v1/vm")
    )
    method = chance.choice(("GET", "DELETE", "POST", "HEAD"))
    return Case("path", head(method, start + tail, "Content-Length: 0\r\n"))


def query(chance: random.Random) -> Case:
    """Names and values that no query has."""
    name = chance.choice(
        ("since", "limit", "type", "vm", "preemptible", "ticket", "dry_run", "hours", "x", "", "%ff", "since[]")
    )
    value = chance.choice(
        (
            "",
            "-1",
            "1e9",
            "9" * chance.choice((20, 5000)),
            "%00",
            "%ff",
            "NaN",
            "true",
            "null",
            "0x10",
            " 1",
            "%D9%A1",
            "1;2",
            "'",
            "a,b",
            "%F0%9F",
            "1" * 19,
        )
    )
    text = "&".join([f"{name}={value}"] * chance.choice((1, 1, 2, 300)))
    method, where = chance.choice(
        (("GET", "/api/v1/events"), ("GET", "/api/v1/usage"), ("GET", "/api/v1/evictions"), ("POST", VM), ("GET", VM))
    )
    return Case("query", head(method, f"{where}?{text}", "Content-Length: 0\r\n"))


def headers(chance: random.Random) -> Case:
    """Too large, too many, folded, doubled, not even text."""
    bad = chance.choice(
        (
            lambda: f"X: {'y' * chance.randrange(30_000, 200_000)}\r\n",
            lambda: "".join(f"X-{number}: y\r\n" for number in range(chance.randrange(500, 5000))),
            lambda: "X: y\r\n" * chance.randrange(500, 5000),
            lambda: "X: a\r\n b\r\n\tc\r\n",
            lambda: "Host: evil.example\r\n",
            lambda: "Host: \r\n",
            lambda: "Host: a b\r\n",
            lambda: "X : y\r\n",
            lambda: ": y\r\n",
            lambda: "X\r\n",
            lambda: "X: \0\r\n",
            lambda: "X: \x7f\r\n",
            lambda: "ü: y\r\n",
            lambda: "X: \udcff\udcfe\r\n",
            lambda: "Cookie: " + "a=b; " * 5000 + "\r\n",
            lambda: "Range: bytes=9999999-,0-0,-\r\n",
            lambda: "Range: bytes=" + "9" * 5000 + "-\r\n",
            lambda: "If-None-Match: " + '"x",' * 5000 + "\r\n",
            lambda: "If-Modified-Since: \udcff yesterday\r\n",
            lambda: "Expect: 100-continue\r\nExpect: 417\r\n",
            lambda: "Accept-Encoding: \udcff;q=9e999\r\n",
            lambda: "X-Forwarded-For: " + "::1, " * 5000 + "\r\n",
            lambda: "X-Request-Id: a\x1bb\r\n",
            lambda: "Authorization: Bearer \udcff\udc80\r\n",
            lambda: "X-Auth-Token: " + "g" * 30_000 + "\r\n",
        )
    )()
    where = chance.choice(ADDRESSES)
    return Case("headers", head("GET", where, bad))


def framing(chance: random.Random) -> Case:
    """Two ideas of where a body ends: what smugglers send. Chunks that are none."""
    small = b'{"is_preemptible": 1}'
    length = chance.choice(
        ("5\r\nContent-Length: 6", "5, 6", "-1", "+5", "0x5", "5 5", "", "1e3", "9" * chance.choice((12, 5000)), "٥")
    )
    chunked = "Transfer-Encoding: chunked\r\n"
    data = chance.choice(
        (
            lambda: head("POST", VM, f"{JSON}Content-Length: {length}\r\n") + small,
            lambda: head("POST", VM, f"{JSON}Content-Length: {len(small)}\r\n{chunked}") + small,
            lambda: head("POST", VM, f"{JSON}{chunked}{chunked}") + b"0\r\n\r\n",
            lambda: (
                head("POST", VM, f"{JSON}Transfer-Encoding: {chance.choice(('gzip', 'x', ', chunked'))}\r\n") + small
            ),
            lambda: (
                head("POST", VM, JSON + chunked)
                + chance.choice((b"zz", b"-1", b"", b"0x5", b"5;" + b"a" * 100, b"F" * 60, b" 5"))
                + b"\r\nhello\r\n0\r\n\r\n"
            ),
            lambda: head("POST", VM, JSON + chunked) + b"5\r\nhelloXX\r\n0\r\n\r\n",
            lambda: head("POST", VM, JSON + chunked) + b"1\r\n{\r\n" * chance.randrange(10, 3000) + b"0\r\n\r\n",
            lambda: head("GET", VM, "Content-Length: 4\r\n") + b"\0\0\0\0" + b"GET /x HTTP/1.1\r\n\r\n",
            lambda: head("GET", "/healthz") * chance.randrange(2, 50) + b"rubbish\r\n\r\n",
        )
    )()
    return Case("framing", data)


def body(chance: random.Random) -> Case:
    """A POST or a DELETE whose body is wrong."""
    text = bad_body(chance)
    method, where = chance.choice(
        (
            ("POST", VM),
            ("POST", VM),
            ("POST", f"{VM}?dry_run=true"),
            ("DELETE", f"{VM}/nobody"),
            ("POST", f"{VM}/nobody/evict"),
            ("POST", f"{VM}/nobody/ack"),
        )
    )
    kind = chance.choice((JSON,) * 8 + ("Content-Type: text/xml\r\n", JSON + "Content-Encoding: gzip\r\n", ""))
    return Case("body", head(method, where, f"{kind}Content-Length: {len(text)}\r\n") + text)


def wish(chance: random.Random) -> Case:
    """A body that must not count, with an Idempotency-Key or a Prefer that nobody understands."""
    name, value = chance.choice(
        (
            ("Idempotency-Key", chance.choice(("", "k" * 256, "ü", "\udcff", "a\tb", "k\r\nIdempotency-Key: l", " "))),
            (
                "Prefer",
                chance.choice(
                    (
                        "wait=",
                        "wait=-1",
                        "wait=" + "9" * 5000,
                        'wait="',
                        "respond-async" * 500,
                        '"\\',
                        "wait=1e9",
                        ",;,;=" * 1000,
                        "\udcff",
                        'a="' + '\\"' * 5000,
                    )
                ),
            ),
        )
    )
    text = json.dumps({"is_preemptible": "maybe"}).encode()
    return Case("wish", head("POST", VM, f"{JSON}{name}: {value}\r\nContent-Length: {len(text)}\r\n") + text)


def torn(chance: random.Random) -> Case:
    """Half of something; then the client is gone."""
    full = chance.choice((headers, framing, body, wish))(chance).data
    return Case("torn", full[: chance.randrange(1, max(2, len(full) - 1))], whole=False)


KINDS: tuple[Callable[[random.Random], Case], ...] = (line, path, query, headers, framing, body, body, body, wish, torn)


def bad_requests(chance: random.Random, number: int) -> Iterator[Case]:
    """So many, of all kinds in turn."""
    for count in range(number):
        yield KINDS[count % len(KINDS)](chance)
