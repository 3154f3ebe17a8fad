"""Bodies that no create, delete or eviction may be made of."""

import gzip
import json
import random

from vmsvc.domain.boot_options import FIELDS as OPTIONS

FIELDS = (
    "is_preemptible",
    "name",
    "flavor",
    "image",
    "network",
    "key_name",
    "user_data",
    "metadata",
    "availability_zone",
    "priority",
    "min_run_seconds",
    "group",
    "max_unavailable",
    "on_eviction",
    "max_restarts",
    "restart_within_seconds",
    "fallback_after_evictions",
    "keep_address",
    *OPTIONS,
    "cloud_vm_id",
    "notice_only",
)
#: None of them is right for any field, beside an `is_preemptible` that is not right either.
VALUES = (
    "null",
    "[]",
    "{}",
    '""',
    "-1e400",
    "1e400",
    "9" * 400,
    "9" * 5000,
    "0.1",
    '"\\u0000"',
    '"\\ud800"',
    '"\\uDC00x"',
    "[[[]]]",
    '{"a": {"b": 1}}',
    '"' + "x" * 100_000 + '"',
    '" x"',
    '"\\u202e"',
    '"a\\nb"',
    '{"": ""}',
    '{"vmsvc_id": "x"}',
    "-0",
)
GOOD = '{"is_preemptible": true}'


def bad_body(chance: random.Random) -> bytes:
    """One of them."""
    return chance.choice(
        (torn, deep, constants, wrong_type, wrong_type, wrong_type, unknown, doubled, encoded, bomb, noise, large)
    )(chance)


def torn(chance: random.Random) -> bytes:
    """Half a JSON text."""
    text = json.dumps({"is_preemptible": True, "name": "x" * 50, "metadata": {"a": "b"}})
    return text[: chance.randrange(1, len(text) - 1)].encode()


def deep(chance: random.Random) -> bytes:
    """A nesting of up to 100,000."""
    number, opening = chance.choice((500, 5000, 100_000)), chance.choice(("[", '{"a":', '{"metadata":['))
    return (opening * number + chance.choice(("", "1", "]" * number))).encode()


def constants(chance: random.Random) -> bytes:
    """Numbers that are none."""
    number = chance.choice(("NaN", "Infinity", "-Infinity", "01", "1.", "+1", "0x1"))
    return f'{{"is_preemptible": true, "priority": {number}}}'.encode()


def wrong_type(chance: random.Random) -> bytes:
    """A value that the field does not take."""
    name = chance.choice(FIELDS)
    start = '"is_preemptible": "no", ' if name != "is_preemptible" else ""
    return f'{{{start}"{name}": {chance.choice(VALUES)}}}'.encode()


def unknown(chance: random.Random) -> bytes:
    """Fields that there are not, thousands of them."""
    strange = {f"field {number}": number for number in range(chance.choice((1, 5000)))}
    return json.dumps({"is_preemptible": True} | strange).encode()


def doubled(chance: random.Random) -> bytes:
    """A key twice."""
    name = chance.choice(FIELDS)
    return f'{{"{name}": true, "{name}": false, "is_preemptible": 1}}'.encode()


def encoded(chance: random.Random) -> bytes:
    """Not in UTF-8, or with a mark before it."""
    return chance.choice(
        (
            GOOD.encode("utf-16"),
            GOOD.encode("utf-32"),
            b"\xef\xbb\xbf" + GOOD.encode(),
            b"\xff" + GOOD.encode(),
            b'{"name": "\xc0\xaf", "is_preemptible": true}',
            b'{"name": "\xed\xa0\x80", "is_preemptible": true}',
        )
    )


def bomb(chance: random.Random) -> bytes:
    """A small text that would become a large one."""
    return gzip.compress(b"[" * chance.choice((10_000_000, 1000)), 9)


def noise(chance: random.Random) -> bytes:
    """Bytes."""
    return chance.randbytes(chance.randrange(1, 3000))


def large(chance: random.Random) -> bytes:
    """More than is read."""
    return b'{"name": "' + b"x" * chance.choice((1_048_577, 2_000_000)) + b'"}'
