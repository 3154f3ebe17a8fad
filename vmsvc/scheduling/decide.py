"""What to do for one request: pure decisions over an `IndexedWorld`.

`decide` is for a request without a reservation, `review` for one whose victims are leaving. Both return one of
`decisions`; the scheduler carries it out in one transaction.
"""

from dataclasses import replace

from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources
from vmsvc.planner import Bin, NoPlan, Objective, Preempt, plan
from vmsvc.scheduling.bins import Bins, GroupBins, HostBins, ListedBins, quota_bin
from vmsvc.scheduling.candidates import as_candidate, candidate_vms, frees, plan_cost, runner_up_cost, unneeded_victims
from vmsvc.scheduling.decisions import Decision, Evict, Place, Postpone, Refuse, Reprieve, Wait
from vmsvc.scheduling.eligibility import could_take, eligible, why_no_host
from vmsvc.scheduling.free_capacity import free_in_group, free_on_host, free_quota
from vmsvc.scheduling.futility import quota_shortage, why_futile
from vmsvc.scheduling.host_index import IndexedWorld
from vmsvc.scheduling.host_rules import objection, preference, with_host_rules
from vmsvc.scheduling.vms import VmFacts
from vmsvc.scheduling.world import HOST, HOST_GROUP, PROJECT, QUOTA, Basis, ReservedCapacity, World

MAX_ROUNDS = 2  # of eviction for one request
MAX_REFUSALS = 4  # by the cloud, where vmsvc saw enough free capacity
MAX_BUILDS = 3  # that fail, each on another host: as many as Nova tries where it may choose the host
_FREED_ALREADY = "room that is being freed already"
_UNCOUNTED = "servers came while the cloud was read: the next look tells whether they were counted"


def decide(request: Request, world: IndexedWorld) -> Decision:
    """The decision for a request without a reservation."""
    # Nova obeys `same_host` only while that server is there.
    with world.without_victims_of(request.group, request.same_host):
        return objection(request, world) or _decide(with_host_rules(request, world), world)


def _decide(request: Request, world: IndexedWorld) -> Decision:
    if request.refusal == "cloud_error" and request.refusals >= MAX_BUILDS:
        return Refuse("cloud_error", request.cloud_message or "its build failed")
    if request.refusals >= MAX_REFUSALS and (world.operator or request.refusal != "no_capacity"):
        return Refuse(
            request.refusal or "no_capacity",
            f"the cloud refused it although there should be room: {request.cloud_message or 'it does not say why'}",
        )
    return _decide_operator(request, world) if world.operator else _decide_tenant(request, world)


# ---------------------------------------------------------------- a request with a reservation


def review(request: Request, reserved: ReservedCapacity, world: IndexedWorld) -> Decision:
    """The decision for a request with a reservation: place it when its capacity is free; reprieve victims that are no
    longer needed; decide again when its capacity cannot be freed any more."""
    if found := objection(request, world):
        return found
    request = with_host_rules(request, world)
    noticed = world.victims_of(request.id, State.NOTICED)
    staying = frozenset(vm.id for vm in noticed)
    reserved_bin = _reserved_bin(request, reserved, world, staying)
    if reserved_bin is None:
        return _decide_again(request, world)
    bin_, fits_now = reserved_bin
    if fits_now:
        return Place(reserved.bin if reserved.kind == HOST else None)
    with world.without_victims_of(request.group, request.same_host):
        return (_free_elsewhere(request, world) if noticed else None) or _go_on(request, reserved, bin_, world)


def _go_on(request: Request, reserved: ReservedCapacity, bin_: Bin, world: IndexedWorld) -> Decision:
    """The decision while the reserved capacity is not free yet: which of its noticed victims does the request still
    need?"""
    noticed = world.victims_of(request.id, State.NOTICED)
    staying = frozenset(vm.id for vm in noticed)
    candidates = tuple(as_candidate(vm, _frees_in_bin(vm, reserved, world), world) for vm in noticed if not vm.locked)
    outcome = plan([replace(bin_, candidates=candidates)], max_victims=world.max_victims, now=world.now)
    if isinstance(outcome, NoPlan):
        if world.vms.uncounted:
            return Wait(_UNCOUNTED, brief=True)
        return _with_more_victims(request, reserved, world) or _decide_again(request, world)
    unneeded = staying - frozenset(outcome.victims if isinstance(outcome, Preempt) else ())
    if reserved.kind != HOST_GROUP:  # the plans of other requests may count on what these victims free
        unneeded = unneeded_victims(world, (world.vms[victim] for victim in unneeded))
    return Reprieve(tuple(sorted(unneeded))) if unneeded else Wait("its room is being freed")


