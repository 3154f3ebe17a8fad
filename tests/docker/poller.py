"""A client that asks the balancer again and again, and says how often that failed and how long it took.

    python -m tests.docker.poller http://127.0.0.1:8888/api/v1/vm 60

prints one line after that many seconds. Each request has a connection of its own, so that none is spared the balancer.
"""

import http.client
import sys
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

EVERY = 0.2


@dataclass
class Poller:
    """Asks every 0.2 s from `start` until `stop`. `failures` has what went wrong, `slowest` seconds of one request."""

    url: str
    requests: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)
    _enough: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Poller":
        self._threads.append(threading.Thread(target=self._beat))
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in list(self._threads):
            thread.join()
        # Those that the first one had begun meanwhile.
        for thread in self._threads:
            thread.join()

    def _beat(self) -> None:
        # A request that hangs does not keep the next one from being sent in time.
        while not self._enough.wait(EVERY):
            thread = threading.Thread(target=self._ask)
            self._threads.append(thread)
            thread.start()

    def _ask(self) -> None:
        began, parts, trouble = time.monotonic(), urlsplit(self.url), ""
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        try:
            connection.request("GET", parts.path)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                trouble = str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            trouble = type(error).__name__
        finally:
            connection.close()
        took = time.monotonic() - began
        with self._lock:
            self.requests += 1
            self.slowest = max(self.slowest, took)
            if trouble:
                self.failures.append(trouble)

    def __str__(self) -> str:
        kinds = ", ".join(f"{self.failures.count(kind)} {kind}" for kind in sorted(set(self.failures)))
        return f"{len(self.failures)} of {self.requests} failed ({kinds or 'none'}); slowest {self.slowest:.2f} s"


if __name__ == "__main__":
    with Poller(sys.argv[1]) as poller:
        time.sleep(float(sys.argv[2]))
    print(poller)
