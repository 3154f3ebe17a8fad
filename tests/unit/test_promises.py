"""What an eviction promises, each promise by the number that docs/explanation/promises.md gives it. Every test fails
within seconds when the line breaks that holds its promise: `tests/broken_promises.py` breaks them, one after the other.
The exact behaviour is in the tests of each module."""

# pylint: disable=protected-access; the reconciler's round is tested by its steps
import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from tests.broken_promises import HELD, ROOT
from tests.servers import server_of
from tests.unit.test_verification import snapshot
from tests.unit.worlds import host, operator, request, reserved, resources, tenant, vm
from vmsvc.cloud.port import MARK, OWNER
from vmsvc.domain.acceptance import Objection, Verdict
from vmsvc.domain.evidence import HostEvidence, Refusal
from vmsvc.domain.grace_period import EXPIRED_AFTER, Notice, Step, next_step
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Precedents
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.candidates import candidate_vms
from vmsvc.scheduling.decide import MAX_ROUNDS, decide, review
from vmsvc.scheduling.decisions import Evict, Place, Refuse, Reprieve, Wait
from vmsvc.scheduling.verification import Networks, Verified, WaitingRequest, by_verdict, unverified_request
from vmsvc.scheduling.world import HOST, HOST_GROUP
from vmsvc.service.acting import remove_server
from vmsvc.service.acting.remove_server import RemoveServer
from vmsvc.service.reconciler import Reconciler
from vmsvc.service.scheduling import apply
from vmsvc.store.models import Vm

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND, GRACE, TIMING = timedelta(seconds=1), timedelta(seconds=30), Timing()
FULL = [vm(name) for name in "abcd"]
HAD_NO_ROOM = {"refusal": "no_capacity", "refusals": 1, "cloud_message": "No valid host was found."}


def waiting(first_end=None, **facts):
    """A request as a pass knows it."""
    boot = {"flavor_id": "f", "image_id": "i", "network_id": "net", "availability_zone": None}
    return WaitingRequest(request(**facts), boot, "a key", first_end)


def evicts(*victims):
    """A plan for these."""
    return Evict(HOST, "sim-1", victims, "the only possibility", True)


# 1. No eviction for nothing


@pytest.mark.parametrize(
    "wanted, world",
    [
        pytest.param(request(cpus=5), operator(*FULL), id="larger than every host"),
        pytest.param(request(cpus=3), operator(*FULL[:2], foreign=2), id="more than the victims would free"),
        pytest.param(request(cpus=3), operator(*FULL[:2], limit={"cores": 2}), id="larger than the quota"),
        pytest.param(request(), tenant(*FULL[:1], limit={"instances": 0}), id="a quota below what is used"),
        pytest.param(request(), operator(*FULL, hosts=[host(vms=FULL, available=False)]), id="a host that is down"),
        pytest.param(request(**{**HAD_NO_ROOM, "refusal": "cloud_error"}), operator(*FULL), id="its build failed"),
        pytest.param(request(is_preemptible=True), operator(*FULL), id="a preemptible request"),
    ],
)
def test_1_nobody_is_evicted_for_a_request_that_would_not_fit_afterwards(wanted, world):
    assert isinstance(decide(wanted, world), Refuse)


def test_1_a_plan_evicts_only_where_the_request_fits_once_the_victims_have_left():
    decision = decide(request(cpus=3), operator(*FULL))
    assert isinstance(decision, Evict) and len(decision.victims) == 3


def test_1_nova_is_asked_before_anybody_is_noticed_and_what_it_refuses_evicts_nobody():
    plan, not_asked = evicts("a"), Verified()
    assert unverified_request(waiting(), plan, not_asked, NOW).boots
    refused = Verdict(Objection("the image is gone", "image"))
    assert by_verdict(waiting(), plan, operator(*FULL), refused, Networks()) == Refuse(
        "invalid_request", "the image is gone"
    )
    silent = by_verdict(waiting(), plan, operator(*FULL), Verdict(unanswered="time-out"), Networks())
    assert not isinstance(silent, Evict)


def test_1_a_cause_that_no_api_shows_costs_one_round_and_is_not_tried_again_for_an_hour():
    vain = Precedents(futile_error="no_capacity", futile_reason="No valid host", futile_at=0)
    assert isinstance(decide(request(precedents=vain), operator(*FULL)), Refuse)
    vms = [vm(f"{name}{place}", host=f"sim-{place}") for place in (1, 2) for name in "abcd"]
    world = operator(*vms, hosts=[host("sim-1", vms), host("sim-2", vms)])
    assert isinstance(decide(request(refused_rounds=1, refused_with_capacity=True, **HAD_NO_ROOM), world), Refuse)


