"""Who holds a token of the cloud's Keystone, remembered for a short while.

A token is asked about with itself: every token may ask what it stands for, so the service's own credentials need no
right that a project member has not. Good answers are believed for a minute at most, and never beyond the token's end;
so long a token that was revoked may still be good here. Bad ones are believed for some seconds.
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
from vmsvc.service.identity.rate_limit import Buckets
from vmsvc.service.identity.tokens import digest_of

log = logging.getLogger(__name__)

GOOD_SECONDS, BAD_SECONDS = 60.0, 10.0
#: How many answers of each kind are remembered.
MOST = 4096
#: A socket that came with a ticket to a replica which has never seen its token is let be for so long.
UNSEEN_SECONDS = 300.0

# Each answer that is not remembered costs a call to Keystone. One that was good at the last time has calls of its own.
# All others are strangers': a bad one costs its address a token of a bucket, and all strangers together one of another.
_USERS_AT_ONCE, _STRANGERS_AT_ONCE = 8, 4
_STRANGERS_RATE, _STRANGERS_BURST = 2.0, 50
_ALL_STRANGERS_RATE, _ALL_STRANGERS_BURST = 10.0, 200
_ALL_STRANGERS = "*"
_TOKEN = re.compile(r"[!-~]{1,4096}")


@dataclass(frozen=True, slots=True)
class _Good:
    token: str
    principal: Principal
    until: float


@dataclass(frozen=True, slots=True)
class _Bad:
    why: VmsvcError
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
        # Answers are kept beyond `until`: an old one still tells whose token it was when Keystone was asked last.
        self._good: LRUCache[str, _Good] = LRUCache(MOST)
        self._bad: LRUCache[str, _Bad] = LRUCache(MOST)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._users = asyncio.Semaphore(_USERS_AT_ONCE)
        self._strangers = asyncio.Semaphore(_STRANGERS_AT_ONCE)
        self._of_peer = Buckets(_STRANGERS_RATE, _STRANGERS_BURST, clock)
        self._of_all = Buckets(_ALL_STRANGERS_RATE, _ALL_STRANGERS_BURST, clock)

    async def who(self, token: str, peer: str) -> Principal:
        """Whose token it is; `peer` is the address it came from.

        Raises Unauthenticated for one that is wrong, expired or revoked, Forbidden for one of another project or
        without a role here, TooManyRequests for a peer with too many bad ones, CloudUnavailable when Keystone is away.
        """
        if not _TOKEN.fullmatch(token):
            raise Unauthenticated("this is no token of Keystone's")
        key = digest_of(token)
        known = self._remembered(key)
        if known is None:
            turn = self._turns.setdefault(key, asyncio.Lock())
            async with turn:  # many requests with one token ask once
                known = self._remembered(key) or await self._ask(key, token, peer)
        if isinstance(known, _Bad):
            raise type(known.why)(known.why.message)
        return known.principal

    async def still(self, principal: Principal, seconds: float) -> None:
        """Raises as `who()` when a socket that has been open for so many seconds is not to go on."""
        good = self._good.get(principal.credential)
        if good is not None:
            await self.who(good.token, "")
        elif principal.credential in self._bad or seconds > UNSEEN_SECONDS:
            raise Unauthenticated("show again who you are")

    def _remembered(self, key: str) -> _Good | _Bad | None:
        for kept in (self._good, self._bad):
            known = kept.get(key)
            if known is not None and self._clock() < known.until:
                return known
        return None

    async def _ask(self, key: str, token: str, peer: str) -> _Good | _Bad:
        """Ask Keystone. A token that was good at the last time is no stranger's, however long ago that was: what bad
        tokens come from the same address does not keep its user out."""
        if key in self._good:
            async with self._users:
                return await self._answer(key, token)
        # Taken before the wait, so that a thousand at once do not all find the bucket full.
        self._of_peer.spend(peer)
        try:
            self._of_all.spend(_ALL_STRANGERS)
        except TooManyRequests:
            self._of_peer.give_back(peer)
            raise
        async with self._strangers:
            answer = await self._answer(key, token)
        if isinstance(answer, _Good):
            self._of_peer.give_back(peer)
            self._of_all.give_back(_ALL_STRANGERS)
        return answer

    async def _answer(self, key: str, token: str) -> _Good | _Bad:
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
            self._good.pop(key, None)
            self._bad[key] = bad = _Bad(error, now + BAD_SECONDS)
            return bad
        self._bad.pop(key, None)
        self._good[key] = good = _Good(token, principal, now + min(GOOD_SECONDS, identity.seconds_left))
        return good

    def _may_write(self, identity: Identity) -> bool:
        if not self._cloud.project_id:
            raise CloudUnavailable("the service has not signed in to the cloud yet")
        if identity.project_id != self._cloud.project_id:
            raise Forbidden("this token is not for the project in which this service works")
        if not identity.roles & (self._members | self._readers):
            raise Forbidden("this token's roles give no right here")
        return bool(identity.roles & self._members)


def _identity(identity: Identity) -> str:
    """No name is like it, neither Keystone's (which have a domain) nor those of the token file."""
    return f"keystone:{identity.user_id}" if identity.user_id else ""
