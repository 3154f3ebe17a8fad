"""A story: deeds in their order, told to the service and the model cloud, and an end at which all rests."""

import logging
import random

from tests.integration.model.clock import Clock
from tests.integration.model.cloud import ModelCloud, quota, room
from tests.integration.model.deeds import Setting
from tests.integration.model.promises import Promises
from tests.integration.model.replica import Replica
from tests.integration.model.stepping import Steps
from vmsvc.domain.errors import NotFound
from vmsvc.domain.principal import ANYBODY
from vmsvc.service import commands
from vmsvc.service.evictions import record as evictions

_GRACE = 6.0
_MOST_STEPS = 1500  # until everything has come to rest


class Deaths(logging.Handler):
    """What the service logs with a traceback is a defect."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.found.append(f"{record.getMessage()}: {record.exc_info[1]!r}")
            raise record.exc_info[1]


class Story:
    """What may happen: each deed is a method; `tell` does one after the other and then lets all come to rest."""

    def __init__(self, clock: Clock, setting: Setting):
        clock.begin()
        self.clock = clock
        self.steps = Steps()
        self.deaths = Deaths()
        self.names = self.steps_made = 0
        self.cloud = ModelCloud(
            setting.mode,
            self.steps.gate,
            clock,
            {f"host-{number}": size for number, size in enumerate(setting.hosts)},
            setting.cores,
        )
        self.promises = Promises(clock, self.cloud)
        self.victims = setting.max_victims
        self.replicas: list[Replica] = []
        self.first = setting.first

    def tell(self, deeds) -> None:
        """The whole story, to its end."""
        logging.getLogger("vmsvc").addHandler(self.deaths)
        try:
            self.replicas = [self._start() for _ in range(2)]
            for cpus, priority in self.first:
                self.preemptible_post(cpus, priority, None)
            self._settle(lambda: not self.clock.rows("SELECT 1 FROM vm WHERE state IN ('pending', 'building')"))
            for name, arguments in deeds:
                getattr(self, name)(*arguments)
            self._end()
        finally:
            logging.getLogger("vmsvc").removeHandler(self.deaths)
            for replica in self.replicas:
                replica.crash()
            self.steps.loop.close()

    def _start(self) -> Replica:
        self.names += 1
        return Replica(f"replica-{self.names}", self.steps, self.cloud, _GRACE, self.victims, self.promises.hold)

    # ------------------------------------------------------------ clients

    def _post(self, is_preemptible, cpus, **facts):
        self.names += 1
        vm_id = f"{'p' if is_preemptible else 's'}{self.names}"
        commands._accept(  # pylint: disable=protected-access
            vm_id,
            {
                "name": vm_id,
                "is_preemptible": is_preemptible,
                "priority": 0,
                "min_run_seconds": 0,
                "flavor": f"m{cpus}",
                "image": "image",
                "network": "network",
                "boot": {
                    "asked": {},
                    "flavor_id": str(cpus),
                    "image_id": "image",
                    "network_id": "network",
                    "key_name": None,
                    "user_data": None,
                    "metadata": {},
                    "availability_zone": None,
                },
                "quota": dict(quota(cpus)),
                "room": dict(room(cpus)),
                **facts,
            },
            ANYBODY,
            None,
        )
        self.replicas[0].wake()

    def standard_posts(self, cpus, count):
        """Standard VMs are asked for, perhaps several at once."""
        for _ in range(count):
            self._post(False, cpus)

    def preemptible_post(self, cpus, priority, group):
        """A preemptible VM is asked for; the name of its group is its budget."""
        self._post(True, cpus, priority=priority, group_name=group and f"group-{group}", max_unavailable=group)

    def _some_vm(self, number, states):
        rows = self.clock.rows("SELECT id, cloud_id FROM vm WHERE state IN %s ORDER BY id", states)
        return rows[number % len(rows)] if rows else None

    def owner_deletes(self, number):
        """DELETE of any VM, whatever it is at."""
        if row := self._some_vm(number, ("pending", "building", "active", "noticed")):
            try:
                commands._request_deletion(row["id"])  # pylint: disable=protected-access
            except NotFound:
                pass
            self.replicas[0].wake()
            self.promises.hold("delete")

    def victim_acknowledges(self, number):
        """A victim lets itself go early."""
        if row := self._some_vm(number, ("noticed",)):
            evictions._acknowledge(row["id"])  # pylint: disable=protected-access
            self.replicas[0].wake()

    def guest_powers_off(self, number):
        """A guest shuts itself down."""
        if row := self._some_vm(number, ("active", "noticed")):
            if machine := self.cloud.machines.get(row["cloud_id"]):
                machine.status = "SHUTOFF"

    def owner_locks(self, number):
        """A server is locked, or unlocked, in the cloud."""
        if row := self._some_vm(number, ("active", "noticed")):
            if machine := self.cloud.machines.get(row["cloud_id"]):
                machine.locked = not machine.locked
                self.promises.interfered = True

    def server_vanishes(self, number):
        """A server is deleted behind our back."""
        if row := self._some_vm(number, ("active", "noticed", "evicting")):
            if machine := self.cloud.machines.get(row["cloud_id"]):
                machine.task_state = "deleting"
                self.promises.interfered = True

    def outsider_comes(self, number, cpus, ours):
        """Somebody else takes room on a host, perhaps of our quota too."""
        host = list(self.cloud.sizes)[number % len(self.cloud.sizes)]
        if self.cloud.free(host) >= cpus:
            self.cloud.add(cpus, ours=ours, status="ACTIVE", host=host, holds=True)
            self.promises.interfered = True

    def outsider_goes(self, number):
        """Room appears by itself."""
        foreign = [each for each in self.cloud.machines.values() if "vmsvc_id" not in each.metadata]
        if foreign:
            del self.cloud.machines[foreign[number % len(foreign)].id]

    def host_goes_down_or_up(self, number):
        """A compute service stops, or is back."""
        host = list(self.cloud.sizes)[number % len(self.cloud.sizes)]
        self.cloud.down ^= {host}
        self.promises.interfered = True

    def nothing(self):
        """A deed that does not matter."""

    def answers_get_lost(self):
        """The next POST has its effect but no answer."""
        self.cloud.lose_answers += 1

    # ------------------------------------------------------------ the service and the cloud

    def crash(self, which):
        """A replica dies; another starts."""
        self.replicas[which].crash()
        self.replicas[which] = self._start()

    def time_passes(self, seconds):
        """Deadlines come nearer."""
        self._advance(seconds)

    def go_on(self, steps, seed):
        """So many steps of whoever is able to make one; some tasks sleep all the while."""
        chance = random.Random(seed)
        asleep = {}
        for _ in range(steps):
            able = [(gate, gate.task) for gate in self.steps.waiting] + [
                (machine, machine.id) for machine in self.cloud.busy()
            ]
            able = [one for one, name in able if not asleep.setdefault(name, chance.random() < 0.25)]
            if not able:
                break
            self._step(chance.choice(able))

    def _step(self, one) -> None:
        self.steps_made += 1
        self._tick()
        if one in self.steps.waiting:
            self.steps.let_on(one)
        else:
            self.cloud.step(one)
        assert not self.deaths.found, self.deaths.found
        for replica in self.replicas:
            for death in replica.died():
                raise death

    def _tick(self) -> None:
        self.clock.advance(0.001)

    def _advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.steps.loop.now += seconds
        self.steps.turn()

    # ------------------------------------------------------------ the end

    def _settle(self, at_rest) -> None:
        """Everybody goes on in turn, and time passes when nobody can, until all is at rest."""
        pause = 2.0
        for _ in range(_MOST_STEPS):
            if self.steps.waiting or self.cloud.busy():
                for one in [*self.steps.waiting, *self.cloud.busy()]:
                    if one in self.steps.waiting or one in self.cloud.busy():
                        self._step(one)
                continue
            if at_rest():
                return
            self._advance(pause)
            pause = min(8.0, pause * 2)
        raise AssertionError(f"no rest: {self._unfinished()}")

    def _unfinished(self) -> list:
        return (
            self.clock.rows(
                "SELECT id, state FROM vm WHERE state NOT IN ('active', 'evicted', 'deleted', 'failed', 'lost')"
            )
            + self.clock.rows("SELECT kind, vm_id, attempts FROM intent WHERE done_at IS NULL")
            + self.clock.rows("SELECT vm_id AS kept_for FROM reservation WHERE released_at IS NULL")
            + self._left_over()
        )

    def _left_over(self) -> list:
        """Servers that the reconciler has to find and remove, and rows whose server has gone."""
        held = {row["cloud_id"] for row in self.clock.rows("SELECT cloud_id FROM vm WHERE state = 'active'")}
        return sorted(held ^ {each.id for each in self.cloud.machines.values() if "vmsvc_id" in each.metadata})

    def _end(self) -> None:
        """Nobody meddles any more; what was begun comes to its end, and the books are right."""
        self.cloud.down.clear()
        for machine in self.cloud.machines.values():
            machine.locked = False
        self.replicas.pop().crash()
        self._settle(lambda: not self._unfinished())
        self.promises.at_rest()
