"""The base of the handlers of `/api/v1`: an identified client, limits, JSON, the seconds of `Prefer: wait=N`."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, TypeVar

from marshmallow import Schema
from tornado.web import HTTPError, RequestHandler

from vmsvc.domain import errors
from vmsvc.domain.principal import Principal
from vmsvc.service import trace
from vmsvc.service.commands import Commands
from vmsvc.web.api.requests import VM_ID, load
from vmsvc.web.http.handler import SAFE, Handler
from vmsvc.web.http.limits import Limits, client_of
from vmsvc.web.http.request import Prefer, parse_object, parse_prefer
from vmsvc.web.http.settings import MAX_BODY

_PRINTABLE_ASCII = re.compile(r"[ -~]{1,255}")
#: The status in the log when the client closed the connection before there was a response; nginx uses the same number.
CLIENT_GONE = 499

T = TypeVar("T")


class ApiHandler(Handler):
    """A handler of `/api/v1`."""

    is_api = True
    principal: Principal
    for_members = True  # True: readers get 403 for every method but GET
    free_reads = False  # True: a GET costs no token, as it is answered from what all clients share
    _is_counted = False  # as in flight
    _client_gone = False
    _waiting: asyncio.Future[Any] | None = None

    async def admit(self) -> None:
        """Raises TooManyRequests when too many requests are in flight, and what `_identify_client()` raises."""
        await super().admit()
        self.limits.enter()
        self._is_counted = True
        try:
            await self._identify_client()
        except errors.TooManyRequests:
            self._leave()
            await self.while_connected(self.limits.delay_refusal(self.client))
            raise

    async def _identify_client(self) -> None:
        """Raises Forbidden for a reader that wants to change something, TooManyRequests when the client has no token
        left, and what `identify()` raises."""
        self.principal = await self.identify()
        trace.begin(self.request_id, self.principal.name)
        if self.request.method not in SAFE:
            if self.for_members and not self.principal.may_write:
                raise errors.Forbidden("a reader may not do this")
            self.limits.spend_write(self.client)
        elif not self.free_reads:
            self.limits.spend_read(self.client)

    @property
    def client(self) -> str:
        """The client whose budget the request is on: the address, as long as the principal is not known."""
        return client_of(getattr(self, "principal", None), self.request.remote_ip or "")

    async def identify(self) -> Principal:
        """The principal. Raises Unauthenticated, Forbidden, TooManyRequests, CloudUnavailable, Unavailable."""
        return await self.dependencies.auth.principal(self.request)

    def response_sent(self) -> None:
        """A request is in flight until its response has left."""
        self._leave()

    async def _execute(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super()._execute(*args, **kwargs)
        finally:
            if not self._finished:  # the client has gone in the middle of its body
                self._leave()

    def on_connection_close(self) -> None:
        """Tornado's hook: the client has gone. The wait for an outcome ends; the work that was asked for goes on. Work
        that cannot be stopped is in flight until it has ended."""
        self._client_gone = True
        if self._waiting is not None:
            self._waiting.cancel()
        # WebSocketHandler's does not end a wait for the rest of a body; this does.
        RequestHandler.on_connection_close(self)
        super().on_connection_close()

    def _leave(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self.limits.leave()

    async def while_connected(self, awaitable: Awaitable[T]) -> T:
        """The result of `awaitable`. Raises HTTPError 499 when the client goes first."""
        self._waiting = waiting = asyncio.ensure_future(awaitable)
        if self._client_gone:
            waiting.cancel()
        try:
            return await waiting
        except asyncio.CancelledError:
            if self._client_gone:
                raise HTTPError(CLIENT_GONE) from None
            raise
        finally:
            self._waiting = None

    async def read_history(self, read: Callable[[], Awaitable[T]]) -> T:
        """The result of `read()`, of which only a few run at once. Raises TooManyRequests, and HTTPError 499 when the
        client has gone before its turn. Once begun, a read is waited for: PostgreSQL carries it out anyway."""
        async with self.limits.history_page():
            if self._client_gone:
                raise HTTPError(CLIENT_GONE)
            return await read()

    @property
    def commands(self) -> Commands:
        """What clients may ask of the service."""
        return self.dependencies.commands

    @property
    def limits(self) -> Limits:
        """How many requests at once, and how many a second."""
        return self.dependencies.limits

    @cached_property
    def prefer(self) -> Prefer:
        """How long the client wants to wait."""
        return parse_prefer(self.request.headers.get("Prefer", ""))

    @property
    def timeout(self) -> float:
        """How many seconds to wait for an outcome."""
        return self.prefer.timeout(self.dependencies.settings.request_timeout)

    def query(self, schema: type[Schema]) -> dict[str, Any]:
        """The validated query; the values of a name that is given more than once are joined with commas."""
        arguments = {name: ",".join(self.get_query_arguments(name)) for name in self.request.query_arguments}
        return load(schema, arguments)

    def has_body(self) -> bool:
        """True when the request came with a body."""
        return self._body_size > 0

    def json_body(self) -> dict[str, Any]:
        """The JSON object in the body. Raises HTTPError 413 or 415, or InvalidRequest."""
        if self._body_size > MAX_BODY:
            raise HTTPError(413)
        if not self._body_size:
            raise errors.InvalidRequest("there is no body; it must be a JSON object")
        media_type = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != "application/json" or "Content-Encoding" in self.request.headers:
            raise HTTPError(415)
        return parse_object(b"".join(self._chunks))

    def idempotency_key(self) -> str | None:
        """The Idempotency-Key header; None when there is none. Raises InvalidRequest."""
        key = self.request.headers.get("Idempotency-Key")
        if key is not None and not _PRINTABLE_ASCII.fullmatch(key):
            raise errors.InvalidRequest(
                "Idempotency-Key must be 1 to 255 printable ASCII characters", field="Idempotency-Key"
            )
        return key

    def answer(self, status: int, message: str, code: int | None = None, **members: Any) -> None:
        """Finish with a message under both of its keys; `code` is the status unless the contract says otherwise."""
        applied = self.prefer.applied(went_async=status == 202)
        if applied:
            self.set_header("Preference-Applied", applied)
        self.set_status(status)
        self.finish({"code": str(code or status), "message:": message, "message": message, **members})


class OneVmHandler(ApiHandler):
    """A handler whose address names a VM, by the cloud's id or vmsvc's own."""

    parameters = {"id": ("the cloud's id, or vmsvc's own", VM_ID.pattern)}

    async def admit(self) -> None:
        """Raises NotFound for a text that is no id, so that it never reaches the service."""
        await super().admit()
        if not VM_ID.fullmatch(self.path_args[0]):
            raise errors.NotFound("there is no vm with this id")
