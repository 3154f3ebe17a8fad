"""What a service process holds at a moment: if that grows, something leaks."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.fleet import Replica
from tests.conftest import Database


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a service process."""

    requests: int
    rss_mb: float
    threads: int
    descriptors: int
    tasks: int
    connections: int
    leases: int


async def sample_of(replica: Replica, database: Database, requests: int) -> Sample:
    """Look at it, after so many requests."""
    status = Path(f"/proc/{replica.pid}/status").read_text("ascii")
    exposed = await replica.client.text("/metrics")
    (counts,) = database.rows(
        """
        SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND
                application_name LIKE 'vmsvc%%') AS connections,
               (SELECT count(*) FROM intent WHERE done_at IS NULL AND lease_owner IS NOT NULL) AS leases
        WHERE %s""",
        True,
    )
    rss, threads = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads"))
    tasks = float(re.search(r"^vmsvc_tasks (\S+)", exposed, re.M)[1])
    return Sample(
        requests,
        rss / 1024,
        threads,
        len(os.listdir(f"/proc/{replica.pid}/fd")),
        int(tasks),
        counts["connections"],
        counts["leases"],
    )
