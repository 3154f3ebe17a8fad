"""How requests go through httpx: addresses, time-outs, tokens, and what its exceptions mean."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from typing import Any

import httpx

from vmsvc import __version__
from vmsvc.client.steps import Answer, NoAnswer, Request

#: Gives the token to send. It is called before each request with "", and, when the service has refused a token, once
#: more with that token: it then may return another one.
TokenSource = Callable[[str], str]

_API = "/api/v1"
_CONNECT_SECONDS, _WRITE_SECONDS = 10.0, 30.0
_TOKEN = re.compile(r"[!-~]{1,8192}")
#: The request has not left, whatever the service does.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


def base_url(url: str) -> str:
    """The address of the API. `url` is the service's, with or without `/api/v1`. Raises ValueError."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise ValueError("the address of the service is no URL") from None
    if parsed.userinfo:
        raise ValueError("the address of the service has a user or a password in it; name a token instead")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise ValueError(f"{url!a} is no address of a service, such as https://vmsvc.example:8888")
    return str(parsed).rstrip("/").removesuffix(_API) + _API


def options(url: str, token: str | TokenSource, verify: bool | ssl.SSLContext) -> dict[str, Any]:
    """The arguments of an httpx client for this service. No proxy of the environment can reach this machine's
    loopback. Raises ValueError."""
    return {
        "base_url": base_url(url),
        "auth": TokenAuth(token) if token else None,
        "verify": verify,
        "headers": {"User-Agent": f"vmsvc/{__version__}"},
        "mounts": {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")},
        "limits": httpx.Limits(max_connections=100),
    }


def arguments_of(request: Request) -> dict[str, Any]:
    """The arguments of httpx for a request."""
    return {
        "method": request.method,
        "url": request.path,
        "params": dict(request.query),
        "json": request.body,
        "headers": dict(request.headers),
        "timeout": httpx.Timeout(
            request.read_seconds, connect=_CONNECT_SECONDS, write=_WRITE_SECONDS, pool=_CONNECT_SECONDS
        ),
    }


def answer_of(response: httpx.Response, body: bytes) -> Answer:
    """The answer in a response."""
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, body)


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """In this context an exchange that fails raises NoAnswer."""
    try:
        yield
    except httpx.HTTPError as error:
        cause, distrusted = error.__cause__ or error.__context__, False
        while cause is not None and not distrusted:
            distrusted = isinstance(cause, ssl.SSLCertVerificationError)
            cause = cause.__cause__ or cause.__context__
        raise NoAnswer(
            str(error) or type(error).__name__,
            sent=not isinstance(error, _NOT_SENT),
            hopeless=distrusted,
        ) from error


class TokenAuth(httpx.Auth):
    """Shows a token in each request, and a new one when the service refuses it.

    Each way of authentication of vmsvc reads a header of its own, and ignores the other.
    """

    def __init__(self, token: str | TokenSource):
        self._source: TokenSource = (lambda _: token) if isinstance(token, str) else token

    def __repr__(self) -> str:
        return "TokenAuth()"

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """httpx's hook."""
        token = self._source("")
        response = yield _signed(request, token)
        if response.status_code == 401 and (renewed := self._source(token)) != token:
            yield _signed(request, renewed)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """The same; the source may block."""
        token = await asyncio.to_thread(self._source, "")
        response = yield _signed(request, token)
        if response.status_code == 401 and (renewed := await asyncio.to_thread(self._source, token)) != token:
            yield _signed(request, renewed)


def _signed(request: httpx.Request, token: str) -> httpx.Request:
    """Raises ValueError, without the token, for a text that cannot be one: httpx's own error would show it."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token is empty, or has characters that no token has")
    request.headers["Authorization"] = f"Bearer {token}"
    request.headers["X-Auth-Token"] = token
    return request