def _with_more_victims(request: Request, reserved: ReservedCapacity, world: World) -> Evict | None:
    """In a host group, a plan that adds victims to those that have left there for this request; None where there is
    none. Only the reservation knows of the capacity that those freed: a new plan would count it as used."""
    if reserved.kind != HOST_GROUP or request.rounds >= MAX_ROUNDS or why_futile(request, world):
        return None
    with world.without_reservation(request.id):
        found = _reserved_bin(request, reserved, world, frozenset())
        if found is None:
            return None
        bin_, _ = found
        candidates = tuple(
            as_candidate(vm, _frees_in_bin(vm, reserved, world), world) for vm in candidate_vms(world, False)
        )
        outcome = plan(
            [replace(bin_, candidates=candidates)],
            max_victims=world.max_victims,
            now=world.now,
            cost_words=world.cost_words,
            budgets=world.budgets,
        )
        if not isinstance(outcome, Preempt):
            return None
        return Evict(
            HOST_GROUP,
            reserved.bin,
            outcome.victims,
            outcome.criterion,
            outcome.optimal,
            plan_cost(outcome.objective, world, outcome.victims),
            runner_up_cost(outcome.runner_up, world),
            members=reserved.members,
            basis=reserved.basis,
        )


def with_fewer_victims(request: Request, made: Evict, unneeded: frozenset[str], world: World) -> Evict:
    """The plan that was made for the request, which is reserved in `world`, without victims that are not needed."""
    victims = tuple(victim for victim in made.victims if victim not in unneeded)
    if not victims:
        return Evict(made.kind, made.bin, (), _FREED_ALREADY, True, basis=made.basis)
    reserved, vms = world.reservations[request.id], [world.vms[victim] for victim in victims]
    found = _reserved_bin(request, reserved, world, frozenset(victims))
    assert found is not None, "the plan was made for this host in the same pass"
    bin_ = found[0]
    classes = request.quota if made.kind == QUOTA else request.resources
    bin_ = replace(bin_, need=Resources({name: bin_.need[name] for name in classes}))
    left = [as_candidate(vm, _frees_in_bin(vm, reserved, world), world) for vm in vms]
    cost = plan_cost(Objective.of(bin_, left, world.now), world, victims)
    return Evict(
        made.kind, made.bin, victims, "the least beside the victims of other requests", False, cost, basis=made.basis
    )


def _decide_again(request: Request, world: IndexedWorld) -> Decision:
    """The decision as if the request had no reservation."""
    with world.without_reservation(request.id):
        decision = decide(request, world)
    if isinstance(decision, Wait) and decision.for_others:
        # Two such requests would each keep a reservation that its plan cannot use, and wait for the other one for ever.
        # So this one gives its reservation up.
        return Postpone(decision.why, frozenset())
    return decision


def _reserved_bin(
    request: Request, reserved: ReservedCapacity, world: World, staying: frozenset[str]
) -> tuple[Bin, bool] | None:
    """The reserved bin, where VMs in `staying` do not count as leaving, and whether the request fits there now. None
    when the host no longer takes the request."""
    # The shortfall is capacity that others were promised. It counts with the need: one victim may free enough for both.
    quota = free_quota(world, request, staying)
    if reserved.kind == QUOTA:
        return (
            Bin(PROJECT, request.quota + quota.shortfall, quota.sure, quota.capacity, ()),
            quota.now.covers(request.quota),
        )
    need = request.resources + request.quota
    if reserved.kind == HOST:
        host = world.hosts.get(reserved.bin)
        if host is None or not eligible(host, request):
            return None
        free = free_on_host(world, host, request, staying)
    else:
        if not request.may_be_at(reserved.bin):
            return None
        free = free_in_group(world, reserved, staying)
    return (
        Bin(
            reserved.bin,
            need + free.shortfall + quota.shortfall,
            free.sure + quota.sure,
            free.capacity + quota.capacity,
            (),
        ),
        (free.now + quota.now).covers(need),
    )


