"""Who is asking. Every way of authentication is an object with one coroutine, `principal(request)`."""

from dataclasses import dataclass
from typing import Protocol

from tornado.httputil import HTTPServerRequest


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. A reader may look, a member may create and delete too."""

    name: str
    may_write: bool


class Auth(Protocol):
    """Finds out who makes a request, before its body is read and before an upgrade. A browser cannot set headers on
    a WebSocket: the dashboard offers the subprotocols `vmsvc` and `bearer.<base64url of the token>`."""

    challenge: str      # the WWW-Authenticate of a 401

    async def principal(self, request: HTTPServerRequest) -> Principal:
        """The one who asks; raises Unauthenticated, Forbidden or CloudUnavailable."""


class NoAuth:
    """`VMSVC_AUTH=none`: everyone is `anonymous` and may do all."""

    challenge = "Bearer"

    async def principal(self, request: HTTPServerRequest) -> Principal:
        """Always the same one."""
        del request
        return Principal("anonymous", may_write=True)
