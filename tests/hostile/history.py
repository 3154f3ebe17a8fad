"""`python -m tests.hostile.history`: a million events that are over their age, a hundred new ones a second, and readers
whose filters match nothing, on one real service: how old the oldest event gets, and what a create costs beside them.
`make test_hostile` runs it too. Settings: HOSTILE_EVENTS (1,000,000), HOSTILE_READERS (200),
HOSTILE_READING_SECONDS (20).
"""

import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from tests.chaos.system_under_test import SystemUnderTest
from tests.conftest import Database, server_with
from tests.hostile.attack import CLOUD
from tests.hostile.requests import head
from tests.hostile.wire import connect, status_of
from tests.report import setting
from vmsvc.store.db import Lock
from vmsvc.store.queries import LOCK_SPACE, NUMBER_EVENTS

HOURS = 0.5
#: The oldest event may be so much older than it is to be kept.
MORE_SECONDS = 600
MANY = """
INSERT INTO event (type, state, vm_id, subject, is_preemptible, time, data)
SELECT 'create', 'active', 'vm-' || mod(n, 60000), 'cloud-' || mod(n, 60000), true, clock_timestamp(),
       '{"vm": {"id": "cloud", "vmsvc_id": "vm", "name": "x", "is_preemptible": true}}' FROM generate_series(1, %s) AS n
"""
NEW = f"""
BEGIN; SELECT pg_advisory_xact_lock({LOCK_SPACE}, {Lock.OUTBOX:d}); {NUMBER_EVENTS};
INSERT INTO event (type, state, vm_id, subject, is_preemptible, time, data)
SELECT 'create', 'active', 'vm', 'vm', true, clock_timestamp(),
       '{{"vm": {{"id": "vm", "vmsvc_id": "vm", "name": "x", "is_preemptible": true}}}}'
FROM generate_series(1, 10); COMMIT
"""
AGE = "SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(time)), 0)::float8 AS age FROM event"
PATHS = (
    "/api/v1/events?since=0&type=evict",
    "/api/v1/events?vm=nobody",
    "/api/v1/events?preemptible=false",
    "/api/v1/evictions?reason=lifetime",
)


async def write(database: Database) -> None:
    """A hundred events a second, until it is cancelled."""
    due = time.monotonic()
    while True:
        await asyncio.to_thread(database.command, NEW)
        due += 0.1
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def read(port: int, path: str, answers: Counter[str]) -> None:
    """The same request again and again, over connections of its own, until it is cancelled; who is told to come back in
    a second does."""
    while True:
        came = "none"
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await connect(port)
            writer.write(head("GET", path, "Connection: close\r\n"))
            came = await status_of(reader)
            writer.close()
        answers[came] += 1
        await asyncio.sleep(1 if came == "429" else 0.05)


async def creates(client, seconds: float) -> list[float]:
    """How long each create took, one after the other for so long; each VM is deleted again."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        made = await client.create(True, flavor="m1.tiny")
        took.append(time.monotonic() - began)
        await client.delete(made.id)
    return sorted(took)


async def beside(works: list[Awaitable[None]], measure: Callable[[], Awaitable[list[float]]]) -> list[float]:
    """What is measured while these works go on."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await measure()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def caught_up(database: Database) -> list[float]:
    """For how many seconds the oldest event was too old, and how old the oldest one is then."""
    began = time.monotonic()
    while True:
        (found,) = await asyncio.to_thread(database.rows, AGE)
        if found["age"] <= HOURS * 3600 + MORE_SECONDS:
            return [time.monotonic() - began, found["age"]]
        if time.monotonic() - began > MORE_SECONDS:
            raise TimeoutError(f"{found['count']} events are left, the oldest {found['age']:.0f} s old")
        await asyncio.sleep(1)


async def scenario(folder: Path, postgres: Database, events: int, readers: int, seconds: float) -> list[str]:
    """Prints what it came to; what is not as it must be."""
    system = SystemUnderTest(
        folder,
        postgres,
        "history",
        replicas=1,
        cloud=CLOUD,
        settings={"event_retention_hours": HOURS, "write_rate": 1e6},
    )
    try:
        system.database.rows(MANY, events)  # before the service begins to follow them
        await system.open()
        client, answers = system.replicas[0].client, Counter()
        await client.delete((await client.create(True, flavor="m1.tiny")).id)
        alone = await creates(client, seconds)
        attack = [read(client.port, PATHS[number % len(PATHS)], answers) for number in range(readers)]
        attacked = await beside(attack, lambda: creates(client, seconds))
        system.database.rows("UPDATE event SET time = time - interval '1 day'")
        late, age = await beside([write(system.database)], lambda: caught_up(system.database))
        print(
            f"create: median {alone[len(alone) // 2]:.3f} s, longest {alone[-1]:.3f} s; beside {readers} readers "
            f"{attacked[len(attacked) // 2]:.3f} s and {attacked[-1]:.3f} s ({dict(answers)})"
        )
        print(
            f"{events} events over their age had gone {late:.0f} s after the readers, beside 100 new ones a second; "
            f"the oldest was then {age:.0f} s old, to be kept {HOURS * 3600:.0f} s"
        )
        return [] if attacked[-1] <= 2 * max(alone[-1], 1.0) else [f"a create took {attacked[-1]:.1f} s"]
    finally:
        await system.close()


def main() -> int:
    """1 when it is not as it must be."""
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-history-"))
    try:
        with server_with("template") as postgres:
            problems = asyncio.run(
                scenario(
                    folder,
                    postgres,
                    int(setting("HOSTILE_EVENTS", 1_000_000)),
                    int(setting("HOSTILE_READERS", 200)),
                    setting("HOSTILE_READING_SECONDS", 20),
                )
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(problems) or "as it must be")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
