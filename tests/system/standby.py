"""A primary and its synchronous standby, made as docs/how-to/highly-available-database.md says."""

import os
import signal
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from tests.conftest import Database
from tests.system.client import until
from vmsvc.simulator.postgres import Postgres


class Pair:
    """Two servers on one machine. Both know the other's place, so that either may be the primary."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vmsvc-pair-"))
        self.primary, self.standby = Postgres(self.folder / "one"), Postgres(self.folder / "two")

    def start(self) -> None:
        """The primary, a copy of it as standby, and from then on no commit without the standby."""
        maintenance = Database(self.primary.start())
        # A killed server loses nothing by it: the machine goes on, and its kernel writes.
        maintenance.command("ALTER SYSTEM SET fsync = off")
        maintenance.command("CREATE DATABASE vmsvc")
        self._copy()
        self.standby.start()
        maintenance.command("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (standby)'")
        maintenance.rows("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 20
        while not maintenance.rows("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
            assert time.monotonic() < deadline, "the standby did not follow"
            time.sleep(0.05)

    def _copy(self) -> None:
        self.standby.folder.mkdir(mode=0o700)
        source = f"host={self.primary.data} user=vmsvc application_name=standby"
        self.primary._run(  # pylint: disable=protected-access
            "pg_basebackup",
            "-D",
            self.standby.data,
            "-d",
            source,
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        )
        for path in self.standby.data.glob(".s.PGSQL*"):  # the embedded server's socket lies with its data
            path.unlink()

    @property
    def url(self) -> str:
        """Of both: whoever takes changes is meant."""
        hosts = ",".join(quote(str(server.data)) for server in (self.primary, self.standby))
        return f"postgresql://vmsvc@/vmsvc?host={hosts}&target_session_attrs=read-write"

    def database(self, server: Postgres) -> Database:
        """The service's database, on one of the two."""
        return Database(f"postgresql://vmsvc@/vmsvc?host={quote(str(server.data))}")

    async def lose_primary(self) -> None:
        """As a power cut would."""
        pid = int((self.primary.data / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the primary")

    def promote(self) -> None:
        """The standby is the primary from now on, and waits for none."""
        self.database(self.standby).rows("SELECT pg_promote()")
