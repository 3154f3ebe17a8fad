"""A world that is kept and brought up to date is decided upon as one that was built anew."""

import random
from dataclasses import replace

import pytest

from tests.examples import examples
from tests.unit.worlds import host, operator, request, reserved, vm
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.planner import Bin, Preempt, join_quota, plan
from vmsvc.scheduling.batching import decide_batch
from vmsvc.scheduling.candidates import (
    as_candidate,
    by_host,
    candidate_vms,
    candidates_on,
    frees,
    plan_cost,
    runner_up_cost,
)
from vmsvc.scheduling.decide import decide, review
from vmsvc.scheduling.decisions import Evict, Place
from vmsvc.scheduling.eligibility import eligible
from vmsvc.scheduling.free_capacity import free_on_hosts, free_quota
from vmsvc.scheduling.host_index import IndexedWorld
from vmsvc.scheduling.vms import VmIndex
from vmsvc.scheduling.world import HOST, PROJECT

OWNERS = ("ann", "bob", "cleo")
STATES = (*[State.ACTIVE] * 6, State.BUILDING, State.NOTICED, State.EVICTING, State.EVICTED)


class Cloud:
    """A random cloud of a few hosts, and a world of it that is kept while it changes."""

    def __init__(self, rng):
        self.rng = rng
        self.vms = {}
        self.hosts = {}
        self.reservations = {}
        self.lost = {}
        self.now = 1000
        self.limit = self.budget = self.most = 0
        self.kept = operator(hosts=[])
        for number in range(5):
            self.host(f"sim-{number}")
        for _ in range(12):
            self.vm()

    def vm(self):
        """A VM comes, changes or goes."""
        rng, name = self.rng, f"v{self.rng.randint(0, 19)}"
        place = f"sim-{rng.randint(0, 5)}"
        if rng.random() < 0.2:
            self.vms.pop(name, None)
            self.kept.vms.drop(name)
        else:
            state, cpus = rng.choice(STATES), rng.choice((1, 1, 2, 3))
            launched = self.now - rng.choice((0, 0, 10, 50))
            self.vms[name] = vm(
                name,
                cpus,
                host=place,
                state=state,
                priority=rng.choice((0, 0, 1)),
                present=rng.random() < 0.9,
                is_preemptible=rng.random() < 0.85,
                untouchable=rng.random() < 0.1,
                uncounted=rng.random() < 0.1,
                protected_until=launched + rng.choice((0, 0, 60)),
                ran=rng.random() < 0.9,
                rate=rng.choice((cpus, -1, 0)),
                since=launched,
                owner=rng.choice(OWNERS),
                group=rng.choice((None, None, "web")),
                evicted_for=rng.choice(("x", "y")) if state in (State.NOTICED, State.EVICTING) else None,
            )
            self.kept.vms.put(self.vms[name])
        self.host(place)

    def host(self, name):
        """A host changes: what is on it, whether it is up, how large it is."""
        rng = self.rng
        if rng.random() < 0.05:
            self.hosts.pop(name, None)
            self.kept.hosts.pop(name, None)
        else:
            inventories = {"VCPU": Inventory(rng.choice((2, 3, 5))), "MEMORY_MB": Inventory(8192)}
            held = {
                each.cloud_id: each.resources for each in self.vms.values() if each.host == name and rng.random() < 0.9
            }
            if rng.random() < 0.4:
                held["foreign"] = Resources({"VCPU": rng.randint(1, 3), "MEMORY_MB": 512})
            self.hosts[name] = self.kept.hosts[name] = Host(
                name,
                inventories,
                held,
                available=rng.random() < 0.95,
                availability_zone=rng.choice(("nova", "nova", "other")),
            )
        self.kept.mark_changed(name)

    def reserve(self):
        """Room is promised to somebody, or no longer."""
        name = self.rng.choice(("x", "y"))
        if not self.reservations.pop(name, None):
            self.reservations[name] = reserved(name, HOST, f"sim-{self.rng.randint(0, 5)}", self.rng.randint(1, 3))
        self.kept.set_reservations(dict(self.reservations))

    def lose(self):
        """An owner loses a VM, or a loss is long past."""
        owner = self.rng.choice(OWNERS)
        self.lost = {**self.lost, owner: max(0, self.lost.get(owner, 0) + self.rng.choice((7, 7, -7)))}
        for each in self.vms.values():
            self.kept.mark_changed(each.host)

    def step(self):
        """Something changes, and time passes."""
        self.rng.choices(
            (self.vm, lambda: self.host(f"sim-{self.rng.randint(0, 5)}"), self.reserve, self.lose), (6, 2, 1, 1)
        )[0]()
        self.now += self.rng.choice((0, 0, 1, 5, 30, -2))

    def facts(self):
        """All of a world that is not kept by small steps."""
        used = sum((each.quota for each in self.vms.values() if each.present), Resources())
        limits = Resources({"instances": 100, "cores": self.limit, "ram": 100_000})
        return {
            "quota_limit": limits,
            "quota_used": used,
            "now": self.now,
            "surcharges": dict(self.lost),
            "budgets": {"web": self.budget},
            "full_budgets": {"web": 2},
            "max_victims": self.most,
        }

    def worlds(self):
        """The kept world and one built anew."""
        self.limit, self.budget, self.most = (self.rng.choice(each) for each in ((100, 100, 12), (0, 1, 9), (2, 20)))
        for name, value in self.facts().items():
            setattr(self.kept, name, value)
        usual = self.lost.get("ann", 0)  # what is usual changes no decision
        if usual != self.kept.common_surcharge:
            self.kept.common_surcharge = usual
            self.kept.vms.mark_changed(self.kept.hosts)
        return self.kept, IndexedWorld(
            operator=True,
            hosts=dict(self.hosts),
            vms=VmIndex(self.vms.values()),
            reservations=dict(self.reservations),
            **self.facts(),
        )


