"""The defaults of a database, a role or a session are somebody else's: what we do must not depend on them."""

import threading
from contextlib import closing

import pytest

from tests.integration.conftest import new_vm, read, request
from vmsvc.domain.lifecycle import State
from vmsvc.service import usage
from vmsvc.store import db, intents, models, outbox, schema, vms
from vmsvc.store.db import Lock, connected, listen, reading, unit

#: Whatever a session may find set that could touch us, at its worst.
HOSTILE = {
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "250ms",
    "lock_timeout": "5ms",
    "idle_in_transaction_session_timeout": "300ms",
    "transaction_timeout": "400ms",
    "idle_session_timeout": "2s",
    "synchronous_commit": "off",
    "timezone": "Asia/Kathmandu",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "escape_string_warning": "on",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "row_security": "off",
    "quote_all_identifiers": "on",
    "check_function_bodies": "off",
    "client_min_messages": "debug1",
    "enable_indexscan": "off",
    "enable_seqscan": "off",
    "jit_above_cost": "0",
    "plan_cache_mode": "force_generic_plan",
    "search_path": '"$user", decoy, public',
}
NAME = "a\\'b\"% %s \\x25 ✂ 🐘"


@pytest.fixture(name="hostile")
def fixture_hostile(store):
    """The store on a database whose defaults are all bad, with a schema before ours that has tables of our names."""
    store.rows("CREATE SCHEMA decoy; CREATE TABLE decoy.vm (id text)")
    store.rows("CREATE SCHEMA vmsvc; CREATE TABLE vmsvc.event (id int)")
    for name, value in HOSTILE.items():
        literal = value if name == "search_path" else f"'{value}'"
        store.command(f"ALTER DATABASE test SET {name} = {literal}")
    pool = models.database.obj
    pool.close_all()  # the next connections find them
    with pool.connection_context():
        pool.use_schema(None)
        schema.locate(pool)
    yield store
    store.command("ALTER DATABASE test RESET ALL")
    store.rows("DROP SCHEMA decoy CASCADE; DROP SCHEMA vmsvc CASCADE")


def shown(*names):
    """What these settings are for the statement that asks."""
    columns = ", ".join(f"current_setting('{name}')" for name in names)
    return models.database.execute_sql(f"SELECT {columns}").fetchone()


@pytest.mark.parametrize(
    "context, level",
    [(unit, "read committed"), (reading, "repeatable read"), (connected, "read committed")],
    ids=["unit", "reading", "connected"],
)
def test_each_transaction_says_what_it_needs(hostile, context, level):
    names = (
        "transaction_isolation",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "transaction_timeout",
        "synchronous_commit",
        "timezone",
        "search_path",
    )
    with context():
        assert shown(*names) == (level, "20s", "10s", "30s", "0", "on", "UTC", '"public", "pg_temp"')
    assert hostile.rows("SHOW timezone") == [{"TimeZone": "Asia/Kathmandu"}]


def test_nothing_of_it_stays_in_the_session(hostile):
    """Behind a pooler the next who gets it is somebody else."""
    del hostile
    for context in (unit, reading, connected):
        with context():
            pass
    with models.database.connection_context():
        cursor = models.database.cursor()
        cursor.execute("SHOW timezone; SHOW statement_timeout")
        assert cursor.fetchone() == ("250ms",)
        cursor.execute("SHOW search_path")
        assert cursor.fetchone() == ('"$user", "decoy", "public"',)


def test_twenty_requests_at_once_are_all_accepted(hostile, threads):
    start = threading.Barrier(20)

    def accept(number):
        start.wait(10)
        with unit(Lock.SCHEDULER) as work:
            vm_id = vms.accept(
                work, f"vm-{number}", request(name=NAME), principal="anonymous", key=f"key {number % 10}"
            )
        with unit() as work:
            vm = vms.get(vm_id, lock=True)
            if vm.state == State.PENDING:
                vms.move(work, vm, State.BUILDING)
        return vm_id

    assert len(set(threads.map(accept, range(20)))) == 10
    with reading():
        assert [vm.name for vm in vms.current()] == [NAME] * 10
    assert hostile.rows("SELECT count(*) FROM public.vm") == [{"count": 10}]


def test_texts_times_and_numbers_come_back_as_they_went(hostile):
    vm = new_vm(name=NAME, boot={"user_data": NAME})
    assert (read(vm.id).name, read(vm.id).boot["user_data"]) == (NAME, NAME)
    assert vm.created_at.utcoffset().total_seconds() == 0
    with reading():
        (event,), _ = outbox.page(0, 10)
    assert event["data"]["vm"]["name"] == NAME and event["time"].endswith("Z")
    with unit() as work:
        intents.enqueue(work, intents.BOOT, vm.id, not_before=work.now)
    with reading():
        seconds = usage.over(1)
    assert len(seconds["evictions"]) == len(seconds["standard"])
    assert hostile.rows("SELECT abs(extract(epoch FROM now() - created_at)) < 60 AS new FROM public.vm") == [
        {"new": True}
    ]


def test_a_transaction_may_take_its_time_and_wait_for_a_lock(hostile, threads):
    vm = new_vm()
    locked, done = threading.Event(), threading.Event()

    def hold():
        with unit() as work:
            vms.move(work, vms.get(vm.id, lock=True), State.BUILDING)
            locked.set()
            done.wait(10)
            models.database.execute_sql("SELECT pg_sleep(0.5)")

    holding = threads.submit(hold)
    assert locked.wait(10)
    threading.Timer(0.5, done.set).start()
    with unit():
        assert vms.get(vm.id, lock=True).state == State.BUILDING
    holding.result(10)
    del hostile


def test_who_listens_is_not_cut_off_for_being_idle(hostile):
    with closing(listen(hostile.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW idle_session_timeout")
        assert cursor.fetchone() == ("0",)


def test_a_temporary_table_of_another_s_does_not_stand_before_ours(store):
    """Behind a pooler a session that we are given may have one."""
    pool = models.database.obj
    with pool.connection_context():
        schema.locate(pool)
        pool.cursor().execute("CREATE TEMPORARY TABLE vm (id text)")
    vm = new_vm()
    assert store.rows("SELECT id FROM vm") == [{"id": vm.id}]
    pool.close_all()


def test_a_schema_that_the_address_names_is_used_and_found_again(store):
    store.rows('CREATE SCHEMA "own one"')
    url = f"{store.url}&options=-csearch_path%3D%22own%5C%20one%22%20-c%20work_mem%3D5MB"
    try:
        for _ in range(2):
            pool = db.open_database(url, 2)
            schema.migrate(pool)
            vm_id = new_vm().id
            with connected():
                assert shown("work_mem") == ("5MB",)
            pool.close_all()
        assert [row["id"] for row in store.rows('SELECT id FROM "own one".vm ORDER BY created_at')][-1] == vm_id
        assert store.rows('SELECT count(*) FROM "own one".vm') == [{"count": 2}]
        assert store.rows("SELECT count(*) FROM public.vm") == [{"count": 0}]
    finally:
        store.rows('DROP SCHEMA "own one" CASCADE')
