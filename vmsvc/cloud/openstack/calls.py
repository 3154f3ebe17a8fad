"""The way of one call: limits, a thread, a bounded retry when it is a read, one log line, one measurement."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit

from vmsvc.cloud.openstack import parse, translate
from vmsvc.cloud.openstack.exchange import Answer, CloudRequest, Json, NoAnswer, NotSent, TurnedAway
from vmsvc.cloud.openstack.limits import Attempt, Executor, Late, Limiter
from vmsvc.cloud.port import REQUEST_ID, WORK_FOR
from vmsvc.domain.errors import CloudError, CloudUnavailable, Garbled, NotFound, OutcomeUnknown, VmsvcError

log = logging.getLogger(__name__)
T = TypeVar("T")
Exchange = Callable[[CloudRequest, Attempt, str | None], Answer]
#: Seconds before the second and the third try: of a read, and of a write that the cloud turned away without carrying it
#: out. No other write is sent again.
RETRIES = (0.2, 0.8)
#: A list longer than this has a defect in its links.
MOST_PAGES = 1000


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a thread brings back: the answer and its meaning."""

    answer: Answer
    value: T


@dataclass(frozen=True, slots=True)
class Failed:
    """What a thread brings back from a call that failed: the error, and the answer if there was one."""

    error: VmsvcError
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; `rest` are the query parameters of the next part."""

    items: tuple[T, ...]
    rest: dict[str, str] | None
    date: datetime | None


class Calls:
    """Sends requests through `exchange`, which blocks and runs in one of `workers` threads.

    A call waits at most `timeout` seconds to be let out and at most `timeout` seconds for its answer. `on_call` is
    called with (operation, 'ok' or the error's slug, seconds) after every request, on the loop.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        workers: int,
        rate: float,
        timeout: float,
        on_call: Callable[[str, str, float], None] | None = None,
    ):
        self._exchange = exchange
        self._timeout = timeout
        self._limiter = Limiter(workers, rate)
        self._executor = Executor(workers)
        self._on_call = on_call or (lambda operation, outcome, seconds: None)

    async def send(self, request: CloudRequest, read: Callable[[Answer], T]) -> T:
        """Send it and return `read(answer)`, which runs in the thread too: a long list costs the loop nothing."""
        deadline = time.monotonic() + self._timeout
        passing = CloudUnavailable | Garbled if request.is_read else TurnedAway
        for pause in (*RETRIES, None):
            result = await self._once(request, read)
            if isinstance(result, Done):
                return result.value
            error = result.error
            if pause is None or not isinstance(error, passing):
                raise error
            if isinstance(error, TurnedAway):
                pause = max(pause, error.retry_after)
            if time.monotonic() + pause >= deadline:
                raise error
            log.info("%s; trying again in %.1f s", error.message, pause)
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def blocking(self, operation: str, work: Callable[[Attempt], T]) -> T:
        """Run other blocking work of the SDK under the same limits: signing in."""
        leave = await self._limiter.enter("identity", self._timeout)
        try:
            return await self._executor.run(work, 2 * self._timeout, leave)
        except Late:
            raise CloudUnavailable(f"the cloud did not answer {operation} in time") from None
        except NotSent as error:
            raise CloudUnavailable(str(error)) from None

    async def list(
        self, request: CloudRequest, key: str, read: Callable[[Json], T]
    ) -> tuple[tuple[T, ...], datetime | None]:
        """All items under `key`, page by page, and the cloud's clock at the first page (None without a Date)."""
        pages = await self.pages(request, key, read)
        return tuple(item for page in pages for item in page.items), pages[0].date

    async def pages(self, request: CloudRequest, key: str, read: Callable[[Json], T]) -> tuple[Page[T], ...]:
        """All pages of a list; each is as of a moment of its own."""
        found: list[Page[T]] = []
        for _ in range(MOST_PAGES):
            page = await self.send(request, partial(_page, request.operation, key, read))
            found.append(page)
            if page.rest is None:
                return tuple(found)
            if page.rest == request.params:
                break
            request = replace(request, params=page.rest)
        raise CloudError(f"the pages of {request.operation} do not end")

    def close(self) -> None:
        """Take no more calls."""
        self._executor.close()

    async def _once(self, request: CloudRequest, read: Callable[[Answer], T]) -> Done[T] | Failed:
        """One try; raises only what keeps it from being tried."""
        leave = await self._limiter.enter(request.service, self._timeout, WORK_FOR.get())
        started = time.monotonic()
        work = partial(_work, self._exchange, request, read, REQUEST_ID.get())
        try:
            result = await self._executor.run(work, self._timeout, leave)
        except Late as late:
            why = f"no answer in {self._timeout:.0f} s"
            error = translate.unanswered(request, why) if late.sent else translate.unsent(request, why)
            result = Failed(error)
        self._account(request, result, time.monotonic() - started)
        return result

    def _account(self, request: CloudRequest, result: Done[T] | Failed, seconds: float) -> None:
        answer, error = result.answer, result.error if isinstance(result, Failed) else None
        if answer is not None and isinstance(error, CloudUnavailable) and answer.retry_after:
            self._limiter.pause(request.service, answer.retry_after)
        outcome = error.slug if error else "ok"
        # No query and no body: they can hold what users wrote, and answers to a create hold adminPass.
        level = logging.DEBUG if outcome in ("ok", NotFound.slug) else logging.INFO
        log.log(
            level,
            "%s %s %s %s %.0f ms %s",
            request.operation,
            request.method,
            request.path,
            answer.status if answer else outcome,
            seconds * 1000,
            answer.headers.get("X-Openstack-Request-Id", "-") if answer else "-",
        )
        self._on_call(request.operation, outcome, seconds)


class Caller:
    """Base of the groups of calls that together make the port."""

    def __init__(self, calls: Calls):
        self._calls = calls


def _work(
    exchange: Exchange, request: CloudRequest, read: Callable[[Answer], T], request_id: str | None, attempt: Attempt
) -> Done[T] | Failed:
    """In the thread: exchange, find what the answer means, read it."""
    try:
        answer = exchange(request, attempt, request_id)
    except NotSent as error:
        return Failed(translate.unsent(request, str(error)))
    except NoAnswer as error:
        return Failed(translate.unanswered(request, str(error)))
    if refusal := translate.error_of(request, answer):
        return Failed(refusal, answer)
    try:
        return Done(answer, read(answer))
    except CloudError as error:
        # A create that was answered 202 and garbage did make a server.
        return Failed(error if request.is_read else OutcomeUnknown(error.message), answer)


def _page(what: str, key: str, read: Callable[[Json], T], answer: Answer) -> Page[T]:
    body = answer.json()
    with parse.parsing(what):
        items = parse.each(what, body[key], read)
        return Page(items, _rest(body, key), answer.date)


def _rest(body: Json, key: str) -> dict[str, str] | None:
    """Where the list goes on: Nova's and Neutron's `<key>_links`, Glance's `next`."""
    links: Iterable[Json] = body.get(f"{key}_links") or ()
    following = next((link["href"] for link in links if link["rel"] == "next"), body.get("next"))
    return dict(parse_qsl(urlsplit(following).query)) if following else None