def wanted(rng):
    """A request of some size."""
    return request(
        "wanted",
        rng.choice((1, 1, 2, 3, 4, 7)),
        availability_zone=rng.choice((None, None, "nova")),
        is_preemptible=rng.random() < 0.2,
        avoid=frozenset(rng.sample(["sim-1", "sim-2"], rng.randint(0, 1))),
    )


def test_victims_are_searched_only_when_there_is_no_capacity(monkeypatch):
    looks = []
    monkeypatch.setattr(
        "vmsvc.scheduling.host_index.candidates_on", lambda *given: looks.append(given) or candidates_on(*given)
    )
    old = vm("old", 1)
    world = operator(old, hosts=[host(vms=(old,))])
    asked = request("new", 1)
    assert isinstance(decide(asked, world), Place) and not looks
    world.place(asked, "sim-1")
    for number in range(20):
        decision = decide(request(f"next-{number}", 1), world)
        if not isinstance(decision, Place):
            break
        assert not looks
        world.place(request(f"next-{number}", 1), decision.host)
    assert isinstance(decision, Evict) and decision.victims == ("old",) and looks


@pytest.mark.parametrize("seed", range(examples(8, 20)))
def test_whatever_changed_before_the_decision_is_the_same(seed):
    rng = random.Random(seed)
    cloud, kinds = Cloud(rng), set()
    for _ in range(60):
        cloud.step()
        kept, anew = cloud.worlds()
        asked = wanted(rng)
        decision = decide(asked, anew)
        with kept.trial():
            assert decide(asked, kept) == decision
            if isinstance(decision, Evict) and decision.victims and rng.random() < 0.5:
                several = [replace(asked, id=name) for name in ("wanted", "second", "third")]
                assert decide_batch(several, decision.kind, kept) == decide_batch(several, decision.kind, anew)
            for world in (kept, anew):  # what is decided is seen by the next, and forgotten after the trial
                apply_decision(asked, decision, world)
            following = replace(wanted(rng), id="following")
            assert decide(following, kept) == decide(following, anew)
            if asked.id in kept.reservations:
                assert review(asked, kept.reservations[asked.id], kept) == review(
                    asked, anew.reservations[asked.id], anew
                )
        kinds.add(type(decision))
    assert kinds >= {Place, Evict}


def apply_decision(asked, decision, world):
    """What the service does to the world."""
    match decision:
        case Place(host=name):
            world.place(asked, name)
        case Evict():
            world.reserve(asked, decision.kind, decision.bin, decision.victims, {})


@pytest.mark.parametrize("seed", range(examples(8, 20)))
def test_it_is_decided_as_the_planner_would_over_all_hosts(seed):
    rng = random.Random(seed)
    cloud, found = Cloud(rng), 0
    for _ in range(60):
        cloud.step()
        kept, world = cloud.worlds()
        asked = replace(wanted(rng), is_preemptible=False)
        outcome, decision = over_all(asked, world), decide(asked, kept)
        assert (isinstance(decision, Evict) and bool(decision.victims)) == isinstance(outcome, Preempt)
        if isinstance(outcome, Preempt):
            found += 1
            assert (decision.bin, decision.victims, decision.criterion, decision.cost, decision.runner_up) == (
                outcome.bin_id,
                outcome.victims,
                outcome.criterion,
                plan_cost(outcome.objective, world, outcome.victims),
                runner_up_cost(outcome.runner_up, world),
            )
    assert found


def over_all(asked, world):
    """The plan over the bins of all hosts, without any index."""
    hosts = [each for each in world.hosts.values() if eligible(each, asked)]
    on_hosts, free = free_on_hosts(world, hosts, asked), free_quota(world, asked)
    if free.now.covers(asked.quota) and any(host.now.covers(asked.resources) for host in on_hosts.values()):
        return None
    victims = candidate_vms(world, False)
    there = by_host(victims)
    bins = [
        Bin(
            each.name,
            asked.resources + on_hosts[each.name].shortfall,
            on_hosts[each.name].soon,
            on_hosts[each.name].capacity,
            tuple(as_candidate(one, held, world) for one in there.get(each.name, []) if (held := frees(one, each))),
        )
        for each in hosts
    ]
    project = Bin(
        PROJECT,
        asked.quota + free.shortfall,
        free.soon,
        free.capacity,
        tuple(as_candidate(one, one.quota, world) for one in victims),
    )
    return plan(
        join_quota(bins, project, max_victims=world.max_victims, now=world.now),
        max_victims=world.max_victims,
        now=world.now,
        budgets=world.budgets,
    )
