"""Rehearsals: let Nova check a request without making a server (`Cloud.rehearse`), no more often than needed.

Equal requests share one rehearsal: there is never more than one under way for them, and its answer holds for a while.
Clients have a budget of rehearsals, each of them and all together. The service's own rehearsals, before and during a
notice, are not on that budget and never wait for it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from cachetools import TTLCache

from vmsvc.cloud.port import KIND, MARK, OWNER, SERVICE, BootSpec, Cloud, Server, working_for
from vmsvc.domain.acceptance import Objection
from vmsvc.domain.boot_options import options_in
from vmsvc.domain.errors import Conflict, Forbidden, InvalidRequest, QuotaExceeded, TooManyRequests, VmsvcError
from vmsvc.service.identity.client_buckets import Buckets

#: Seconds for which an answer holds for the clients' equal requests, and for the service's own.
CLIENTS_SECONDS, OWN_SECONDS = 1.0, 0.3
_MOST_ANSWERS = 10_000
#: Rehearsals of one client, and of all clients of this replica: so many a second, and so many at once after a rest.
_CLIENT_RATE, _CLIENT_BURST = 2.0, 10
_ALL_RATE, _ALL_BURST = 10.0, 20
_ALL_CLIENTS = "all clients"
_NAME = "vmsvc-rehearsal"
_REHEARSAL = "rehearsal"  # in the place of a VM's id, and of its kind: no row has such an id


class Rehearsals:
    """Rehearses requests with Nova. `deployment` is called for the id that each rehearsal carries in its marks: the
    service reads it from its database when it starts."""

    def __init__(self, cloud: Cloud, deployment: Callable[[], str], clock: Callable[[], float] = time.monotonic):
        self._deployment = deployment
        self._cloud = cloud
        self._clock = clock
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        #: key -> when the answer came, what it is
        self._answers: TTLCache[str, tuple[float, Objection | VmsvcError | None]] = TTLCache(
            _MOST_ANSWERS, CLIENTS_SECONDS, clock
        )
        self._of_client = Buckets(_CLIENT_RATE, _CLIENT_BURST, clock)
        self._of_all = Buckets(_ALL_RATE, _ALL_BURST, clock)

    async def objection(
        self,
        key: str,
        boot: Mapping[str, Any],
        max_age: float,
        *,
        max_age_of_no: float = 0.0,
        client: str | None = None,
    ) -> Objection | None:
        """Why Nova refuses this request, None when it takes it; `key` is equal for requests that Nova judges alike.

        An answer that came less than `max_age` seconds before this call is used again (`max_age_of_no`, if it was a
        refusal), and so is the answer of a rehearsal that is under way. A caller must not refuse a request for good on
        an older refusal. `client`: whose budget pays for the rehearsal; None for the service's own. Raises
        TooManyRequests when that budget is used up, CloudUnavailable, and CloudError for an answer that is not
        understood.
        """
        asked = self._clock()
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with turn:
            came, answer = self._answers.get(key, (float("-inf"), None))
            if came < asked - (max_age if answer is None else max_age_of_no):
                if client is not None:
                    self._spend(client)
                answer = await self._ask(boot)
                self._answers[key] = self._clock(), answer
        if isinstance(answer, VmsvcError):
            raise answer
        return answer

    def _spend(self, client: str) -> None:
        try:
            self._of_client.spend(client)
            try:
                self._of_all.spend(_ALL_CLIENTS)
            except TooManyRequests:
                self._of_client.give_back(client)
                raise
        except TooManyRequests as error:
            raise TooManyRequests(
                "the cloud has to check each request that is tried, and too many different ones were "
                "tried in the last seconds; try again",
                error.retry_after,
            ) from None

    async def _ask(self, boot: Mapping[str, Any]) -> Objection | VmsvcError | None:
        """Nova's objection, None, or the error that the cloud raised: requests that wait for the answer share that
        too."""
        try:
            with working_for(SERVICE):  # the scheduler may wait for it, and must not wait behind clients
                return await self._rehearsed(boot)
        except VmsvcError as error:
            return error

    async def _rehearsed(self, boot: Mapping[str, Any]) -> Objection | None:
        try:
            try:
                await self._cloud.rehearse(self._spec(boot))
            except QuotaExceeded:
                # Of ports, which Nova checks before the image: rehearse without a port, to check the rest. A victim
                # gives its port back, so `Verdict.object_to` counts ports.
                await self._cloud.rehearse(self._spec(boot, plugged=False))
        except InvalidRequest as error:
            return Objection(error.message, error.field)
        except (Forbidden, Conflict, QuotaExceeded) as error:
            return Objection(error.message, None, error.slug)
        return None

    def _spec(self, boot: Mapping[str, Any], plugged: bool = True) -> BootSpec:
        options = options_in(boot)
        return BootSpec(
            vmsvc_id=_REHEARSAL,
            name=_NAME,
            flavor_id=boot["flavor_id"],
            image_id=boot["image_id"],
            network_id=boot["network_id"] if plugged else None,
            networks="none",
            # Nova counts the marks of a server of ours against its limit on metadata.
            metadata={**(boot.get("metadata") or {}), **_marks(self._deployment())},
            key_name=boot.get("key_name"),
            user_data=boot.get("user_data"),
            availability_zone=boot.get("availability_zone"),
            options=options if plugged else replace(options, nics=()),
        )


def _marks(deployment: str) -> dict[str, str]:
    return {MARK: _REHEARSAL, OWNER: deployment, KIND: _REHEARSAL}


def is_left_over(server: Server, deployment: str) -> bool:
    """True for a server that a rehearsal of this deployment has made, because this Nova does not look for the server
    group, and that was not deleted, because the answer was lost. Only its name and all its marks together show that."""
    return server.name == _NAME and _marks(deployment).items() <= server.metadata.items()
