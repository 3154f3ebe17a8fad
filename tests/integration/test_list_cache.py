"""The list cache on a real PostgreSQL: what it reads, and when it makes the list anew."""

import asyncio
import json

import pytest

from tests.integration.conftest import new_vm, read
from tests.unit.cloud.test_server_cache import Cloud
from vmsvc.cloud.cache.host_allocations import HostAllocations
from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.domain.errors import CloudUnavailable
from vmsvc.domain.lifecycle import State
from vmsvc.domain.timing import Timing
from vmsvc.service.listing import list_cache as module
from vmsvc.service.listing.list_cache import ListCache
from vmsvc.service.runtime import Runtime
from vmsvc.store import outbox, vms
from vmsvc.store.db import reading, unit


class CachedList:
    """A list cache, and all that it reads."""

    def __init__(self):
        self.cloud, self.wakeup, self.published_seq, self.runtime = Cloud(), asyncio.Event(), 0, Runtime(Timing(), 4)
        self.server_cache = ServerCache(self.cloud, HostAllocations(), Timing())
        self.list_cache = ListCache(self.runtime, self.server_cache, self.wakeup, lambda: self.published_seq)
        self.reads = 0
        offload = self.runtime.offload

        async def counted(*call):
            self.reads += 1
            return await offload(*call)

        self.runtime.offload = counted

    async def ids(self):
        """What the list shows."""
        return [each["id"] for each in json.loads((await self.list_cache.page()).body)["servers"]]

    def put(self, name):
        """A server as the cloud shows it."""
        self.cloud.put(name, body={"id": name})


@pytest.fixture(name="cached")
def fixture_cached(store, io_loop):
    """On an empty database."""
    assert store

    async def made():
        return CachedList()

    cached = io_loop.run_sync(made)
    yield cached
    io_loop.run_sync(cached.runtime.stop)


def active(name):
    """A VM whose server has this id, as another replica writes it down."""
    vm = new_vm()
    with unit() as work:
        vms.move(work, vm, State.BUILDING, cloud_id=name)
    building = read(vm.id)
    with unit() as work:
        vms.move(work, building, State.ACTIVE)


@pytest.mark.gen_test
async def test_while_nothing_changes_nothing_is_read(cached):
    cached.put("A")
    page = await cached.list_cache.page()
    assert [await cached.list_cache.page() for _ in range(5)] == [page] * 5
    assert (cached.reads, cached.cloud.whole) == (1, 1)


@pytest.mark.gen_test
async def test_a_notification_a_published_event_and_a_changed_server_make_the_list_anew(cached):
    new_vm()
    cached.wakeup.set()
    assert len(await cached.ids()) == 1 and not cached.wakeup.is_set()
    new_vm()
    with reading():
        cached.published_seq = outbox.newest()
    assert len(await cached.ids()) == 2
    cached.put("A")
    await cached.server_cache.refresh()
    assert len(await cached.ids()) == 3


@pytest.mark.gen_test
async def test_a_client_that_asks_while_the_list_is_made_gets_one_that_was_read_later(cached):
    await cached.ids()
    cached.wakeup.set()
    first = asyncio.ensure_future(cached.ids())
    await asyncio.sleep(0)  # it reads now
    new_vm()
    cached.list_cache.invalidate()
    others = await asyncio.gather(*(cached.ids() for _ in range(20)))
    assert [len(found) for found in others] == [1] * 20
    await first
    assert cached.reads == 3, "one for the first, one for all others"


@pytest.mark.gen_test
async def test_while_the_list_is_made_no_client_gets_the_old_one(cached):
    await cached.ids()
    new_vm()
    cached.list_cache.invalidate()
    first = asyncio.ensure_future(cached.ids())
    await asyncio.sleep(0)  # it reads now
    assert not cached.wakeup.is_set() and cached.list_cache.current() is None
    assert (len(await cached.ids()), len(await first)) == (1, 1)


@pytest.mark.gen_test
async def test_servers_are_read_once_for_a_server_that_only_a_row_names(cached):
    assert await cached.ids() == []
    cached.put("A")
    active("A")
    cached.wakeup.set()
    assert await cached.ids() == ["A"], "the server cache was young enough, but lacked the server"
    reads_of_servers = []
    servers = cached.cloud.servers
    cached.cloud.servers = lambda since=None: reads_of_servers.append(since) or servers(since)
    active("B")  # and the cloud does not show it
    for _ in range(5):
        cached.wakeup.set()
        assert await cached.ids() == ["A"]
    assert len(reads_of_servers) == 1


@pytest.mark.gen_test
async def test_after_a_failure_everything_is_read_again(cached):
    cached.put("A")
    new_vm()
    assert len(await cached.ids()) == 2
    offload = cached.runtime.offload

    async def fails(*_call):
        raise CloudUnavailable("the database does not answer now")

    cached.runtime.offload = fails
    cached.wakeup.set()
    with pytest.raises(CloudUnavailable):
        await cached.ids()
    with pytest.raises(CloudUnavailable):
        await cached.ids()
    cached.runtime.offload = offload
    assert len(await cached.ids()) == 2


@pytest.mark.gen_test
async def test_changes_are_forgotten_while_no_client_asks(cached, monkeypatch):
    monkeypatch.setattr(module, "_MAX_CHANGES", 2)
    assert await cached.ids() == []
    for name in "ABCDEF":
        cached.put(name)
        await cached.server_cache.refresh()
        cached.cloud.delete(name)
        await cached.server_cache.refresh()
    assert getattr(cached.list_cache, "_changes") is None and getattr(cached.list_cache, "_page") is None
    cached.put("Z")
    await cached.server_cache.refresh()
    assert await cached.ids() == ["Z"]
