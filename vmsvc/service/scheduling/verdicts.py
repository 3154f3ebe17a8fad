"""Would Nova accept a request, capacity apart? Joins Nova's own check, ports and addresses to one verdict.

Nova checks the whole request in a rehearsal (`service.scheduling.rehearsals`, which asks Nova beforehand). Nova's API
does not check the addresses of a network: this module counts them.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from cachetools import TTLCache

from vmsvc.cloud.port import Cloud
from vmsvc.domain.acceptance import Objection, Verdict
from vmsvc.domain.boot_options import kind_of, new_ports
from vmsvc.domain.catalog import Addresses
from vmsvc.domain.errors import CloudError, CloudUnavailable, Forbidden, Garbled, NotFound
from vmsvc.domain.timing import Timing
from vmsvc.service.scheduling.rehearsals import CLIENTS_SECONDS, OWN_SECONDS, Rehearsals
from vmsvc.service.volumes import objection_to

log = logging.getLogger(__name__)

#: How long, and of how many, a flavor, an image and options that Nova accepted together are not rehearsed again.
_GOOD_SECONDS, _MOST_GOOD = 60.0, 10_000
_ANSWER_SECONDS = 5.0  # a verdict that takes longer keeps the other requests waiting no longer


def key_of(boot: Mapping[str, Any]) -> str:
    """A key that is equal for requests that Nova judges alike."""
    named = ("flavor_id", "image_id", "network_id", "key_name", "availability_zone")
    options = [boot["options"]] if boot.get("options") else []
    return json.dumps([*map(boot.get, named), len(boot.get("metadata") or {}), *options], sort_keys=True)


class Verdicts:
    """Gets verdicts from Nova and Neutron, and keeps the good ones of clients for a while."""

    def __init__(self, cloud: Cloud, rehearsals: Rehearsals, timing: Timing):
        self._cloud = cloud
        self._timing = timing
        self._rehearsals = rehearsals
        self._good: TTLCache[tuple[str, str, str], bool] = TTLCache(_MOST_GOOD, _GOOD_SECONDS)
        self._silent: dict[str, tuple[float, float, Verdict]] = {}  # key -> until when, for how long, what was said
        self._asking_again: dict[str, asyncio.Task[None]] = {}

    async def of(self, boots: Mapping[str, Mapping[str, Any]], client: str | None = None) -> dict[str, Verdict]:
        """A verdict for each of these, by their keys. Where the cloud does not answer, or not in a way that can be
        understood, the verdict says so: requests of another kind need not wait for that one. `client`: who tries these,
        None for the service itself. Raises TooManyRequests for a client that has tried too many."""
        found = await asyncio.gather(*(self._verdict_or_silence(key, boot, client) for key, boot in boots.items()))
        return dict(zip(boots, found))

    async def foresees(self, boot: Mapping[str, Any]) -> bool:
        """True when a rehearsal shows that Nova refuses this request: nobody will be noticed for its like."""
        try:
            return await self._rehearsals.objection(key_of(boot), boot, 0.0) is not None
        except (CloudUnavailable, CloudError):
            return False

    async def at_acceptance(self, boot: Mapping[str, Any], client: str) -> Objection | None:
        """Why Nova refuses a request of a client that is about to be accepted; None when it does not, or accepted its
        flavor, image and options together within the last minute. Raises TooManyRequests, CloudUnavailable, and
        CloudError for an answer that is not understood."""
        combination = boot["flavor_id"], boot["image_id"], kind_of(boot)
        if combination in self._good:
            return None
        objection = await self._rehearsals.objection(key_of(boot), boot, CLIENTS_SECONDS, client=client)
        if objection is None:
            self._good[combination] = True
        return objection

    async def _verdict_or_silence(self, key: str, boot: Mapping[str, Any], client: str | None) -> Verdict:
        until, _, silence = self._silent.get(key, (float("-inf"), 0.0, None))
        if silence and asyncio.get_running_loop().time() < until:
            return silence
        if silence and client is None:
            if key not in self._asking_again:
                self._asking_again[key] = asyncio.create_task(self._ask_again(key, boot))
            return silence
        return await self._ask(key, boot, client)

    async def _ask_again(self, key: str, boot: Mapping[str, Any]) -> None:
        """Ask while the scheduler goes on: other requests have waited for this one's answer once. After an answer the
        next pass asks anew, since an answer is good for a moment only."""
        try:
            await self._ask(key, boot, None)
        finally:
            del self._asking_again[key]

    async def _ask(self, key: str, boot: Mapping[str, Any], client: str | None) -> Verdict:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                verdict = await self._verdict(key, boot, client)
        except (CloudUnavailable, CloudError, TimeoutError) as error:
            return self._silence(key, str(error) or f"no answer in {_ANSWER_SECONDS:.0f} s")
        self._silent.pop(key, None)
        return verdict

    def _silence(self, key: str, why: str) -> Verdict:
        shortest, longest = self._timing.silence
        _, pause, _ = self._silent.get(key, (0.0, 0.0, None))
        now, pause = asyncio.get_running_loop().time(), min(max(shortest, 2 * pause), longest)
        self._silent = {one: kept for one, kept in self._silent.items() if now - kept[0] < longest}
        silence = Verdict(unanswered=why)
        self._silent[key] = now + pause, pause, silence
        log.warning(
            "the cloud does not say whether it takes a request; it is asked again in %.0f s, and nobody is "
            "evicted for such a request until it answers: %s",
            pause,
            why,
        )
        return silence

    async def stop(self) -> None:
        """End what is still asked."""
        asking = list(self._asking_again.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _verdict(self, key: str, boot: Mapping[str, Any], client: str | None) -> Verdict:
        if client is None:
            rehearsal = self._rehearsals.objection(key, boot, OWN_SECONDS)
        else:
            rehearsal = self._rehearsals.objection(
                key, boot, CLIENTS_SECONDS, max_age_of_no=CLIENTS_SECONDS, client=client
            )
        networks = [*new_ports(boot)]
        objection, disks, ports, found = await asyncio.gather(
            rehearsal, objection_to(self._cloud, boot), self._ports(), asyncio.gather(*map(self._addresses, networks))
        )
        counted = {network: addresses for network, addresses in zip(networks, found) if addresses}
        return Verdict(objection or disks, ports, next(iter(found), None), addresses_of=counted)

    async def _ports(self) -> int | None:
        try:
            return await self._cloud.ports_left()
        except Garbled:
            raise
        except (NotFound, Forbidden, CloudError):  # this Neutron does not show it
            return None

    async def _addresses(self, network_id: str) -> Addresses | None:
        try:
            return await self._cloud.addresses(network_id)
        except (NotFound, Forbidden):
            return None
