"""Hosts kept up to date: which calls are made for it, and when."""

import asyncio
from collections import Counter
from datetime import UTC, datetime

import pytest

from vmsvc.cloud.cache import host_cache as module
from vmsvc.cloud.cache.host_allocations import HostAllocations
from vmsvc.cloud.cache.host_cache import HostCache
from vmsvc.cloud.port import ComputeService, Content, Occupant, OccupantPage, Provider
from vmsvc.domain.errors import CloudUnavailable, NotFound
from vmsvc.domain.flavors import Traits
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.domain.timing import Timing

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SMALL = Resources({"VCPU": 1})


class Cloud:
    """The calls of operator mode, counted. `held` is what Placement would say, by host."""

    mode = "operator"

    def __init__(self, hosts):
        self.calls = Counter()
        self.read = []
        self.held = {f"h{number}": {} for number in range(hosts)}
        self.versions = dict.fromkeys(self.held, 1)
        self.down, self.gone, self.news, self.having = set(), set(), [], {}
        self.away = False

    def _called(self, name):
        self.calls[name] += 1
        if self.away:
            raise CloudUnavailable("away")

    async def providers(self):
        """The list, without the hosts that are gone."""
        self._called("providers")
        return tuple(
            Provider(f"id-{name}", name, (f"id-{name}", f"gpu-{name}"), self.versions[name])
            for name in self.held
            if name not in self.gone
        )

    async def services(self):
        """All up but some."""
        self._called("services")
        return {name: ComputeService(name not in self.down, True, "nova") for name in self.held}

    async def content(self, provider):
        """What a host has now."""
        self._called("content")
        self.read.append(provider.host)
        if provider.host in self.gone:
            raise NotFound("gone")
        return Content({"VCPU": Inventory(4)}, self.held[provider.host], self.versions[provider.host])

    async def holders(self, provider):
        """Who holds what there now."""
        self._called("holders")
        if provider.host in self.gone:
            raise NotFound("gone")
        return self.held[provider.host]

    async def occupants(self, changes_since):
        """What is new, once."""
        self._called("occupants")
        assert changes_since == NOW
        page, self.news = tuple(self.news), []
        return OccupantPage(page, NOW)

    async def providers_with_capacity(self, room, _traits):
        """Whoever has so many VCPUs left by Placement's own reckoning."""
        self._called("roomy")
        return frozenset(
            f"id-{name}"
            for name, held in self.held.items()
            if 4 - sum(each["VCPU"] for each in held.values()) >= room["VCPU"]
        )

    async def providers_with_trait(self, trait):
        """Whoever has it."""
        self._called("with_trait")
        if trait not in self.having:
            raise NotFound(trait)
        return self.having[trait]


@pytest.fixture(name="cloud")
def fixture_cloud():
    """Fifty hosts."""
    return Cloud(50)


@pytest.fixture(name="clock")
def fixture_clock(monkeypatch):
    """Time that goes on when it is told to."""

    class Clock:
        """In seconds."""

        now = 1000.0

        def monotonic(self):
            """As time.monotonic()."""
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "_STEP_SECONDS", 0)
    return clock


@pytest.fixture(name="host_cache")
def fixture_host_cache(io_loop, cloud, clock):
    """A host cache that has read everything."""
    assert clock.now
    host_cache = HostCache(cloud, HostAllocations(), Timing())
    io_loop.run_sync(lambda: host_cache.start(NOW))
    return host_cache


@pytest.mark.gen_test
async def test_until_the_hosts_were_read_the_cloud_counts_as_away(cloud, clock):
    assert clock.now
    host_cache = HostCache(cloud, HostAllocations(), Timing())
    with pytest.raises(CloudUnavailable):
        await host_cache.refresh(0)
    await host_cache.start(NOW)
    await host_cache.refresh(0)


async def live(host_cache, clock, seconds):
    """Let the loop go on for so long; a round of it takes a second, without the waiting."""
    end = clock.now + seconds

    def mark_ready():
        clock.now += 1
        if clock.now >= end:
            raise StopAsyncIteration

    with pytest.raises(StopAsyncIteration):
        await host_cache.run(mark_ready)


@pytest.mark.gen_test
async def test_every_host_is_read_once_to_begin_with(cloud, host_cache):
    assert cloud.calls == {"services": 1, "providers": 1, "content": 50}
    hosts = host_cache.hosts()
    assert len(hosts) == 50 and hosts["h7"].capacity == {"VCPU": 4} and hosts["h7"].availability_zone == "nova"


