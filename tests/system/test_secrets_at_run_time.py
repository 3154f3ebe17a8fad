"""What goes wrong while the service runs, and what it then says: no secret, in log, answers, metrics and events."""

import json
import re
from pathlib import Path

import pytest

from tests.system.client import until
from tests.system.test_secrets import DATABASE, USER_DATA, answers_of
from vmsvc.service.identity import tokens

#: The beginning of every token of the cloud's.
CLOUD_TOKEN = "gAAAAA"
WISH = {"flavor": "m1.tiny", "user_data": USER_DATA}


@pytest.fixture(name="file")
def fixture_file(tmp_path):
    """Of tokens."""
    return tmp_path / "tokens"


@pytest.fixture(name="token")
def fixture_token(file):
    """A member's."""
    return tokens.add(file, "alice", "member")


@pytest.fixture(name="member")
def fixture_member(token):
    """How it is shown."""
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(name="log_format")
def fixture_log_format():
    """For people, unless a test says otherwise."""
    return "text"


@pytest.fixture(name="options")
def fixture_options(file, token, log_format):
    """Tokens are asked for."""
    del token
    return {"auth": "token", "token_file": file, "log_format": log_format}


async def assert_nothing_told(process, client, token, *said):
    """No secret is in the log, in what was said, or in what the service says now."""
    said = "\n".join([*said, *await answers_of(client.port, token)])
    secrets = (DATABASE, USER_DATA, USER_DATA[:20], "Hunter5", token, CLOUD_TOKEN)
    found = [
        (place, secret)
        for place, text in (("log", process.text()), ("answers", said))
        for secret in secrets
        if secret in text
    ]
    assert not found


async def unready(client):
    """What /readyz says as soon as something is wrong."""
    while (answer := await client.call("GET", "/readyz")).status == 200:
        await until(lambda: True)
    return json.dumps(answer.json)


async def ready(client):
    """Wait until nothing is wrong."""
    while (await client.call("GET", "/readyz")).status != 200:
        await until(lambda: True)


@pytest.mark.parametrize("log_format", ["json"])
@pytest.mark.gen_test(timeout=60)
async def test_a_cloud_that_repeats_what_it_was_sent_is_not_repeated_in_turn(new_process, environ, sim, token, member):
    process, said = new_process(environ), []
    client = await process.ready()
    for status in (400, 401, 403, 409, 418, 500):
        sim.fault(action="echo", status=status, method="POST", path="/servers$", count=2)
        answer = await client.create(True, headers=member | {"Prefer": "wait=1"}, **WISH)
        said.append(json.dumps(answer.json))
        sim.clear_faults()
    sim.fault(action="echo", status=500)
    said += [await unready(client), *await answers_of(client.port, token)]
    sim.clear_faults()
    await ready(client)
    await assert_nothing_told(process, client, token, *said)
    assert "***" in "".join(said)


@pytest.fixture(name="guarded")
def fixture_guarded(postgres):
    """A role that has to show a password, and its part of a URL."""
    (rules,) = [Path(row["hba_file"]) for row in postgres.rows("SHOW hba_file")]
    kept = rules.read_text(encoding="utf-8")
    rules.write_text(f"local all guarded scram-sha-256\n{kept}", encoding="utf-8")
    postgres.rows(f"CREATE ROLE guarded SUPERUSER LOGIN PASSWORD '{DATABASE}'; SELECT pg_reload_conf()")
    yield f"guarded:{DATABASE}"
    rules.write_text(kept, encoding="utf-8")
    postgres.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'guarded'")
    postgres.rows("DROP ROLE guarded; SELECT pg_reload_conf()")


@pytest.mark.gen_test(timeout=60)
async def test_a_database_that_takes_the_password_no_more_is_reported_without_it(
    new_process, environ, postgres, guarded, token, member
):
    url = re.sub("://[^@]*@", f"://{guarded}@", environ["VMSVC_DATABASE_URL"])
    process, said = new_process(environ | {"VMSVC_DATABASE_URL": url}), []
    client = await process.ready()
    assert (await client.create(True, headers=member, **WISH)).status == 201
    for change, back in (
        (f"PASSWORD 'not {DATABASE}'", f"PASSWORD '{DATABASE}'"),
        ("NOLOGIN", "LOGIN"),
        ("CONNECTION LIMIT 0 NOSUPERUSER", "CONNECTION LIMIT -1 SUPERUSER"),
    ):
        postgres.command(f"ALTER ROLE guarded {change}")
        postgres.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'guarded'")
        said += [await unready(client), *await answers_of(client.port, token)]
        postgres.command(f"ALTER ROLE guarded {back}")
        await ready(client)
    assert "password authentication failed" in process.text()
    await assert_nothing_told(process, client, token, *said)


@pytest.mark.gen_test(timeout=60)
async def test_a_token_file_that_cannot_be_read_lets_nobody_in_and_reports_nothing(
    new_process, environ, token, member, file
):
    process = new_process(environ)
    client = await process.ready()
    assert (await client.call("GET", "/api/v1/vm", headers=member)).status == 200
    kept, said = file.read_bytes(), []
    for spoil in (file.mkdir, lambda: file.write_text(f"alice {token}\n")):
        file.unlink()
        spoil()
        while (answer := await client.call("GET", "/api/v1/vm", headers=member)).status == 200:
            await until(lambda: True)
        assert answer.status == 401
        said += [json.dumps(answer.json), *await answers_of(client.port, token)]
        if file.is_dir():
            file.rmdir()
        file.write_bytes(kept)
        while (await client.call("GET", "/api/v1/vm", headers=member)).status != 200:
            await until(lambda: True)
    assert "the token file cannot be read" in process.text()
    await assert_nothing_told(process, client, token, *said)
