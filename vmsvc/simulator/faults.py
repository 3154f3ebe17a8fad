"""Faults that tests ask for by POST /sim/faults: of single HTTP calls, and of servers inside the cloud."""

import random
import re
from dataclasses import dataclass, field
from typing import Any

from vmsvc.simulator.errors import bad_request
from vmsvc.simulator.nova.servers import Server
from vmsvc.simulator.store import Store, Table

#: What a fault does to a call. `before`: the call has no effect. `after`: the call takes effect, and the client does
#: not get the true answer.
HTTP_ACTIONS = {
    "status": "before",  # answer with `status`, `headers`, `body`
    "echo": "before",  # answer with `status` and a message that repeats the token and the body
    "delay": "before",  # wait `seconds`, then handle the call as usual
    "hang": "before",  # never answer
    "cut": "before",  # close the connection
    "revoke": "before",  # revoke every token, then handle the call as usual (so the answer is 401)
    "hang_after": "after",  # never answer
    "cut_after": "after",  # close the connection
    "delay_after": "after",  # answer `seconds` later
    "cut_body": "after",  # close the connection in the middle of the answer
    "half_json": "after",  # answer with half of the JSON
    "html": "after",  # answer 200 with a page of HTML
    "status_after": "after",  # answer with `status`, `headers`, `body` (a proxy's 502)
}
#: What can happen to a server. `build_hangs` and `delete_hangs`: it never ends by itself. `thief`: another project's
#: server takes the capacity that a deleted server frees, before a client can see it free.
SERVER_KINDS = (
    "spawn_fails",
    "delete_hangs",
    "delete_fails",
    "metadata_refused",
    "build_hangs",
    "no_valid_host",
    "thief",
)


@dataclass
class HttpFault:  # pylint: disable=too-many-instance-attributes
    """A fault of calls of a `service` with a `method` and a `path` (a regular expression) and a body that matches
    `body_matches`. The first `skip` of these calls are spared; each later one meets the fault with `probability` (drawn
    from `seed`), at most `count` of them. With `nth`, exactly those calls meet it."""

    id: str
    action: str
    service: str | None = None
    method: str | None = None
    path: str = ""
    body_matches: str = ""
    nth: list[int] = field(default_factory=list)
    skip: int = 0
    probability: float = 1.0
    seed: int = 0
    count: int | None = None
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None
    seconds: float = 1.0
    seen: int = 0  # calls that it could have met
    hits: int = 0  # calls that it has met

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._path = re.compile(self.path)

    def applies(self, service: str, method: str, path: str, body: str) -> bool:
        """Count this call. True when the call meets the fault."""
        if self.service not in (None, service) or self.method not in (None, method):
            return False
        if not self._path.search(path) or (self.body_matches and not re.search(self.body_matches, body)):
            return False
        self.seen += 1
        if self.nth and self.seen not in self.nth:
            return False
        if self.seen <= self.skip or (self.count is not None and self.hits >= self.count):
            return False
        if self.probability < 1.0 and self._random.random() >= self.probability:
            return False
        self.hits += 1
        return True

    def view(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class HttpFaults:
    """The registered faults of HTTP calls. A restart of the simulator forgets them."""

    def __init__(self) -> None:
        self.all: dict[str, HttpFault] = {}
        self._last = 0

    def add(self, values: dict[str, Any]) -> HttpFault:
        """Register a fault. Raises ApiError for an unknown action or field."""
        if values.get("action") not in HTTP_ACTIONS:
            raise bad_request(f"action must be one of {', '.join(HTTP_ACTIONS)}")
        try:
            fault = HttpFault(id=str(self._last + 1), **values)
        except (TypeError, re.error) as error:
            raise bad_request(str(error)) from None
        self._last += 1
        self.all[fault.id] = fault
        return fault

    def remove(self, fault_id: str) -> None:
        self.all.pop(fault_id, None)

    def clear(self) -> None:
        self.all.clear()

    def matching(self, service: str, method: str, path: str, body: str) -> list[HttpFault]:
        """Count this call for every fault, and return the faults that it meets."""
        return [fault for fault in self.all.values() if fault.applies(service, method, path, body)]


@dataclass
class ServerFault:
    """A fault of servers whose name matches `name` (a regular expression), on `host`, with the id `server_id`; at most
    `count` times. `text` is the message of spawn_fails, `project` the owner of the server that thief makes."""

    id: str
    kind: str
    name: str = ""
    host: str | None = None
    server_id: str | None = None
    count: int | None = None
    text: str = "Simulated spawn failure"
    project: str = "admin"
    hits: int = 0

    def applies(self, server: Server) -> bool:
        """True when this server meets the fault now."""
        return (
            (self.count is None or self.hits < self.count)
            and (self.server_id is None or self.server_id == server.id)
            and (self.host is None or self.host == server.chosen)
            and re.search(self.name, server.name) is not None
        )


class ServerFaults:
    """The registered faults of servers. They survive a restart."""

    def __init__(self, store: Store):
        self.all = Table(store, "trouble", ServerFault)
        self._last = max((int(key) for key in self.all), default=0)

    def add(self, values: dict[str, Any]) -> ServerFault:
        """Register a fault. Raises ApiError for an unknown kind or field."""
        if values.get("kind") not in SERVER_KINDS:
            raise bad_request(f"kind must be one of {', '.join(SERVER_KINDS)}")
        try:
            fault = ServerFault(id=str(self._last + 1), **values)
        except TypeError as error:
            raise bad_request(str(error)) from None
        self._last += 1
        self.all.save(fault.id, fault)
        return fault

    def remove(self, fault_id: str) -> None:
        """Forget a fault. One that is not registered is no error."""
        if fault_id in self.all:
            self.all.remove(fault_id)

    def clear(self) -> None:
        for fault_id in list(self.all):
            self.remove(fault_id)

    def take(self, kind: str, server: Server) -> ServerFault | None:
        """The first fault of this kind that the server meets now, which counts as a hit; None without one."""
        for fault in self.all.values():
            if fault.kind == kind and fault.applies(server):
                fault.hits += 1
                self.all.save(fault.id, fault)
                return fault
        return None
