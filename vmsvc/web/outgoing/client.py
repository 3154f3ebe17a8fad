"""Sends the requests of webhooks: one connection each, no redirects, no proxies, and of the answer only the status."""

import asyncio
import socket
import ssl
from collections.abc import Collection, Mapping

from tornado.httpclient import HTTPError, HTTPRequest
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from vmsvc import __version__
from vmsvc.domain.errors import InvalidRequest
from vmsvc.domain.webhook_url import Network, parse
from vmsvc.service.webhooks.transport import Consent, TargetRefused, TransportFailed
from vmsvc.web.outgoing.resolver import GuardedResolver, LookUp

_MAX_CLIENTS = 512  # more than ever wait: the dispatcher and the handlers bound their requests
_MAX_HEADERS = 16 * 1024
_MAX_ANSWER = 1024 * 1024


class OutgoingClient:
    """The transport of webhooks. `networks` are where requests may go besides global addresses; `timeout` is for a
    whole request, in seconds. It reads no environment variable that names a proxy."""

    def __init__(
        self,
        networks: Collection[Network],
        timeout: float,
        *,
        tls: ssl.SSLContext | None = None,
        look_up: LookUp = socket.getaddrinfo,
    ):
        self._networks = networks
        self._timeout = timeout
        self._tls = tls  # None: that of the system, which is read when it is needed
        self._look_up = look_up
        self._clients: dict[str, tuple[SimpleAsyncHTTPClient, GuardedResolver]] = {}

    def _of(self, scheme: str) -> tuple[SimpleAsyncHTTPClient, GuardedResolver]:
        """The client of a scheme, which is made on the loop that uses it."""
        if scheme not in self._clients:
            resolver = GuardedResolver(scheme=scheme, networks=self._networks, look_up=self._look_up)
            client = SimpleAsyncHTTPClient(
                force_instance=True, max_clients=_MAX_CLIENTS, resolver=resolver, max_header_size=_MAX_HEADERS
            )
            self._clients[scheme] = client, resolver
        return self._clients[scheme]

    async def check(self, url: str) -> None:
        """See `Transport`."""
        target = _target(url)
        try:
            async with asyncio.timeout(self._timeout):
                await self._of(target)[1].resolve(parse(url).host, parse(url).port)
        except TimeoutError:
            raise TransportFailed("its name cannot be looked up") from None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """See `Transport`."""
        status, _ = await self._fetch(HTTPRequest(url, "POST", dict(headers), body))
        return status

    async def ask_consent(self, url: str, origin: str) -> Consent:
        """See `Transport`."""
        status, headers = await self._fetch(HTTPRequest(url, "OPTIONS", {"WebHook-Request-Origin": origin}))
        return Consent(status, headers.get("webhook-allowed-origin"))

    async def _fetch(self, request: HTTPRequest) -> tuple[int, dict[str, str]]:
        """The status of the answer, and its headers by their names in lower case."""
        client, _ = self._of(_target(request.url))
        head: list[str] = []
        request.follow_redirects = False
        request.decompress_response = False
        request.connect_timeout = request.request_timeout = self._timeout
        if request.url.startswith("https:"):
            self._tls = self._tls or ssl.create_default_context()
            request.ssl_options = self._tls
        request.user_agent = f"vmsvc/{__version__}"
        request.header_callback = head.append
        request.streaming_callback = _drop
        try:
            async with asyncio.timeout(self._timeout + 1):
                await client.fetch(request, raise_error=False)
        except (TargetRefused, TransportFailed):
            raise
        except Exception as error:  # pylint: disable=broad-exception-caught; Tornado raises what its parts raise
            if not head:
                raise TransportFailed(_reason(error, self._timeout)) from None
            # The status has come: what is wrong with the rest of the answer does not matter.
        return _read(head)

    def close(self) -> None:
        """Close all connections."""
        for client, resolver in self._clients.values():
            client.close()
            resolver.close()
        self._clients.clear()


def _target(url: str) -> str:
    """The scheme of a URL. Raises TargetRefused for one that `parse` refuses: it was stored by another release."""
    try:
        return parse(url).scheme
    except InvalidRequest as error:
        raise TargetRefused(error.message) from None


def _drop(chunk: bytes) -> None:
    """Keep nothing of an answer's body."""
    del chunk


def _reason(error: Exception, timeout: float) -> str:
    """Why there was no status, in words that tell nothing of this network."""
    match error:
        case HTTPTimeoutError() | TimeoutError():
            return f"it did not answer within {timeout:g} s"
        case ssl.SSLError():
            return "its certificate is not valid, or it does not speak TLS"
        case HTTPError() | OSError():
            return "no connection could be made, or it was cut"
    return "its answer is no HTTP"


def _read(head: list[str]) -> tuple[int, dict[str, str]]:
    """Status and headers of the lines that came."""
    if not head:
        raise TransportFailed("its answer is no HTTP")
    headers: dict[str, str] = {}
    for line in head[1:]:
        name, _, value = line.strip().partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    return int(head[0].split()[1]), headers
