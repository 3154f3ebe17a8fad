"""Who is asking. Every way of authentication is an object that finds the principal of a request."""

from typing import Protocol

from tornado.httputil import HTTPServerRequest

from vmsvc.domain.errors import Unauthenticated
from vmsvc.domain.principal import ANYBODY, Principal
from vmsvc.service.keystone import Keystone
from vmsvc.service.tokens import TokenFile


class Auth(Protocol):
    """Finds out who makes a request, before its body is read and before an upgrade."""

    challenge: str      # the WWW-Authenticate of a 401
    lasting: bool       # who is let in stays in: there is no need to ask `still()`

    async def principal(self, request: HTTPServerRequest) -> Principal:
        """The one who asks; raises Unauthenticated, Forbidden, TooManyRequests, CloudUnavailable or
        Unavailable."""

    def at_once(self, request: HTTPServerRequest) -> Principal | None:
        """The one who asks, where that is known without waiting; None: `principal()` will tell."""

    async def still(self, principal: Principal, seconds: float) -> None:
        """Raises as above when one whose socket has been open for so many seconds may not come in any more."""


class NoAuth:
    """`VMSVC_AUTH=none`: everyone is `anonymous` and may do all."""

    challenge = "Bearer"
    lasting = True
    anybody = ANYBODY

    async def principal(self, request: HTTPServerRequest) -> Principal:
        """Always the same one."""
        del request
        return self.anybody

    def at_once(self, request: HTTPServerRequest) -> Principal:
        """Always the same one."""
        del request
        return self.anybody

    async def still(self, principal: Principal, seconds: float) -> None:
        """Always."""


class TokenAuth:
    """`VMSVC_AUTH=token`: `Authorization: Bearer TOKEN`, of those in the file."""

    challenge = 'Bearer realm="vmsvc"'
    lasting = False

    def __init__(self, tokens: TokenFile):
        self._tokens = tokens

    async def principal(self, request: HTTPServerRequest) -> Principal:
        """Whose token it is."""
        token = _bearer(request)
        if not token:
            raise Unauthenticated("this service wants to know who asks: Authorization: Bearer TOKEN")
        return _found(await self._tokens.find(token))

    def at_once(self, request: HTTPServerRequest) -> Principal | None:
        """Whose token it is, while the file need not be looked at."""
        token = _bearer(request)
        return self._tokens.known(token) if token else None

    async def still(self, principal: Principal, seconds: float) -> None:
        """As long as the line is in the file."""
        del seconds
        _found(await self._tokens.holds(principal.credential))


class KeystoneAuth:
    """`VMSVC_AUTH=keystone`: `X-Auth-Token`, as every OpenStack service takes it."""

    challenge = 'Keystone realm="vmsvc"'
    lasting = False

    def __init__(self, keystone: Keystone):
        self._keystone = keystone

    async def principal(self, request: HTTPServerRequest) -> Principal:
        """Whose token it is."""
        token = request.headers.get("X-Auth-Token", "")
        if not token:
            raise Unauthenticated("this service wants to know who asks: X-Auth-Token: a token of Keystone's "
                                  "(openstack token issue)")
        return await self._keystone.who(token, request.remote_ip or "")

    def at_once(self, request: HTTPServerRequest) -> Principal | None:
        """Whose token it is, if Keystone has said so a short while ago."""
        return self._keystone.known(request.headers.get("X-Auth-Token", ""))

    async def still(self, principal: Principal, seconds: float) -> None:
        """As long as Keystone says so."""
        await self._keystone.still(principal, seconds)


def _bearer(request: HTTPServerRequest) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _found(principal: Principal | None) -> Principal:
    if principal is None:
        raise Unauthenticated("this token is not known here")
    return principal