def _frees_in_bin(vm: VmFacts, reserved: ReservedCapacity, world: World) -> Resources:
    """What a victim frees in the reserved bin, quota included where that counts."""
    if reserved.kind == QUOTA:
        return vm.quota
    if reserved.kind == HOST_GROUP:
        return reserved.members.get(vm.id, Resources()) + vm.quota
    return frees(vm, world.hosts[reserved.bin]) + vm.quota


def _free_elsewhere(request: Request, world: IndexedWorld) -> Place | None:
    """Capacity that has become free outside the reserved bin, so that noticed victims can stay. In tenant mode there
    may be some when a VM that is at least as large, and that was no victim, has ended since the cloud refused the
    request."""
    if world.operator:
        return _free_host(request, world)
    alone = not any(
        reserved.kind == HOST_GROUP for owner, reserved in world.reservations.items() if owner != request.id
    )
    refused_at = request.refused_at
    ended = refused_at is not None and any(
        vm.state in (State.DELETED, State.LOST)
        and vm.evicted_for is None
        and vm.resources.covers(request.resources)
        and vm.ended_at is not None
        and vm.ended_at > refused_at
        for vm in world.vms.values()
    )
    return Place() if alone and ended and free_quota(world, request).now.covers(request.quota) else None


# ---------------------------------------------------------------- operator mode: the hosts are known


def _decide_operator(request: Request, world: IndexedWorld) -> Decision:
    if place := _free_host(request, world):
        return place
    if request.refusal == "cloud_error":
        # Its build failed. It may be tried on another host, as Nova does by itself, but no VM is evicted for that.
        return Refuse("cloud_error", request.cloud_message or "its build failed")
    no_host = None if any(eligible(host, request) for host in world.hosts.values()) else why_no_host(request, world)
    return _decide_by_plan(request, world, HOST, HostBins(request, world), no_host)


def _free_host(request: Request, world: IndexedWorld) -> Place | None:
    """The host on which the request fits now, where least would stay free; None when there is none, or no quota."""
    if not free_quota(world, request).now.covers(request.quota):
        return None
    host = world.up_to_date_index().free_host(request, world, preference(request, world))
    return None if host is None else Place(host)


# ---------------------------------------------------------------- tenant mode: only the quota and host groups are known


def _decide_tenant(request: Request, world: World) -> Decision:
    if any(reserved.kind == HOST_GROUP and reserved.vm_id != request.id for reserved in world.reservations.values()):
        return Wait("room is being freed for another request, and this cloud does not say where a VM would go", True)
    quota = free_quota(world, request)
    refused = request.refusal == "no_capacity"
    # Each try of a request that can wait follows the end of a VM; a bound on them would let later requests overtake it.
    may_try = request.may_wait or request.refusals < MAX_REFUSALS
    worth_trying = not refused or (request.freed_since and may_try)
    if quota.now.covers(request.quota) and worth_trying:
        if refused and request.may_wait and _is_being_tried(request, world):
            return Wait("another VM of this size is being tried")
        return Place()
    if refused:  # quota alone would not help it
        return _decide_refused(request, world)
    if request.only is not None and not quota.soon.covers(request.quota):
        # Its server group leaves few hosts. Quota that is freed elsewhere would be of no use if they are full.
        return _decide_refused(request, world)
    bins = ListedBins(
        lambda building: [quota_bin(request, world, building)],
        world,
        lambda _: quota.sure.covers(request.quota + quota.shortfall),
    )
    return _decide_by_plan(request, world, QUOTA, bins)


def _is_being_tried(request: Request, world: World) -> bool:
    """True while the cloud has not said yet where a VM of this size goes, or that it goes nowhere. Those that wait in
    the queue are tried one after the other: a thousand creates for one VM that has left would be refused."""
    return any(vm.id != request.id and vm.quota == request.quota and not vm.host_id for vm in world.vms.building)


def _decide_refused(request: Request, world: World) -> Decision:
    """The decision after the cloud had no capacity for the request. A tenant learns no more than that."""
    if any(vm.evicted_for != request.id for vm in world.vms.leaving):
        return Wait("a VM is leaving and may make room")
    if request.is_preemptible:
        return Refuse("no_capacity", "no host has room for it now, and a preemptible VM evicts nobody")
    if any(vm.id != request.id for vm in world.vms.building):
        return Wait("other VMs are being built; where they land decides")
    return _decide_by_plan(request, world, HOST_GROUP, GroupBins(request, world))


# ---------------------------------------------------------------- both modes


