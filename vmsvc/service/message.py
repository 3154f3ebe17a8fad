"""An event on its way to sockets: encoded and framed once, whoever gets it."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ENCODER = json.JSONEncoder(separators=(",", ":"))      # json.dumps() would make one for each event
_TEXT = 0x81        # RFC 6455: the whole message in one frame, text


@dataclass(frozen=True, slots=True)
class Message:
    """An event as one WebSocket frame. `ids` are the names by which its VM is known."""

    seq: int
    type: str
    ids: frozenset[str]
    is_preemptible: bool | None
    frame: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a subscriber wants; an empty set of types means all, None is no condition."""

    types: frozenset[str] = frozenset()
    vm: str | None = None
    preemptible: bool | None = None

    def admits(self, message: Message) -> bool:
        """True when the message is one of those."""
        return ((not self.types or message.type in self.types) and (self.vm is None or self.vm in message.ids)
                and self.preemptible in (None, message.is_preemptible))


def encode(event: Mapping[str, Any]) -> Message:
    """The message of a CloudEvents object whose `data` carries `seq` and `vm`."""
    data = event["data"]
    vm = data.get("vm") or {}
    ids = {event.get("subject"), vm.get("id"), vm.get("vmsvc_id")}
    text = _ENCODER.encode(event).encode("ascii")
    return Message(int(data["seq"]), event["type"], frozenset(ids - {None}), vm.get("is_preemptible"), frame(text))


def frame(text: bytes) -> bytes:
    """A text as a WebSocket frame. A server masks nothing, and compression is not agreed upon: the same bytes are
    right for every socket."""
    length = len(text)
    if length < 126:
        return struct.pack("!BB", _TEXT, length) + text
    if length < 65536:
        return struct.pack("!BBH", _TEXT, 126, length) + text
    return struct.pack("!BBQ", _TEXT, 127, length) + text
