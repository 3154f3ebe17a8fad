"""Both clients of `vmsvc.client` in one form, so that one test tries both: coroutines, and `async for`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from vmsvc.client import AsyncClient, Client

FORMS = ("blocking", "async")
_ITERATE = {"events", "history", "evictions", "deliveries"}
_END = object()


class _InThreads:
    """A `Client` whose calls run in threads."""

    def __init__(self, client: Client):
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*arguments: object, **named: object) -> object:
            return await asyncio.to_thread(method, *arguments, **named)

        async def iterate(*arguments: object, **named: object) -> AsyncIterator[object]:
            items = method(*arguments, **named)
            while (item := await asyncio.to_thread(next, items, _END)) is not _END:
                yield item

        return iterate if name in _ITERATE else call

    def __repr__(self) -> str:
        return repr(self._client)


def client_of(form: str, url: str, **options: Any) -> Any:
    """A client of this form."""
    return AsyncClient(url, **options) if form == "async" else _InThreads(Client(url, **options))
