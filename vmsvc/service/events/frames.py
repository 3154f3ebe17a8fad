"""An event as a WebSocket message: encoded and framed once for all subscribers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps() would make one for each event


@dataclass(frozen=True, slots=True)
class Message:
    """An event as one WebSocket frame. `ids` are the names by which its VM is known."""

    seq: int
    type: str
    ids: frozenset[str]
    is_preemptible: bool | None
    frame: bytes


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


def encode(event: Mapping[str, Any], frame: Callable[[bytes], bytes]) -> Message:
    """The message of a CloudEvents object whose `data` carries `seq` and `vm`; `frame` makes a frame of its JSON."""
    data = event["data"]
    vm = data.get("vm") or {}
    ids = frozenset(filter(None, (event.get("subject"), vm.get("id"), vm.get("vmsvc_id"))))
    text = _ENCODER.encode(event).encode("ascii")
    return Message(int(data["seq"]), event["type"], ids, vm.get("is_preemptible"), frame(text))