def test_1_where_the_evidence_of_a_host_was_wrong_it_does_not_count_again_for_as_large_a_request():
    held = HostEvidence().after_seeing(resources(4), NOW, GRACE)
    assert held.counting(resources(2))
    refuted = held.after_refusal(Refusal(resources(2), resources(4), NOW + SECOND))
    assert not refuted.counting(resources(2)) and refuted.counting(resources(1))


# 2. The best victims


@pytest.mark.parametrize(
    "worse, better, criterion",
    [
        ({"priority": 1}, {"cpus": 4, "lost_work": 9}, "fewer victims of priority 1"),
        ({"ran": True}, {"ran": False, "lost_work": 9}, "fewer running victims"),
        ({"lost_work": 9}, {"lost_work": 8, "cpus": 4}, "less lost work"),
        ({"cpus": 4}, {"cpus": 3}, "less surplus"),
    ],
)
def test_2_victims_are_chosen_by_the_criteria_in_their_order_and_the_one_that_decided_is_named(
    worse, better, criterion
):
    worse, better = vm("worse", **{"cpus": 3} | worse), vm("better", host="sim-2", **{"cpus": 3} | better)
    hosts = [host(one.host, [one], foreign=4 - one.quota["cores"]) for one in (worse, better)]
    world = operator(worse, better, hosts=hosts)
    decision = decide(request(cpus=3), world)
    assert (decision.victims, decision.criterion) == (("better",), criterion)


def test_2_if_any_victim_stayed_the_request_would_not_fit():
    decision = decide(request(cpus=2), operator(vm("a", 1), vm("b", 1), vm("c", 2)))
    assert decision.victims == ("c",)


# 3. The whole notice


def notice(**facts):
    """The notice of a running guest that read it at once and is due now."""
    return Notice(**{"evict_at": NOW, "grace": GRACE, "readable_at": NOW - GRACE, "running": True, **facts})


def step(now=NOW, runs=True, **facts):
    """What is done about it."""
    return next_step(notice(**facts), now, runs, TIMING)


def test_3_a_victim_is_untouched_before_its_evict_at():
    assert step(NOW - SECOND) == NOW
    assert step(NOW - SECOND, runs=False, running=False, readable_at=None) == NOW
    assert step(NOW - SECOND, grace=timedelta(), readable_at=None) == NOW
    assert step(NOW) is Step.EVICT


def test_3_a_guest_has_its_whole_grace_period_from_the_moment_when_it_could_read_the_notice():
    assert step(NOW, readable_at=NOW - GRACE + 5 * SECOND) == NOW + 5 * SECOND
    assert step(NOW + 5 * SECOND, readable_at=NOW - GRACE + 5 * SECOND) is Step.EVICT


def test_3_a_running_guest_that_cannot_read_its_notice_is_not_evicted_and_stays_after_a_minute():
    unread = {"readable_at": None}
    assert step(NOW, **unread) == NOW + TIMING.unreadable_notice_poll * SECOND
    assert step(NOW + TIMING.unreadable_notice * SECOND, **unread) is Step.EXEMPT
    assert step(NOW, runs=False, **unread) is Step.EVICT, "nobody is there to read it"


def test_3_only_its_owner_or_guest_ends_a_notice_early():
    assert step(NOW - 20 * SECOND, acknowledged_at=NOW - 21 * SECOND) is Step.EVICT


def test_3_a_notice_that_is_only_practised_ends_without_an_eviction():
    assert step(only_practised=True) is Step.REPRIEVE
    assert step(NOW - SECOND, only_practised=True) == NOW


def test_3_a_restart_neither_shortens_nor_forgets_a_notice_because_its_end_is_a_column(monkeypatch):
    enqueued = []
    monkeypatch.setattr(apply.vms, "move", lambda *_, **columns: SimpleNamespace(**columns))
    monkeypatch.setattr(
        apply.intents, "enqueue", lambda _, kind, __, not_before=None: enqueued.append((kind, not_before))
    )
    victim = Vm(id="a", state=State.ACTIVE)
    given = apply.give_notice(None, victim, NOW + GRACE, "room", GRACE, {"running": True})
    assert given.evict_at == NOW + GRACE and enqueued == [("notice", None), ("evict", NOW + GRACE)]


# 4. Reserved capacity


@pytest.mark.parametrize("preemptible", [True, False])
def test_4_freed_capacity_is_reserved_for_the_request_that_it_was_freed_for(preemptible):
    kept = reserved("earlier", HOST, "sim-1", 4)
    world = operator(kept=[kept])
    assert isinstance(decide(request("later", is_preemptible=preemptible), world), Refuse)
    assert review(request("earlier", 4), kept, world) == Place("sim-1")


def test_4_capacity_counts_as_free_when_the_cloud_confirms_it():
    kept = reserved("wanted", HOST, "sim-1", 2)
    world = operator(*FULL[:2], vm("c", 2, state=State.EVICTING, evicted_for="wanted"), kept=[kept])
    assert isinstance(review(request(cpus=2), kept, world), Wait)


