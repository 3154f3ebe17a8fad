"""Raw connections: send what no client would send, and see what comes back."""

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Iterable

from tests.hostile.requests import Case

#: A whole request without an answer, and without an end of the connection, for so long is a hang.
HANG_SECONDS = 20.0
RESET = struct.pack("ii", 1, 0)


class Tally:
    """What came of the requests of each kind."""

    def __init__(self):
        self.answers: dict[str, Counter[str]] = {}
        self.problems: list[str] = []

    def count(self, kind: str, came: str, data: bytes = b"", times: int = 1) -> None:
        """Note one, or several alike; what is never right is a problem."""
        self.answers.setdefault(kind, Counter())[came] += times
        if came == "hang" or came.startswith("5"):
            self.problems.append(f"{kind}: {came} for {data[:300]!r}")


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One connection."""
    return await asyncio.open_connection("127.0.0.1", port)


def reset(writer: asyncio.StreamWriter) -> None:
    """Go without a word: the peer gets a RST."""
    with contextlib.suppress(OSError):  # it is closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def status_of(reader: asyncio.StreamReader) -> str:
    """The status of the answer, `closed` when there is none. Of an upgrade, how the socket ended."""
    first = await reader.readline()
    if not first:
        return "closed"
    status = first.split()[1].decode()
    if status == "101":
        await reader.read()
        return "101, closed"
    return status


async def send(port: int, case: Case, tally: Tally, number: int) -> None:
    """Send it, and count what comes."""
    reader, writer = await connect(port)
    came = "closed"
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(case.data)
            async with asyncio.timeout(HANG_SECONDS if case.whole else 0.02):
                await writer.drain()
                came = await status_of(reader)
    except TimeoutError:
        came = "hang" if case.whole else "left"
    finally:
        if number % 2:
            reset(writer)
        else:
            writer.transport.abort()  # with a FIN; a close would wait until all is sent
    tally.count(case.kind, came, case.data)


async def send_all(port: int, cases: Iterable[Case], tally: Tally, lanes: int = 16) -> None:
    """All of them, so many side by side."""
    source = enumerate(cases)

    async def lane() -> None:
        for number, case in source:
            await send(port, case, tally, number)

    await asyncio.gather(*(lane() for _ in range(lanes)))
