"""What keeps a start from working is told in one line, with status 2, and without a traceback."""

import contextlib
import os
import signal
import subprocess
import sys

import psycopg2
import pytest

from tests.conftest import Database
from tests.system.client import until
from tests.system.processes import output_of
from vmsvc.store import preflight

SECRET = "Zx9Qw7"


@pytest.fixture(name="run")
def fixture_run(environ):
    """`status, out, err = await run("check", VMSVC_…="…")` of a process of its own."""

    async def run(*arguments, seconds=30, **changes):
        own = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environ, **changes}
        status, out, err = await output_of(*arguments, environ=own, seconds=seconds)
        assert "Traceback" not in out + err
        return status, out, err

    return run


@contextlib.contextmanager
def made(postgres, name, how=""):
    """A database made in this way."""
    postgres.command(f"CREATE DATABASE {name} {how}")
    try:
        yield postgres.url.replace("/postgres?", f"/{name}?")
    finally:
        postgres.command(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("job", ["serve", "check", "migrate"])
@pytest.mark.gen_test(timeout=60)
async def test_a_url_that_cannot_be_read_is_a_settings_error_without_a_character_of_the_password(run, job):
    status, out, err = await run(job, VMSVC_DATABASE_URL=f"postgresql://u:x/{SECRET}@h/d")
    assert status == 2 and err.startswith("vmsvc: VMSVC_DATABASE_URL: it is no address of a PostgreSQL")
    assert len(err.splitlines()) == 1 and not out
    assert not any(SECRET[at : at + 3] in err for at in range(4))


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
@pytest.mark.gen_test(timeout=60)
async def test_a_database_whose_encoding_does_not_hold_every_name_is_refused(run, postgres, encoding):
    with made(postgres, "narrow", f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0") as url:
        status, _, err = await run("serve", VMSVC_DATABASE_URL=url)
        assert status == 2 and f"its encoding is {encoding}" in err and "ENCODING 'UTF8'" in err
        status, out, _ = await run("check", VMSVC_DATABASE_URL=url)
        assert status == 1 and f"its encoding is {encoding}" in out
        assert not Database(url).rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")


@pytest.mark.parametrize("replicas", ["1", "2"])
@pytest.mark.gen_test(timeout=60)
async def test_a_role_that_may_not_create_is_refused_with_the_right_that_it_lacks(run, postgres, replicas):
    with made(postgres, "closed") as url:
        postgres.rows("CREATE ROLE weak LOGIN")
        try:
            status, _, err = await run(
                "serve", VMSVC_DATABASE_URL=url.replace("//vmsvc@", "//weak@"), VMSVC_REPLICAS=replicas
            )
            assert status == 2 and "GRANT CREATE ON SCHEMA public TO weak" in err
        finally:
            postgres.rows("DROP ROLE weak")


@pytest.mark.gen_test(timeout=60)
async def test_a_role_without_rights_on_the_tables_is_refused_with_the_reason(run, database, postgres):
    postgres.rows("CREATE ROLE weak LOGIN")
    try:
        status, _, err = await run("migrate", VMSVC_DATABASE_URL=database.url.replace("//vmsvc@", "//weak@"))
        assert (status, err) == (
            2,
            "vmsvc: the database cannot be used: permission denied for table schema_migration\n",
        )
    finally:
        postgres.rows("DROP ROLE weak")


@pytest.mark.gen_test(timeout=90)
async def test_a_data_folder_that_cannot_be_used_is_reported_by_name(run, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for job, status, folder in (
        ("serve", 2, tmp_path / "file"),
        ("check", 1, tmp_path / "file" / "below"),
        ("serve", 2, "/sys/vmsvc"),
    ):
        got, out, err = await run(job, VMSVC_DATABASE_URL="", VMSVC_DATA_DIR=str(folder))
        assert got == status, (job, folder, out, err)
        assert f"the data folder {folder} cannot be used" in out + err


@pytest.mark.parametrize("job", ["check", "openapi", "--help"])
def test_a_reader_that_leaves_is_no_defect(environ, job):
    with subprocess.Popen(
        [sys.executable, "-m", "vmsvc", job],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        complaint = process.stderr.read().decode()
        process.wait(30)
    assert complaint == "" and process.returncode in (0, 128 + signal.SIGPIPE)


@pytest.mark.gen_test(timeout=60)
async def test_an_embedded_database_is_checked_where_it_lies_and_while_a_service_uses_it(run, new_process, tmp_path):
    folder = tmp_path / "data"
    status, out, _ = await run("check", VMSVC_DATABASE_URL="", VMSVC_DATA_DIR=str(folder))
    assert status == 0 and "will be made" in out and not folder.exists()
    status, out, _ = await run("migrate", VMSVC_DATABASE_URL="", VMSVC_DATA_DIR=str(folder))
    assert status == 0 and "0001_initial" in out
    assert not (folder / "postgres" / "postmaster.pid").exists()
    status, out, _ = await run("check", VMSVC_DATABASE_URL="", VMSVC_DATA_DIR=str(folder))
    assert status == 0 and "the schema is up to date" in out
    assert not (folder / "postgres" / "postmaster.pid").exists()
    process = new_process({"VMSVC_DATA_DIR": str(folder), "VMSVC_PORT": "0"})
    client = await process.ready()
    pid = (folder / "postgres" / "postmaster.pid").read_text(encoding="utf-8")
    url = f"postgresql://vmsvc@/postgres?host={folder / 'postgres'}"
    Database(url).rows("ALTER TABLE ticket DROP COLUMN credential")
    status, out, _ = await run("check", VMSVC_DATABASE_URL="", VMSVC_DATA_DIR=str(folder))
    assert status == 1 and "ticket.credential is missing" in out and "docs/how-to/runbook.md" in out
    assert (folder / "postgres" / "postmaster.pid").read_text(encoding="utf-8") == pid
    assert (await client.call("GET", "/healthz")).status == 200
    process.tell_to_stop()
    assert await process.exit_status() == 0
    status, _, err = await run("serve", VMSVC_DATABASE_URL="", VMSVC_DATA_DIR=str(folder))
    assert status == 2 and "ticket.credential is missing" in err


@pytest.mark.gen_test(timeout=60)
async def test_a_database_that_comes_late_is_waited_for_and_that_is_said(new_process, environ, postgres, database):
    name = database.rows("SELECT current_database() AS name")[0]["name"]
    postgres.command(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        process = new_process(environ)
        await until(lambda: "not ready yet, trying for" in process.text(), "the line that says so")
        stopped = new_process(environ)
        await until(lambda: "not ready yet, trying for" in stopped.text(), "the line of another")
        stopped.tell_to_stop()
        assert await stopped.exit_status() == 0
    finally:
        postgres.command(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    client = await process.ready()
    assert (await client.call("GET", "/readyz")).status == 200
    assert "Traceback" not in process.text() + stopped.text()


def test_what_no_waiting_mends_is_not_waited_for_and_the_rest_not_for_ever(postgres):
    with pytest.raises(preflight.Unfit, match="does not exist"):
        preflight.prepare(postgres.url.replace("/postgres?", "/nowhere?"))
    with pytest.raises(preflight.Unfit, match="did not become ready within 0 s: .*refused"):
        preflight.prepare("postgresql://u@127.0.0.1:1/d", patience=0.1)
    with pytest.raises(preflight.Unfit, match="cannot be used: .*refused"):
        preflight.prepare("postgresql://u@127.0.0.1:1/d", patience=0)


@pytest.mark.gen_test(timeout=60)
async def test_a_database_that_takes_no_changes_is_reported_as_that(run, database):
    name = database.rows("SELECT current_database() AS name")[0]["name"]
    database.command(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(preflight.Unfit, match="default_transaction_read_only is on"):
        preflight.prepare(database.url, patience=0.1)
    status, out, _ = await run("check")
    assert status == 1 and "default_transaction_read_only is on" in out
    with psycopg2.connect(database.url) as connection, connection.cursor() as cursor:
        cursor.execute("SET transaction_read_only = off")
        cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    connection.close()
