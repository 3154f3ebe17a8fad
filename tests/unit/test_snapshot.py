"""The join of what the cloud said with what the database has promised."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.servers import server_of
from vmsvc.cloud.port import EVICT_AT, MARK, Quota
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.scheduling.candidates import Policy, as_candidate
from vmsvc.service.scheduling.request_queue import Refused
from vmsvc.service.scheduling.requests import request_of
from vmsvc.service.scheduling.world_builder import CloudChanges, Commitments, WorldBuilder
from vmsvc.store.models import Reservation, Vm
from vmsvc.store.vm_cache import VmRow

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
POLICY = Policy()
THEN = int(NOW.timestamp())
NOTHING = dict.fromkeys(
    ("host", "host_id", "group_name", "max_unavailable", "evicted_for", "notice", "refusal", "outcome")
)


def server(name, **fields):
    """A server of ours as Nova shows it; its mark is its name in small letters."""
    return server_of(name, **{"metadata": {MARK: name.lower()}, "resources": Resources({"VCPU": 2}), **fields})


def row(name, state=State.ACTIVE, **fields):
    """A row; its server's id is its name in capitals, once it has one."""
    known = None if state is State.PENDING else name.upper()
    return Vm(
        **{
            **NOTHING,
            "id": name,
            "cloud_id": known,
            "name": "any",
            "is_preemptible": True,
            "state": state,
            "priority": 0,
            "min_run_seconds": 0,
            "principal": "anonymous",
            "quota": {"instances": 1, "cores": 2, "ram": 2048},
            "room": {"VCPU": 2},
            "boot": {},
            "avoid": [],
            "rounds": 0,
            "created_at": NOW,
            "updated_at": NOW - timedelta(seconds=9),
            "ended_at": None,
            "launched_at": None if state in (State.PENDING, State.BUILDING) else NOW - timedelta(seconds=100),
            **fields,
        }
    )


def joined(
    rows,
    servers,
    *,
    before=(),
    allocations=None,
    kept=(),
    operator=True,
    losses=None,
    policy=POLICY,
    exempt=(),
    metadata_items=128,
):
    """The world of these."""
    hosts = {"sim-1": Host("sim-1", {"VCPU": Inventory(4)}, allocations or {}, True, "nova")} if operator else {}
    builder, shown = WorldBuilder(policy), {each.id: each for each in servers}
    builder.add_changes(CloudChanges(shown, hosts))
    known = {each.id: VmRow(*(getattr(each, name) for name in VmRow._fields)) for each in rows}
    return builder.update(
        known,
        known,
        Quota({"instances": 10, "cores": 0}, Resources({"instances": 1}), metadata_items),
        Commitments(NOW, kept, losses or {}, frozenset(exempt)),
        operator=operator,
        added=shown.keys() - set(before),
        removed=set(before) - shown.keys(),
    )


def lost(world, name="a"):
    """What the going of a VM costs now, in full."""
    known = world.vms[name]
    return as_candidate(known, known.resources, world).lost_work_at(world.now) + world.common_surcharge


def facts(state=State.ACTIVE, shown=True, *, before=(), server_fields=None, **fields):
    """What is known of one VM."""
    servers = [server("A", **(server_fields or {}))] if shown else []
    return joined([row("a", state, **fields)], servers, before=before).vms["a"]


def cost(policy=POLICY, losses=None, **fields):
    """What its going costs."""
    return lost(joined([row("a", **fields)], [server("A")], policy=policy, losses=losses))


def test_a_vm_and_its_server_are_one():
    known = facts()
    assert (known.id, known.cloud_id, known.host, known.host_id, known.present) == ("a", "A", "sim-1", "hash", True)
    assert known.quota == Resources({"instances": 1, "cores": 2, "ram": 2048})
    assert known.resources == Resources({"VCPU": 2})
    assert not known.untouchable and known.ran and cost() == 200


def test_a_request_that_waits_is_no_vm_yet():
    assert not joined([row("a", State.PENDING)], []).vms


