"""The background work of webhooks: writes deliveries from the outbox, claims what is due, sends and records it.

One turn is one transaction: it records what was sent since the last turn, writes the deliveries of new events, and
claims. A burst of events so costs few transactions, and a replica whose clients have no webhooks asks once a second
whether there is one.
"""

import asyncio
import contextlib
import logging
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from vmsvc.domain.errors import VmsvcError
from vmsvc.domain.timing import Timing
from vmsvc.service.events.frames import json_of
from vmsvc.service.events.listener import wait_for_wakeup
from vmsvc.service.runtime import Runtime
from vmsvc.service.webhooks.transport import Transport, TransportFailed, signed_headers
from vmsvc.store import deliveries, webhooks
from vmsvc.store.db import connected, unit
from vmsvc.store.deliveries import Claim, Result

log = logging.getLogger(__name__)

_MAX_UNDER_WAY = 256  # requests of this replica
_IDLE_SECONDS = 1.0  # a lost notification costs this much
_FULL_SECONDS = 0.25  # between two looks while something is due and every endpoint has as much as it may have
_TOTALS_SECONDS = 5.0
#: In which requests that are under way may end when the service is to stop, and then the last transaction.
_FINISH_SECONDS, _GIVE_BACK_SECONDS = 2.0, 3.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of the dispatcher found: claims, what became of results, whether events are left to write, and
    the seconds until something is due."""

    claims: list[Claim]
    recorded: list[tuple[Result, str]]
    more: bool
    pause: float | None


class Dispatcher:
    """`run()` for ever; `stop()` ends it. `message_prefix()` is the beginning of the ids of messages, which has to be
    the same for all replicas. `observe` gets each result with what became of the delivery (`done`, `failed`, or
    `pending`: to be tried again)."""

    def __init__(
        self,
        runtime: Runtime,
        transport: Transport,
        message_prefix: Callable[[], str],
        wakeup: asyncio.Event,
        timing: Timing,
        observe: Callable[[Result, str], None],
    ):
        self._runtime = runtime
        self._transport = transport
        self._message_prefix = message_prefix
        self._wakeup = wakeup
        self._timing = timing
        self._observe = observe
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._results: list[Result] = []  # to be recorded by the next turn
        self._in_turn = asyncio.Lock()
        self._stopped = False
        self.owner = uuid.uuid4().hex
        self.off = self.pending = 0  # in the whole deployment, as last counted

    async def run(self) -> None:
        """Take turns until `stop`."""
        counted_at = float("-inf")
        loop = asyncio.get_running_loop()
        while not self._stopped:
            if loop.time() - counted_at > _TOTALS_SECONDS:
                self.off, self.pending = await self._runtime.offload(_totals)
                counted_at = loop.time()
            if not self._results and not await self._runtime.offload(_any_exist):
                self._runtime.mark_ready("webhooks")
                await asyncio.sleep(_IDLE_SECONDS)  # whatever happens: there is nobody to tell
                continue
            pause = await self._take_turn()
            self._runtime.mark_ready("webhooks")
            if pause > 0:
                await wait_for_wakeup(self._wakeup, pause)
            # After the wakeup, not before: the feed and the workers heard the same notification, and go first.
            await asyncio.sleep(self._timing.webhook_turn)
            self._wakeup.clear()

    async def _take_turn(self) -> float:
        """One turn; returns for how many seconds to wait for a wakeup."""
        async with self._in_turn:
            results, slots = tuple(self._results), _MAX_UNDER_WAY - len(self._under_way)
            turn = await self._runtime.offload(_turn, self.owner, results, 0 if self._stopped else slots, self._timing)
            del self._results[: len(results)]
            for claim in turn.claims:
                self._under_way[claim.id] = asyncio.create_task(
                    self._deliver(claim), name=f"webhook {claim.webhook_id}"
                )
        for result, status in turn.recorded:
            self._observe(result, status)
        if turn.more:
            return 0.0
        floor = 0.0 if turn.claims or results else _FULL_SECONDS
        return min(_IDLE_SECONDS, max(floor, _IDLE_SECONDS if turn.pause is None else turn.pause))

    async def _deliver(self, claim: Claim) -> None:
        try:
            code, error = await self._send(claim)
            self._results.append(Result(claim, code, error, random.random()))
        except Exception:  # pylint: disable=broad-exception-caught; the lease ends, and the event is sent again
            log.exception("webhook %s: event %d could not be sent", claim.webhook_id, claim.seq)
        finally:
            self._under_way.pop(claim.id, None)
            self._wakeup.set()

    async def _send(self, claim: Claim) -> tuple[int | None, str | None]:
        """Send an event; the status of the answer, or why there was none."""
        if claim.event is None:
            return None, "the event is no longer kept"
        body = json_of(claim.event)
        message_id = f"{self._message_prefix()}_{claim.seq}"
        headers = signed_headers(message_id, claim.secrets, datetime.now(UTC), body)
        try:
            code = await self._transport.post(claim.url, headers, body)
        except TransportFailed as error:
            return None, str(error)
        return code, None if 200 <= code < 300 else f"it answered {code}"

    async def stop(self) -> None:
        """Claim no more; let what is under way end for a few seconds; record it, and give the other claims back."""
        self._stopped = True
        if self._under_way:
            await asyncio.wait(list(self._under_way.values()), timeout=_FINISH_SECONDS)
        for task in list(self._under_way.values()):
            task.cancel()
        with contextlib.suppress(VmsvcError, TimeoutError):  # else the leases end by themselves
            async with asyncio.timeout(_GIVE_BACK_SECONDS), self._in_turn:
                await self._runtime.offload(_give_back, self.owner, tuple(self._results), self._timing)


def _pace(timing: Timing) -> deliveries.Pace:
    return deliveries.Pace(timing.webhook_retries, timing.webhook_urgent, timing.webhook_troubled)


def _turn(owner: str, results: tuple[Result, ...], slots: int, timing: Timing) -> Turn:
    with unit() as work:
        recorded = deliveries.record(work, owner, results, _pace(timing))
        more = deliveries.spread(work)
        claims = deliveries.claim(work, owner, slots, timing.webhook_lease)
        return Turn(claims, recorded, more, deliveries.seconds_to_next())


def _give_back(owner: str, results: tuple[Result, ...], timing: Timing) -> None:
    with unit() as work:
        deliveries.record(work, owner, results, _pace(timing))
        deliveries.release(work, owner)


def _any_exist() -> bool:
    with connected():
        return webhooks.any_exist()


def _totals() -> tuple[int, int]:
    with connected():
        return webhooks.totals()
