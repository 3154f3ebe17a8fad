"""The OpenAPI document and the running service, held against each other: whoever writes a client from the document
alone meets no surprise."""

import asyncio
import os

import pytest

from tests.examples import examples
from tests.hostile import conformance
from tests.hostile.conformance import Caller
from tests.system import invariants
from tests.system.client import until
from vmsvc.service.identity import tokens

#: More find more: CONFORMANCE_EXAMPLES=200 CONFORMANCE_SEED=7 pytest tests/system/test_conformance.py
EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", examples(3, 5)))
#: What they would find is found without a token too; these are about who may do what. So the odd values of each field
#: are tried with a token only where all examples are.
FEWER = examples(5, max(1, EXAMPLES * 2 // 5))
FEWER_PHASES = [phase for phase in conformance.PHASES if phase != "coverage" or examples(0, 1)]
#: At least so many requests, of which the odd values are most.
AT_LEAST, AT_LEAST_FEWER = 300, 300 if "coverage" in FEWER_PHASES else 60
SEED = int(os.environ["CONFORMANCE_SEED"]) if "CONFORMANCE_SEED" in os.environ else None
SECONDS = 240 + 20 * EXAMPLES


@pytest.fixture(name="hosts")
def fixture_hosts():
    """So few that some requests find no room."""
    return 2


@pytest.fixture(name="options")
def fixture_options(auth, file):
    """No request waits for long, and none too many are refused."""
    return {"request_timeout": 2, "write_rate": 100_000, "read_rate": 100_000, "auth": auth, "token_file": file}


@pytest.fixture(name="file")
def fixture_file(tmp_path):
    """Of tokens."""
    return tmp_path / "tokens"


async def something(client, database, member=None):
    """There is something to look at: a standard VM, and a preemptible one that was told to go and then might stay."""
    headers = member.headers if member else {}
    made = [(await client.create(preemptible, headers=headers)).id for preemptible in (False, True)]
    practised = await client.call("POST", f"/api/v1/vm/{made[1]}/evict", {"notice_only": True}, headers)
    assert practised.status == 202
    await until(lambda: database.rows("SELECT seq FROM event WHERE state = 'reprieved'"), "the reprieve")
    return made


async def conforms(process, database, sim, caller=None, *, thorough=False):
    """Try everything; then the service must be as well as before."""
    client = process.client
    number, phases, least = (
        (EXAMPLES, conformance.PHASES, AT_LEAST) if thorough else (FEWER, FEWER_PHASES, AT_LEAST_FEWER)
    )
    outcome = await asyncio.to_thread(conformance.run, f"http://127.0.0.1:{client.port}", number, caller, SEED, phases)
    assert not outcome.failures, "\n\n".join(outcome.failures)
    assert outcome.answers.total() > least
    for probe in ("/healthz", "/readyz"):
        assert (await client.call("GET", probe)).status == 200
    log = process.text()
    assert "Traceback" not in log and " ERROR " not in log, log
    await invariants.all_settled(database, sim, 60)
    invariants.check(database, sim)


@pytest.mark.parametrize("auth", ["none"])
@pytest.mark.gen_test(timeout=SECONDS)
async def test_the_service_is_what_its_document_says(new_process, environ, database, sim):
    process = new_process(environ)
    await something(await process.ready(), database)
    await conforms(process, database, sim, thorough=True)


@pytest.mark.parametrize("auth", ["token"])
@pytest.mark.gen_test(timeout=SECONDS)
async def test_with_tokens_it_is_so_too_and_nobody_gets_in_without_one(new_process, environ, database, sim, file):
    member, process = Caller(tokens.add(file, "alice", "member")), new_process(environ)
    await something(await process.ready(), database, member)
    await conforms(process, database, sim, member)


@pytest.mark.parametrize("auth", ["token"])
@pytest.mark.gen_test(timeout=SECONDS)
async def test_a_reader_sees_all_that_the_document_says_and_changes_nothing(new_process, environ, database, sim, file):
    member, reader = (Caller(tokens.add(file, role, role), may_write=role == "member") for role in ("member", "reader"))
    process = new_process(environ)
    made = await something(await process.ready(), database, member)
    told = database.rows("SELECT count(*) AS number FROM event")
    await conforms(process, database, sim, reader)
    assert sim.servers().keys() == set(made)
    assert database.rows("SELECT count(*) AS number FROM event") == told


@pytest.mark.parametrize("auth", ["keystone"])
@pytest.mark.parametrize("mode", ["tenant"])
@pytest.mark.gen_test(timeout=SECONDS)
async def test_with_keystones_tokens_it_is_so_too(new_process, environ, database, sim):
    sim.call("POST", "/sim/users", {"name": "mia", "project": "demo", "role": "member"})
    member, process = Caller(sim.token("mia", "demo"), by_keystone=True), new_process(environ)
    await something(await process.ready(), database, member)
    await conforms(process, database, sim, member)
