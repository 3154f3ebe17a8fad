"""Looks a host up once, and lets a connection go only to addresses that webhooks may go to.

Tornado asks its resolver for the addresses of a host and connects to what it is given. So no second look-up, in which a
hostile name server could answer otherwise, comes between the judgement and the connection. TLS still verifies the name.
"""

import asyncio
import functools
import socket
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vmsvc.domain.webhook_url import Network, refusal
from vmsvc.service.webhooks.transport import TargetRefused, TransportFailed

#: Look-ups under way; one that hangs holds no thread of other work.
_THREADS = 8

LookUp = Callable[..., list[tuple[Any, ...]]]


class GuardedResolver:
    """The resolver of requests with one scheme, `https` or `http`, as Tornado's `TCPClient` uses it. `networks`: where
    requests may go besides global addresses."""

    def __init__(self, scheme: str, networks: Collection[Network], look_up: LookUp = socket.getaddrinfo):
        self._scheme = scheme
        self._networks = networks
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="names")

    async def resolve(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> list[tuple[int, Any]]:
        """The addresses of a host. Raises TransportFailed when it has none, TargetRefused when one is not allowed."""
        look_up = functools.partial(self._look_up, host, port, family, socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except (OSError, UnicodeError):
            raise TransportFailed("its name cannot be looked up") from None
        reason = refusal(self._scheme, [address[0] for *_, address in found], self._networks)
        if reason is not None:
            raise TargetRefused(reason)
        return [(family, address) for family, _, _, _, address in found]

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
