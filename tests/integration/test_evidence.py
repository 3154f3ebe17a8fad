"""Evidence of the capacity of hosts in the database: who writes it, what it costs, and how long it stays."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest

from tests.integration.conftest import new_vm
from tests.unit.test_snapshot import server
from vmsvc.domain.evidence import LIKELY, SURE, Held, Refusal
from vmsvc.domain.resources import Resources
from vmsvc.service.scheduling.evidence import EvidenceWatch
from vmsvc.store import evidence, ledger, retention, vms
from vmsvc.store.db import Lock, reading, unit

HOURS = 24.0
HOST = "a-host-id"


def held(*vectors, ago=0.0):
    """Remember that the host held these vectors; returns for how many hosts that was new."""
    with unit(Lock.SCHEDULER) as work:
        at = work.now - timedelta(hours=ago)
        return evidence.remember_held({HOST: [Held(Resources(one), at) for one in vectors]}, HOURS)


def refused(need, total):
    """Remember a refusal."""
    with unit(Lock.SCHEDULER) as work:
        evidence.remember_refusals([(HOST, Refusal(Resources(need), Resources(total), work.now))], HOURS)


def known(hours=HOURS):
    """The evidence for the host."""
    with reading():
        return evidence.read(hours).get(HOST)


def amounts(store):
    """The rows."""
    return sorted((row["kind"], sorted(row["resources"].items())) for row in store.rows("SELECT * FROM evidence"))


def test_what_is_written_is_read_and_only_what_is_new_is_written(store):
    assert held({"VCPU": 2, "MEMORY_MB": 1}, {"VCPU": 1, "MEMORY_MB": 2}) == 1
    assert held({"VCPU": 2, "MEMORY_MB": 1}, {"VCPU": 1}) == 0
    before = store.rows("SELECT xmin::text, * FROM evidence ORDER BY id")
    assert held({"VCPU": 1, "MEMORY_MB": 1}) == 0
    assert store.rows("SELECT xmin::text, * FROM evidence ORDER BY id") == before
    assert held({"VCPU": 2, "MEMORY_MB": 2}) == 1
    assert amounts(store) == [("held", [("MEMORY_MB", 2), ("VCPU", 2)])]


def test_a_refusal_is_kept_until_as_much_of_each_class_was_held_since(store):
    held({"VCPU": 4, "MEMORY_MB": 4}, ago=1)
    refused({"VCPU": 1}, {"VCPU": 4, "MEMORY_MB": 3})
    assert not known().counting(Resources({"VCPU": 1}))
    held({"VCPU": 4, "MEMORY_MB": 1})
    assert [dict(one.total) for one in known().refusals] == [{"MEMORY_MB": 3}]
    held({"VCPU": 1, "MEMORY_MB": 3})
    assert not known().refusals
    assert Resources({"VCPU": 4, "MEMORY_MB": 4}) in [one.resources for one in known().counting(Resources({"VCPU": 1}))]
    assert all(kind == "held" for kind, _ in amounts(store))


def test_what_is_too_old_does_not_count_and_is_removed(store):
    held({"VCPU": 4}, ago=HOURS + 1)
    assert known() is None
    assert (retention.forget_evidence(HOURS, 10), retention.forget_evidence(HOURS, 10)) == (1, 0)
    held({"VCPU": 4}, ago=HOURS - 1)
    held({"VCPU": 4})
    assert retention.forget_evidence(HOURS, 10) == 0 and len(amounts(store)) == 1


def test_only_the_round_of_a_likely_plan_is_wasted_and_stays_so_when_another_one_serves(store):
    request, plan = new_vm(), {"bin": "host_id x", "criterion": "", "cost": {}, "runner_up": None, "optimal": True}
    for number, certainty in ((1, LIKELY), (2, SURE)):
        victim = new_vm()
        with unit() as work:
            ledger.record_eviction(
                work,
                victim,
                reason="capacity",
                evict_at=work.now,
                request_vm_id=request.id,
                plan={**plan, "round": number, "certainty": certainty, "evidence": None},
            )
        with unit():
            ledger.record_step(victim.id, "evicting_at")
            ledger.waste_likely_round(request.id, number, "refused")
    with unit():
        ledger.close_evictions(request.id, wasted=None)
    rows = store.rows("SELECT round, wasted, fulfilled_at IS NOT NULL AS served FROM eviction ORDER BY id")
    assert [(row["round"], row["wasted"], row["served"]) for row in rows] == [(1, "refused", False), (2, None, True)]


class Cache:
    """Servers as the server cache shows them."""

    def __init__(self):
        self.servers, self.read_at, self.tell, self.look, self.reads = {}, 0.0, None, None, 0

    def on_change(self, tell):
        """Tell this of each change."""
        self.tell = tell

    def on_moment(self, look):
        """Call this at each moment."""
        self.look = look

    def put(self, name, status="ACTIVE", task=None, host=HOST):
        """A server changes; nobody has read the list yet."""
        self.servers[name] = server(name, status=status, task_state=task, host_id=host)
        self.tell(name)

    async def refresh(self, _max_age=0.0):
        """The list."""
        self.reads += 1
        self.look()


@pytest.fixture(name="watch")
def fixture_watch(store):
    """A watch, its cache, and what it has written: vectors in vCPUs."""
    del store

    async def offload(function, *args):
        return function(*args)

    cache, clock = Cache(), SimpleNamespace(now=100.0)
    runtime = SimpleNamespace(offload=offload, mark_ready=lambda name: None)
    watch = EvidenceWatch(runtime, cache, HOURS, lambda: clock.now)
    return SimpleNamespace(watch=watch, cache=cache, clock=clock)


def cpus():
    """The vectors on record, in vCPUs."""
    return sorted(one.resources["VCPU"] for one in (known().held if known() else ()))


@pytest.mark.gen_test
async def test_what_stands_on_a_host_at_one_moment_is_written(watch):
    for name in "abc":
        watch.cache.put(name)
    await watch.watch.write()
    assert cpus() == [], "no moment was seen yet"
    watch.cache.look()
    watch.clock.now += 60
    del watch.cache.servers["a"]
    watch.cache.tell("a")
    watch.cache.put("d", host="another")
    watch.cache.look()
    await watch.watch.write()
    size = watch.cache.servers["b"].resources["VCPU"]
    assert cpus() == [3 * size]
    with reading():
        age = vms.clock() - known().held[0].at
        assert timedelta(seconds=60) <= age < timedelta(seconds=90), "it is as old as the moment"


@pytest.mark.parametrize(
    "changing",
    [{"status": "ERROR"}, {"status": "BUILD"}, {"status": "SHELVED_OFFLOADED"}, {"status": "VERIFY_RESIZE"}]
    + [{"task": "deleting"}, {"task": "migrating"}, {"host": ""}],
    ids=str,
)
@pytest.mark.gen_test
async def test_a_server_that_may_hold_nothing_there_does_not_count(watch, changing):
    watch.cache.put("a")
    watch.cache.put("b", **changing)
    watch.cache.look()
    await watch.watch.write()
    assert cpus() == [watch.cache.servers["a"].resources["VCPU"]]


@pytest.mark.gen_test
async def test_a_change_that_no_list_has_shown_is_looked_up_soon(watch, monkeypatch):
    monkeypatch.setattr("vmsvc.service.scheduling.evidence._SOON", 0.01)
    running = asyncio.ensure_future(watch.watch.run())
    await asyncio.sleep(0.05)
    watch.cache.put("a")
    while not cpus():
        await asyncio.sleep(0.01)
    running.cancel()
    assert watch.cache.reads == 1


@pytest.mark.gen_test
async def test_what_could_not_be_written_is_written_later(watch, monkeypatch):
    def fail(*_):
        raise OSError

    watch.cache.put("a")
    watch.cache.look()
    with monkeypatch.context() as patched:
        patched.setattr("vmsvc.service.scheduling.evidence._write", fail)
        with pytest.raises(OSError):
            await watch.watch.write()
    await watch.watch.write()
    assert len(cpus()) == 1
