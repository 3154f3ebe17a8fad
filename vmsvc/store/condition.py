"""Is this a database that the service can work with? Looks, and changes nothing."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from peewee import PostgresqlDatabase
from playhouse.migrations import Runner

from vmsvc.store import db, vms
from vmsvc.store.models import Deployment, Vm

#: The oldest PostgreSQL that has all that we use, as `SHOW server_version_num` writes it.
OLDEST = 140000


@dataclass(frozen=True, slots=True)
class Condition:
    """What was found. `clock` is the database's; `pending` and `unknown` are names of migrations: still to be applied,
    and applied by a release newer than this one. `deployment` and `servers` (the cloud ids of VMs that should be
    there) are empty before the first start."""

    version: int
    release: str
    clock: datetime
    may_create: bool
    read_only: bool
    connections_left: int
    pending: tuple[str, ...]
    unknown: tuple[str, ...]
    deployment: str | None
    servers: frozenset[str]


def examine(url: str) -> Condition:
    """Connect and look. Raises one of `db.DATABASE_ERRORS` when nobody answers or the sign-in fails."""
    with _connected(url) as database:
        return _look(database)


def without_row(url: str, vm_ids: Collection[str]) -> frozenset[str]:
    """Those of these vmsvc ids that the database has never heard of. Raises as `examine` does."""
    with _connected(url):
        return frozenset(vm_ids) - {row.id for row in vms.of_ids(vm_ids)}


@contextmanager
def _connected(url: str) -> Iterator[PostgresqlDatabase]:
    database = db.open_database(url, 1)
    try:
        with database.connection_context():
            yield database
    finally:
        database.close_all()


def _look(database: PostgresqlDatabase) -> Condition:
    version, release, clock, may_create, read_only, left = database.execute_sql("""
        SELECT current_setting('server_version_num')::int, current_setting('server_version'), clock_timestamp(),
               coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), pg_is_in_recovery(),
               current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                   - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')""").fetchone()
    known = Runner(database, directory=str(Path(__file__).parent / "migrations")).status()
    pending = tuple(one.name for one in known if one.applied is None)
    unknown = tuple(one.name for one in known if one.path is None)
    started = not pending and Deployment.select().first()
    return Condition(version, release, clock, may_create, read_only, left, pending, unknown,
                     started.id if started else None, _servers() if started else frozenset())


def _servers() -> frozenset[str]:
    held = list(Vm.select(Vm.cloud_id).where(Vm.state.in_(("active", "noticed")), Vm.cloud_id.is_null(False)))
    return frozenset(row.cloud_id for row in held)
