"""Threads and loops: all blocking work goes through `offload`, and all background loops are supervised here."""

import asyncio
import contextlib
import contextvars
import functools
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from vmsvc.cloud.port import SERVICE, WORK_FOR
from vmsvc.domain.errors import Timeout, Unavailable, VmsvcError
from vmsvc.domain.timing import Timing
from vmsvc.store.db import DATABASE_ERRORS

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_STOP_LIMIT = 10.0
#: Threads that clients' work never takes.
_SERVICE_THREADS = 3


class Runtime:
    """One thread pool for the database and the supervised loops of this process."""

    def __init__(self, timing: Timing, threads: int = 8):
        self._timing = timing
        self.threads = threads
        self.offloaded = 0  # database functions under way or waiting for a thread
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="database")
        self._client_slots = asyncio.Semaphore(max(1, threads - _SERVICE_THREADS))
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: loop name -> what is wrong with it, None when it runs
        self.problems: dict[str, str | None] = {}
        #: loop name -> how it is impaired, though it works
        self.notes: dict[str, str] = {}
        self.stopping = asyncio.Event()

    async def offload(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a database function in the pool; at most 30 s.

        Raises Unavailable when the database does not answer: nothing of that transaction was kept, unless it was
        the commit itself that got no answer (which is why every step can run twice).
        """
        if self.stopping.is_set():
            raise Unavailable("the service stops; try again", retry_after=1)
        # The thread writes log lines for the request that this task works for.
        call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
        self.offloaded += 1
        try:
            async with asyncio.timeout(30):
                return await (self._run(call) if WORK_FOR.get() == SERVICE else self._run_for_client(call))
        except TimeoutError:
            log.warning("database: no answer within 30 s")
            raise Timeout("the database took longer than 30 s") from None
        except DATABASE_ERRORS as error:
            log.warning("database: %s", str(error).strip().partition("\n")[0])  # the rest may show a row
            raise Unavailable("the database does not answer now; try again", retry_after=2) from error
        finally:
            self.offloaded -= 1

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def _run_for_client(self, call: Callable[[], T]) -> T:
        """Wait for one of the clients' threads, so that clients' work never queues in the pool itself. A caller that is
        cancelled gives its thread back when the work has ended."""
        await self._client_slots.acquire()
        loop = asyncio.get_running_loop()

        def ended(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._client_slots.release)

        try:
            running = self._pool.submit(call)
        except BaseException:
            self._client_slots.release()
            raise
        running.add_done_callback(ended)
        return await asyncio.wrap_future(running)

    def supervise(self, name: str, run: Callable[[], Awaitable[None]], problem: str | None = None) -> None:
        """Keep a loop running: one that dies is logged and started again with growing delays.

        `problem` is what is wrong until the loop marks itself ready.
        """
        self.problems[name] = problem
        self._tasks[name] = asyncio.create_task(self._run_supervised(name, run), name=name)

    async def _run_supervised(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while not self.stopping.is_set():
            started = asyncio.get_running_loop().time()
            try:
                await run()
                return
            except VmsvcError as error:  # the cloud is away, or its answer is garbled
                self.problems[name] = error.message
                log.warning("%s: %s", name, error.message)
            except Exception as error:  # pylint: disable=broad-exception-caught
                self.problems[name] = f"it died of {type(error).__name__}"  # /readyz shows it to anybody
                log.exception("%s died and is started again", name)
            failures = 0 if asyncio.get_running_loop().time() - started > 60 else failures + 1
            delays = self._timing.restart_loop
            await asyncio.sleep(delays[min(failures, len(delays)) - 1])

    def mark_ready(self, name: str) -> None:
        """To be called by a loop after each round that succeeded."""
        self.problems[name] = None

    async def stop(self) -> None:
        """End the loops, then the pool; what is under way in the pool may finish."""
        self.stopping.set()
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=_STOP_LIMIT)
        self._pool.shutdown(wait=False, cancel_futures=True)
