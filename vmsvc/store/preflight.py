"""Which databases a start refuses, and why. Reads only; `prepare` alone waits, and applies migrations."""

import logging
import re
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from vmsvc.store import db, queries, schema, vms
from vmsvc.store.models import Deployment, Vm
from vmsvc.store.pool import Pool
from vmsvc.store.schema import Unfit

log = logging.getLogger(__name__)

#: The oldest PostgreSQL that has all that we use, as `SHOW server_version_num` writes it.
OLDEST = 140000
#: Seconds that a start waits for a database that is away or takes no changes, and between its tries.
PATIENCE, _AGAIN_SECONDS = 60.0, 2.0
#: Seconds without an answer after which a line is logged.
_SAY_SECONDS = 10.0
#: Errors of a connection that do not pass by waiting.
_LASTING = re.compile(
    r"authentication|pg_hba|does not exist|permitted to log in|permission denied|no password "
    r"supplied|certificate|SSL|no such (user|database)|invalid",
    re.IGNORECASE,
)


#: What `queries.SERVER` answers.
_OF_SERVER = (
    "version",
    "release",
    "encoding",
    "replication_role",
    "user",
    "schema",
    "clock",
    "may_create",
    "standby",
    "read_only",
    "connections_left",
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found. `clock` is the database's; `pending` and `unknown` are names of migrations: still to be applied,
    and applied by a release newer than this one. `encoding` is that of texts; `replication_role` says whether triggers
    run; `refusal` says why this release cannot work with the schema, however many migrations are applied (None: it
    can). `deployment` and `servers` (the cloud ids of VMs that should be there) are empty before the first start."""

    version: int
    release: str
    encoding: str
    replication_role: str
    user: str
    schema: str
    clock: datetime
    may_create: bool
    standby: bool
    read_only: bool
    connections_left: int
    pending: tuple[str, ...]
    unknown: tuple[str, ...]
    refusal: str | None
    deployment: str | None
    servers: frozenset[str]


@schema.in_words()
def examine(url: str) -> Findings:
    """Connect and read. Raises Unfit, or one of `db.DATABASE_ERRORS` when nobody answers or the sign-in fails."""
    with _connected(url) as database:
        return _look(database)


def reasons_to_refuse(known: Findings) -> Iterator[str]:
    """Why the service cannot work with the database, in sentences. What may pass by itself: `reason_to_wait`."""
    if known.version < OLDEST:
        yield f"it is PostgreSQL {known.release}; 14 or newer is needed"
    if known.encoding != "UTF8":
        yield (
            f"its encoding is {known.encoding}, which cannot hold every name; UTF8 is needed: CREATE DATABASE vmsvc "
            "ENCODING 'UTF8' TEMPLATE template0"
        )
    if known.replication_role != "origin":
        yield (
            f"session_replication_role is {known.replication_role} for its user, so that no trigger runs: ALTER "
            f"ROLE {known.user} RESET session_replication_role"
        )
    if known.pending and not known.may_create:
        yield f"its user may not create tables: GRANT CREATE ON SCHEMA {known.schema} TO {known.user}"
    if known.refusal:
        yield known.refusal


def reason_to_wait(known: Findings) -> str | None:
    """Why the database takes no changes now, as a sentence; None when it takes them. That may pass by itself."""
    if known.standby:
        return "it is a standby, which takes no writes; name the primary"
    if known.read_only:
        return "default_transaction_read_only is on for it or its user: it takes no changes"
    return None


def prepare(url: str, patience: float = PATIENCE) -> list[str]:
    """Wait until the database takes changes, check that the service can work with it, and bring its schema up to date;
    returns the names of the migrations that were applied. Raises Unfit, also when the database is not ready after
    `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            known = _examine_aloud(url)
            # What pending migrations mend is a guess, and `migrate` compares before it commits.
            guess = known.refusal if known.pending else None
            if found := [trouble for trouble in reasons_to_refuse(known) if trouble != guess]:
                raise Unfit(f"the database cannot be used: {'; '.join(found)}")
            reason = reason_to_wait(known)
            if reason is None:
                return _migrated(url)
        except db.DATABASE_ERRORS as error:
            reason = " ".join(str(error).split())
            if not patience or _LASTING.search(reason):
                raise Unfit(f"the database cannot be used: {reason}") from None
        left = deadline - time.monotonic()
        if left <= 0:
            waited = f"did not become ready within {patience:.0f} s" if patience else "cannot be used"
            raise Unfit(f"the database {waited}: {reason}")
        log.warning("database: not ready yet, trying for %.0f s more: %s", left, reason)
        time.sleep(min(_AGAIN_SECONDS, left))


def _examine_aloud(url: str) -> Findings:
    """Examine, and log a line when that takes long: a pooler without a free connection keeps us waiting, by default for
    two minutes."""
    late = threading.Timer(_SAY_SECONDS, log.warning, ("database: no answer for %.0f s yet; waiting on", _SAY_SECONDS))
    late.start()
    try:
        return examine(url)
    finally:
        late.cancel()
        late.join()  # replicas are forked later on


def _migrated(url: str) -> list[str]:
    database = db.open_database(url, 1)
    try:
        return schema.migrate(database)
    finally:
        database.close_all()


def hears(url: str, listen_url: str) -> bool:
    """True when a notification sent at `url` reaches a connection that listens at `listen_url`. Raises as `examine`
    does."""
    with _connected(url):
        try:
            db.listen(listen_url).close()
        except db.NotificationsLost:
            return False
        return True


def without_row(url: str, vm_ids: Collection[str]) -> frozenset[str]:
    """Those of these vmsvc ids that have no row. Raises as `examine` does."""
    with _connected(url) as database:
        schema.locate(database)
        return frozenset(vm_ids) - {row.id for row in vms.of_ids(vm_ids)}


@contextmanager
def _connected(url: str) -> Iterator[Pool]:
    database = db.open_database(url, 1)
    try:
        with database.connection_context():
            yield database
    finally:
        database.close_all()


def _look(database: Pool) -> Findings:
    schema.locate(database)
    with db.reading():
        found = database.execute_sql(queries.SERVER).fetchone()
        known = schema.migrations(database)
        pending = tuple(one for one in known if one.applied is None)
        different = schema.differences(database) if len(pending) < len(known) else []
        different = schema.unmended(list(different), pending)
        started = not pending and not different and Deployment.select().first()
        return Findings(
            **dict(zip(_OF_SERVER, found)),
            pending=tuple(one.name for one in pending),
            unknown=tuple(one.name for one in known if one.path is None),
            refusal=schema.refusal(different) if different else None,
            deployment=started.id if started else None,
            servers=_servers() if started else frozenset(),
        )


def _servers() -> frozenset[str]:
    held = list(Vm.select(Vm.cloud_id).where(Vm.state.in_(("active", "noticed")), Vm.cloud_id.is_null(False)))
    return frozenset(row.cloud_id for row in held if row.cloud_id)
