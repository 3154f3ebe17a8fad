"""A world that was kept up to date by changes is equal to one that is built from nothing."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.examples import examples
from tests.unit.test_snapshot import NOW, row, server
from tests.unit.worlds import one_of, request
from vmsvc.cloud.port import MARK, Quota
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.scheduling.candidates import Policy, as_candidate
from vmsvc.scheduling.decide import decide
from vmsvc.scheduling.decisions import Evict
from vmsvc.scheduling.host_groups import held_now
from vmsvc.service.scheduling.world_builder import CloudChanges, Commitments, WorldBuilder
from vmsvc.store.models import Reservation
from vmsvc.store.vm_cache import VmRow

POLICY = Policy(owner_cost=50)
QUOTA = Quota({"instances": 100}, Resources({"instances": 1}))
STATES = (State.PENDING, State.BUILDING, *[State.ACTIVE] * 5, State.NOTICED, State.EVICTING, State.DELETED)


class Life:
    """Rows, servers and hosts that change at random, and a world that is kept."""

    def __init__(self, seed, operator=True):
        self.operator = operator
        self.rng = random.Random(seed)
        self.kept = WorldBuilder(POLICY)
        self.rows, self.servers, self.hosts, self.lost = {}, {}, {}, {}
        self.changed, self.changes = set(), (set(), set())
        self.added, self.removed, self.exempt, self.reservations = frozenset(), frozenset(), frozenset(), []
        self.quota = QUOTA

    def change_row(self):
        """A row is new, changes, or is left out."""
        rng = self.rng
        name, goes = one_of(rng, "abcdefgh", self.rows, self.changed, leaves=0.15)
        if goes:
            return
        state = rng.choice(STATES)
        found = row(
            name,
            state,
            cloud_id=None if state is State.BUILDING and rng.random() < 0.5 else name.upper(),
            priority=rng.choice((0, 1)),
            group_name=rng.choice((None, "web")),
            max_unavailable=rng.choice((1, 2)),
            principal=rng.choice(("ann", "bob")),
            min_run_seconds=rng.choice((0, 0, 150)),
            evicted_for="w" if state in (State.NOTICED, State.EVICTING) else None,
        )
        self.rows[name] = VmRow(*(getattr(found, column) for column in VmRow._fields))

    def change_server(self):
        """A server comes, changes or goes."""
        rng = self.rng
        name, goes = one_of(rng, "ABCDEFGH", self.servers, self.changes[0], leaves=0.3)
        if not goes:
            self.servers[name] = server(
                name,
                host=rng.choice(("sim-1", "sim-2") * 3 + (None,)),
                status=rng.choice(("ACTIVE",) * 5 + ("ERROR", "BUILD", "SHELVED_OFFLOADED")),
                host_id=rng.choice(("id-1", "id-2", "")),
                resources=Resources({"VCPU": rng.choice((1, 2))}),
                locked=rng.random() < 0.2,
                metadata={MARK: rng.choice((name,) * 7 + ("H",)).lower()},
            )
        for place in ("sim-1", "sim-2"):
            self.change_host(place)

    def change_host(self, name):
        """What is held on a host changes, or the host comes or goes."""
        self.changes[1].add(name)
        held = {each.id: each.resources for each in self.servers.values() if each.host == name}
        self.hosts[name] = Host(name, {"VCPU": Inventory(self.rng.choice((2, 4)))}, held, availability_zone="nova")
        if self.rng.random() < 0.1:
            del self.hosts[name]

    def step(self):
        """Something happens."""
        self.rng.choice((self.change_row, self.change_row, self.change_server))()
        if self.rng.random() < 0.3:
            self.lost = {owner: self.rng.randint(0, 3) for owner in ("ann", "bob")}
        names = list("ABCDEFGH")
        self.added, self.removed = (frozenset(self.rng.sample(names, self.rng.choice((0, 0, 2)))) for _ in range(2))
        self.added &= self.servers.keys()
        self.removed -= self.servers.keys()
        self.exempt = frozenset(self.rng.sample("abcdefgh", self.rng.choice((0, 0, 1))))
        self.quota = replace(QUOTA, metadata_items=self.rng.choice((1, 2, 2, 2)))
        self.reservations = [Reservation(vm_id="w", bin_kind="host", bin="sim-1", members={})] * self.rng.randint(0, 1)

    def worlds(self, now):
        """The kept one, and one anew."""
        self.kept.add_changes(
            CloudChanges(
                *(
                    {name: known.get(name) for name in names}
                    for names, known in zip(self.changes, (self.servers, self.hosts))
                )
            )
        )
        anew = WorldBuilder(POLICY)
        anew.add_changes(CloudChanges(self.servers, self.hosts))
        rows = {**self.rows, "w": VmRow(*(getattr(row("w", State.PENDING), column) for column in VmRow._fields))}
        how = {"operator": self.operator, "added": self.added, "removed": self.removed}
        promises = Commitments(now, self.reservations, self.lost, self.exempt)
        worlds = (
            self.kept.update(rows, self.changed | {"w"}, self.quota, promises, **how),
            anew.update(rows, rows, self.quota, promises, **how),
        )
        self.changed, self.changes = set(), (set(), set())
        return worlds


def costs(world):
    """What everybody's going costs, in full."""
    return {
        vm.id: as_candidate(vm, vm.resources, world).lost_work_at(world.now) + world.common_surcharge
        for vm in world.vms.values()
    }


