"""Waits for the end of a build: the server is ACTIVE, in ERROR or gone, or its time is over."""

import asyncio
from collections import deque
from contextlib import suppress

from vmsvc.cloud.cache.host_cache import HostCache
from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import Server
from vmsvc.domain.errors import CloudError, CloudUnavailable
from vmsvc.domain.events import instant
from vmsvc.domain.timing import Timing
from vmsvc.service.acting.polling import MinimumDuration, ServerPoller

#: Seconds for a build; Nova itself has no limit on BUILD by default. Some never end: where Nova's database is utf8mb3,
#: the API takes an emoji in a name or in metadata, the conductor fails to write it, and the server stays in BUILD.
LIMIT = 600.0
_POLL_SECONDS = 0.3
_FAULT_POLLS = 10  # polls of a server in ERROR before it is given up without its reason
_REFUSAL_SECONDS = 0.2  # for so long the server is polled for a refusal, from the moment when there may be one
_RECENT = 8  # builds: a refusal among these counts as recent


class BuildWaiter:
    """Waits for builds to end, and learns how long builds and refusals take. Nova's scheduler refuses long before a
    build could end (on the real cloud after 0.2 s; a build takes 1.2 s), and no VM is evicted for the request before
    that. So where Nova refused recently and may refuse again, the server is polled for a refusal first."""

    def __init__(self, server_cache: ServerCache, host_cache: HostCache, timing: Timing):
        self._timing = timing
        self._server_cache = server_cache
        self._host_cache = host_cache
        self._poller = ServerPoller(server_cache)
        self._build_duration, self._refusal_duration = MinimumDuration(), MinimumDuration(shrink_factor=0.5)
        self._recent_refusals: deque[bool] = deque(maxlen=_RECENT)

    async def wait_for(self, server_id: str, host: str | None, refusable: bool) -> Server:
        """Wait for the end of a build. Returns the server then, or as it is when its host is down or LIMIT is reached.
        `refusable`: Nova may find no capacity. Raises CloudError when the server has gone."""
        began = asyncio.get_running_loop().time()
        server = await self._wait_for_refusal(server_id, began) if refusable and any(self._recent_refusals) else None
        if server is None:
            server = await self._wait_for_end(server_id, host, began)
        if refusable:
            self._recent_refusals.append(server.status == "ERROR")
        return server

    async def _wait_for_refusal(self, server_id: str, began: float) -> Server | None:
        """The server if its build ends soon and it shows the reason, else None."""
        server, at_least = await self._poller.wait_for(
            server_id,
            _is_settled,
            began,
            self._refusal_duration,
            self._refusal_duration.initial_delay + _REFUSAL_SECONDS,
        )
        self._record(server, at_least)
        return server if server is not None and _has_outcome(server) else None

    async def _wait_for_end(self, server_id: str, host: str | None, began: float) -> Server:
        """As `wait_for`, without the early polls for a refusal. A list may lack a server for a moment, while
        Nova moves it from the API's database to its cell: so a server has gone only when two polls miss it."""
        loop, missing, unexplained = asyncio.get_running_loop(), 0, 0
        while True:
            left = began + LIMIT - loop.time()
            server, at_least = await self._poller.wait_for(
                server_id, _is_settled, began, self._build_duration, min(self._timing.build_host, left)
            )
            self._record(server, at_least)
            if server is not None and _has_outcome(server):
                return server
            with suppress(CloudUnavailable):
                await self._host_cache.refresh(self._timing.build_host)
            if left <= 0 or (host is not None and self._host_cache.is_down(host)):
                server = await self._server_cache.read_server(server_id)
                if server is not None:
                    return server
            elif server is not None:
                # The fault of a server in ERROR can be a moment behind its status.
                unexplained += server.status == "ERROR"
                if _is_settled(server) and (server.status != "ERROR" or unexplained > _FAULT_POLLS):
                    return server
                if not _is_settled(server):
                    continue
            missing += server is None
            if missing > 1:
                raise CloudError("the server was deleted while it was being built")
            await asyncio.sleep(_POLL_SECONDS)

    def _record(self, server: Server | None, at_least: float | None) -> None:
        if server is not None:
            (self._build_duration if server.status == "ACTIVE" else self._refusal_duration).record(at_least)


def build_message(server: Server) -> str:
    """The message about a build that has not ended, for clients."""
    return f"Nova has been building it since {instant(server.created)}; it is removed when that takes {LIMIT:.0f} s"


def overdue_message(server: Server) -> str:
    """The reason to give up a server whose build has not ended within LIMIT."""
    message = (
        f"Nova was still building the server ({server.status}) after {LIMIT:.0f} s and gave no reason; it is removed"
    )
    if any(character > "\uffff" for text in (server.name, *server.metadata.values()) for character in text):
        message += (
            ". Its name or its metadata have characters beyond U+FFFF, such as emoji: a Nova whose database is "
            "utf8mb3 takes such a request and never builds its server"
        )
    return message


def _is_settled(server: Server) -> bool:
    return server.status not in ("BUILD", "UNKNOWN") and server.task_state != "deleting"


def _has_outcome(server: Server) -> bool:
    return server.status == "ACTIVE" or (server.status == "ERROR" and bool(server.fault))
