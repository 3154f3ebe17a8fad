"""The client's address and protocol, when a trusted proxy has passed its request on.

Tornado's own `xheaders` believes every peer. Here a header counts only when the peer is one of the trusted proxies, and
of `X-Forwarded-For` only what these have added: the last address that is not a trusted proxy's. Other headers
(`X-Real-Ip`, `Forwarded`, `X-Forwarded-Host`) never count.

A proxy may be named by its host name: a container has another address after each start. nginx (`set_real_ip_from`)
resolves such a name once, when it starts; this module does so again and again, for the proxy may start later, and move.
"""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from tornado.httputil import HTTPServerRequest

log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address

#: Seconds between two look-ups of a name, and for how long its last addresses count when the look-ups fail: a name
#: server that is away for a moment does not make one client of all.
EVERY, KEEP = 5.0, 30.0


def resolve(name: str) -> frozenset[Address]:
    """The addresses of a name now. Blocks; raises OSError."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except UnicodeError:  # Python's own, for a name that cannot be written in DNS
        raise OSError(errno.EINVAL, "it is no host name") from None
    return frozenset(filter(None, (_address(str(place[0])) for *_, place in found)))


class TrustedProxies:
    """The addresses of the trusted proxies: `address in proxies`. `run` resolves the names again and again. A name that
    has no address yet, or no longer, makes no proxy trusted. `bool(proxies)` is False without networks and names."""

    def __init__(
        self,
        networks: Iterable[IPv4Network | IPv6Network] = (),
        names: Iterable[str] = (),
        resolve_name: Callable[[str], frozenset[Address]] = resolve,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._networks = tuple(networks)
        self._addresses: dict[str, frozenset[Address]] = dict.fromkeys(names, frozenset())
        self._resolve = resolve_name
        self._clock = clock

    def __bool__(self) -> bool:
        return bool(self._networks or self._addresses)

    def __contains__(self, address: Address | None) -> bool:
        return address is not None and (
            any(address in found for found in self._addresses.values())
            or any(address in network for network in self._networks)
        )

    async def run(self) -> None:
        """Follow each name, until this is cancelled; ends at once without names. A look-up can hang for half a minute,
        so each name has a thread of its own."""
        if not self._addresses:
            return
        threads = ThreadPoolExecutor(len(self._addresses), thread_name_prefix="proxies")
        try:
            async with asyncio.TaskGroup() as group:
                for name in self._addresses:
                    group.create_task(self._follow(name, threads))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, name: str, threads: ThreadPoolExecutor) -> None:
        loop, good, logged = asyncio.get_running_loop(), self._clock(), None
        while True:
            try:
                found, problem = await loop.run_in_executor(threads, self._resolve, name), None
                good = self._clock()
            except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started now
                found, problem = frozenset(), getattr(error, "strerror", None) or str(error)
                if self._clock() - good < KEEP:
                    found = self._addresses[name]
            self._addresses[name] = found
            if found and found != logged:
                log.info("trusted proxy %s is %s", name, ", ".join(sorted(map(str, found))))
            elif not found and logged != found:
                log.warning(
                    "trusted proxy %s has no address (%s): nobody is trusted by that name until it has one",
                    name,
                    problem or "none is known",
                )
            logged = found
            await asyncio.sleep(EVERY)


def apply_forwarded_headers(request: HTTPServerRequest, trusted: TrustedProxies) -> None:
    """Write the client's address and protocol into the request.

    Each proxy adds to the end of both headers, or writes X-Forwarded-Proto anew. So the word of the outermost trusted
    proxy stands as far from the end as there are trusted proxies behind it; what stands before it is the client's.
    """
    if not trusted or _address(request.remote_ip or "") not in trusted:
        return
    passed = 1
    for text in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
        address = _address(text.strip())
        if address is None:
            break
        request.remote_ip = str(address)  # one spelling: a client has one budget, however its address is written
        if address not in trusted:
            break
        passed += 1
    protocols = request.headers.get("X-Forwarded-Proto", "").split(",")
    protocol = protocols[-min(passed, len(protocols))].strip().lower()
    if protocol in ("http", "https"):
        request.protocol = protocol


def _address(text: str) -> Address | None:
    """The address that the text is; None for a text with a port, a zone, brackets or a word."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if getattr(address, "scope_id", None) is not None:  # `fe80::1%anything`: a client could make up as many
        return None
    # A socket that takes both protocols shows an IPv4 client as ::ffff:192.0.2.1.
    return getattr(address, "ipv4_mapped", None) or address