@pytest.mark.parametrize("seed", range(examples(7, 20)))
def test_whatever_changed_it_shows_the_same_world(seed):
    life, evictions = Life(seed), 0
    for at in range(120):
        life.step()
        if at % 40 == 39:
            life.kept.forget()
            life.changed.update(life.rows)
        kept, anew = life.worlds(NOW + timedelta(seconds=at))
        assert dict(kept.vms) == dict(anew.vms)
        assert (kept.hosts, kept.reservations, kept.budgets, kept.full_budgets, kept.now) == (
            anew.hosts,
            anew.reservations,
            anew.budgets,
            anew.full_budgets,
            anew.now,
        )
        assert costs(kept) == costs(anew)
        asked = replace(request("n"), resources=Resources({"VCPU": life.rng.choice((1, 2, 4))}))
        decision = decide(asked, anew)
        assert decide(asked, kept) == decision
        evictions += isinstance(decision, Evict) and bool(decision.victims)
    assert evictions


@pytest.mark.parametrize("seed", range(examples(4, 10)))
def test_what_a_tenant_s_hosts_hold_is_the_same_whatever_changed(seed):
    """All servers count once: by their VM, or as foreign."""
    life, foreign = Life(seed, operator=False), 0
    for at in range(120):
        life.step()
        if at % 40 == 39:
            life.kept.forget()
            life.changed.update(life.rows)
        kept, anew = life.worlds(NOW + timedelta(seconds=at))
        assert kept.foreign == anew.foreign
        assert held_now(kept) == held_now(anew)
        for host_id, held in held_now(kept).items():
            there = [one for one in life.servers.values() if one.host_id == host_id]
            holding = [one.resources["VCPU"] for one in there if one.status != "SHELVED_OFFLOADED"]
            gone = [
                vm for vm in kept.vms.values() if vm.present and vm.host_id == host_id and vm.cloud_id in life.removed
            ]
            assert held["VCPU"] >= sum(holding), "whoever may hold something there is counted"
            assert gone or held["VCPU"] <= 2 * len(there), (held, there)
        foreign += bool(kept.foreign)
    assert foreign


def test_what_the_largest_owner_loses_touches_no_host():
    life = Life(0)
    life.hosts = {"sim-1": Host("sim-1", {"VCPU": Inventory(8)}, {}, availability_zone="nova")}
    for name in "abc":
        life.rows[name] = VmRow(*(getattr(row(name), column) for column in VmRow._fields))
        life.servers[name.upper()] = server(name.upper())
        life.changed.add(name)
    life.changes = set(life.servers), set(life.hosts)
    world, _ = life.worlds(NOW)
    before = costs(world)
    world.vms.take_changed()
    life.lost = {"anonymous": 2}
    world, _ = life.worlds(NOW)
    assert not world.vms.take_changed()
    assert costs(world) == {name: cost + 100 for name, cost in before.items()}