def test_4_two_requests_never_share_a_victim():
    world = operator(*FULL[:2], foreign=2)
    first, second = request("first"), request("second")
    for wanted, other in ((first, set()), (second, {*decide(first, world).victims})):
        plan = decide(wanted, world)
        assert plan.victims and not other & set(plan.victims)
        world.reserve(wanted, HOST, "sim-1", plan.victims, {})
    assert not candidate_vms(world, False), "who is noticed is no candidate"


def test_4_nobody_is_noticed_twice(monkeypatch):
    monkeypatch.setattr(apply.vms, "move", lambda *_, **columns: SimpleNamespace(**columns))
    monkeypatch.setattr(apply.intents, "enqueue", lambda *_, **__: None)
    for state in set(State) - {State.ACTIVE}:
        assert apply.give_notice(None, Vm(id="a", state=state), NOW, "room", GRACE, {}) is None


# 5. Reprieve


def test_5_capacity_that_becomes_free_by_itself_on_any_host_reprieves_the_victims():
    kept = reserved("wanted", HOST, "sim-1", 3)
    victim = vm("a", 4, state=State.NOTICED, evicted_for="wanted")
    world = operator(victim, hosts=[host("sim-1", [victim]), host("sim-2")], kept=[kept])
    assert review(request(cpus=3), kept, world) == Place("sim-2")


def test_5_a_victim_that_is_no_longer_needed_is_reprieved():
    kept = reserved("wanted", HOST, "sim-1", 2)
    noticed = [vm(name, state=State.NOTICED, evicted_for="wanted") for name in "ab"]
    assert isinstance(review(request(cpus=2), kept, operator(*noticed, FULL[2], kept=[kept])), Reprieve)


def test_5_a_tenants_request_is_tried_again_when_a_vm_as_large_has_left():
    left = vm("x", 2, state=State.DELETED, ended_at=NOW, present=False)
    victims = [vm(name, state=State.NOTICED, evicted_for="wanted") for name in "ab"]
    kept = reserved("wanted", HOST_GROUP, "id-of-sim-1", 2, victims)
    wanted = request(cpus=2, rounds=1, refused_at=NOW, **HAD_NO_ROOM)
    assert review(wanted, kept, tenant(*victims, replace(left, ended_at=NOW + SECOND), kept=[kept])) == Place(None)
    assert isinstance(review(wanted, kept, tenant(*victims, left, kept=[kept])), Wait), "it left before the refusal"


# 6. An orderly end


class Removals:
    """A cloud that writes down what it is asked, its cache, and a runtime without a database."""

    def __init__(self):
        self.calls = []
        self.servers = {}

    async def refresh(self, _):
        """All is known."""

    async def stop(self, _):
        """os-stop."""
        self.calls.append("stop")

    async def delete(self, _, __):
        """DELETE."""
        self.calls.append("delete")

    async def wait_for(self, *_):
        """What is asked for has happened."""
        self.calls.append("wait")

    async def read_server(self, _):
        """It has gone."""

    async def offload(self, function, *_):
        """What the database would say of a victim whose time has come."""
        return {
            "read": Vm(id="a", cloud_id="A", state=State.NOTICED, evict_at=NOW),
            "_begin_eviction": Vm(id="a", cloud_id="A", state=State.EVICTING),
        }.get(function.__name__)


@pytest.mark.parametrize("stop_first, calls", [(True, ["stop", "wait", "delete"]), (False, ["delete"])])
def test_6_a_victim_is_stopped_before_it_is_deleted_unless_a_setting_says_otherwise(stop_first, calls):
    fake = Removals()
    asyncio.run(RemoveServer(fake, fake, fake, TIMING, stop_first).evict(SimpleNamespace(vm_id="a")))
    assert fake.calls == calls


@pytest.mark.parametrize("begun", [None, Step.EXEMPT, Step.WITHDRAW])
def test_6_the_cloud_is_asked_for_nothing_where_the_eviction_has_not_begun(begun, monkeypatch):
    fake = Removals()
    offload = fake.offload

    async def not_begun(function, *arguments):
        return begun if function is remove_server._begin_eviction else await offload(function, *arguments)

    monkeypatch.setattr(fake, "offload", not_begun)
    asyncio.run(RemoveServer(fake, fake, fake, TIMING, True).evict(SimpleNamespace(vm_id="a")))
    assert not fake.calls


# 7. Two rounds


@pytest.mark.parametrize("world", [operator(*FULL), tenant(*FULL)], ids=["operator", "tenant"])
def test_7_a_request_has_two_rounds_of_eviction_at_most(world):
    refusals = {} if world.operator else HAD_NO_ROOM
    assert isinstance(decide(request(rounds=MAX_ROUNDS - 1, **refusals), world), Evict)
    third = decide(request(rounds=MAX_ROUNDS, **refusals), world)
    assert MAX_ROUNDS == 2 and isinstance(third, Refuse) and "after 2 rounds" in third.message


