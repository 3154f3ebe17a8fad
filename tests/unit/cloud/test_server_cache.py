"""The project's servers kept up to date: what is told of them, and at what cost."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from tests.unit.test_snapshot import server
from vmsvc.cloud.cache import server_cache as module
from vmsvc.cloud.cache.host_allocations import HostAllocations
from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import CLIENT, SERVICE, WORK_FOR, Occupant, OccupantPage, ServerPage, working_for
from vmsvc.domain.errors import CloudUnavailable, NotFound
from vmsvc.domain.resources import Resources
from vmsvc.domain.timing import Timing

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class Cloud:
    """Servers, and what changed since somebody looked."""

    mode = "operator"

    def __init__(self):
        self.all, self.changed, self.whole, self.asked = {}, [], 0, None

    def put(self, name, **fields):
        """A server comes or changes."""
        self.all[name] = server(name, **fields)
        self.changed.append(self.all[name])

    def delete(self, name):
        """A server goes."""
        self.changed.append(replace(self.all.pop(name), status="DELETED"))

    async def servers(self, changes_since=None):
        """All, or what changed."""
        self.whole += changes_since is None
        changed, self.changed = self.changed, []
        return ServerPage(tuple(self.all.values() if changes_since is None else changed), NOW)

    async def servers_and_occupants(self, changes_since):
        """What changed, and what others made."""
        self.asked = changes_since
        return await self.servers(changes_since), OccupantPage((Occupant("X", "ACTIVE", "h1", Resources()),), NOW)

    async def server(self, server_id):
        """One."""
        if server_id not in self.all:
            raise NotFound("gone")
        return self.all[server_id]


@pytest.fixture(name="cloud")
def fixture_cloud():
    """Two servers."""
    cloud = Cloud()
    for name in "AB":
        cloud.put(name)
    return cloud


@pytest.fixture(name="server_cache")
def fixture_server_cache(io_loop, cloud):
    """It has read them."""
    server_cache = ServerCache(cloud, HostAllocations(), Timing())
    io_loop.run_sync(server_cache.refresh)
    return server_cache


@pytest.mark.gen_test
async def test_take_changes_returns_the_servers_that_changed_since_the_last_call(cloud, server_cache):
    assert server_cache.take_changes() == cloud.all and not server_cache.take_changes()
    cloud.put("A", locked=True)
    cloud.put("C")
    cloud.delete("B")
    await server_cache.refresh()
    assert server_cache.take_changes() == {"A": cloud.all["A"], "B": None, "C": cloud.all["C"]}
    cloud.changed.append(cloud.all["A"])
    await server_cache.refresh()
    assert not server_cache.take_changes(), "it was shown again as it was"
    server_cache.forget("A")
    assert server_cache.take_changes() == {"A": None}


@pytest.mark.gen_test
async def test_a_watch_records_added_and_removed_servers(cloud, server_cache):
    with server_cache.watching() as first:
        cloud.put("C")
        await server_cache.refresh()
        with server_cache.watching() as second:
            cloud.delete("A")
            cloud.delete("C")
            await server_cache.refresh()
            assert (first.added, first.removed) == (set(), {"A"})
            assert (second.added, second.removed) == (set(), {"A", "C"})
        cloud.put("A")
        await server_cache.refresh()
        assert (first.added, first.removed) == (set(), set())
        assert second.removed == {"A", "C"}, "it is over"


@pytest.mark.gen_test
async def test_one_server_can_be_read_alone(cloud, server_cache):
    cloud.put("A", status="SHUTOFF")
    assert (await server_cache.read_server("A")).status == server_cache.servers["A"].status == "SHUTOFF"
    cloud.delete("B")
    assert await server_cache.read_server("B") is None and "B" not in server_cache.servers
    assert server_cache.take_changes().keys() == {"A", "B"}


@pytest.mark.gen_test
async def test_a_server_that_was_read_alone_equals_the_one_of_the_list(cloud, server_cache):
    shown = server_cache.servers["A"]
    cloud.put("A", body={**shown.body, "server_groups": []})
    await server_cache.read_server("A")
    assert server_cache.servers["A"] == shown


@pytest.mark.gen_test
async def test_a_list_that_began_before_a_get_does_not_restore_an_older_state(cloud, server_cache, monkeypatch):
    before, going = tuple(cloud.all.values()), asyncio.Event()

    async def servers(_since):
        await going.wait()
        return ServerPage(before, NOW)

    monkeypatch.setattr(cloud, "servers", servers)
    reading = asyncio.ensure_future(server_cache.refresh())
    await asyncio.sleep(0)
    cloud.put("A", status="SHUTOFF")
    looking = asyncio.ensure_future(server_cache.read_server("A"))
    await asyncio.sleep(0)
    going.set()
    await asyncio.gather(reading, looking)
    assert server_cache.servers["A"].status == "SHUTOFF"


@pytest.mark.gen_test
async def test_a_get_does_not_bring_back_a_server_that_a_later_list_shows_as_deleted(cloud, server_cache, monkeypatch):
    before, answered = cloud.all["A"], asyncio.Event()

    async def server_then(_server_id):
        await answered.wait()
        return before

    monkeypatch.setattr(cloud, "server", server_then)
    looking = asyncio.ensure_future(server_cache.read_server("A"))
    await asyncio.sleep(0)
    cloud.delete("A")
    await server_cache.refresh()
    answered.set()
    await looking
    assert "A" not in server_cache.servers


@pytest.mark.gen_test
async def test_the_changes_of_all_projects_are_one_list_that_reaches_back_as_far_as_either_needs(cloud, server_cache):
    waiting = asyncio.ensure_future(server_cache.wait_for("C", lambda shown: shown is not None, 10))
    await asyncio.sleep(0)
    cloud.put("C")
    others = await server_cache.servers_and_occupants(NOW - timedelta(seconds=9))
    assert [occupant.id for occupant in others.occupants] == ["X"]
    assert server_cache.servers.keys() == {"A", "B", "C"} and (await waiting).id == "C"
    assert cloud.asked == NOW - timedelta(seconds=9)
    await server_cache.servers_and_occupants(NOW + timedelta(seconds=9))
    assert cloud.asked == NOW


@pytest.mark.gen_test
async def test_the_whole_list_costs_a_page_a_minute_however_many_servers_there_are(cloud, server_cache, monkeypatch):
    clock = SimpleNamespace(now=module.time.monotonic())
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    for number in range(2500):
        cloud.put(f"S{number}")
    await server_cache.refresh()
    assert cloud.whole == 1
    for _ in range(60):
        clock.now += 10
        await server_cache.refresh()
    assert cloud.whole == 1 + 3


@pytest.mark.gen_test
async def test_a_waiter_returns_with_the_first_read_that_shows_the_server_ready(cloud, server_cache):
    waiting = asyncio.ensure_future(server_cache.wait_for("A", lambda shown: shown.status == "SHUTOFF", 10))
    await asyncio.sleep(0)
    await server_cache.refresh()
    await asyncio.sleep(0)
    assert not waiting.done()
    cloud.put("A", status="SHUTOFF")
    await server_cache.refresh()
    assert (await waiting).status == "SHUTOFF"


@pytest.mark.gen_test
async def test_a_read_from_before_the_wait_does_not_end_it(cloud, server_cache):
    waiting = asyncio.ensure_future(server_cache.wait_for("A", lambda shown: True, 10))
    await asyncio.sleep(0)
    assert not waiting.done()
    await server_cache.refresh()
    assert (await waiting) == cloud.all["A"]


@pytest.mark.gen_test
async def test_a_wait_that_times_out_returns_the_server_as_it_is(cloud, server_cache):
    assert await server_cache.wait_for("A", lambda shown: False, 0.01) == cloud.all["A"]
    assert await server_cache.wait_for("C", lambda shown: False, 0) is None


@pytest.mark.parametrize("took, pause", [(0.01, 0.05), (0.4, 0.4), (5, 1)])
def test_a_cloud_that_answers_slowly_is_asked_less_often_but_every_second(
    io_loop, cloud, server_cache, monkeypatch, took, pause
):
    clock = SimpleNamespace(now=module.time.monotonic() + 9)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))

    async def servers(_since):
        clock.now += took
        return ServerPage((), NOW)

    monkeypatch.setattr(cloud, "servers", servers)
    io_loop.run_sync(server_cache.refresh)
    assert server_cache.pause == pytest.approx(pause)


@pytest.mark.gen_test
async def test_a_thousand_callers_that_cancel_share_one_read_of_the_service_s_own(cloud, server_cache, monkeypatch):
    asked, going = [], asyncio.Event()

    async def servers(_since):
        asked.append(WORK_FOR.get())
        await going.wait()
        return ServerPage((), NOW)

    monkeypatch.setattr(cloud, "servers", servers)
    server_cache.read_at -= 2
    with working_for(CLIENT):
        for _ in range(100):
            gone = [asyncio.ensure_future(server_cache.refresh(1.0)) for _ in range(10)]
            await asyncio.sleep(0)
            for one in gone:
                one.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
        last = asyncio.ensure_future(server_cache.refresh(1.0))
    going.set()
    await last
    await server_cache.refresh(1.0)
    assert asked == [SERVICE]


@pytest.mark.gen_test
async def test_a_cloud_that_is_away_is_read_once_for_all_callers_within_a_second(cloud, server_cache, monkeypatch):
    asked = []

    async def servers(_since):
        asked.append(1)
        await asyncio.sleep(0)
        raise CloudUnavailable("away")

    monkeypatch.setattr(cloud, "servers", servers)
    server_cache.read_at -= 2
    for _ in range(5):
        failed = await asyncio.gather(*(server_cache.refresh(1.0) for _ in range(100)), return_exceptions=True)
        assert {type(error) for error in failed} == {CloudUnavailable}
    assert len(asked) == 1
    with pytest.raises(CloudUnavailable):
        await server_cache.refresh()
    assert len(asked) == 2, "who wants to know it as it is now asks again"


@pytest.mark.gen_test
async def test_a_read_that_began_too_early_and_failed_fails_no_later_caller(cloud, server_cache, monkeypatch):
    answers = [asyncio.Event(), asyncio.Event()]
    left = iter(answers)

    async def servers(_since):
        mine = next(left)
        await mine.wait()
        if mine is answers[0]:
            raise CloudUnavailable("away")
        return ServerPage((), NOW)

    monkeypatch.setattr(cloud, "servers", servers)
    early = asyncio.ensure_future(server_cache.refresh())
    await asyncio.sleep(0.01)
    late = asyncio.ensure_future(server_cache.refresh())
    await asyncio.sleep(0)
    for answer in answers:
        answer.set()
    with pytest.raises(CloudUnavailable):
        await early
    await late


@pytest.mark.gen_test
async def test_who_observes_is_called_when_all_servers_are_shown_as_of_one_moment(cloud, server_cache, monkeypatch):
    moments = []
    server_cache.on_moment(lambda: moments.append({*server_cache.servers}))
    cloud.put("C")
    await server_cache.read_server("C")
    assert not moments, "one server was read by itself"
    await server_cache.refresh()
    assert moments == [{"A", "B", "C"}]
    paged = cloud.servers

    async def in_pages(changes_since=None):
        return replace(await paged(changes_since), at_once=False)

    monkeypatch.setattr(cloud, "servers", in_pages)
    cloud.delete("A")
    await server_cache.refresh()
    assert len(moments) == 1, "its pages are as of different moments"
    monkeypatch.undo()
    cloud.put("D")
    await server_cache.refresh()
    assert moments[1:] == [{"B", "C", "D"}]
