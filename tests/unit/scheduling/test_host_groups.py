"""The hosts of a tenant: what is held there, what counts as free by evidence, and what a refusal shows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.unit.worlds import request, resources, tenant, vm
from vmsvc.domain.evidence import Held, HostEvidence, Refusal
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Precedents
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.batching import decide_batch
from vmsvc.scheduling.decide import decide, review
from vmsvc.scheduling.decisions import Evict, Place, Refuse
from vmsvc.scheduling.host_groups import amounts_in_words, evidence_in_words, held_now, note_refusals, refuted
from vmsvc.scheduling.world import HOST_GROUP

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)  # a Monday
BEFORE = NOW - timedelta(hours=1)
REFUSED = {"refusal": "no_capacity", "refusals": 1, "refused_at": NOW}
HOST = "id-of-sim-1"


def stood(*vectors, refusals=()):
    """The evidence of sim-1."""
    return {HOST: HostEvidence(tuple(Held(one, BEFORE) for one in vectors), tuple(refusals))}


def mixed(cpus, mib):
    """A vector."""
    return Resources({"VCPU": cpus, "MEMORY_MB": mib})


def evicted(decision):
    """Where, who and how certain."""
    assert isinstance(decision, Evict), decision
    return decision.bin, set(decision.victims), decision.certainty


def test_what_stood_there_at_one_moment_counts_as_free():
    world = tenant(vm("a"), vm("b"), evidence=stood(resources(4)))
    decision = decide(request(cpus=3, **REFUSED), world)
    assert evicted(decision)[::2] == (HOST, "likely") and len(decision.victims) == 1
    assert decision.basis.free == resources(2)
    assert decision.evidence == "this host held 4 vCPU and 4 GiB of yours on Monday, 2026-11-23"
    assert isinstance(decide(request(cpus=3, **REFUSED), replace(world, likely=False)), Refuse)


def test_what_two_vectors_show_is_not_added_up():
    """4 vCPUs stood there once, 4 GiB another time: both together never did."""
    world = tenant(vm("a"), evidence=stood(mixed(4, 1024), mixed(1, 4096)))
    assert isinstance(decide(request(cpus=4, **REFUSED), world), Refuse)


def test_where_more_is_held_of_a_class_than_the_vector_has_the_excess_has_to_leave_too():
    """3 vCPUs are held, the vector has 2, and one is needed: two have to leave, though one has memory enough."""
    vms = [vm("a"), vm("b"), vm("c", resources=mixed(1, 3072))]
    world = tenant(*vms, evidence=stood(mixed(2, 16384)))
    needs = replace(request(**REFUSED), resources=mixed(1, 12288))
    where, victims, certainty = evicted(decide(needs, world))
    assert (where, len(victims), certainty) == (HOST, 2, "likely")
    stays = sum((one.resources for one in vms if one.id not in victims), Resources())
    assert mixed(2, 16384).covers(stays + needs.resources)


def test_a_sure_plan_comes_before_a_likely_one_even_if_it_has_more_victims():
    others = [vm(name, host="sim-2") for name in "xyz"]
    world = tenant(vm("a"), *others, evidence=stood(resources(3)))
    assert evicted(decide(request(cpus=3, **REFUSED), world)) == ("id-of-sim-2", {"x", "y", "z"}, "sure")
    assert evicted(decide(request(cpus=3, **REFUSED), tenant(vm("a"), evidence=stood(resources(3))))) == (
        HOST,
        {"a"},
        "likely",
    )


def test_servers_that_vmsvc_did_not_make_count_as_held():
    foreign = {HOST: {"f": resources(2)}}
    world = tenant(vm("a"), evidence=stood(resources(4)), foreign=foreign)
    assert held_now(world) == {HOST: resources(3)}
    assert isinstance(decide(request(cpus=3, **REFUSED), world), Refuse)
    assert evicted(decide(request(cpus=2, **REFUSED), world)) == (HOST, {"a"}, "likely")


def test_a_host_on_which_the_request_fits_by_the_evidence_is_contradicted_by_its_refusal():
    world = tenant(vm("a"), evidence=stood(resources(4)))
    wish = request(cpus=2, **REFUSED)
    shown = Refusal(resources(2), Resources({"VCPU": 3}), NOW)
    assert refuted(wish, world) == {HOST: shown}
    assert isinstance(decide(wish, world), Refuse), "what it would need is there by the reckoning, and is not"
    assert note_refusals([wish], world) == [(HOST, shown)]
    assert not note_refusals([wish, request("other", 3, **REFUSED)], world), "it is known"
    assert isinstance(decide(request("larger", 4, **REFUSED), world), Refuse)
    assert evicted(decide(request("smaller", **REFUSED), world))[2] == "sure"


def test_the_scarcest_class_explains_a_refusal_and_all_that_are_equally_scarce_one_that_cost_victims():
    def total(vector, **facts):
        world = tenant(vm("a"), evidence=stood(vector))
        return refuted(request(cpus=2, **REFUSED, **facts), world)[HOST].total

    assert total(mixed(8, 4096)) == {"MEMORY_MB": 3072}, "of 8 vCPUs 5 would be left, of 4 GiB one"
    assert total(mixed(4, 4096)) == {"VCPU": 3}, "every server holds some"
    assert total(mixed(4, 4096), rounds=1, refused_rounds=1) == mixed(3, 3072)


def test_a_refusal_shows_nothing_while_what_is_held_may_have_changed_or_it_has_another_cause():
    fits, wish = stood(resources(4)), request(cpus=2, **REFUSED)
    leaving = vm("x", state=State.DELETING, present=False, host="sim-2")
    for world in (
        tenant(vm("a"), leaving, evidence=fits),
        tenant(vm("a"), vm("x", state=State.BUILDING, host_id=""), evidence=fits),
        tenant(vm("a"), evidence=fits, foreign={"": {"f": resources()}}),
        tenant(vm("a", 3), evidence=fits),
    ):
        assert not refuted(wish, world)
    world = tenant(vm("a"), evidence=fits)
    for other in (
        replace(wish, freed_since=True),
        replace(wish, conditions=("the trait X",), precedents=Precedents(accepted=False)),
        replace(wish, availability_zone="mars"),
        replace(wish, refused_at=BEFORE - timedelta(seconds=1)),
        replace(wish, refusal="quota_exceeded"),
        replace(wish, refusal=None),
    ):
        assert not refuted(other, world), other
    world.reserve(wish, HOST_GROUP, HOST, ("a",), {})
    assert not refuted(wish, world), "it was refused before its victims left"


def test_a_reservation_keeps_to_what_its_plan_counted_on():
    a, b = vm("a"), vm("b")
    world = tenant(a, b, evidence=stood(resources(4)))
    wish = request("wanted", 3, **REFUSED)
    plan = decide(wish, world)
    (victim,) = plan.victims
    members = {one.id: one.resources for one in (a, b)}
    world.reserve(wish, plan.kind, plan.bin, plan.victims, members, plan.basis)
    assert not isinstance(review(wish, world.reservations["wanted"], world), Place)
    world.vms.drop(victim)
    world.foreign = {HOST: {"came": resources()}}  # a server of the project has come: one more has to leave
    assert set(review(wish, world.reservations["wanted"], world).victims) == {"a", "b"} - {victim}
    world.foreign = {}
    assert review(wish, world.reservations["wanted"], world) == Place()


def test_equal_requests_share_a_host_by_one_vector_and_no_more_than_it_holds():
    vms = [vm(name, resources=mixed(1, 512)) for name in "abcd"]
    world = tenant(*vms, evidence=stood(mixed(4, 8192), mixed(9, 4096)))
    wishes = [replace(request(name, 2, **REFUSED), resources=mixed(2, 4096)) for name in ("one", "two", "three")]
    for number in (2, 3):
        together = decide_batch(wishes[:number], HOST_GROUP, world)
        assert together is not None and [one.bin for one in together] == [HOST, HOST]
        assert {victim for one in together for victim in one.victims} == {*"abcd"}
        assert {one.certainty for one in together} == {"likely"}


def test_a_refusal_says_which_setting_would_have_helped():
    world = tenant(vm("a"), evidence=stood(resources(4)), likely=False)
    said = decide(request(cpus=4, **REFUSED), world).message
    assert "VMSVC_TENANT_EVICTION=likely would have made a plan possible: this host held" in said
    said = decide(request(cpus=4, **REFUSED), tenant(vm("a"), vm("s", is_preemptible=False))).message
    assert "VMSVC_HOST_CAPACITY=VCPU=5,MEMORY_MB=5120 would have made a plan possible" in said
    beside = stood(refusals=[Refusal(resources(4), resources(4), NOW)])
    said = decide(request(cpus=4, **REFUSED), tenant(vm("a"), evidence=beside)).message
    assert "VMSVC_HOST_CAPACITY" not in said, "somebody else is there, whatever is declared"


def test_evidence_in_words():
    assert amounts_in_words({"DISK_GB": 80, "VGPU": 1, "VCPU": 4, "MEMORY_MB": 8192}) == (
        "4 vCPU, 8 GiB, 80 GB of disk and 1 VGPU"
    )
    assert (amounts_in_words({"MEMORY_MB": 1536}), amounts_in_words({})) == ("1536 MiB", "nothing")
    declared = HostEvidence().with_declared(resources(4)).held[0]
    assert evidence_in_words(declared) == (
        "VMSVC_HOST_CAPACITY says that each host has 4 vCPU and 4 GiB for this project"
    )
