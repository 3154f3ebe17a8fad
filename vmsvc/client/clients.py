"""`Client` and `AsyncClient`: the flows of `Core` as methods, driven with blocking calls or with `await`."""

import asyncio
import functools
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from vmsvc.client.core import Core
from vmsvc.client.http import TokenSource, answer_of, arguments_of, failures, options
from vmsvc.client.steps import Block, Done, Flow, Give, Listen, NextBlock, NoAnswer, Pause, Send, Step, Stream, resume

P = ParamSpec("P")
T = TypeVar("T")


def _returns(flow: Callable[Concatenate[Core, P], Flow[T]]) -> "Callable[Concatenate[Client, P], T]":
    """A method that drives a flow to its end."""

    @functools.wraps(flow)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(flow(self.core, *args, **kwargs))

    return method


def _iterates(flow: Callable[Concatenate[Core, P], Stream[T]]) -> "Callable[Concatenate[Client, P], Iterator[T]]":
    """A method that iterates over what a flow gives."""

    @functools.wraps(flow)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self.iterate(flow(self.core, *args, **kwargs))

    return method


class _Connection:
    """Carries out steps with blocking calls. It keeps the event stream that is open."""

    def __init__(self, http: httpx.Client):
        self._http = http
        self._response: httpx.Response | None = None
        self._blocks: Iterator[ServerSentEvent] = iter(())

    def do(self, step: Step) -> object:
        """The result of a step. Raises NoAnswer."""
        match step:
            case Pause(seconds):
                time.sleep(seconds)
                return None
            case NextBlock():
                with failures():
                    found = next(self._blocks, None)
                return Block(found.id, found.data) if found else None
            case Send(request) | Listen(request):
                self.close()
                with failures():
                    wanted = self._http.build_request(**arguments_of(request))
                    response = self._http.send(wanted, stream=isinstance(step, Listen))
                    if isinstance(step, Listen) and response.status_code == 200:
                        self._response, self._blocks = response, EventSource(response).iter_sse()
                        return answer_of(response, b"")
                    body = response.read()
                    response.close()
                    return answer_of(response, body)

    def close(self) -> None:
        """Close the event stream, if there is one."""
        if self._response is not None:
            self._response.close()
            self._response = None


class Client:
    """A client of one vmsvc service, with blocking calls. Threads may share it. Use it in `with`, or `close()` it.

    `url`: the service's address. `token`: of `vmsvc token new` or of Keystone, or a function that gives one (see
    `TokenSource`). `timeout`: seconds for a call with all its repetitions. `patience`: seconds for which a call tries
    to reach a service that is away. `verify`: False, or an SSLContext, for certificates of your own authority.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | TokenSource = "",
        timeout: float = 60.0,
        patience: float = 10.0,
        verify: bool | ssl.SSLContext = True,
    ):
        self.core = Core(timeout, patience)
        self._http = httpx.Client(**options(url, token, verify))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._http.base_url)!r})"

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its end: what it returns. Raises ClientError."""
        connection, step = _Connection(self._http), resume(flow)
        while not isinstance(step, Done):
            step = _next(flow, connection, step)
        value: T = step.value
        return value

    def iterate(self, flow: Stream[T]) -> Iterator[T]:
        """Drive a flow, and iterate over what it gives. Raises ClientError."""
        connection, step = _Connection(self._http), resume(flow)
        try:
            while not isinstance(step, Done):
                if isinstance(step, Give):
                    yield step.item
                    step = resume(flow)
                else:
                    step = _next(flow, connection, step)
        finally:
            connection.close()

    create = _returns(Core.create)
    plan = _returns(Core.plan)
    list = _returns(Core.list)
    show = _returns(Core.show)
    delete = _returns(Core.delete)
    patch = _returns(Core.patch)
    ack = _returns(Core.ack)
    evict = _returns(Core.evict)
    capacity = _returns(Core.capacity)
    eviction = _returns(Core.eviction)
    evictions = _iterates(Core.evictions)
    history = _iterates(Core.history)
    events = _iterates(Core.events)
    webhooks = _returns(Core.webhooks)
    webhook = _returns(Core.webhook)
    create_webhook = _returns(Core.create_webhook)
    patch_webhook = _returns(Core.patch_webhook)
    delete_webhook = _returns(Core.delete_webhook)
    rotate_webhook = _returns(Core.rotate_webhook)
    test_webhook = _returns(Core.test_webhook)
    replay_webhook = _returns(Core.replay_webhook)
    deliveries = _iterates(Core.deliveries)