def _decide_by_plan(request: Request, world: World, kind: str, bins: Bins, no_host: str | None = None) -> Decision:
    """The decision for a request that does not fit now. `no_host`: why no host is eligible; None when one is."""
    coming = bins.free_soon()
    if request.is_preemptible:
        if coming is not None:
            return Wait("VMs are leaving and make room")
        if not free_quota(world, request).soon.covers(request.quota):
            return Refuse(
                "quota_exceeded",
                "it does not fit the quota now, and a preemptible VM evicts nobody",
                not world.quota_limit.covers(request.quota),
            )
        return Refuse(
            "no_capacity",
            f"{no_host or 'no host has room for it now'}, and a preemptible VM evicts nobody",
            _fits_nowhere(request, world),
        )
    if coming is not None:
        if not bins.is_sure(coming):
            return Wait(_UNCOUNTED, brief=True)
        return Evict(kind, coming, (), _FREED_ALREADY, True)
    return _decide_by_victims(request, world, kind, bins, no_host)


def _decide_by_victims(request: Request, world: World, kind: str, bins: Bins, no_host: str | None) -> Decision:
    outcome = bins.plan(False, world.budgets)
    if isinstance(outcome, Preempt):
        return _evict(request, world, kind, outcome, *bins.basis(outcome.bin_id))
    building = any(vm.is_preemptible for vm in world.vms.building)
    if building and not isinstance(bins.plan(True, world.budgets), NoPlan):
        return Wait("VMs that could make room are still being built")
    if groups := _groups_used_up(bins, world):
        return _wait_for_budgets(request, world, groups)
    if reason := quota_shortage(request, world):
        return Refuse("quota_exceeded", reason, not world.quota_limit.covers(request.quota))
    assert isinstance(outcome, NoPlan), "free_soon found no bin in which the request fits"
    message = " ".join(filter(None, (no_host or outcome.reason, bins.advice())))
    return Refuse("no_capacity", message, _fits_nowhere(request, world))


def _fits_nowhere(request: Request, world: World) -> bool:
    """True when no host that vmsvc knows would take the request, were it empty and up. A tenant knows no host."""
    return bool(world.hosts) and not any(could_take(host, request) for host in world.hosts.values())


def _evict(request: Request, world: World, kind: str, found: Preempt, bin_id: str, basis: Basis | None) -> Decision:
    """Evict by this plan, unless the rounds are used up or `why_futile` decides otherwise."""
    if request.rounds >= MAX_ROUNDS:
        return _refuse_more_rounds(request, world)
    return why_futile(request, world) or Evict(
        kind,
        bin_id,
        found.victims,
        found.criterion,
        found.optimal,
        plan_cost(found.objective, world, found.victims),
        runner_up_cost(found.runner_up, world),
        basis=basis,
    )


def _refuse_more_rounds(request: Request, world: World) -> Refuse:
    """The refusal after the last round. Its message depends on the mode: only an operator sees what hosts have free."""
    if request.refusal is None:
        why = "its victims could not leave, or other VMs took the capacity that they freed"
    elif world.operator:
        why = f"the freed capacity was in use again when the cloud refused it ({request.cloud_message})"
    else:
        why = (
            f"the cloud refused it each time ({request.cloud_message}), and does not show a project whether the "
            "freed capacity was still there"
        )
    return Refuse("no_capacity", f"after {MAX_ROUNDS} rounds of eviction there is no capacity for it: {why}")


def _wait_for_budgets(request: Request, world: World, groups: frozenset[str]) -> Decision:
    """Postpone the request until these groups have budget again, for `world.patience` seconds at most."""
    names = ", ".join(sorted(groups))
    if request.rounds >= MAX_ROUNDS:
        return _refuse_more_rounds(request, world)
    if request.waited >= world.patience:
        return Refuse("no_capacity", f"the budget of eviction group {names} has been used up all the while")
    return Postpone(f"as many VMs of eviction group {names} as may go at once are noticed or leaving", groups)


def _groups_used_up(bins: Bins, world: World) -> frozenset[str]:
    """The groups whose budgets prevent a plan only now; empty when there is no plan with full budgets either."""
    if all(world.budgets.get(group, 0) >= most for group, most in world.full_budgets.items()):
        return frozenset()
    outcome = bins.plan(True, world.full_budgets)
    victims = outcome.victims if isinstance(outcome, Preempt) else ()
    return frozenset(group for group in (world.vms[victim].group for victim in victims) if group)
