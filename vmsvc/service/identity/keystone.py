"""Authenticates clients by tokens of the cloud's Keystone, and remembers Keystone's answers for a short while.

A token is validated with itself: Keystone lets every token do that, so the service's own credentials need no right that
a project member has not. An accepted token is remembered for a minute at most, and never beyond its end; for that time
a revoked token may still be accepted here. A rejected one is remembered for some seconds.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from weakref import WeakValueDictionary

from cachetools import LRUCache

from vmsvc.cloud.port import CHECK, Cloud, working_for
from vmsvc.domain.errors import CloudUnavailable, Forbidden, TooManyRequests, Unauthenticated, VmsvcError
from vmsvc.domain.principal import Identity, Principal
from vmsvc.service.identity.client_buckets import Buckets
from vmsvc.service.identity.tokens import digest_of

log = logging.getLogger(__name__)

ACCEPTED_SECONDS, REJECTED_SECONDS = 60.0, 10.0
#: How many answers of each kind are remembered.
MAX_REMEMBERED = 4096
#: A socket that was opened with a ticket at a replica which does not know its token stays open for so long.
UNSEEN_SECONDS = 300.0

# Each answer that is not remembered costs a call to Keystone. A token that was accepted at the last time has calls of
# its own. All others are strangers': a rejected one costs its address a token of a bucket, and all strangers together
# one of another bucket.
_USERS_AT_ONCE, _STRANGERS_AT_ONCE = 8, 4
_STRANGERS_RATE, _STRANGERS_BURST = 2.0, 50
_ALL_STRANGERS_RATE, _ALL_STRANGERS_BURST = 10.0, 200
_ALL_STRANGERS = "*"
_TOKEN = re.compile(r"[!-~]{1,4096}")


@dataclass(frozen=True, slots=True)
class _Accepted:
    token: str
    principal: Principal
    until: float


@dataclass(frozen=True, slots=True)
class _Rejected:
    error: VmsvcError
    until: float


class Keystone:
    """`member_roles`, `reader_roles` and `admin_roles` are names of roles in the service's own project: who has one of
    the first may write, who has one of the second may read, who has one of the third may let other owners' VMs go
    before their time."""

    def __init__(
        self,
        cloud: Cloud,
        member_roles: Collection[str],
        reader_roles: Collection[str],
        clock: Callable[[], float] = time.monotonic,
        admin_roles: Collection[str] = (),
    ):
        self._cloud = cloud
        self._members = frozenset(member_roles)
        self._readers = frozenset(reader_roles)
        self._admins = frozenset(admin_roles)
        self._clock = clock
        # Answers are kept beyond `until`: an old one still shows whose token it was when Keystone was called last.
        self._accepted: LRUCache[str, _Accepted] = LRUCache(MAX_REMEMBERED)
        self._rejected: LRUCache[str, _Rejected] = LRUCache(MAX_REMEMBERED)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._user_calls = asyncio.Semaphore(_USERS_AT_ONCE)
        self._stranger_calls = asyncio.Semaphore(_STRANGERS_AT_ONCE)
        self._peer_budgets = Buckets(_STRANGERS_RATE, _STRANGERS_BURST, clock)
        self._shared_budget = Buckets(_ALL_STRANGERS_RATE, _ALL_STRANGERS_BURST, clock)

    async def authenticate(self, token: str, peer: str) -> Principal:
        """The principal whose token it is; `peer` is the address it came from.

        Raises Unauthenticated for one that is wrong, expired or revoked, Forbidden for one of another project or
        without a role here, TooManyRequests for a peer with too many bad ones, CloudUnavailable when Keystone is away.
        """
        if not _TOKEN.fullmatch(token):
            raise Unauthenticated("this is no token of Keystone's")
        key = digest_of(token)
        answer = self._remembered(key)
        if answer is None:
            lock = self._locks.setdefault(key, asyncio.Lock())
            async with lock:  # many requests with one token ask once
                answer = self._remembered(key) or await self._answer(key, token, peer)
        if isinstance(answer, _Rejected):
            raise type(answer.error)(answer.error.message)
        return answer.principal

    async def recheck(self, principal: Principal, seconds: float) -> None:
        """Raises as `authenticate()` does when the principal of a socket, which has been open for so many seconds, has
        lost its access."""
        accepted = self._accepted.get(principal.credential)
        if accepted is not None:
            await self.authenticate(accepted.token, "")
        elif principal.credential in self._rejected or seconds > UNSEEN_SECONDS:
            raise Unauthenticated("show again who you are")

    def _remembered(self, key: str) -> _Accepted | _Rejected | None:
        for answers in (self._accepted, self._rejected):
            answer = answers.get(key)
            if answer is not None and self._clock() < answer.until:
                return answer
        return None

    async def _answer(self, key: str, token: str, peer: str) -> _Accepted | _Rejected:
        """Ask Keystone. A token that Keystone accepted the last time, however long ago, does not depend on the budget
        of its address: so rejected tokens from the same address do not keep its user out."""
        if key in self._accepted:
            async with self._user_calls:
                return await self._ask_keystone(key, token)
        # Taken before the wait, so that a thousand at once do not all find the bucket full.
        self._peer_budgets.spend(peer)
        try:
            self._shared_budget.spend(_ALL_STRANGERS)
        except TooManyRequests:
            self._peer_budgets.give_back(peer)
            raise
        async with self._stranger_calls:
            answer = await self._ask_keystone(key, token)
        if isinstance(answer, _Accepted):
            self._peer_budgets.give_back(peer)
            self._shared_budget.give_back(_ALL_STRANGERS)
        return answer

    async def _ask_keystone(self, key: str, token: str) -> _Accepted | _Rejected:
        now = self._clock()
        try:
            with working_for(CHECK):
                identity = await self._cloud.identity(token)
            principal = Principal(
                identity.user,
                self._may_write(identity),
                key,
                _identity(identity),
                acts_for_others=bool(identity.roles & self._admins),
            )
        except (Unauthenticated, Forbidden) as error:
            self._accepted.pop(key, None)
            self._rejected[key] = rejected = _Rejected(error, now + REJECTED_SECONDS)
            return rejected
        self._rejected.pop(key, None)
        self._accepted[key] = accepted = _Accepted(token, principal, now + min(ACCEPTED_SECONDS, identity.seconds_left))
        return accepted

    def _may_write(self, identity: Identity) -> bool:
        if not self._cloud.project_id:
            raise CloudUnavailable("the service has not signed in to the cloud yet")
        if identity.project_id != self._cloud.project_id:
            raise Forbidden("this token is not for the project in which this service works")
        if not identity.roles & (self._members | self._readers):
            raise Forbidden("this token's roles give no right here")
        return bool(identity.roles & self._members)


def _identity(identity: Identity) -> str:
    """The identity of a user. It equals no name, neither one of Keystone (which has a domain) nor one of the token
    file."""
    return f"keystone:{identity.user_id}" if identity.user_id else ""
