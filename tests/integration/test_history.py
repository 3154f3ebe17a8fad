"""Reading the history costs what is found, whatever is asked for and however much of it there is."""

import itertools
import random
import time

import pytest
from peewee import OperationalError

from vmsvc.store import db, ledger, outbox
from vmsvc.store.models import database

ROWS = 60_000
#: Only "create", all of preemptible VMs, but for the last row.
EVENTS = """
INSERT INTO event (type, state, vm_id, subject, is_preemptible, time, data)
SELECT 'create', 'active', 'vm-' || mod(n, 6000), 'cloud-' || mod(n, 6000), true, clock_timestamp(), '{}'
FROM generate_series(1, %s) AS n
"""
LAST = """INSERT INTO event (type, state, vm_id, subject, is_preemptible, time, data)
          VALUES ('delete', 'deleted', 'last', 'cloud-last', false, clock_timestamp(), '{}')"""
#: Rows that this transaction has looked at, by reading the table and by following an index into it.
LOOKED_AT = """SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables
               WHERE relname = %s"""


@pytest.fixture(name="many")
def _many(store):
    store.rows(EVENTS, ROWS)
    store.rows(LAST)
    store.rows("ANALYZE event")
    return store


@pytest.mark.parametrize(
    "wanted, found",
    [
        ({"types": ["evict"]}, 0),
        ({"types": ["evict", "delete"]}, 1),
        ({"preemptible": False}, 1),
        ({"types": ["create"], "preemptible": False}, 0),
        ({"types": ["evict", "delete"], "preemptible": True}, 0),
        ({"vm": "nobody"}, 0),
        ({"vm": "vm-7", "types": ["delete"]}, 0),
        ({"vm": "cloud-7", "preemptible": False}, 0),
        ({"vm": "cloud-7"}, 10),
        ({"vm": "vm-7", "types": ["create"], "preemptible": True}, 10),
        ({"types": ["create"]}, 10),
        ({"preemptible": True}, 10),
        ({}, 10),
    ],
    ids=repr,
)
def test_a_page_reads_few_more_rows_than_it_returns(many, wanted, found):
    del many
    with db.reading():
        before = database.execute_sql(LOOKED_AT, ("event",)).fetchone()[0]
        events, seq = outbox.page(0, 10, **wanted)
        after = database.execute_sql(LOOKED_AT, ("event",)).fetchone()[0]
    assert len(events) == found and seq == (ROWS + 1 if found < 10 else events[-1]["data"]["seq"])
    assert after - before < 200


@pytest.mark.parametrize("seed", range(3))
def test_pages_equal_a_filter_over_every_event(store, seed):
    rng = random.Random(seed)
    insert = """INSERT INTO event (type, state, vm_id, subject, is_preemptible, time, data)
                VALUES (%s, 'x', %s, %s, %s, clock_timestamp(), '{}')"""
    rows = []
    for _ in range(150):
        vm = rng.randrange(5)
        rows.append((rng.choice(sorted(outbox.TYPES)), f"vm-{vm}", rng.choice((f"vm-{vm}", f"cloud-{vm}")), vm < 2))
        store.rows(insert, *rows[-1])
    kinds = [frozenset(some) for number in range(4) for some in itertools.combinations(sorted(outbox.TYPES), number)]
    for types, vm, preemptible in itertools.product(kinds, (None, "vm-1", "cloud-3"), (None, True, False)):
        since, limit, seen = rng.randrange(60), rng.choice((1, 7, 1000)), []
        wanted = [
            number
            for number, (kind, own, subject, preempts) in enumerate(rows, 1)
            if number > since
            and (not types or kind in types)
            and (vm is None or vm in (own, subject))
            and preemptible in (None, preempts)
        ]
        while since < len(rows):
            with db.reading():
                events, since = outbox.page(since, limit, types=types, vm=vm, preemptible=preemptible)
            seen += [event["data"]["seq"] for event in events]
        assert seen == wanted, (types, vm, preemptible)


def test_a_page_that_ends_early_says_up_to_which_seq_it_reaches(many, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_VM_EVENTS", 50)
    many.rows("UPDATE event SET subject = 'busy' WHERE seq <= 120")
    since, pages = 0, []
    while since < ROWS:
        with db.reading():
            events, since = outbox.page(since, 10, vm="busy", types={"delete"})
        pages.append((events, since))
    assert pages == [([], 50), ([], 100), ([], ROWS + 1)]


def test_a_page_of_the_record_reads_few_more_rows_than_it_returns(store):
    store.rows("""INSERT INTO eviction (vm_id, owner, reason, simulated, round, cost, optimal, planned_at, evict_at)
                  SELECT 'vm', 'anonymous', 'capacity', false, 0, '{}', true, now(), now()
                  FROM generate_series(1, 20000)""")
    store.rows("ANALYZE eviction")
    with db.reading():
        before = database.execute_sql(LOOKED_AT, ("eviction",)).fetchone()[0]
        assert not ledger.evictions(before=None, limit=100, reason="lifetime")
        assert database.execute_sql(LOOKED_AT, ("eviction",)).fetchone()[0] - before < 200


def test_a_reading_that_takes_too_long_is_given_up(store):
    del store
    began = time.monotonic()
    with pytest.raises(OperationalError):
        with db.reading(0.1):
            database.execute_sql("SELECT pg_sleep(5)")
    assert time.monotonic() - began < 3
    with db.reading():
        limit = database.execute_sql("SHOW statement_timeout").fetchone()[0]
    assert limit != "100ms", "of that reading alone"
