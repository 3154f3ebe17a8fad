"""The connections to the database, and who is told of what is committed through them."""

import datetime
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from playhouse.pool import PooledPostgresqlDatabase
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, connection


@dataclass(frozen=True, slots=True)
class Fact:
    """An event that was committed here, for those who count. `cause` is why the VM is or was to be evicted (capacity,
    lifetime, simulated; None: it was not), `at` the database's clock when its transaction began."""

    type: str
    state: str
    is_preemptible: bool
    cause: str | None
    at: datetime.datetime
    data: Mapping[str, Any]


class Pool(PooledPostgresqlDatabase):
    """`committed` is told of every event (in a thread of the pool)."""

    def __init__(self, *args: Any, committed: Callable[[Fact], None] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.committed = committed or (lambda fact: None)

    def _is_closed(self, conn: connection) -> bool:
        """Whether this idle connection is of no use. Peewee asks PostgreSQL each time, while all other threads wait
        for the pool: a third of all messages of a create. A server that has closed it, or died, has told the kernel so:
        nothing else makes an idle connection readable."""
        if conn.closed or conn.info.transaction_status != TRANSACTION_STATUS_IDLE:
            return True
        looks = select.poll()
        looks.register(conn.fileno(), select.POLLIN)
        return bool(looks.poll(0))