def test_a_server_whose_id_we_do_not_know_yet_is_found_by_its_mark():
    known = facts(State.BUILDING, cloud_id=None)
    assert known.present and known.cloud_id == "A"
    lone = facts(State.BUILDING, shown=False, cloud_id=None)
    assert not lone.present and lone.cloud_id is None
    failed = facts(State.BUILDING, cloud_id=None, server_fields={"status": "ERROR"})
    assert not failed.present, "one that is about to be removed is not the one that is on its way"


def test_a_server_that_was_there_before_the_quota_was_read_is_counted_though_it_has_gone_since():
    assert facts(State.EVICTED, shown=False, before=["A"]).is_leaving
    assert not facts(State.EVICTED, shown=False).is_leaving
    assert not facts(State.BUILDING, shown=False, before=["A"]).present


@pytest.mark.parametrize(
    "field, value, untouchable",
    [
        ("locked", True, True),
        ("task_state", "powering-off", True),
        ("metadata", {}, False),
        ("metadata", {MARK: "somebody else's"}, False),
    ],
)
def test_a_server_that_others_hold_is_untouchable_and_one_whose_mark_was_taken_off_is_not(field, value, untouchable):
    assert facts(server_fields={field: value}).untouchable is untouchable


def items(count):
    """So much metadata."""
    return {f"key{number}": "" for number in range(count)}


@pytest.mark.parametrize(
    "fields, takes_notice",
    [
        ({"metadata": items(9)}, True),
        ({"metadata": items(10)}, False),
        ({"metadata": {**items(9), EVICT_AT: "its own"}}, True),
        ({"metadata": items(10), "status": "SHUTOFF"}, True),
        ({"status": "VERIFY_RESIZE"}, False),
        ({"status": "RESCUE"}, True),
    ],
)
def test_a_guest_that_cannot_read_a_notice_is_no_candidate_for_a_tenant_and_gets_the_event_alone_from_an_operator(
    fields, takes_notice
):
    for operator, policy in ((True, POLICY), (False, POLICY), (False, Policy(notices=False))):
        known = joined([row("a")], [server("A", **fields)], operator=operator, policy=policy, metadata_items=10).vms[
            "a"
        ]
        assert known.takes_notice is takes_notice
        assert known.untouchable is (not takes_notice and not operator and policy.notices)


def test_a_vm_whose_server_is_not_shown_or_which_is_too_young_is_untouchable():
    assert facts(shown=False).untouchable
    assert facts(min_run_seconds=101).protected_until == THEN + 1
    assert facts(min_run_seconds=100).protected_until == THEN
    assert not facts(State.BUILDING, server_fields={"task_state": "spawning", "status": "BUILD"}).untouchable


@pytest.mark.parametrize("status", ["SHELVED_OFFLOADED", "ERROR", "SOFT_DELETED"])
def test_a_server_without_a_host_frees_quota_and_no_capacity(status):
    known = facts(server_fields={"status": status})
    assert known.quota and not known.resources


@pytest.mark.parametrize(
    "name, lost_work, words",
    [
        ("least_lost", 200, "less lost work"),
        ("oldest_first", -100, "oldest first"),
        ("newest_first", 100, "newest first"),
    ],
)
def test_the_policy_decides_the_cheapest_victim_and_the_words_of_the_criterion(name, lost_work, words):
    assert cost(Policy(name)) == lost_work
    assert Policy(name).words == words


def test_what_an_owner_lost_lately_makes_its_vms_dearer():
    assert cost(Policy(owner_cost=50), {"anonymous": 3}) == 200 + 150
    assert cost(Policy(owner_cost=50), {"somebody": 3}) == 200


def test_a_vm_that_only_practises_its_notice_stays():
    known = facts(State.NOTICED, notice={"notice_only": True})
    assert known.state is State.ACTIVE and not known.is_leaving and known.untouchable
    assert facts(State.NOTICED, notice={}).is_leaving


def test_a_clock_that_is_behind_makes_no_lost_work_negative():
    assert cost(launched_at=NOW + timedelta(seconds=5), updated_at=NOW) == 0


def test_a_limit_that_is_missing_is_none_and_one_of_zero_is_a_limit():
    world = joined([], [])
    assert world.quota_limit["cores"] == 0 and world.quota_limit["ram"] > 10**12


