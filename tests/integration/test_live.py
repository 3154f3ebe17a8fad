"""From the commit to the socket: whatever writers and readers do at once, a reader sees each event once, in order."""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.contract import check_event
from tests.integration.live import Replica
from tests.integration.writer import TRIGGER, emit
from vmsvc.domain.events import TYPES
from vmsvc.store import outbox
from vmsvc.store.db import unit

ROOT = Path(__file__).resolve().parents[2]
WRITERS = 3
#: The event that ends a run.
END = "the-end"


@pytest.fixture(name="replicas")
def _replicas(io_loop, store):
    """Three, of which one remembers much, one little and one nothing."""
    started = [Replica(store.url, recent) for recent in (1000, 20, 0)]
    for replica in started:
        io_loop.run_sync(replica.start)
    yield started
    for replica in started:
        io_loop.run_sync(replica.stop)


@pytest.fixture(name="lingering")
def _lingering(store):
    """Transactions take their time, or fail, after their events have numbers. The database is every test's."""
    store.rows(TRIGGER)
    yield
    store.rows("DROP FUNCTION linger CASCADE")


def commit(*vm_ids, kind="create", preemptible=False):
    """One transaction with an event of each VM."""
    with unit() as work:
        for vm_id in vm_ids:
            emit(work, vm_id, kind, preemptible)


def end_run():
    """An event that every reader waits for, whatever it filters."""
    for kind in TYPES:
        for preemptible in (True, False):
            commit(END, kind=kind, preemptible=preemptible)


class Reader:
    """A client that reads a while at one replica, cuts the connection, and goes on at another; now and then it goes
    back to an earlier place."""

    def __init__(self, replicas, chance: random.Random):
        self._replicas = replicas
        self._chance = chance
        self.wanted = chance.choice(
            [
                {},
                {},
                {"preemptible": "true"},
                {"preemptible": "false"},
                {"type": "evict,delete"},
                {"type": "create", "preemptible": "true"},
            ]
        )
        self.seen: list[dict] = []

    async def read_all(self) -> list[int]:
        """Every seq up to the end of the run."""
        while not (self.seen and self.seen[-1]["subject"] == END):
            if self._chance.random() < 0.3:
                del self.seen[self._chance.randint(0, len(self.seen)) :]
            await self._read_some(self._chance.choice([1, 3, 20, 100, 1000]))
        return [event["data"]["seq"] for event in self.seen]

    async def _read_some(self, most: int) -> None:
        since = self.seen[-1]["data"]["seq"] if self.seen else 0
        channel = await self._chance.choice(self._replicas).channel(since=since, **self.wanted)
        for _ in range(most):
            self.seen.append(json.loads(await channel.read_message()))
            if self.seen[-1]["subject"] == END:
                break
        channel.close()


def selected(store, wanted: dict) -> list[int]:
    """What a reader with this filter has to see, up to the first event that ends a run."""
    kinds = wanted.get("type", ",".join(TYPES)).split(",")
    flags = [wanted["preemptible"] == "true"] if "preemptible" in wanted else [True, False]
    rows = store.rows(
        "SELECT seq, subject FROM event WHERE type = ANY(%s) AND is_preemptible = ANY(%s) ORDER BY seq", kinds, flags
    )
    ends = [number for number, row in enumerate(rows) if row["subject"] == END]
    return [row["seq"] for row in rows[: ends[0] + 1]]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.gen_test(timeout=60)
async def test_a_reader_that_resumes_anywhere_gets_each_event_once_and_in_order(store, replicas, lingering, seed):
    del lingering
    writers = [
        subprocess.Popen(  # pylint: disable=consider-using-with; waited for below
            [sys.executable, "-m", "tests.integration.writer", store.url, f"w{number}", f"{seed} {number}", "30"],
            cwd=ROOT,
        )
        for number in range(WRITERS)
    ]
    readers = [Reader(replicas, random.Random(f"{seed} {number}")) for number in range(12)]
    reading = asyncio.gather(*(reader.read_all() for reader in readers))
    loop = asyncio.get_running_loop()
    assert [await loop.run_in_executor(None, writer.wait, 50) for writer in writers] == [0] * WRITERS
    await loop.run_in_executor(None, end_run)
    for reader, seen in zip(readers, await reading):
        assert seen == selected(store, reader.wanted), reader.wanted
    for event in readers[0].seen:
        check_event(event)
    gaps = store.rows("SELECT max(seq) - count(*) AS missing FROM event")[0]["missing"]
    assert gaps == 0, "transactions that were given up after they had a number leave no gap"


@pytest.mark.gen_test
async def test_a_replica_that_begins_knows_the_newest_events_and_no_others(store, replicas):
    commit(*(f"vm-{number}" for number in range(30)))
    late = Replica(store.url, 10)
    await late.start()
    replicas.append(late)
    assert late.hub.last_seq == 30
    channel = await late.channel(since=25)
    assert [json.loads(await channel.read_message())["id"] for _ in range(5)] == ["26", "27", "28", "29", "30"]
    channel.close()


@pytest.mark.gen_test(timeout=20)
async def test_history_that_was_forgotten_is_forgotten_by_every_replica(store, replicas):
    commit("a", "b", "c")
    store.rows("UPDATE event SET time = time - interval '3 hours' WHERE seq < 3")
    await asyncio.get_running_loop().run_in_executor(None, outbox.remove_old_events, 2)
    commit("d")
    live = [await replica.channel(since=2) for replica in replicas]
    assert [[json.loads(await one.read_message())["id"] for _ in range(2)] for one in live] == [["3", "4"]] * 3
    late = [await replica.channel(since=1) for replica in replicas]
    assert [await one.read_message() for one in late] == [None] * 3
    assert [one.close_code for one in late] == [4009] * 3
    for one in (*live, *late):
        one.close()


@pytest.mark.gen_test(timeout=20)
async def test_a_feed_that_was_away_for_too_long_tells_its_sockets_to_reload(store, replicas, caplog):
    away = replicas[0]
    live = await away.channel()
    commit("a")
    assert json.loads(await live.read_message())["id"] == "1"
    store.rows("UPDATE watermark SET removed_seq = 5")
    store.rows("SELECT setval('event_seq_seq', 5)")
    commit("b")
    assert await live.read_message() is None and live.close_code == 4009
    live.close()
    assert "events before 6 are gone" in caplog.text
