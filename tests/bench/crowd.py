"""Many clients in a process of their own: `Crowd(port)` here, `python -m tests.bench.crowd PORT` there.

One JSON line on its standard input is one order, one line on its standard output the result. Connections are kept and
used again; each has one request under way. It is written for little CPU of its own, which it takes from the service's.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.bench.cpu import cpu_of

LIMIT = 600.0
ROOT = Path(__file__).parents[2]


class Crowd:
    """The other end of it, for the benchmark."""

    def __init__(self, port: int):
        self._popen = subprocess.Popen(  # pylint: disable=consider-using-with; `stop()` ends it
            [sys.executable, "-m", "tests.bench.crowd", str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def begin(self, order: str, **given: object) -> None:
        """Give an order: the name of a method of Clients."""
        self._popen.stdin.write(json.dumps([order, given]).encode() + b"\n")
        self._popen.stdin.flush()

    def end(self) -> dict:
        """Wait for its result."""
        return json.loads(self._popen.stdout.readline())

    def do(self, order: str, **given: object) -> dict:
        """Both."""
        self.begin(order, **given)
        return self.end()

    def cpu(self) -> float:
        """Seconds of CPU."""
        return cpu_of(self._popen.pid)

    def stop(self) -> None:
        """End it."""
        self._popen.stdin.close()
        self._popen.stdout.close()
        self._popen.kill()
        self._popen.wait()


@contextlib.contextmanager
def crowd(port: int) -> Iterator[Crowd]:
    """One that is ended."""
    made = Crowd(port)
    try:
        yield made
    finally:
        made.stop()


# ---------------------------------------------------------------- the other process


class Clients:
    """What can be ordered. Results: the time that it took, each answer's status, each answer's milliseconds."""

    def __init__(self, port: int):
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._made: list[str] = []

    async def create(self, count: int, rate: float, prefer: str = "") -> dict:
        """So many creates at an even pace; all are waited for."""
        return await self._paced([self._create(prefer) for _ in range(count)], rate)

    async def delete(self, rate: float) -> dict:
        """Delete all that were made, at an even pace."""
        gone, self._made = self._made, []
        return await self._paced([self._delete(ref) for ref in gone], rate)

    async def churn(self, count: int, at_once: int, keep: bool = False) -> dict:
        """So many creates, so many at a time, each followed by its delete unless they are kept."""
        left = iter(range(count))

        async def one() -> list[tuple[str, float]]:
            found = []
            for _ in left:
                found.append(await self._create())
                if not keep and self._made:
                    await self._delete(self._made.pop())
            return found

        began = time.monotonic()
        found = await asyncio.gather(*(one() for _ in range(at_once)))
        return _result(began, [each for some in found for each in some])

    async def pulse(self, seconds: float, pause: float = 0.01, path: str = "/healthz") -> dict:
        """Ask again and again, one after the other, at an even pace."""
        began, found, due = time.monotonic(), [], time.monotonic()
        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            found.append(await self._timed("GET", path))
            due = max(due + pause, time.monotonic())
        return _result(began, found)

    async def _paced(self, calls: list, rate: float) -> dict:
        began = time.monotonic()

        async def late(number: int, call) -> tuple[str, float]:
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()) if rate else 0.0)
            return await call

        found = await asyncio.gather(*(late(number, call) for number, call in enumerate(calls)))
        return _result(began, found)

    async def _create(self, prefer: str = "") -> tuple[str, float]:
        began = time.monotonic()
        status, body = await self._call("POST", "/api/v1/vm", b'{"is_preemptible": true}', prefer)
        if status == "201":
            self._made.append(json.loads(body)["vm"]["id"])
        return status, time.monotonic() - began

    async def _delete(self, ref: str) -> tuple[str, float]:
        return await self._timed("DELETE", f"/api/v1/vm/{ref}")

    async def _timed(self, method: str, path: str) -> tuple[str, float]:
        began = time.monotonic()
        status, _ = await self._call(method, path)
        return status, time.monotonic() - began

    async def _call(self, method: str, path: str, body: bytes = b"", prefer: str = "") -> tuple[str, bytes]:
        """Status and body; what breaks is a status too."""
        try:
            async with asyncio.timeout(LIMIT):
                streams = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
                answer = await _exchange(*streams, method, path, body, prefer)
                self._idle.append(streams)
                return answer
        except (OSError, EOFError, TimeoutError) as error:
            return type(error).__name__, b""


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str, body: bytes, prefer: str
) -> tuple[str, bytes]:
    told = "Content-Type: application/json\r\n" if body else ""
    if prefer:
        told += f"Prefer: {prefer}\r\n"
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{told}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
    return head.split(" ", 2)[1], await reader.readexactly(int(length or 0))


def _result(began: float, found: list[tuple[str, float]]) -> dict:
    return {
        "seconds": time.monotonic() - began,
        "statuses": Counter(status for status, _ in found),
        "milliseconds": [1000 * seconds for _, seconds in found],
    }


async def obey(port: int) -> None:
    """Carry out the orders."""
    clients, loop = Clients(port), asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order, given = json.loads(line)
        print(json.dumps(await getattr(clients, order)(**given)), flush=True)


if __name__ == "__main__":
    asyncio.run(obey(int(sys.argv[1])))
