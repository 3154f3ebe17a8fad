"""The kept list on a real PostgreSQL: what it asks for, and when it begins anew."""

import asyncio
import json

import pytest

from tests.integration.conftest import new_vm, read
from tests.unit.cloud.test_server_cache import Cloud
from vmsvc.cloud.cache.host_allocations import HostAllocations
from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.domain.errors import CloudUnavailable
from vmsvc.domain.lifecycle import State
from vmsvc.service.listing import list_cache as module
from vmsvc.service.listing.list_cache import ListCache
from vmsvc.service.runtime import Runtime
from vmsvc.store import outbox, vms
from vmsvc.store.db import reading, unit


class WorldCache:
    """A bulletin, and all that it looks at."""

    def __init__(self):
        self.cloud, self.bell, self.told, self.runtime = Cloud(), asyncio.Event(), 0, Runtime(4)
        self.server_cache = ServerCache(self.cloud, HostAllocations())
        self.bulletin = ListCache(self.runtime, self.server_cache, self.bell, lambda: self.told)
        self.reads = 0
        offload = self.runtime.offload

        async def counted(*call):
            self.reads += 1
            return await offload(*call)

        self.runtime.offload = counted

    async def ids(self):
        """What the list shows."""
        return [each["id"] for each in json.loads((await self.bulletin.page()).body)["servers"]]

    def put(self, name):
        """A server as the cloud shows it."""
        self.cloud.put(name, body={"id": name})


@pytest.fixture(name="desk")
def fixture_desk(store, io_loop):
    """On an empty database."""
    assert store

    async def made():
        return WorldCache()

    desk = io_loop.run_sync(made)
    yield desk
    io_loop.run_sync(desk.runtime.stop)


def active(name):
    """A VM whose server has this id, as another replica writes it down."""
    vm = new_vm()
    with unit() as work:
        vms.move(work, vm, State.BUILDING, cloud_id=name)
    building = read(vm.id)
    with unit() as work:
        vms.move(work, building, State.ACTIVE)


@pytest.mark.gen_test
async def test_while_nothing_changes_nothing_is_read(desk):
    desk.put("A")
    page = await desk.bulletin.page()
    assert [await desk.bulletin.page() for _ in range(5)] == [page] * 5
    assert (desk.reads, desk.cloud.whole) == (1, 1)


@pytest.mark.gen_test
async def test_a_ring_an_event_that_was_told_and_a_server_that_changed_make_it_anew(desk):
    new_vm()
    desk.bell.set()
    assert len(await desk.ids()) == 1 and not desk.bell.is_set()
    new_vm()
    with reading():
        desk.told = outbox.newest()
    assert len(await desk.ids()) == 2
    desk.put("A")
    await desk.server_cache.refresh()
    assert len(await desk.ids()) == 3


@pytest.mark.gen_test
async def test_whoever_asks_while_it_is_made_gets_one_that_was_read_after_he_asked(desk):
    await desk.ids()
    desk.bell.set()
    first = asyncio.ensure_future(desk.ids())
    await asyncio.sleep(0)  # it reads now
    new_vm()
    desk.bulletin.stale()
    others = await asyncio.gather(*(desk.ids() for _ in range(20)))
    assert [len(found) for found in others] == [1] * 20
    await first
    assert desk.reads == 3, "one for the first, one for all others"


@pytest.mark.gen_test
async def test_while_it_is_made_the_old_one_is_nobodys(desk):
    await desk.ids()
    new_vm()
    desk.bulletin.stale()
    first = asyncio.ensure_future(desk.ids())
    await asyncio.sleep(0)  # it reads now
    assert not desk.bell.is_set() and desk.bulletin.current() is None
    assert (len(await desk.ids()), len(await first)) == (1, 1)


@pytest.mark.gen_test
async def test_a_server_that_only_a_row_knows_is_looked_for_once(desk):
    assert await desk.ids() == []
    desk.put("A")
    active("A")
    desk.bell.set()
    assert await desk.ids() == ["A"], "the mirror was young enough, but not good enough"
    looks = []
    servers = desk.cloud.servers
    desk.cloud.servers = lambda since=None: looks.append(since) or servers(since)
    active("B")  # and the cloud does not show it
    for _ in range(5):
        desk.bell.set()
        assert await desk.ids() == ["A"]
    assert len(looks) == 1


@pytest.mark.gen_test
async def test_a_failure_costs_one_answer_and_a_reading_of_all(desk):
    desk.put("A")
    new_vm()
    assert len(await desk.ids()) == 2
    offload = desk.runtime.offload

    async def fails(*_call):
        raise CloudUnavailable("the database does not answer now")

    desk.runtime.offload = fails
    desk.bell.set()
    with pytest.raises(CloudUnavailable):
        await desk.ids()
    with pytest.raises(CloudUnavailable):
        await desk.ids()
    desk.runtime.offload = offload
    assert len(await desk.ids()) == 2


@pytest.mark.gen_test
async def test_what_nobody_asks_for_is_not_remembered_for_ever(desk, monkeypatch):
    monkeypatch.setattr(module, "_MANY", 2)
    assert await desk.ids() == []
    for name in "ABCDEF":
        desk.put(name)
        await desk.server_cache.refresh()
        desk.cloud.delete(name)
        await desk.server_cache.refresh()
    assert getattr(desk.bulletin, "_changes") is None and getattr(desk.bulletin, "_page") is None
    desk.put("Z")
    await desk.server_cache.refresh()
    assert await desk.ids() == ["Z"]
