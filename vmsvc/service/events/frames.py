"""An event as a message: encoded once for all subscribers, and framed as their channel has it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps() would make one for each event


@dataclass(frozen=True, slots=True)
class Message:
    """An event as JSON, and as one WebSocket frame. `ids` are the names by which its VM is known."""

    seq: int
    type: str
    ids: frozenset[str]
    is_preemptible: bool | None
    text: bytes
    frame: bytes


#: How a channel writes a message to its wire. One function for a channel: subscribers share what it returns.
Framing = Callable[[Message], bytes]
#: Of WebSockets: each message has its frame, since most subscribers are sockets.
websocket_frame: Framing = attrgetter("frame")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a subscriber gets; an empty set of types means all, None is no condition."""

    types: frozenset[str] = frozenset()
    vm: str | None = None
    preemptible: bool | None = None

    def admits(self, message: Message) -> bool:
        """True when the subscriber gets this message."""
        return (
            (not self.types or message.type in self.types)
            and (self.vm is None or self.vm in message.ids)
            and self.preemptible in (None, message.is_preemptible)
        )


def json_of(event: Mapping[str, Any]) -> bytes:
    """An event as every client gets it."""
    return _ENCODER.encode(event).encode("ascii")


def ids_of(event: Mapping[str, Any]) -> frozenset[str]:
    """The names by which the VM of an event is known."""
    vm = event["data"].get("vm") or {}
    return frozenset(filter(None, (event.get("subject"), vm.get("id"), vm.get("vmsvc_id"))))


def encode(event: Mapping[str, Any], frame: Callable[[bytes], bytes]) -> Message:
    """The message of a CloudEvents object whose `data` carries `seq` and `vm`; `frame` makes a frame of its JSON."""
    data = event["data"]
    vm = data.get("vm") or {}
    text = json_of(event)
    return Message(int(data["seq"]), event["type"], ids_of(event), vm.get("is_preemptible"), text, frame(text))
