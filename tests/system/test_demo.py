"""The demo: it tells its story with its own VMs, and leaves nothing behind."""

import io

import pytest

from vmsvc import demo
from vmsvc.service.identity import tokens


def printed(capsys) -> str:
    """What it has said."""
    return capsys.readouterr().out


@pytest.fixture(name="sooner", autouse=True)
def fixture_sooner(monkeypatch):
    """Look again soon."""
    monkeypatch.setattr(demo, "_WAIT_SECONDS", 0.05)


@pytest.mark.gen_test(timeout=60)
async def test_it_fills_asks_evicts_creates_and_deletes_and_leaves_nothing(client, capsys):
    await demo.play(f"http://127.0.0.1:{client.port}/", 2, 0, 64)
    story = printed(capsys)
    assert story.count("filling the room with 4 ") == story.count("is active; 4 were evicted") == 2
    steps = [(event["type"], event["data"]["state"]) for event in await client.events()]
    assert steps.count(("evict", "evicted")) == 8
    assert await client.listed() == {}


@pytest.mark.parametrize("number", [4, 2], ids=["all the room", "some of it"])
@pytest.mark.gen_test(timeout=60)
async def test_where_others_have_the_capacity_it_says_so_and_what_to_do_and_evicts_no_vm(client, capsys, number):
    theirs = [(await client.create(True, priority=-1)).json["vm"]["id"] for _ in range(number)]
    with pytest.raises(demo.DemoFailed, match="make empty"):
        await demo.play(f"http://127.0.0.1:{client.port}", 0, 0, 64)
    assert f"there are {number} VMs that this demo did not make, and room for {4 - number} of m1.tiny" in printed(
        capsys
    )
    assert sorted(await client.listed()) == sorted(theirs)
    assert not [event for event in await client.events() if event["type"] == "evict"]
    for vm_id in theirs:
        await client.delete(vm_id)


class TestWithTokens:
    """Where the service asks who comes."""

    @pytest.fixture(name="file")
    def fixture_file(self, tmp_path):
        """Of tokens."""
        return tmp_path / "tokens"

    @pytest.fixture(name="token")
    def fixture_token(self, file):
        """A member's."""
        return tokens.add(file, "alice", "member")

    @pytest.fixture(name="options")
    def fixture_options(self, file, token):
        """It asks."""
        assert token
        return {"auth": "token", "token_file": file}

    @pytest.mark.gen_test(timeout=60)
    async def test_it_shows_its_token_and_without_one_says_which_to_name(self, client, token, capsys):
        url = f"http://127.0.0.1:{client.port}"
        with pytest.raises(demo.DemoFailed, match="VMSVC_TOKEN"):
            await demo.play(url, 1, 0, 64)
        await demo.play(url, 1, 0, 64, token)
        assert "is active; 4 were evicted" in printed(capsys)
        await demo.empty(url, token)
        assert "no VM that vmsvc made" in printed(capsys)


@pytest.mark.gen_test(timeout=60)
async def test_the_cloud_is_emptied_of_what_the_service_made_when_somebody_says_yes(
    client, sim, project, monkeypatch, capsys
):
    foreign, url = sim.foreign(project)[0], f"http://127.0.0.1:{client.port}"
    await client.fill(2)
    assert (await client.create(False)).status == 201
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))  # no terminal
    with pytest.raises(demo.DemoFailed, match="3 VMs that vmsvc made at .* will be deleted.*YES=1"):
        await demo.empty(url)
    assert len(sim.servers()) == 4
    await demo.empty(url, sure=True)
    assert "all of them are deleted" in printed(capsys)
    assert list(sim.servers()) == [foreign]


@pytest.mark.gen_test(timeout=60)
async def test_without_a_service_it_says_so_in_words(io_loop):
    del io_loop
    with pytest.raises(demo.DemoFailed, match="no vmsvc answers at http://127.0.0.1:1/api/v1"):
        await demo.play("http://127.0.0.1:1", 1, 0, 1)