def test_while_a_request_builds_its_reservation_holds_nothing_more():
    kept = Reservation(vm_id="a", bin_kind="host", bin="sim-1", members={})
    waiting = joined([row("a", State.PENDING, room={"VCPU": 3})], [], kept=[kept]).reservations["a"]
    assert (waiting.bin, waiting.resources) == ("sim-1", Resources({"VCPU": 3}))
    building = joined([row("a", State.BUILDING)], [], kept=[kept]).reservations["a"]
    assert not building.resources and not building.quota
    assert not joined([], [], kept=[kept]).reservations, "of a request that has long ended"


def test_hosts_have_the_servers_that_are_on_them():
    world = joined([], [], allocations={"A": Resources({"VCPU": 2})})
    assert world.hosts["sim-1"].allocations == {"A": {"VCPU": 2}}
    assert world.hosts["sim-1"].capacity == {"VCPU": 4}


def test_a_request_remembers_what_the_cloud_said_and_whether_capacity_was_freed_since():
    refusal = {
        "error": "no_capacity",
        "message": "No valid host",
        "at": (NOW - timedelta(seconds=5)).isoformat(),
        "count": 2,
    }
    asked = row("a", State.PENDING, refusal=refusal, avoid=["sim-2"], rounds=1, boot={"availability_zone": "nova"})
    known = request_of(asked, NOW, NOW)
    assert (known.refusal, known.refusals, known.avoid, known.rounds) == ("no_capacity", 2, {"sim-2"}, 1)
    assert known.waited == 9
    assert known.availability_zone == "nova" and known.freed_since
    assert not request_of(asked, NOW, NOW - timedelta(seconds=6)).freed_since
    assert not request_of(asked, NOW, None).freed_since
    fresh = request_of(row("b", State.PENDING), NOW, NOW)
    assert (fresh.refusal, fresh.refusals, fresh.freed_since) == (None, 0, False)


def test_a_request_that_can_wait_is_tried_again_when_it_helps_or_after_a_while():
    """A VM that ended after the create was ordered may have ended too late for it."""
    at, tried = NOW - timedelta(seconds=5), NOW - timedelta(seconds=7)
    said = {"error": "no_capacity", "message": "No valid host", "at": at.isoformat(), "tried": tried.isoformat()}
    known_facts = {"refusal": {**said, "count": 4}, "avoid": ["sim-2"], "boot": {"availability_zone": None}}
    between = NOW - timedelta(seconds=6)
    assert not request_of(row("a", State.PENDING, **known_facts), NOW, between).freed_since
    waits = row("a", State.PENDING, wait_until=NOW + timedelta(seconds=60), **known_facts)
    known = request_of(waits, NOW, between)
    assert known.may_wait and known.freed_since and known.refusals == 4
    assert not request_of(waits, NOW, None).freed_since
    again = request_of(waits, NOW, None, try_again=5)
    assert (again.freed_since, again.refusals, again.avoid) == (True, 0, frozenset())
    later = Refused(tried + timedelta(seconds=2), NOW, "No valid host")
    assert not request_of(waits, NOW, between, like=later).freed_since, "another one was tried since"


def test_a_preemptible_request_does_not_try_what_those_that_wait_have_just_tried():
    like = Refused(NOW, NOW, "No valid host")
    fresh = row("b", State.PENDING, is_preemptible=True)
    assert request_of(fresh, NOW, None, like=like).refusal == "no_capacity"
    assert request_of(fresh, NOW + timedelta(seconds=90), None, like=like).refusal is None
    assert request_of(row("b", State.PENDING, is_preemptible=False), NOW, None, like=like).refusal is None


def test_who_could_not_be_made_to_go_lately_is_left_alone_and_groups_have_limits_beside_budgets():
    rows = [row("a", group_name="web", max_unavailable=2), row("b", State.NOTICED, group_name="web", max_unavailable=3)]
    world = joined(rows, [server("A"), server("B")], exempt={"a"})
    assert world.vms["a"].untouchable
    assert (world.budgets, world.full_budgets) == ({"web": 1}, {"web": 2})