def test_7_who_cannot_be_evicted_is_no_candidate():
    world = operator(
        vm("locked", untouchable=True), vm("young", protected_until=9), vm("standard", is_preemptible=False)
    )
    assert not candidate_vms(world, False)


# 8. A last check


def test_8_nova_is_asked_again_in_the_last_two_seconds_and_a_refusal_reprieves_the_victims():
    victim = vm("a", 4, state=State.NOTICED, evicted_for="wanted")
    world = operator(victim, kept=[reserved("wanted", HOST, "sim-1", 4)])
    late, early = waiting(NOW + 2 * SECOND, cpus=4), waiting(NOW + 3 * SECOND, cpus=4)
    goes_on = Wait("its room is being freed")
    assert unverified_request(late, goes_on, snapshot(True), NOW).boots
    assert not unverified_request(early, goes_on, snapshot(True), NOW)
    gone = Verdict(Objection("the image is gone", "image"))
    assert isinstance(by_verdict(late, goes_on, world, gone, Networks()), Refuse)
    assert isinstance(by_verdict(late, goes_on, world, Verdict(ports=-1), Networks()), Refuse)


# 9. No late eviction


def test_9_a_notice_whose_end_is_long_past_is_withdrawn():
    assert step(NOW + EXPIRED_AFTER) is Step.EVICT
    assert step(NOW + EXPIRED_AFTER + SECOND) is Step.WITHDRAW
    assert step(NOW + EXPIRED_AFTER + SECOND, acknowledged_at=NOW - SECOND) is Step.WITHDRAW
    assert EXPIRED_AFTER == timedelta(minutes=10)
    long = {"grace": timedelta(hours=1), "readable_at": NOW - timedelta(hours=1)}
    assert step(NOW + timedelta(hours=1), **long) is Step.EVICT
    assert step(NOW + timedelta(hours=1) + SECOND, **long) is Step.WITHDRAW


# What belongs to others


class Remembered:
    """A cloud for the reconciler: what it deletes, and which rows it records as lost."""

    def __init__(self, left_over, found=None):
        self.deleted, self.lost, self.asked = [], [], []
        self._left_over, self._found = left_over, found

    async def offload(self, function, *arguments):
        """The database."""
        if function.__name__ == "_record_lost":
            self.lost.append(arguments[0])
        if function.__name__ == "_left_over_and_without_row":
            self.asked.append(set(arguments[0]))
            return set(arguments[0]) & self._left_over, frozenset()
        return None

    async def delete(self, server_id):
        """DELETE."""
        self.deleted.append(server_id)

    async def read_server(self, _):
        """GET."""
        return self._found


def test_others_servers_are_never_touched_and_left_over_ones_only_after_two_rounds():
    marked = {"ours": {MARK: "a", OWNER: "me"}, "other's": {MARK: "b", OWNER: "somebody"}, "foreign": {}}
    servers = {name: server_of(name, metadata=metadata) for name, metadata in marked.items()}
    fake = Remembered(set(servers))
    reconciler = Reconciler(fake, fake, fake, TIMING, "me")
    asyncio.run(reconciler._delete_left_overs(servers))
    assert not fake.deleted
    asyncio.run(reconciler._delete_left_overs(servers))
    assert fake.deleted == ["ours"] and fake.asked == [{"ours"}, {"ours"}]


@pytest.mark.parametrize("found, lost", [(None, ["a"]), (server_of("A"), [])])
def test_a_vm_is_lost_only_after_a_get_that_says_404(found, lost):
    fake = Remembered(set(), found)
    row = Vm(id="a", cloud_id="A", state=State.ACTIVE)
    asyncio.run(Reconciler(fake, fake, fake, TIMING, "me")._find_lost({}, [row]))
    assert fake.lost == lost


def test_of_an_eviction_group_no_more_leave_together_than_its_budget_allows():
    vms = [vm(name, group="web") for name in "abcd"]
    assert not isinstance(decide(request(cpus=2), operator(*vms, budgets={"web": 1}, full_budgets={"web": 1})), Evict)
    assert isinstance(decide(request(cpus=1), operator(*vms, budgets={"web": 1}, full_budgets={"web": 1})), Evict)


# The list of the lines that hold them


def test_the_list_has_every_test_and_each_of_its_lines_is_in_the_code_once():
    tests = {name for name in globals() if name.startswith("test_")}
    assert {held.test for held in HELD} == tests - {
        "test_the_list_has_every_test_and_each_of_its_lines_is_in_the_code_once"
    }
    for held in HELD:
        assert (ROOT / held.file).read_text(encoding="utf-8").count(held.line) == 1, held
