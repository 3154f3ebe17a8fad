"""The real service as the page of a test meets it: a process of its own, on a database and a simulated cloud."""

import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.system.processes import Process

PATIENCE = 60  # seconds for a process to come up


class LiveService:
    """Starts at once; `stop` and `start` are a restart on the same port."""

    def __init__(self, environ: dict[str, str], folder: Path):
        self._environ, self._folder = environ, folder
        self._starts = 0
        self._process: Process | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """A process; returns when it is ready."""
        self._starts += 1
        self._process = Process({**self._environ, "VMSVC_PORT": str(self.port)}, self._folder / f"log{self._starts}")
        deadline = time.monotonic() + PATIENCE
        while not self._ready():
            assert time.monotonic() < deadline, self._process.text()
            time.sleep(0.1)

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        if self._process:
            self._process.clean_up()

    def _ready(self) -> bool:
        found = re.search(r"http://[\d.]+:(\d+)/$", self._process.text(), re.MULTILINE) if self._process else None
        if not found:
            return False
        self.port = int(found[1])
        try:
            self.call("GET", "readyz")
        except urllib.error.URLError:
            return False
        return True

    def call(self, method: str, path: str, body: object = None) -> dict:
        """One request past the page; the JSON of its answer. Raises URLError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)
