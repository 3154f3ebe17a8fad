"""The schema: find it, apply the migrations, and compare it with the models.

A database that a development version made, or somebody changed by hand, can have all migrations on record and still not
be what this release works with. A start says so in words, before it serves anything.
"""
# pylint: disable=protected-access; a model's `_meta` is public in Peewee's documentation

import contextlib
import logging
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg2
from peewee import Model, PeeweeException
from playhouse.migrations import Migration, Runner

from vmsvc.store import queries
from vmsvc.store.db import DATABASE_ERRORS, Lock, reading
from vmsvc.store.models import MODELS, TRIGGERS
from vmsvc.store.pool import Pool
from vmsvc.store.queries import LOCK_SPACE

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
#: Where the runner remembers what it has applied.
HISTORY = "schema_migration"
#: Seconds that a process waits for another one's migrations, how often it checks them, and how often it logs that it
#: waits.
PATIENCE, _LOOK_SECONDS, _SAY_SECONDS = 300.0, 0.5, 10.0
#: The order in which transactions come to the tables, as far as they write to several: a create begins with its key.
LOCK_ORDER = (
    "webhook",
    "delivery",
    "idempotency",
    "lineage",
    "vm",
    "intent",
    "reservation",
    "cooldown",
    "request_class",
    "eviction",
    "evidence",
    "ticket",
    "event",
)
#: Milliseconds that one statement of a migration may take: a large table gets an index in minutes.
_STATEMENT_LIMIT = 900000

#: What PostgreSQL calls the types of Peewee's fields. A new kind of field needs a line here.
_TYPES = {
    "AUTO": "integer",
    "BIGAUTO": "bigint",
    "INT": "integer",
    "BIGINT": "bigint",
    "BOOL": "boolean",
    "TEXT": "text",
    "JSONB": "jsonb",
    "TIMESTAMPTZ": "timestamp with time zone",
    "DOUBLE": "double precision",
    "FLOAT": "real",
}


