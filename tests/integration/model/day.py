"""Hours in the life of a service: one replica, real PostgreSQL, a model cloud, and a clock that jumps from one event to
the next."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest

from tests.integration.model.clock import Clock
from tests.integration.model.cloud import ModelCloud, quota, room
from tests.integration.model.replica import Replica
from tests.integration.model.stepping import Steps
from tests.integration.model.story import Deaths
from vmsvc.domain.lineage import Terms
from vmsvc.domain.principal import Principal
from vmsvc.domain.request import Waits
from vmsvc.service import commands, usage
from vmsvc.service.scheduling import scheduler

_GRACE = 1.0
_MOST_STEPS = 20_000  # from one moment at rest to the next
#: VMs that are on their way, and what is left to do for them.
_BUSY = """
SELECT id FROM vm WHERE state IN ('building', 'noticed', 'evicting', 'deleting')
    OR (state = 'pending' AND queued_why IS NULL AND coalesce(not_before <= clock_timestamp(), true))
UNION ALL SELECT vm_id FROM intent WHERE done_at IS NULL"""


class Day:
    """`post` and `delete` are what clients do; `pass_by` lets time go on while the service works."""

    def __init__(self, clock: Clock, hosts: tuple[int, ...], cores: int = 1000):
        clock.begin()
        self.clock, self.steps, self.deaths = clock, Steps(), Deaths()
        self._patch, self._posts = pytest.MonkeyPatch(), 0
        sizes = {f"host-{number}": size for number, size in enumerate(hosts)}
        self.cloud = ModelCloud("operator", self.steps.gate, clock, sizes, cores)
        logging.getLogger("vmsvc").addHandler(self.deaths)
        # A pass after a second is one after a second of this clock.
        self._patch.setattr(scheduler, "time", SimpleNamespace(monotonic=self.steps.loop.time))
        self._patch.setattr(usage, "time", SimpleNamespace(monotonic=self.steps.loop.time))
        self.replica = Replica("a", self.steps, self.cloud, _GRACE, 16, lambda step: None, keeps_deadlines=True)

    def close(self) -> None:
        """End the replica."""
        logging.getLogger("vmsvc").removeHandler(self.deaths)
        self._patch.undo()
        self.replica.crash()
        self.steps.loop.close()

    @property
    def now(self) -> datetime:
        """The clock of the database and of the cloud."""
        return self.clock.now

    def rows(self, query: str, *values: object) -> list[dict]:
        """Look into the database."""
        return self.clock.rows(query, *values)

    # ------------------------------------------------------------ clients

    def post(self, owner: str, cpus: int = 1, *, wait: int = 0, terms: Terms | None = None, **columns) -> str:
        """POST of a preemptible VM; its vmsvc id."""
        self._posts += 1
        vm_id = f"{owner}-{self._posts}"
        boot = dict.fromkeys(("key_name", "user_data", "availability_zone"))
        boot |= {"asked": {}, "flavor_id": str(cpus), "image_id": "image", "network_id": "network", "metadata": {}}
        request = {
            "name": vm_id,
            "is_preemptible": True,
            "priority": 0,
            "min_run_seconds": 0,
            "flavor": f"m{cpus}",
            "image": "image",
            "network": "network",
            "boot": boot,
            "quota": dict(quota(cpus)),
            "room": dict(room(cpus)),
            **columns,
        }
        principal = Principal(owner, False, owner)
        commands._accept(vm_id, request, principal, None, Waits(wait), 1000, terms)  # pylint: disable=protected-access
        self.replica.wake()
        return vm_id

    def delete(self, vm_id: str) -> None:
        """DELETE by the owner."""
        commands._request_deletion(vm_id)  # pylint: disable=protected-access
        self.replica.wake()

    # ------------------------------------------------------------ time

    def pass_by(self, seconds: float, stride: float = 1.0) -> None:
        """So much time passes, in strides of so many seconds at most while nothing is under way."""
        end = self.now + timedelta(seconds=seconds)
        self.settle()
        while self.now < end:
            self._advance(min(stride, max(0.001, (end - self.now).total_seconds())))
            self.settle()

    def settle(self, seconds: float = 60.0) -> None:
        """Until nothing is under way: time passes where all wait for it."""
        limit = self.now + timedelta(seconds=seconds)
        for _ in range(_MOST_STEPS):
            if able := [*self.steps.waiting, *self.cloud.busy()]:
                for one in able:
                    self._step(one)
            elif not self.rows(_BUSY):
                return
            else:
                assert self.now < limit, self.rows(_BUSY)
                self._advance(0.25)
        raise AssertionError(f"no rest: {self.rows(_BUSY)}")

    def until(self, happened: Callable[[], object], seconds: float, stride: float = 1.0) -> None:
        """Until this has happened, for so long at most."""
        limit = self.now + timedelta(seconds=seconds)
        while not happened():
            assert self.now < limit, "it did not happen in time"
            self.pass_by(stride, stride)

    def _step(self, one) -> None:
        self.clock.advance(0.001)
        if one in self.steps.waiting:
            self.steps.let_on(one)
        elif one in self.cloud.busy():
            self.cloud.step(one)
        assert not self.deaths.found, self.deaths.found
        for death in self.replica.died():
            raise death

    def _advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.steps.loop.now += seconds
        self.steps.turn()
