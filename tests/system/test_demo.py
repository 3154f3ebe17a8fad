"""The demo: it tells its story with its own VMs, and leaves nothing behind."""

import pytest

from vmsvc import demo


def told(capsys) -> str:
    """What it has said."""
    return capsys.readouterr().out


@pytest.fixture(name="sooner", autouse=True)
def fixture_sooner(monkeypatch):
    """Look again soon."""
    monkeypatch.setattr(demo, "_LOOK_SECONDS", 0.05)


@pytest.mark.gen_test(timeout=60)
async def test_it_fills_asks_evicts_creates_and_deletes_and_leaves_nothing(client, capsys):
    await demo.play(f"http://127.0.0.1:{client.port}/", 2, 0, 64)
    story = told(capsys)
    assert story.count("filling the room with 4 ") == story.count("is active; 4 were evicted") == 2
    steps = [(event["type"], event["data"]["state"]) for event in await client.events()]
    assert steps.count(("evict", "evicted")) == 8
    assert await client.listed() == {}


@pytest.mark.gen_test(timeout=60)
async def test_it_evicts_nobody_else(client, capsys):
    theirs = [(await client.create(True)).json["vm"]["id"] for _ in range(4)]
    await demo.play(f"http://127.0.0.1:{client.port}", 1, 0, 64)
    assert "VMs that this demo did not make would go" in told(capsys)
    assert list(await client.listed()) == theirs
    assert not [event for event in await client.events() if event["type"] == "evict"]
    for vm_id in theirs:
        await client.delete(vm_id)


@pytest.mark.gen_test(timeout=60)
async def test_without_a_service_it_says_so_in_words(io_loop):
    del io_loop
    with pytest.raises(demo.DemoFailed, match="no vmsvc answers at http://127.0.0.1:1/api/v1"):
        await demo.play("http://127.0.0.1:1", 1, 0, 1)