class Unfit(Exception):
    """The service cannot work with this database; the message says why, and what to do."""


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Raise Unfit for what PostgreSQL refuses for good (a right that is missing, say); `DATABASE_ERRORS` stay as they
    are."""
    try:
        yield
    except DATABASE_ERRORS:
        raise
    except (PeeweeException, psycopg2.Error) as error:
        raise Unfit(f"the database cannot be used: {' '.join(str(error).partition('LINE ')[0].split())}") from None


class Difference(NamedTuple):
    """One difference between the database and the models. `name` is the table, column, index or trigger, as migrations
    write it; of an index that a migration may call otherwise, `table` is whose it is."""

    name: str
    words: str
    table: str = ""


class Index(NamedTuple):
    """An index of a table, by what matters of it. `partial`: it holds a part of the rows alone."""

    table: str
    columns: tuple[str, ...]
    unique: bool
    partial: bool

    def __str__(self) -> str:
        return (
            f"{'unique ' * self.unique}index on {self.table} ({', '.join(self.columns)})"
            f"{' for a part of the rows' * self.partial}"
        )


def locate(db: Pool) -> str:
    """The schema that has our tables: where the migrations' history is, or else the first of `search_path`. From now on
    each transaction of this pool names it. Raises Unfit when there is none."""
    if db.schema is None:
        found, path, database = db.execute_sql(queries.LOCATE, {"history": HISTORY}).fetchone()
        if found is None:
            raise Unfit(
                f"in the database {database} there is no schema of those that search_path names ({path}): "
                "CREATE SCHEMA, or ALTER ROLE … SET search_path"
            )
        db.use_schema(found)
        return str(found)
    return db.schema


def migrations(db: Pool) -> list[Migration]:
    """Those that this release has and those on record; `applied` is None for what is still to be done, `path` for what
    this release does not know."""
    return list(Runner(db, directory=str(MIGRATIONS)).status())


@in_words()
def migrate(db: Pool, patience: float = PATIENCE) -> list[str]:
    """Bring the schema up to date, one process at a time, and compare it with the models; returns the names of what
    was applied. All of it is one transaction: what is refused changes nothing.

    Raises Unfit, also when another process has not come to an end with its own after `patience` seconds.
    """
    started = said = time.monotonic()
    with db.connection_context():
        schema = locate(db)
        while True:
            with reading():
                if not _pending(db):
                    _require_same(db)
                    return []
            with db.atomic(isolation_level="READ COMMITTED"):
                db.execute_sql(f"{db.settings}; SET LOCAL statement_timeout = {_STATEMENT_LIMIT}")
                if db.execute_sql("SELECT pg_try_advisory_xact_lock(%s, %s)", (LOCK_SPACE, Lock.MIGRATE)).fetchone()[0]:
                    return _apply(db, schema)
            now = time.monotonic()
            if now - started >= patience:
                raise Unfit(
                    f"another process brings the schema up to date since {patience:.0f} s ({_holder(db)}); "
                    "look at what it does, or end it"
                )
            if now - said >= _SAY_SECONDS or said == started:
                said = now
                log.info(
                    "database: another process brings the schema up to date (%s); waiting for %.0f s more",
                    _holder(db),
                    patience - (now - started),
                )
            time.sleep(_LOOK_SECONDS)


def _pending(db: Pool) -> list[Migration]:
    return [one for one in migrations(db) if one.applied is None]


def _apply(db: Pool, schema: str) -> list[str]:
    """Apply the pending migrations, in a transaction that holds the lock, and compare. Returns their names. Raises
    Unfit."""
    user, may_create = db.execute_sql("SELECT current_user, has_schema_privilege(%s, 'CREATE')", (schema,)).fetchone()
    if _pending(db) and not may_create:
        raise Unfit(f"the user {user} may not create tables: GRANT CREATE ON SCHEMA {schema} TO {user}")
    if _pending(db):
        _lock_tables(db, schema)
    applied = Runner(db, directory=str(MIGRATIONS)).up()
    _require_same(db)
    return list(applied)


def _lock_tables(db: Pool, schema: str) -> None:
    """Lock all tables before a migration changes any. Otherwise a migration that has locked one and needs another could
    deadlock with a transaction of the previous release that has locked the other and needs the one."""
    there = set(db.get_tables(schema))
    tables = [table for table in LOCK_ORDER if table in there]
    if tables:
        db.execute_sql(f"LOCK TABLE {', '.join(tables)}")


def _holder(db: Pool) -> str:
    """Who holds the lock, in words."""
    found = db.execute_sql(queries.HOLDER, {"space": LOCK_SPACE, "lock": Lock.MIGRATE}).fetchone()
    if not found:
        return "it has just ended"
    pid, program, machine = found
    return f"process {pid} of PostgreSQL, {program} from {machine}"


def _require_same(db: Pool) -> None:
    found = list(differences(db))
    if found:
        raise Unfit(refusal(found))


def refusal(found: Sequence[Difference]) -> str:
    """Why a schema is refused, and what to do."""
    return (
        f"its schema is not this release's: {'; '.join(difference.words for difference in found)}. A development "
        "version made it, or somebody changed it. Restore a backup that a release made, or name an empty database "
        "(docs/how-to/runbook.md, 'The schema is refused')"
    )


def unmended(found: Sequence[Difference], pending: Sequence[Migration]) -> list[Difference]:
    """The differences whose names no pending migration contains: applying the migrations removes the others, as far as
    can be told without applying them."""
    text = " ".join(Path(one.path).read_text(encoding="utf-8") for one in pending)
    words = set(re.findall(r"\w+", text))
    indexed = set(re.findall(r"\bINDEX\b[^;]*?\bON (\w+)", text))
    return [difference for difference in found if difference.name not in words and difference.table not in indexed]


def differences(db: Pool) -> Iterator[Difference]:
    """The differences between a database and the models, in the caller's transaction. What the database has in addition
    belongs to a newer release and is no difference, unless it keeps us from writing our rows."""
    columns: dict[str, dict[str, tuple[str, bool, bool]]] = {}
    for table, name, kind, required, filled in db.execute_sql(queries.COLUMNS).fetchall():
        columns.setdefault(table, {})[name] = kind, required, filled
    indexes = [
        Index(table, tuple(of), unique, partial)
        for table, unique, partial, of in db.execute_sql(queries.INDEXES).fetchall()
    ]
    for model in MODELS:
        table = _table(model)
        if table in columns:
            yield from _columns(model, columns[table])
            yield from _indexes(model, indexes)
        else:
            yield Difference(table, f"the table {table} is missing")
    triggers = set(db.execute_sql(queries.TRIGGERS).fetchall())
    for table, name in TRIGGERS - triggers:
        yield Difference(name, f"the trigger {name} on {table} is missing or disabled")
    ours = set(map(_table, MODELS))
    for (table,) in db.execute_sql(queries.WITHOUT_RIGHTS).fetchall():
        if table in ours:
            yield Difference("", f"its user may not read and write {table} (GRANT SELECT, INSERT, UPDATE, DELETE)")


def _table(model: type[Model]) -> str:
    return str(model._meta.table_name)


def _columns(model: type[Model], found: dict[str, tuple[str, bool, bool]]) -> Iterator[Difference]:
    meta = model._meta
    fields = {field.column_name: field for field in meta.sorted_fields}
    for name, field in fields.items():
        if name not in found:
            yield Difference(name, f"{meta.table_name}.{name} is missing")
            continue
        kind, required, filled = found[name]
        if kind != _TYPES[field.field_type]:
            yield Difference(name, f"{meta.table_name}.{name} is {kind}, not {_TYPES[field.field_type]}")
        if required == field.null:
            yield Difference(name, f"{meta.table_name}.{name} may {'not ' * required}be null")
        if field.field_type in ("AUTO", "BIGAUTO") and not filled:
            yield Difference(name, f"{meta.table_name}.{name} is not numbered by itself")
    for name in found.keys() - fields.keys():
        _, required, filled = found[name]
        if required and not filled:
            yield Difference(name, f"{meta.table_name}.{name} is not ours, and has no default")


def _indexes(model: type[Model], found: Sequence[Index]) -> Iterator[Difference]:
    for name, wanted in wanted_indexes(model):
        if not any(_serves(index, wanted) for index in found):
            yield Difference(name, f"the {wanted} is missing", wanted.table)


def _serves(index: Index, wanted: Index) -> bool:
    """True when the index does the work of the wanted one. A unique index has to be equal; any other may have further
    columns at its end, or cover more rows."""
    if wanted.unique:
        return index == wanted
    return (
        index.table == wanted.table
        and index.columns[: len(wanted.columns)] == wanted.columns
        and (wanted.partial or not index.partial)
    )


def wanted_indexes(model: type[Model]) -> Iterator[tuple[str, Index]]:
    """Each index that the model has, with its name."""
    meta = model._meta
    if meta.primary_key is not False:
        yield f"{meta.table_name}_pkey", Index(meta.table_name, (meta.primary_key.column_name,), True, False)
    for index in meta.fields_to_index():
        names = tuple(field.column_name for field in index._expressions)
        yield index._name, Index(meta.table_name, names, bool(index._unique), index._where is not None)
