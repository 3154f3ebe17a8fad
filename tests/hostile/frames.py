"""What a WebSocket peer must not send: bad handshakes, and bad frames after a good one."""

import base64
import random
import struct
from collections.abc import Iterator

from tests.hostile.requests import Case, head

EVENTS = "/api/v1/events"


def handshake(chance: random.Random, **instead: str) -> bytes:
    """An upgrade, with some headers as they should not be; an empty one is left out."""
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(chance.randbytes(16)).decode(),
        **{name.replace("_", "-"): value for name, value in instead.items()},
    }
    return head("GET", EVENTS, "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value))


def frame(first: int, payload: bytes, mask: bytes | None = b"\0\0\0\0", length: int | None = None) -> bytes:
    """A frame whose first byte is given; `length` is the declared one, should it be another."""
    size, bit = len(payload) if length is None else length, 0 if mask is None else 0x80
    if size < 126:
        declared = struct.pack("!B", size | bit)
    elif size < 65536:
        declared = struct.pack("!BH", 126 | bit, size)
    else:
        declared = struct.pack("!BQ", 127 | bit, size)
    return (
        bytes([first])
        + declared
        + (mask or b"")
        + bytes(byte ^ (mask or b"\0\0\0\0")[place % 4] for place, byte in enumerate(payload))
    )


def half_handshake(chance: random.Random) -> Case:
    """One of its headers is bad."""
    name, value = chance.choice(
        (
            ("Sec_WebSocket_Key", ""),
            ("Sec_WebSocket_Key", "AAAA"),
            ("Sec_WebSocket_Key", "*" * 24),
            ("Sec_WebSocket_Key", "A" * 9000),
            ("Sec_WebSocket_Version", ""),
            ("Sec_WebSocket_Version", "8"),
            ("Sec_WebSocket_Version", "-1"),
            ("Sec_WebSocket_Version", "13, 8"),
            ("Connection", "keep-alive"),
            ("Connection", ""),
            ("Upgrade", "h2c"),
            ("Origin", "http://evil.example"),
            ("Origin", "\udcff"),
        )
    )
    return Case("handshake", handshake(chance, **{name: value}))


def strange_handshake(chance: random.Random) -> Case:
    """Good in itself, with offers that nobody takes; then the end."""
    name, value = chance.choice(
        (
            ("Sec_WebSocket_Protocol", "x" * 8000),
            ("Sec_WebSocket_Protocol", ", ," * 900),
            ("Sec_WebSocket_Protocol", "\udcff"),
            ("Sec_WebSocket_Extensions", "permessage-deflate; server_max_window_bits=99"),
            ("Sec_WebSocket_Extensions", ";;=,"),
            ("Sec_WebSocket_Extensions", "permessage-deflate; x=" + "9" * 5000),
        )
    )
    return Case("subprotocol", handshake(chance, **{name: value}), whole=False)


def bad_frames(chance: random.Random) -> Case:
    """A frame that ends the connection."""
    data = chance.choice(
        (
            lambda: frame(0x81, b"\xff\xfe\xc0", chance.randbytes(4)),  # no UTF-8
            lambda: frame(0x80 | chance.choice((0x10, 0x20, 0x40, 0x70)) | 1, b"x"),  # reserved bits
            lambda: frame(0x80 | chance.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)), b"x"),  # reserved opcodes
            lambda: frame(0x89, b"x" * 126),
            lambda: frame(0x88, b"x" * 70_000),  # control, too large
            lambda: frame(0x09, b"x") + frame(0x80, b"y"),  # control, in pieces
            lambda: frame(0x80, b"nothing to go on with"),
            lambda: frame(0x01, b"a") + frame(0x81, b"b"),
            lambda: frame(0x81, b"", length=2**63),
            lambda: frame(0x82, b"", length=2**62 - 1),
            lambda: frame(0x82, b"", length=70_000),
            lambda: frame(0x88, struct.pack("!H", chance.choice((0, 999, 1004, 1005, 1006, 1015, 2999, 65535)))),
            lambda: frame(chance.choice((0x81, 0x82, 0x01, 0x89, 0x8A)), b"hello", None) * 50,  # not masked
            lambda: frame(0x88, b"\x03\xe8\xff\xfe\xc0"),
            lambda: frame(0x88, b"\x03"),
            lambda: frame(0x01, b"a" * 1000) + frame(0x00, b"b" * 1000) * 5,
        )
    )()
    return Case("frames", handshake(chance) + data)


def floods(chance: random.Random) -> Case:
    """Much of what is allowed, or nearly; the peer goes in the middle of a frame."""
    data = chance.choice(
        (
            lambda: frame(0x89, chance.randbytes(125)) * 3000,
            lambda: frame(0x8A, b"") * 3000,
            lambda: frame(0x01, b"") + frame(0x00, b"") * 3000,
            lambda: frame(0x82, b"x" * 4096) * 100,
        )
    )()
    return Case("flood", handshake(chance) + data[: -chance.randrange(1, 7)], whole=False)


def torn_frame(chance: random.Random) -> Case:
    """Half a frame."""
    data = frame(0x82, chance.randbytes(chance.choice((10, 300, 4000))), chance.randbytes(4))
    return Case("torn frame", handshake(chance) + data[: chance.randrange(1, len(data))], whole=False)


KINDS = (half_handshake, bad_frames, bad_frames, strange_handshake, floods, torn_frame)


def bad_sockets(chance: random.Random, number: int) -> Iterator[Case]:
    """So many, of all kinds in turn."""
    for count in range(number):
        yield KINDS[count % len(KINDS)](chance)
