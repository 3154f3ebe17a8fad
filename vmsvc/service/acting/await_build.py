"""Waiting for the end of a build."""

import asyncio
from collections import deque
from contextlib import suppress

from vmsvc.cloud.cache.host_cache import HostCache
from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import Server
from vmsvc.domain.errors import CloudError, CloudUnavailable
from vmsvc.domain.events import instant
from vmsvc.service.acting.polling import Pace, ServerPoller

#: Seconds for a build; Nova itself has no limit on BUILD by default. Some never end: where Nova's database is utf8mb3,
#: the API takes an emoji in a name or in metadata, the conductor fails to write it, and the server stays in BUILD.
LIMIT = 600.0
_HOST_SECONDS = 5.0  # between looks at the state of the host while a build goes on
_LOOK_AGAIN = 0.3
_EXPLAIN = 10  # looks at a server in ERROR before we do without its reason
_REFUSAL_SECONDS = 0.2  # in which a refusal is looked for from when there may be one
_LATELY = 8  # among so many builds


class Builds:
    """Waits for builds to end, and learns how long they and refusals take. Nova's scheduler refuses long before a build
    could end (on the real cloud after 0.2 s; a build takes 1.2 s), and no VM is evicted for the request before that.
    So where Nova refused lately and may refuse again, a refusal is looked for first."""

    def __init__(self, server_cache: ServerCache, host_cache: HostCache):
        self._server_cache = server_cache
        self._host_cache = host_cache
        self._lookout = ServerPoller(server_cache)
        self._builds, self._refusals = Pace(), Pace(shrinks=0.5)
        self._refused: deque[bool] = deque(maxlen=_LATELY)

    async def finished(self, server_id: str, host: str | None, refusable: bool) -> Server:
        """Wait for the end of a build. Returns the server then, or as it is when its host is down or LIMIT is reached.
        `refusable`: Nova may find no capacity. Raises CloudError when the server has gone."""
        began = asyncio.get_running_loop().time()
        server = await self._refusal(server_id, began) if refusable and any(self._refused) else None
        if server is None:
            server = await self._end(server_id, host, began)
        if refusable:
            self._refused.append(server.status == "ERROR")
        return server

    async def _refusal(self, server_id: str, began: float) -> Server | None:
        """The server if its build ends soon and it shows the reason, else None."""
        server, in_vain = await self._lookout.until(
            server_id, _settled, began, self._refusals, self._refusals.quiet + _REFUSAL_SECONDS
        )
        self._learn(server, in_vain)
        return server if server is not None and _told(server) else None

    async def _end(self, server_id: str, host: str | None, began: float) -> Server:
        """As `finished`, without the first look for a refusal. A list may leave a server out for a moment, while Nova
        moves it from the API's database to its cell: so a server has gone only when two looks miss it."""
        loop, gone, unexplained = asyncio.get_running_loop(), 0, 0
        while True:
            left = began + LIMIT - loop.time()
            server, in_vain = await self._lookout.until(
                server_id, _settled, began, self._builds, min(_HOST_SECONDS, left)
            )
            self._learn(server, in_vain)
            if server is not None and _told(server):
                return server
            with suppress(CloudUnavailable):
                await self._host_cache.refresh(_HOST_SECONDS)
            if left <= 0 or (host is not None and self._host_cache.is_down(host)):
                server = await self._server_cache.look(server_id)
                if server is not None:
                    return server
            elif server is not None:
                # The fault of a server in ERROR can be a moment behind its status.
                unexplained += server.status == "ERROR"
                if _settled(server) and (server.status != "ERROR" or unexplained > _EXPLAIN):
                    return server
                if not _settled(server):
                    continue
            gone += server is None
            if gone > 1:
                raise CloudError("the server was deleted while it was being built")
            await asyncio.sleep(_LOOK_AGAIN)

    def _learn(self, server: Server | None, in_vain: float | None) -> None:
        if server is not None:
            (self._builds if server.status == "ACTIVE" else self._refusals).note(in_vain)


def under_way(server: Server) -> str:
    """The message about a build that has not ended, for clients."""
    return f"Nova has been building it since {instant(server.created)}; it is removed when that takes {LIMIT:.0f} s"


def overdue(server: Server) -> str:
    """Why a server is given up whose build has not ended within the limit."""
    said = f"Nova was still building the server ({server.status}) after {LIMIT:.0f} s and gave no reason; it is removed"
    if any(character > "\uffff" for text in (server.name, *server.metadata.values()) for character in text):
        said += (
            ". Its name or its metadata have characters beyond U+FFFF, such as emoji: a Nova whose database is "
            "utf8mb3 takes such a request and never builds its server"
        )
    return said


def _settled(server: Server) -> bool:
    return server.status not in ("BUILD", "UNKNOWN") and server.task_state != "deleting"


def _told(server: Server) -> bool:
    return server.status == "ACTIVE" or (server.status == "ERROR" and bool(server.fault))
