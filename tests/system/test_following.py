"""The event stream of both clients, over kills of the service; `tests.chaos.following` does it for longer."""

import random

import pytest

from tests.system.client_forms import FORMS, client_of
from tests.system.following import follow_over_kills
from vmsvc.client import HistoryGone


@pytest.mark.gen_test(timeout=90)
async def test_clients_hear_each_event_once_in_order_though_the_service_is_killed(new_process, environ):
    found, events = await follow_over_kills(new_process, environ, 2, random.Random(1))
    assert not found and events > 10


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.gen_test(timeout=60)
async def test_a_client_is_told_when_the_history_is_gone(form, new_process, environ, database):
    process = new_process(environ)
    client = await process.ready()
    await client.delete((await client.create(True)).id)
    process.kill()
    database.rows("DELETE FROM event WHERE seq <= 3")
    database.rows("UPDATE watermark SET removed_seq = 3")
    client = await new_process(environ).ready()
    follower = client_of(form, f"http://127.0.0.1:{client.port}")
    with pytest.raises(HistoryGone):
        async for _ in follower.events(1, patience=20):
            pass
    with pytest.raises(HistoryGone):
        async for _ in follower.history(1):
            pass
    await follower.close()
