"""A request about which the cloud gives no answer, beside others."""

import asyncio

from tests.unit.fast_time import in_fast_time
from vmsvc.domain.timing import Timing
from vmsvc.service.scheduling.verdicts import Verdicts

BOOTS = {key: {"flavor_id": key, "image_id": "i", "network_id": "n"} for key in ("silent", "good")}


class Cloud:
    """Nova and Neutron. Nova does not answer about one request until `answers` is set."""

    def __init__(self):
        self.asked = []
        self.answers = asyncio.Event()

    async def objection(self, key, boot, *_, **__):
        """A rehearsal."""
        self.asked.append(key)
        if boot["flavor_id"] == "silent":
            await self.answers.wait()

    async def ports_left(self):
        """Neutron does not show it."""

    async def addresses(self, _network):
        """Neither does it show these."""


async def asked(verdicts):
    """Ask for both verdicts. Returns which of the requests have an answer, and the seconds that it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    found = await verdicts.of(BOOTS)
    return [key for key, verdict in found.items() if not verdict.unanswered], loop.time() - began


@in_fast_time
async def test_others_wait_once_for_a_request_about_which_the_cloud_does_not_answer():
    cloud = Cloud()
    verdicts = Verdicts(cloud, cloud, Timing())
    assert await asked(verdicts) == (["good"], 5)
    for _ in range(300):
        await asyncio.sleep(0.2)
        assert await asked(verdicts) == (["good"], 0)
    assert 3 < cloud.asked.count("silent") < 8, "less and less often"
    cloud.answers.set()
    await asyncio.sleep(30)
    await asked(verdicts)
    await asyncio.sleep(0.2)
    assert await asked(verdicts) == (["silent", "good"], 0)
    await verdicts.stop()


@in_fast_time
async def test_nothing_is_asked_any_more_after_the_stop():
    cloud = Cloud()
    verdicts = Verdicts(cloud, cloud, Timing())
    await asked(verdicts)
    await asyncio.sleep(1)
    await asked(verdicts)
    await asyncio.sleep(0.1)
    await verdicts.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
