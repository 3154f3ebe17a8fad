"""The log of calls: what clients asked, for tests that assert which calls were made."""

import re
from collections import Counter, deque

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")


class Calls:
    """The last calls, and the count of every kind of call since the last reset."""

    def __init__(self, kept: int = 20000):
        self.log: deque[dict] = deque(maxlen=kept)
        self.counts: Counter[str] = Counter()
        self.total = 0
        self.in_flight = 0
        self.most_in_flight = 0

    def begin(self, service: str, method: str, uri: str, user: str | None, at: float,
              global_request_id: str | None = None) -> dict:
        """A call arrived. Its `status` is None until it is answered."""
        self.total += 1
        path = uri.partition("?")[0]
        call = {"seq": self.total, "at": at, "service": service, "method": method, "path": path, "uri": uri,
                "user": user, "global_request_id": global_request_id, "status": None}
        self.log.append(call)
        self.counts[f"{method} {ID.sub('{id}', path)}"] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return call

    def end(self, call: dict, status: int | None) -> None:
        """It was answered (None: the connection was cut)."""
        call["status"] = status
        self.in_flight -= 1

    def select(self, *, service: str | None = None, method: str | None = None, path: str = "", since: int = 0,
               status: int | None = None) -> list[dict]:
        """The calls after `since` that match; `path` is a regular expression on the path with its query."""
        return [call for call in self.log if call["seq"] > since and service in (None, call["service"])
                and method in (None, call["method"]) and status in (None, call["status"])
                and re.search(path, call["uri"])]

    def reset(self) -> None:
        """Forget all."""
        self.log.clear()
        self.counts.clear()
        self.most_in_flight = self.in_flight
