"""Authentication. Each way of it (`VMSVC_AUTH`) is an object that finds the principal of a request."""

from typing import Protocol

from tornado.httputil import HTTPServerRequest

from vmsvc.domain.errors import Unauthenticated
from vmsvc.domain.principal import ANYBODY, Principal
from vmsvc.service.identity.keystone import Keystone
from vmsvc.service.identity.tokens import TokenFile


class Auth(Protocol):
    """Finds the principal of a request, before the body is read and before an upgrade to a WebSocket."""

    challenge: str  # the WWW-Authenticate header of a 401
    lasting: bool  # True: a principal never loses its access, so `recheck()` need not be called

    async def principal(self, request: HTTPServerRequest) -> Principal:
        """The principal. Raises Unauthenticated, Forbidden, TooManyRequests, CloudUnavailable or Unavailable."""

    async def recheck(self, principal: Principal, seconds: float) -> None:
        """Raises as `principal()` when a principal whose WebSocket has been open for `seconds` has lost its access."""


class NoAuth:
    """`VMSVC_AUTH=none`: every client is `anonymous` and may do everything."""

    challenge = "Bearer"
    lasting = True
    anybody = ANYBODY

    async def principal(self, request: HTTPServerRequest) -> Principal:
        """`anonymous`."""
        del request
        return self.anybody

    async def recheck(self, principal: Principal, seconds: float) -> None:
        """Never raises."""


class TokenAuth:
    """`VMSVC_AUTH=token`: the header `Authorization: Bearer TOKEN`, with a token of the token file."""

    challenge = 'Bearer realm="vmsvc"'
    lasting = False

    def __init__(self, tokens: TokenFile):
        self._tokens = tokens

    async def principal(self, request: HTTPServerRequest) -> Principal:
        """The holder of the token."""
        token = _bearer(request)
        if not token:
            raise Unauthenticated("this service wants to know who asks: Authorization: Bearer TOKEN")
        return _require(await self._tokens.find(token))

    async def recheck(self, principal: Principal, seconds: float) -> None:
        """Raises Unauthenticated when the token's line is no longer in the file."""
        del seconds
        _require(await self._tokens.find_by_digest(principal.credential))


class KeystoneAuth:
    """`VMSVC_AUTH=keystone`: the header `X-Auth-Token`, as every OpenStack service takes it."""

    challenge = 'Keystone realm="vmsvc"'
    lasting = False

    def __init__(self, keystone: Keystone):
        self._keystone = keystone

    async def principal(self, request: HTTPServerRequest) -> Principal:
        """The user of the token."""
        token = request.headers.get("X-Auth-Token", "")
        if not token:
            raise Unauthenticated(
                "this service wants to know who asks: X-Auth-Token: a token of Keystone's (openstack token issue)"
            )
        return await self._keystone.authenticate(token, request.remote_ip or "")

    async def recheck(self, principal: Principal, seconds: float) -> None:
        """Raises Unauthenticated or Forbidden when Keystone no longer accepts the token."""
        await self._keystone.recheck(principal, seconds)


def _bearer(request: HTTPServerRequest) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _require(principal: Principal | None) -> Principal:
    if principal is None:
        raise Unauthenticated("this token is not known here")
    return principal
