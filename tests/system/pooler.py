"""A pgbouncer in front of a server."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

#: No start-up parameter is ignored: what it does not know it refuses, as it does unless its owner says otherwise.
CONFIGURATION = """
[databases]
* = host={socket} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = 30
logfile = {folder}/log
"""


class Pooler:
    """It, in one of its modes."""

    def __init__(self, process: subprocess.Popen, folder: Path, port: int, user: str):
        self._process, self._folder, self._port, self._user = process, folder, port, user

    def url(self, name: str) -> str:
        """Of a database through it."""
        return f"postgresql://{self._user}@127.0.0.1:{self._port}/{name}"

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """It neither answers nor hangs up."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """What it wrote."""
        return (self._folder / "log").read_text(encoding="utf-8")


@contextlib.contextmanager
def pooler(server_url: str, mode: str) -> Iterator[Pooler]:
    """One in front of the server of this URL."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        missing = "pgbouncer is missing: apt-get install pgbouncer"
        (pytest.fail if os.environ.get("TESTS_REQUIRE_ALL") else pytest.skip)(missing)
    parts = urlsplit(server_url)
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-pooler-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "users").write_text(f'"{parts.username}" ""\n', encoding="utf-8")
    (folder / "ini").write_text(
        CONFIGURATION.format(
            socket=parse_qs(parts.query)["host"][0], user=parts.username, port=port, folder=folder, mode=mode
        ),
        encoding="utf-8",
    )
    # It refuses root as PostgreSQL does.
    prefix = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"] if os.geteuid() == 0 else []
    with subprocess.Popen([*prefix, program, "-q", str(folder / "ini")]) as process:
        try:
            deadline = time.monotonic() + 10
            while True:
                with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert time.monotonic() < deadline and process.poll() is None, "pgbouncer did not start"
                time.sleep(0.02)
            yield Pooler(process, folder, port, parts.username)
        finally:
            process.terminate()
            process.wait(10)
            shutil.rmtree(folder)