@pytest.mark.gen_test
async def test_servers_that_come_and_go_cost_two_calls_at_most_whatever_the_number_of_hosts(cloud, clock, host_cache):
    cloud.calls.clear()
    clock.now += 5
    cloud.news = [Occupant("s1", "ACTIVE", "h1", SMALL), Occupant("s2", "ACTIVE", "h2", SMALL)]
    await host_cache.refresh(2)
    assert host_cache.hosts()["h1"].free == {"VCPU": 3}
    cloud.news = [Occupant("s1", "DELETED", None, SMALL)]
    clock.now += 5
    await host_cache.refresh(2)
    await host_cache.refresh(2)
    hosts = host_cache.hosts()
    assert hosts["h1"].allocations == {} and hosts["h2"].allocations == {"s2": SMALL}
    assert cloud.calls == {"occupants": 2, "services": 2}


@pytest.mark.gen_test
async def test_hosts_on_which_nothing_changed_are_the_same_objects(cloud, clock, host_cache):
    before = host_cache.hosts()
    cloud.news = [Occupant("s1", "ACTIVE", "h1", SMALL)]
    clock.now += 5
    await host_cache.refresh(2)
    after = host_cache.hosts()
    assert [name for name in after if after[name] is not before[name]] == ["h1"]


@pytest.mark.gen_test
async def test_idle_it_costs_the_same_for_few_hosts_and_for_many(io_loop, clock):
    assert io_loop
    counts = []
    for number in (50, 500):
        cloud = Cloud(number)
        host_cache = HostCache(cloud, HostAllocations(), Timing())
        await host_cache.start(NOW)
        cloud.calls.clear()
        clock.now += 1000
        await live(host_cache, clock, 600)
        counts.append(cloud.calls)
    assert counts[0] == counts[1]
    assert 55 <= counts[0]["content"] <= 61 and counts[0].total() < 250


@pytest.mark.gen_test
async def test_in_time_every_host_is_read_again(cloud, clock, host_cache):
    cloud.read.clear()
    await live(host_cache, clock, 700)
    assert set(cloud.read) == set(cloud.held)


@pytest.mark.gen_test
async def test_a_host_that_changed_in_other_ways_is_read_soon_after_the_list_shows_it(cloud, clock, host_cache):
    cloud.read.clear()
    cloud.versions["h9"] += 1
    cloud.held["h9"] = {"migration": SMALL}
    await live(host_cache, clock, 70)
    assert cloud.read.count("h9") == 1
    assert host_cache.hosts()["h9"].used == SMALL


@pytest.mark.gen_test
async def test_a_host_whose_allocations_are_uncertain_is_read_first(cloud, clock, host_cache):
    cloud.read.clear()
    cloud.news = [Occupant("s1", "VERIFY_RESIZE", "h3", SMALL)]
    await live(host_cache, clock, 15)
    assert cloud.read[0] == "h3" and not host_cache.uncertain


@pytest.mark.gen_test
async def test_hosts_that_are_asked_for_are_read_now_together_with_the_services(cloud, clock, host_cache):
    cloud.calls.clear()
    clock.now += 5
    cloud.held["h5"], cloud.down = {"x": SMALL}, {"h6"}
    await host_cache.read({"h5", "h6"})
    assert cloud.calls == {"services": 1, "content": 2}
    assert host_cache.hosts()["h5"].used == SMALL and not host_cache.hosts()["h6"].available
    assert host_cache.read_since(clock.now) == {"h5", "h6"}


@pytest.mark.gen_test
async def test_reading_hosts_and_changes_at_once_reads_the_services_once(cloud, clock, host_cache):
    cloud.calls.clear()
    clock.now += 5
    await asyncio.gather(host_cache.read(["h1"]), host_cache.refresh(0))
    assert cloud.calls == {"services": 1, "content": 1, "occupants": 1}


@pytest.mark.gen_test
async def test_to_count_a_host_is_one_call_and_makes_it_no_fresher_in_other_ways(cloud, clock, host_cache):
    cloud.calls.clear()
    clock.now += 5
    cloud.held["h5"], cloud.gone = {"x": SMALL}, {"h6"}
    await host_cache.count({"h5", "h6"})
    assert cloud.calls == {"holders": 2}
    assert host_cache.hosts()["h5"].used == SMALL and "h6" not in host_cache.hosts()
    assert not host_cache.read_since(clock.now)


