"""Things that go wrong inside the cloud, registered by request: they touch servers, not HTTP."""

import re
from dataclasses import dataclass

from vmsvc.sim.refusal import bad_request
from vmsvc.sim.servers import Server
from vmsvc.sim.store import Store

KINDS = ("spawn_fails", "delete_hangs", "delete_fails", "metadata_refused", "build_hangs", "no_valid_host", "thief")


@dataclass
class Trouble:
    """One trouble: which servers (`name` is a regular expression, `host` a name), how often (`count`, None for
    always); for spawn_fails with which text, for thief whose server takes the room that a deleted one leaves."""

    id: str
    kind: str
    name: str = ""
    host: str | None = None
    server_id: str | None = None
    count: int | None = None
    text: str = "Simulated spawn failure"
    project: str = "admin"
    hits: int = 0

    def meets(self, server: Server, host: str | None) -> bool:
        """True when it is about this server."""
        return ((self.count is None or self.hits < self.count)
                and (self.server_id is None or self.server_id == server.id)
                and (self.host is None or self.host == (host or server.chosen))
                and re.search(self.name, server.name) is not None)


class Troubles:
    """What is registered."""

    def __init__(self, store: Store):
        self._store = store
        self.all = {key: Trouble(**body) for key, body in store.load("trouble")}
        self._last = max((int(key) for key in self.all), default=0)

    def add(self, values: dict) -> Trouble:
        """Register one; raises Refused for an unknown kind or field."""
        if values.get("kind") not in KINDS:
            raise bad_request(f"kind must be one of {', '.join(KINDS)}")
        try:
            trouble = Trouble(id=str(self._last + 1), **values)
        except TypeError as error:
            raise bad_request(str(error)) from None
        self._last += 1
        self.all[trouble.id] = trouble
        self._store.put("trouble", trouble.id, trouble)
        return trouble

    def remove(self, trouble_id: str) -> None:
        """Forget one."""
        if self.all.pop(trouble_id, None) is not None:
            self._store.drop("trouble", trouble_id)

    def clear(self) -> None:
        """Forget all."""
        for trouble_id in list(self.all):
            self.remove(trouble_id)

    def strike(self, kind: str, server: Server, host: str | None = None) -> Trouble | None:
        """The trouble of this kind that meets the server now; it counts as one hit."""
        for trouble in self.all.values():
            if trouble.kind == kind and trouble.meets(server, host):
                trouble.hits += 1
                self._store.put("trouble", trouble.id, trouble)
                return trouble
        return None
