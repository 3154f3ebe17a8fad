"""A replica of the service: the real loops and performers on the model's cloud, each step let on by the test."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context

from tests.integration.model.cloud import ModelCloud
from tests.integration.model.server_caches import ModelHostCache, ModelServerCache
from tests.integration.model.stepping import OWNER, Steps
from tests.unit.shown import DEPLOYMENT
from vmsvc.domain.errors import VmsvcError
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.candidates import Policy
from vmsvc.service.acting.create_server import CreateServer
from vmsvc.service.acting.notice import NoticeWriter
from vmsvc.service.acting.remove_server import RemoveServer
from vmsvc.service.acting.worker import Worker
from vmsvc.service.reconciler import Reconciler
from vmsvc.service.scheduling.deadlines import Deadlines
from vmsvc.service.scheduling.rehearsals import Rehearsals
from vmsvc.service.scheduling.scheduler import Scheduler
from vmsvc.service.scheduling.snapshot import Snapshots
from vmsvc.service.scheduling.verdicts import Verdicts
from vmsvc.service.scheduling.world_cache import WorldCache
from vmsvc.store import intents


class ModelRuntime:
    """Database functions run when their gate opens, in the one thread there is."""

    def __init__(self, gate, after: Callable[[str], None]):
        self._gate = gate
        self._after = after

    async def offload(self, function, *args):
        """One transaction is one step; `after` is called with its name when it has committed."""
        name = getattr(function, "__name__", "?")
        await self._gate(name)
        result = function(*args)
        self._after(name)
        return result

    def mark_ready(self, name: str) -> None:
        """Nobody asks."""


class Replica:
    """One process of the service, until it crashes."""

    def __init__(
        self,
        name: str,
        steps: Steps,
        cloud: ModelCloud,
        grace_seconds: float,
        max_victims: int,
        after: Callable[[str], None],
        policy: Policy | None = None,
        keeps_deadlines: bool = False,
    ):
        self.name = name
        self._steps = steps
        self._wakeups = [asyncio.Event(), asyncio.Event()]
        runtime, host_cache = ModelRuntime(steps.gate, after), ModelHostCache(cloud)
        self.server_cache = server_cache = ModelServerCache(cloud)
        remove_server = RemoveServer(runtime, cloud, server_cache, Timing(), True)
        notice_writer = NoticeWriter(runtime, cloud, True)
        verdicts = Verdicts(cloud, Rehearsals(cloud, lambda: DEPLOYMENT, steps.loop.time), Timing())
        create_server = CreateServer(
            runtime, cloud, server_cache, host_cache, remove_server, verdicts, DEPLOYMENT, Timing()
        )
        world_cache = WorldCache(policy or Policy(max_victims=max_victims), Timing())
        self.scheduler = Scheduler(
            runtime,
            cloud,
            server_cache,
            world_cache,
            Snapshots(cloud, server_cache, host_cache, verdicts, world_cache.add_changes),
            self._wakeups[0],
            self.wake,
            Timing(),
            grace_seconds=grace_seconds,
        )
        work = {
            intents.BOOT: create_server.perform,
            intents.NOTICE: notice_writer.perform,
            intents.REPRIEVE: notice_writer.perform,
            intents.EVICT: remove_server.evict,
            intents.DELETE: remove_server.delete,
        }
        self._worker = Worker(runtime, work, self._wakeups[1], Timing())
        self._worker.owner = name
        loops = {
            "scheduler": self.scheduler.run,
            "actuator": self._worker.run,
            "leases": self._worker.renew,
            "reconciler": Reconciler(runtime, cloud, server_cache, Timing(), DEPLOYMENT).run,
        }
        if keeps_deadlines:
            loops["deadlines"] = Deadlines(runtime, self.wake, Timing()).run
        context = copy_context()
        context.run(OWNER.set, name)
        self._tasks = [
            steps.loop.create_task(_kept(loop), name=f"{name} {task}", context=context) for task, loop in loops.items()
        ]
        steps.turn()

    def wake(self) -> None:
        """Wake its loops."""
        for wakeup in self._wakeups:
            wakeup.set()

    def died(self) -> list[BaseException]:
        """What its loops died of: nothing may kill one here."""
        return [task.exception() for task in self._tasks if task.done() and not task.cancelled()]

    def crash(self) -> None:
        """All that is not in the database or in the cloud is forgotten."""
        self._steps.cancel([*self._tasks, *self._worker._under_way.values()])  # pylint: disable=protected-access


async def _kept(loop) -> None:
    """As `Runtime.supervise` does: what a loop raises on purpose ends one round of it, not the loop."""
    while True:
        try:
            await loop()
        except VmsvcError:
            await asyncio.sleep(1)