def _next(flow: Any, connection: _Connection, step: Step) -> Any:
    """Carry out a step, and go on to the next one."""
    try:
        result = connection.do(step)
    except NoAnswer as failure:
        return resume(flow, failure=failure)
    return resume(flow, result)


def _awaits(flow: Callable[Concatenate[Core, P], Flow[T]]) -> "Callable[Concatenate[AsyncClient, P], Awaitable[T]]":
    """A coroutine method that drives a flow to its end."""

    @functools.wraps(flow)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.run(flow(self.core, *args, **kwargs))

    return method


def _iterates_async(
    flow: Callable[Concatenate[Core, P], Stream[T]],
) -> "Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]]":
    """A method that iterates over what a flow gives, with `async for`."""

    @functools.wraps(flow)
    def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self.iterate(flow(self.core, *args, **kwargs))

    return method


class _AsyncConnection:
    """The same as `_Connection`, with `await`."""

    def __init__(self, http: httpx.AsyncClient):
        self._http = http
        self._response: httpx.Response | None = None
        self._blocks: AsyncGenerator[ServerSentEvent, None] | None = None

    async def do(self, step: Step) -> object:
        """The result of a step. Raises NoAnswer."""
        match step:
            case Pause(seconds):
                await asyncio.sleep(seconds)
                return None
            case NextBlock():
                with failures():
                    found = await anext(self._blocks, None) if self._blocks is not None else None
                return Block(found.id, found.data) if found else None
            case Send(request) | Listen(request):
                await self.close()
                with failures():
                    wanted = self._http.build_request(**arguments_of(request))
                    response = await self._http.send(wanted, stream=isinstance(step, Listen))
                    if isinstance(step, Listen) and response.status_code == 200:
                        self._response, self._blocks = response, EventSource(response).aiter_sse()
                        return answer_of(response, b"")
                    body = await response.aread()
                    await response.aclose()
                    return answer_of(response, body)

    async def close(self) -> None:
        """Close the event stream, if there is one."""
        if self._blocks is not None:
            await self._blocks.aclose()
            self._blocks = None
        if self._response is not None:
            await self._response.aclose()
            self._response = None


class AsyncClient:
    """A client of one vmsvc service for programs with asyncio: as `Client`, with `await` and `async for`."""

    def __init__(
        self,
        url: str,
        *,
        token: str | TokenSource = "",
        timeout: float = 60.0,
        patience: float = 10.0,
        verify: bool | ssl.SSLContext = True,
    ):
        self.core = Core(timeout, patience)
        self._http = httpx.AsyncClient(**options(url, token, verify))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._http.base_url)!r})"

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its end: what it returns. Raises ClientError."""
        connection, step = _AsyncConnection(self._http), resume(flow)
        while not isinstance(step, Done):
            step = await _anext(flow, connection, step)
        value: T = step.value
        return value

    async def iterate(self, flow: Stream[T]) -> AsyncGenerator[T, None]:
        """Drive a flow, and iterate over what it gives. Raises ClientError."""
        connection, step = _AsyncConnection(self._http), resume(flow)
        try:
            while not isinstance(step, Done):
                if isinstance(step, Give):
                    yield step.item
                    step = resume(flow)
                else:
                    step = await _anext(flow, connection, step)
        finally:
            await connection.close()

    create = _awaits(Core.create)
    plan = _awaits(Core.plan)
    list = _awaits(Core.list)
    show = _awaits(Core.show)
    delete = _awaits(Core.delete)
    patch = _awaits(Core.patch)
    ack = _awaits(Core.ack)
    evict = _awaits(Core.evict)
    capacity = _awaits(Core.capacity)
    eviction = _awaits(Core.eviction)
    evictions = _iterates_async(Core.evictions)
    history = _iterates_async(Core.history)
    events = _iterates_async(Core.events)
    webhooks = _awaits(Core.webhooks)
    webhook = _awaits(Core.webhook)
    create_webhook = _awaits(Core.create_webhook)
    patch_webhook = _awaits(Core.patch_webhook)
    delete_webhook = _awaits(Core.delete_webhook)
    rotate_webhook = _awaits(Core.rotate_webhook)
    test_webhook = _awaits(Core.test_webhook)
    replay_webhook = _awaits(Core.replay_webhook)
    deliveries = _iterates_async(Core.deliveries)


async def _anext(flow: Any, connection: _AsyncConnection, step: Step) -> Any:
    """Carry out a step, and go on to the next one."""
    try:
        result = await connection.do(step)
    except NoAnswer as failure:
        return resume(flow, failure=failure)
    return resume(flow, result)
