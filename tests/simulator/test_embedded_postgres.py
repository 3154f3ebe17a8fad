"""The embedded PostgreSQL: data survive restarts, and several processes on one folder share one server."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg2
import pytest

from vmsvc.simulator.postgres import Postgres, PostgresFailed

USER = """
import sys, psycopg2
from pathlib import Path
from vmsvc.simulator.postgres import Postgres
server = Postgres(Path(sys.argv[1]))
url = server.start()
print(url, flush=True)
sys.stdin.readline()
server.stop()
"""


@pytest.fixture(name="folder")
def fixture_folder():
    """A folder with a short path for a server. A server that the test leaves running is stopped."""
    path = Path(tempfile.mkdtemp(prefix="vmsvc-pg-"))
    yield path
    if (path / "postgres" / "postmaster.pid").exists():  # a test that failed left it running
        last = Postgres(path)
        last.start()
        last.stop()
    shutil.rmtree(path)


def query(url, text):
    """Run one statement in a connection of its own."""
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


def user(folder):
    """Start a process that uses the server of a folder: it prints the URL, and stops when its stdin has a line."""
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def leave(process):
    """Have such a process stop in order, and wait for its end."""
    process.communicate("go\n", timeout=30)
    assert process.returncode == 0


def test_data_survive_a_stop_and_a_start(folder):
    first = Postgres(folder)
    query(first.start(), "CREATE TABLE kept AS SELECT 42 AS answer")
    first.stop()
    second = Postgres(folder)
    assert query(second.start(), "SELECT answer FROM kept") == [(42,)]
    second.stop()


def test_processes_that_start_at_once_share_one_server(folder):
    processes = [user(folder) for _ in range(4)]
    urls = {process.stdout.readline() for process in processes}
    assert len(urls) == 1
    url = urls.pop().strip()
    assert query(url, "SELECT count(*) FROM pg_database WHERE datname = 'postgres'") == [(1,)]
    for process in processes[:3]:
        leave(process)
    assert query(url, "SELECT 1") == [(1,)], "the server must live as long as anybody uses it"
    leave(processes[3])
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(url)


def test_a_killed_user_leaves_a_server_that_the_next_one_takes_over_and_stops(folder):
    victim = user(folder)
    url = victim.stdout.readline().strip()
    query(url, "CREATE TABLE kept AS SELECT 7 AS answer")
    victim.kill()
    victim.communicate()
    successor = Postgres(folder)
    assert query(successor.start(), "SELECT answer FROM kept") == [(7,)]
    successor.stop()
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(url)


def test_a_pid_file_that_names_another_process_does_not_hinder_the_start(folder):
    first = Postgres(folder)
    first.start()
    first.stop()
    (first.data / "postmaster.pid").write_text(f"1\n{first.data}\n0\n5432\n{first.data}\n\n\n", encoding="utf-8")
    assert query(first.start(), "SELECT 1") == [(1,)]
    first.stop()


def test_a_folder_with_a_long_path_works(folder):
    deep = folder / ("d" * 60) / ("e" * 60)
    server = Postgres(deep)
    assert query(server.start(), "SELECT 1") == [(1,)]
    server.stop()


def _a_link(path):
    other = path.with_name(path.name + "-other")
    other.mkdir(mode=0o700)
    path.symlink_to(other)


def _open_to_others(path):
    path.mkdir()
    path.chmod(0o770)


def _another_users(path):
    if os.geteuid() == 0:  # only root can give a folder to another user
        path.mkdir(mode=0o700)
        os.chown(path, 12345, 12345)
    else:
        path.symlink_to("/etc")


@pytest.mark.parametrize("make", [_a_link, _open_to_others, _another_users, Path.touch])
def test_a_socket_folder_that_others_may_have_made_is_refused(folder, monkeypatch, make):
    shared = folder / "shared"
    shared.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    deep = folder / ("d" * 60) / ("e" * 60)
    server = Postgres(deep)
    url = server.start()
    (place,) = shared.iterdir()
    assert str(place) in url and place.stat().st_mode & 0o7777 == 0o700
    server.stop()
    place.rmdir()
    make(place)
    with pytest.raises(PostgresFailed, match="VMSVC_DATA_DIR"):
        Postgres(deep).start()


def test_a_folder_that_cannot_be_used_is_reported_in_words(folder):
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text("9\n", encoding="utf-8")
    with pytest.raises(PostgresFailed, match="VMSVC_DATABASE_URL"):
        Postgres(folder).start()
    shutil.rmtree(folder / "postgres")
