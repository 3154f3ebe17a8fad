"""Claims intents and carries them out, each as one coroutine under a lease.

A step may run twice (a lease that ran out, a crash), so each reads the row and the cloud before it acts. When a step
raises, the intent stays open, and the first replica that claims it after a while tries again.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping

from vmsvc.domain.errors import VmsvcError
from vmsvc.domain.timing import Timing
from vmsvc.service.events.listener import wait_for_wakeup
from vmsvc.service.runtime import Runtime
from vmsvc.store import intents
from vmsvc.store.db import Unit, unit
from vmsvc.store.intents import Claim

log = logging.getLogger(__name__)

_MAX_UNDER_WAY = 1000  # intents under way in one replica
_BATCH = 100
_IDLE_SECONDS = 2.0  # a lost notification costs this much
_FULFIL_DELAY = 0.1  # fulfilled intents are recorded so much later, if no notification comes before
_CANCEL_SECONDS = 5.0


Performer = Callable[[Claim], Awaitable[None]]


class Worker:
    """Claims and performs intents. `performers` by kind of intent: each returns when the intent is fulfilled or
    pointless, and raises otherwise."""

    def __init__(self, runtime: Runtime, performers: Mapping[str, Performer], wakeup: asyncio.Event, timing: Timing):
        self._runtime = runtime
        self._timing = timing
        self._performers = performers
        self._wakeup = wakeup
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._fulfilled: list[Claim] = []  # to be recorded with the next claiming, as one commit
        self._unreleased: set[int] = set()  # claims that could not be given back: the database was away
        self._claiming = asyncio.Lock()
        self._stopped = False
        self.owner = uuid.uuid4().hex

    @property
    def under_way(self) -> int:
        """How many intents are being carried out here."""
        return len(self._under_way)

    async def run(self) -> None:
        """Claim what is due, again and again."""
        while not self._stopped:
            async with self._claiming:
                slots = 0 if self._stopped else min(_BATCH, _MAX_UNDER_WAY - len(self._under_way))
                unreleased, fulfilled = frozenset(self._unreleased), tuple(self._fulfilled)
                claimed, pause = await self._runtime.offload(
                    _claim, self.owner, slots, self._timing.lease, unreleased, fulfilled
                )
                self._unreleased -= unreleased
                del self._fulfilled[: len(fulfilled)]
                for row in claimed:
                    self._start(row)
            self._runtime.mark_ready("actuator")
            if len(claimed) < slots or not slots:
                await wait_for_wakeup(
                    self._wakeup, min(_IDLE_SECONDS, max(0.01, _IDLE_SECONDS if pause is None else pause))
                )

    def _start(self, claim: Claim) -> None:
        task = asyncio.create_task(self._perform(claim), name=f"{claim.kind} {claim.vm_id}")
        self._under_way[claim.id] = task
        task.add_done_callback(lambda _: self._on_end(claim))

    def _on_end(self, claim: Claim) -> None:
        """Claim again at once when this intent has to be retried, or when this replica had no slot left for more
        intents. Otherwise the next claim records that the intent is fulfilled, after _FULFIL_DELAY at the latest:
        nothing waits for that."""
        full = len(self._under_way) >= _MAX_UNDER_WAY
        self._under_way.pop(claim.id, None)
        if full or claim not in self._fulfilled:
            self._wakeup.set()
        else:
            asyncio.get_running_loop().call_later(_FULFIL_DELAY, self._wake_to_record, claim)

    def _wake_to_record(self, claim: Claim) -> None:
        if claim in self._fulfilled:
            self._wakeup.set()

    async def _perform(self, claim: Claim) -> None:
        try:
            await self._performers[claim.kind](claim)
            self._fulfilled.append(claim)
        except VmsvcError as error:
            log.warning(
                "vm %s: %s did not work yet (attempt %d): %s", claim.vm_id, claim.kind, claim.attempt, error.message
            )
            await self._give_up_claim(claim)
        except Exception:  # pylint: disable=broad-exception-caught
            log.exception("vm %s: %s died (attempt %d)", claim.vm_id, claim.kind, claim.attempt)
            await self._give_up_claim(claim)

    async def _give_up_claim(self, claim: Claim) -> None:
        delays = self._timing.retries
        try:
            await self._runtime.offload(_retry, self.owner, claim.id, delays[min(claim.attempt, len(delays)) - 1])
        except VmsvcError as error:
            log.warning("vm %s: its %s cannot be given back now: %s", claim.vm_id, claim.kind, error.message)
            self._unreleased.add(claim.id)

    async def renew(self) -> None:
        """Prolong the leases of what is under way; give up what another replica took over."""
        while True:
            await asyncio.sleep(self._timing.lease / 3)
            ids = list(self._under_way)
            renewed = await self._runtime.offload(_renew, self.owner, ids, self._timing.lease) if ids else set()
            for intent_id in set(ids) - renewed:
                task = self._under_way.get(intent_id)
                if task and not task.done():
                    task.cancel()
            self._runtime.mark_ready("leases")

    async def stop(self, seconds: float) -> None:
        """Claim no more. What is under way may end within so many seconds; then it is cancelled, and its leases are
        given back, so that another replica goes on at once."""
        self._stopped = True
        # What is being claimed just now is given back too, unless the database does not answer.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                await self._claiming.acquire()
        for limit in (seconds, _CANCEL_SECONDS):
            if self._under_way:
                await asyncio.wait(list(self._under_way.values()), timeout=limit)
            for task in list(self._under_way.values()):
                task.cancel()
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                await self._runtime.offload(_release, self.owner, tuple(self._fulfilled))
        except (VmsvcError, TimeoutError) as error:
            log.warning("the leases run out by themselves: %s", error)


def _claim(
    owner: str, limit: int, lease_seconds: float, unreleased: frozenset[int], fulfilled: tuple[Claim, ...]
) -> tuple[list[Claim], float | None]:
    with unit() as work:
        _fulfil(work, owner, fulfilled)
        for intent_id in unreleased:
            intents.retry(owner, intent_id, 0)
        return (intents.claim(owner, limit, lease_seconds) if limit > 0 else []), intents.seconds_to_next()


def _fulfil(work: Unit, owner: str, fulfilled: tuple[Claim, ...]) -> None:
    intents.fulfil(work, owner, [(claim.id, claim.times_enqueued) for claim in fulfilled])


def _retry(owner: str, intent_id: int, seconds: float) -> None:
    with unit():
        intents.retry(owner, intent_id, seconds)


def _renew(owner: str, ids: list[int], lease_seconds: float) -> set[int]:
    with unit():
        return intents.renew(owner, ids, lease_seconds)


def _release(owner: str, fulfilled: tuple[Claim, ...]) -> None:
    with unit() as work:
        _fulfil(work, owner, fulfilled)
        intents.release_leases(owner)
