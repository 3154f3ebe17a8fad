"""What the runbook tells an operator to do, done as it is written there."""

import json
import re
from pathlib import Path

import pytest

from tests.system.client import API, until

RUNBOOK = Path(__file__).parents[2] / "RUNBOOK.md"


def statements(section):
    """The SQL that a section gives to psql."""
    text = RUNBOOK.read_text("utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r'-c "([^"]+)"', text)


async def ends(process):
    """An orderly end."""
    process.tell_to_stop()
    await process.exit_status()


@pytest.mark.gen_test(timeout=90)
async def test_after_a_backup_was_restored_no_server_is_deleted_and_no_client_misses_an_event(new_process, environ,
                                                                                             database, sim):
    process = new_process(environ)
    client = await process.ready()
    (kept,) = await client.fill(1)
    (backup,) = database.rows("SELECT max(seq) AS seq FROM event")
    forgotten = (await client.create(True)).id
    seen = (await client.call("GET", f"{API}/vm")).json["seq"]
    await ends(process)
    database.rows(f"DELETE FROM event WHERE seq > {backup['seq']}")
    database.rows(f"DELETE FROM vm WHERE cloud_id = '{forgotten}'")
    for statement in statements("The database is lost"):
        database.rows(statement)

    client = await new_process(environ).ready()
    old = await client.channel(f"?since={seen}")
    assert await old.read_message() is None and old.close_code == 4009
    old.close()
    listed = (await client.call("GET", f"{API}/vm")).json
    new = await client.channel(f"?since={listed['seq']}")
    assert (await client.delete(kept)).status == 200
    told = [json.loads(await new.read_message())["data"] for _ in range(2)]
    assert [(event["state"], event["vm"]["id"]) for event in told] == [("deleting", kept), ("deleted", kept)]
    assert told[0]["seq"] == listed["seq"] + 1 > seen
    new.close()
    left_over = (await client.create(True)).id
    database.rows(f"DELETE FROM vm WHERE cloud_id = '{left_over}'")
    await until(lambda: left_over not in sim.servers(), "the left-over server's end", 40)
    assert sim.servers().keys() == {forgotten}
