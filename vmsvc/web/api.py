"""What the handlers of `/api/v1` share: a principal, limits, JSON both ways, and how long to wait."""

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
from vmsvc.service.hub import Hub
from vmsvc.web import prefer
from vmsvc.web.base import SAFE, Handler
from vmsvc.web.body import parse_object
from vmsvc.web.limits import Limits, client_of
from vmsvc.web.schemas import VM_ID, load
from vmsvc.web.settings import MAX_BODY

_PRINTABLE_ASCII = re.compile(r"[ -~]{1,255}")
#: What nginx calls it in its log: the client closed the connection before there was an answer.
CLIENT_GONE = 499

T = TypeVar("T")


class ApiHandler(Handler):
    """A handler of `/api/v1`."""

    principal: Principal
    for_members = True          # all but its GET
    free_reads = False          # a GET asks memory alone, or what is read once for all who ask
    _counted = False
    _gone = False
    _waiting: asyncio.Future[Any] | None = None

    async def admit(self) -> None:
        """Is there room for one more request, who asks, and may they?"""
        await super().admit()
        self.limits.enter()
        self._counted = True
        try:
            await self._admit()
        except errors.TooManyRequests:
            self._leave()
            await self.while_connected(self.limits.hold_back(self.client))
            raise

    async def _admit(self) -> None:
        self.principal = await self.identify()
        trace.begin(self.request_id, self.principal.name)
        if self.request.method not in SAFE:
            if self.for_members and not self.principal.may_write:
                raise errors.Forbidden("a reader may not do this")
            self.limits.spend(self.client)
        elif not self.free_reads:
            self.limits.spend_read(self.client)

    @property
    def client(self) -> str:
        """Whose budget the request is on: as long as nobody has been identified, the address's."""
        return client_of(getattr(self, "principal", None), self.request.remote_ip or "")

    async def identify(self) -> Principal:
        """The one who asks. Raises Unauthenticated, Forbidden, TooManyRequests, CloudUnavailable,
        Unavailable."""
        return await self.settings["auth"].principal(self.request)

    def left(self) -> None:
        """The request is in flight until its answer has left."""
        self._leave()

    async def _execute(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super()._execute(*args, **kwargs)
        finally:
            if not self._finished:          # the client has gone in the middle of its body
                self._leave()

    def on_connection_close(self) -> None:
        """The client is gone: nobody waits for the outcome any more (what was asked for goes on). Whatever cannot be
        stopped is in flight until it has ended."""
        self._gone = True
        if self._waiting is not None:
            self._waiting.cancel()
        # WebSocketHandler's does not end a wait for the rest of a body; this does.
        RequestHandler.on_connection_close(self)
        super().on_connection_close()

    def _leave(self) -> None:
        if self._counted:
            self._counted = False
            self.limits.leave()

    async def while_connected(self, awaitable: Awaitable[T]) -> T:
        """The result, unless the client goes first; raises HTTPError 499 then."""
        self._waiting = asyncio.ensure_future(awaitable)
        if self._gone:
            self._waiting.cancel()
        try:
            return await self._waiting
        except asyncio.CancelledError:
            if self._gone:
                raise HTTPError(CLIENT_GONE) from None
            raise
        finally:
            self._waiting = None

    async def in_turn(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` finds in the history, when few others read it. Raises TooManyRequests, and HTTPError 499 when the
        client has gone before its turn came. What has begun is waited for: PostgreSQL is at it, wanted or not."""
        async with self.limits.page():
            if self._gone:
                raise HTTPError(CLIENT_GONE)
            return await read()

    @property
    def commands(self) -> Any:
        """The service."""
        return self.settings["commands"]

    @property
    def evictions(self) -> Any:
        """What the service knows of evictions."""
        return self.settings["evictions"]

    @property
    def limits(self) -> Limits:
        """How much at once."""
        return self.settings["limits"]

    @property
    def hub(self) -> Hub:
        """Where live events come from."""
        return self.settings["hub"]

    @cached_property
    def prefer(self) -> prefer.Prefer:
        """How long the client wants to wait."""
        return prefer.parse(self.request.headers.get("Prefer", ""))

    @property
    def timeout(self) -> float:
        """How many seconds to wait for an outcome."""
        return self.prefer.timeout(self.web.request_timeout)

    def query(self, schema: type[Schema]) -> dict[str, Any]:
        """The validated query; a name given more than once is joined with commas."""
        arguments = {name: ",".join(self.get_query_arguments(name)) for name in self.request.query_arguments}
        return load(schema, arguments)

    def has_body(self) -> bool:
        """True when the request came with a body."""
        return self._size > 0

    def json_body(self) -> dict[str, Any]:
        """The JSON object in the body; raises HTTPError 413 or 415, or InvalidRequest."""
        if self._size > MAX_BODY:
            raise HTTPError(413)
        if not self._size:
            raise errors.InvalidRequest("there is no body; it must be a JSON object")
        media_type = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != "application/json" or "Content-Encoding" in self.request.headers:
            raise HTTPError(415)
        return parse_object(b"".join(self._chunks))

    def idempotency_key(self) -> str | None:
        """The Idempotency-Key header, if there is one."""
        key = self.request.headers.get("Idempotency-Key")
        if key is not None and not _PRINTABLE_ASCII.fullmatch(key):
            raise errors.InvalidRequest("Idempotency-Key must be 1 to 255 printable ASCII characters",
                                        field="Idempotency-Key")
        return key

    def answer(self, status: int, message: str, code: int | None = None, **members: Any) -> None:
        """Finish with a message under both of its keys; `code` is the status unless the contract says otherwise."""
        applied = self.prefer.applied(went_async=status == 202)
        if applied:
            self.set_header("Preference-Applied", applied)
        self.set_status(status)
        self.finish({"code": str(code or status), "message:": message, "message": message, **members})


class OneVm(ApiHandler):
    """A handler whose address names a VM, by the cloud's id or vmsvc's own."""

    parameters = {"id": ("the cloud's id, or vmsvc's own", VM_ID.pattern)}

    async def admit(self) -> None:
        """As of any; no id is as strange as to reach the service."""
        await super().admit()
        if not VM_ID.fullmatch(self.path_args[0]):
            raise errors.NotFound("there is no vm with this id")
