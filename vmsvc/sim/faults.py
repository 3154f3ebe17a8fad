"""Faults of the HTTP side, registered by request: which calls they meet, and what is done to them."""

import random
import re
from dataclasses import dataclass, field

from vmsvc.sim.refusal import bad_request

#: `before`: the request has no effect. `after`: it takes effect, and the answer is spoiled.
ACTIONS = {
    "status": "before",       # answer with `status`, `headers`, `body`
    "echo": "before",         # answer with `status` and a message that repeats the token and the body
    "delay": "before",        # wait `seconds`, then go on as if nothing were
    "hang": "before",         # never answer; no effect
    "cut": "before",          # close the connection; no effect
    "revoke": "before",       # revoke every token, then go on (so: 401)
    "hang_after": "after",    # take effect, never answer
    "cut_after": "after",     # take effect, close the connection
    "delay_after": "after",   # take effect, answer `seconds` later
    "cut_body": "after",      # take effect, close in the middle of the answer
    "half_json": "after",     # take effect, answer with half of the JSON
    "html": "after",          # take effect, answer 200 with a page of HTML
    "status_after": "after",  # take effect, answer with `status`, `headers`, `body` (a proxy's 502)
}


@dataclass
class Fault:  # pylint: disable=too-many-instance-attributes
    """One fault. Matches on `service`, `method` and `path` (a regular expression); skips the first `skip` calls, then
    strikes with `probability` (drawn from `seed`), at most `count` times; `nth` strikes exactly those calls."""

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
    seen: int = 0
    hits: int = 0

    def __post_init__(self):
        self._random = random.Random(self.seed)
        self._path = re.compile(self.path)

    def strikes(self, service: str, method: str, path: str, body: str) -> bool:
        """True when this call is met; counts it either way."""
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

    def view(self) -> dict:
        """As JSON."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class Faults:
    """What is registered. It is not kept across restarts: a fault is of the wire, not of the cloud."""

    def __init__(self):
        self.all: dict[str, Fault] = {}
        self._last = 0

    def add(self, values: dict) -> Fault:
        """Register one; raises Refused for an unknown action or field."""
        if values.get("action") not in ACTIONS:
            raise bad_request(f"action must be one of {', '.join(ACTIONS)}")
        try:
            fault = Fault(id=str(self._last + 1), **values)
        except (TypeError, re.error) as error:
            raise bad_request(str(error)) from None
        self._last += 1
        self.all[fault.id] = fault
        return fault

    def remove(self, fault_id: str) -> None:
        """Forget one."""
        self.all.pop(fault_id, None)

    def clear(self) -> None:
        """Forget all."""
        self.all.clear()

    def met(self, service: str, method: str, path: str, body: str) -> list[Fault]:
        """The faults that strike this call."""
        if not self.all:
            return []
        return [fault for fault in self.all.values() if fault.strikes(service, method, path, body)]