@pytest.mark.gen_test
async def test_other_projects_changes_may_come_from_another_call(cloud, clock, host_cache):
    async def ask(since):
        assert since == NOW
        return OccupantPage((Occupant("s1", "ACTIVE", "h1", SMALL),), NOW)

    cloud.calls.clear()
    clock.now += 1
    await host_cache.refresh(0, read_changes=ask)
    assert host_cache.hosts()["h1"].free == {"VCPU": 3} and not cloud.calls


@pytest.mark.gen_test
async def test_only_hosts_that_placement_shows_with_unknown_capacity_are_read(cloud, clock, host_cache):
    full = Resources({"VCPU": 4})
    for name in cloud.held:
        cloud.held[name] = {"x": full}
    await host_cache.read(cloud.held)
    cloud.held["h5"], cloud.held["h6"] = {}, {"y": Resources({"VCPU": 3})}
    cloud.calls.clear()
    cloud.read.clear()
    clock.now += 5
    await host_cache.find_capacity(Resources({"VCPU": 2}), Traits())
    assert cloud.calls == {"roomy": 1, "content": 1} and cloud.read == ["h5"]
    await host_cache.find_capacity(Resources({"VCPU": 2}), Traits())
    assert cloud.calls == {"roomy": 2, "content": 1}


@pytest.mark.gen_test
async def test_hosts_come_and_go(cloud, clock, host_cache):
    cloud.gone = {"h1"}
    cloud.held["new"], cloud.versions["new"] = {}, 1
    await host_cache.read({"h1"})
    assert "h1" not in host_cache.hosts()
    await live(host_cache, clock, 2)
    assert host_cache.hosts().keys() == cloud.held.keys() - {"h1"}


@pytest.mark.gen_test
async def test_traits_are_asked_for_by_name_and_those_of_nested_providers_count(cloud, clock, host_cache):
    cloud.having = {"SSD": frozenset({"id-h1"}), "NVLINK": frozenset({"gpu-h1", "gpu-h2"})}
    for _ in range(2):
        await host_cache.refresh(2, {"SSD", "NVLINK", "NONE"})
    assert cloud.calls["with_trait"] == 3
    hosts = host_cache.hosts()
    none = "!NONE"  # Placement does not know it
    expected = [{"SSD", "NVLINK", none}, {"NVLINK", none}, {none}]
    assert [hosts[name].traits for name in ("h1", "h2", "h3")] == expected
    cloud.having["SSD"] = frozenset({"id-h3"})
    clock.now += 61
    await live(host_cache, clock, 2)
    assert host_cache.hosts()["h3"].traits == {"SSD", none}


@pytest.mark.gen_test
async def test_a_cloud_that_is_away_leaves_everything_as_it_was(cloud, clock, host_cache):
    cloud.away = True
    clock.now += 100
    for attempt in (host_cache.refresh(2), host_cache.read({"h1"}), host_cache.start(NOW)):
        with pytest.raises(CloudUnavailable):
            await attempt
    assert len(host_cache.hosts()) == 50


@pytest.mark.gen_test
async def test_in_tenant_mode_nothing_is_asked(io_loop):
    assert io_loop
    cloud = Cloud(3)
    cloud.mode = "tenant"
    host_cache = HostCache(cloud, HostAllocations(), Timing())
    await host_cache.start(NOW)
    await host_cache.refresh(0)
    assert not cloud.calls and not host_cache.hosts()


@pytest.mark.gen_test
async def test_news_are_the_hosts_that_changed_since_the_last_time(cloud, clock, host_cache):
    assert host_cache.take_changes() == host_cache.hosts() and not host_cache.take_changes()
    clock.now += 5
    cloud.news = [Occupant("s1", "ACTIVE", "h1", SMALL)]
    cloud.down = {"h2"}
    await host_cache.refresh(0)
    assert host_cache.take_changes() == {name: host_cache.hosts()[name] for name in ("h1", "h2")}
    cloud.gone = {"h3"}
    await host_cache.read(["h3"])
    assert host_cache.take_changes() == {"h3": None} and not host_cache.take_changes()


@pytest.mark.gen_test
async def test_a_host_is_fresh_when_its_reading_began_late_enough(cloud, clock, host_cache):
    await host_cache.read(["h1"])
    clock.now += 5
    began = clock.now
    assert host_cache.read_since(began) == frozenset()
    await host_cache.read(["h2", "h3"])
    assert host_cache.read_since(began) == {"h2", "h3"}
    assert len(host_cache.read_since(began - 100)) == len(cloud.held)
