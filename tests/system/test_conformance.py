"""The OpenAPI document and the running service, held against each other: whoever writes a client from the document
alone meets no surprise."""

import asyncio
import os
import subprocess
import sys

import pytest

from tests.hostile import conformance
from tests.system import invariants

#: More find more: CONFORMANCE_EXAMPLES=200 CONFORMANCE_SEED=7 pytest tests/system/test_conformance.py
EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "5"))
SEED = int(os.environ["CONFORMANCE_SEED"]) if "CONFORMANCE_SEED" in os.environ else None
SECONDS = 240 + 20 * EXAMPLES


@pytest.fixture(name="hosts")
def fixture_hosts():
    """So few that some requests find no room."""
    return 2


async def conforms(process, database, sim, token=None):
    """Try everything; then the service must be as well as before."""
    client = await process.ready()
    outcome = await asyncio.to_thread(conformance.run, f"http://127.0.0.1:{client.port}", EXAMPLES, token, SEED)
    assert not outcome.failures, "\n\n".join(outcome.failures)
    assert outcome.requests > 300
    for probe in ("/healthz", "/readyz"):
        assert (await client.call("GET", probe)).status == 200
    log = process.text()
    assert "Traceback" not in log and " ERROR " not in log, log
    await invariants.all_settled(database, sim, 60)
    invariants.check(database, sim)


@pytest.mark.parametrize("options", [{"request_timeout": 2, "write_rate": 100_000}])
@pytest.mark.gen_test(timeout=SECONDS)
async def test_the_service_is_what_its_document_says(new_process, environ, database, sim):
    await conforms(new_process(environ), database, sim)


@pytest.mark.parametrize("options", [{"request_timeout": 2, "write_rate": 100_000, "auth": "token"}])
@pytest.mark.gen_test(timeout=SECONDS)
async def test_with_tokens_it_is_so_too_and_nobody_gets_in_without_one(new_process, environ, database, sim, tmp_path):
    environ = environ | {"VMSVC_TOKEN_FILE": str(tmp_path / "tokens")}
    made = subprocess.run([sys.executable, "-m", "vmsvc", "token", "new", "--name", "alice", "--role", "member"],
                          env={**os.environ, **environ}, capture_output=True, text=True, check=True)
    await conforms(new_process(environ), database, sim, made.stdout.split()[-1])
