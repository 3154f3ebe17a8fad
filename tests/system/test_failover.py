"""A primary with a synchronous standby: when it dies under load, nothing that was answered is lost."""

import asyncio
import contextlib
import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError

from tests.system.client import until
from tests.system.standby import Pair
from vmsvc import bootstrap
from vmsvc.store import db, models


@pytest.fixture(name="pair", scope="module")
def fixture_pair():
    """A primary and a standby that follows; the test that ends the primary comes last."""
    pair = Pair()
    try:
        pair.start()
        yield pair
    finally:
        pair.standby.stop()
        pair.primary.stop()
        shutil.rmtree(pair.folder)


async def writing(client, answered, number, ended):
    """Create, and delete every third: what was answered is kept in `answered`, by the VM's id."""
    for count in itertools.count():
        if ended.is_set():
            return
        with contextlib.suppress(HTTPStreamClosedError, HTTPTimeoutError, OSError):
            headers = {"Idempotency-Key": f"{number}-{count}", "Prefer": "respond-async"}
            answer = await client.create(True, headers=headers)
            if answer.status == 202:
                vm_id = answer.headers["Location"].rpartition("/")[2]
                answered[vm_id] = "there"
                if count % 3 == 0 and (await client.delete(vm_id)).status in (200, 202):
                    answered[vm_id] = "deleted"
        await asyncio.sleep(0.02)


def test_a_commit_waits_for_its_standby_whatever_the_database_s_default_is(pair):
    bootstrap.migrate(pair.url)
    pair.database(pair.primary).command("ALTER DATABASE vmsvc SET synchronous_commit = local")
    connections = db.open_database(pair.url, 2)
    try:
        pair.standby.stop()
        with ThreadPoolExecutor(1) as thread:
            writing_one = thread.submit(_write)
            with pytest.raises(TimeoutError):
                writing_one.result(1)
            pair.standby.start()
            writing_one.result(20)
        assert pair.database(pair.standby).rows("SELECT id FROM deployment") == [{"id": "one"}]
    finally:
        connections.close_all()


def _write():
    with db.unit() as work:
        models.Deployment.create(id="one", created_at=work.now)


@pytest.mark.parametrize("hosts", [30])
@pytest.mark.gen_test(timeout=120)
async def test_a_primary_that_dies_under_load_loses_nothing_that_was_answered(pair, environ, new_process, sim):
    process = new_process({**environ, "VMSVC_DATABASE_URL": pair.url})
    client = await process.ready()
    answered, ended = {}, asyncio.Event()
    writers = [asyncio.ensure_future(writing(client, answered, number, ended)) for number in range(3)]
    await until(lambda: len(answered) > 12, "load", 30)
    await pair.lose_primary()
    before = dict(answered)
    ready = await client.call("GET", "/readyz")
    pair.promote()
    while ready.status != 200 or len(answered) < len(before) + 6:
        await asyncio.sleep(0.1)
        ready = await client.call("GET", "/readyz")
    ended.set()
    await asyncio.gather(*writers)
    now = pair.database(pair.standby)
    await until(lambda: not now.rows("SELECT 1 FROM intent WHERE done_at IS NULL"), "the end of what is under way", 60)
    states = {row["id"]: row["state"] for row in now.rows("SELECT id, state FROM vm")}
    assert answered.keys() <= states.keys()
    # The answer to a delete may have been lost with the primary.
    wrong = [
        vm_id
        for vm_id, what in answered.items()
        if states[vm_id] not in (("deleted",) if what == "deleted" else ("active", "deleted"))
    ]
    assert not wrong
    assert {row["seq"] for row in now.rows("SELECT seq FROM event")} == set(
        range(1, now.rows("SELECT max(seq) AS last FROM event")[0]["last"] + 1)
    )
    shown = {row["cloud_id"] for row in now.rows("SELECT cloud_id FROM vm WHERE state = 'active'")}
    assert sim.servers().keys() == shown, "no server is left over or lost"
    assert "Traceback" not in process.text()
