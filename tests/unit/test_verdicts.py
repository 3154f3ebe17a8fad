"""Requests about which the cloud gives no answer, beside others."""

import asyncio
import random

import pytest

from tests.examples import examples
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
        """What Nova answers to a rehearsal of this request."""
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


class FickleCloud(Cloud):
    """It does not answer about a request while the request's key is in `silent`."""

    def __init__(self):
        super().__init__()
        self.silent = set()
        self.silences = 0

    async def objection(self, key, boot, *_, **__):
        """The answer is yes; while it is silent, that comes after much more time than an answer may take."""
        del boot
        if key in self.silent:
            self.silences += 1
            await asyncio.sleep(60)


@pytest.mark.parametrize("seed", range(examples(8, 30)))
@in_fast_time
async def test_whatever_the_cloud_is_silent_about_each_silence_delays_others_once(seed):
    """Whenever the silence about a request begins, its first question delays the others, by five seconds at most. A
    request about which the cloud answers again gets its verdict within the longest pause and the time of an answer."""
    rng, loop, cloud = random.Random(seed), asyncio.get_running_loop(), FickleCloud()
    verdicts = Verdicts(cloud, cloud, Timing())
    boots = {key: {"flavor_id": key, "image_id": "i", "network_id": "n"} for key in "abc"}
    known_silences, answers_since = set(), dict.fromkeys(boots, 0.0)
    for _ in range(400):
        if rng.random() < 0.03:
            key = rng.choice("abc")
            cloud.silent ^= {key}
            answers_since[key] = loop.time()
        await asyncio.sleep(rng.choice((0.1, 0.2, 1.0)))
        began, silent = loop.time(), frozenset(cloud.silent)
        found = await verdicts.of(boots)
        delay, unanswered = loop.time() - began, {key for key, verdict in found.items() if verdict.unanswered}
        assert delay == pytest.approx(0) or not silent <= known_silences and delay == pytest.approx(5)
        assert unanswered >= silent, "no verdict is made up"
        late = {key for key in unanswered - silent if loop.time() - answers_since[key] > 30 + 5 + 2}
        assert not late, "the cloud has answered for long"
        known_silences = unanswered & silent
    assert cloud.silences
    await verdicts.stop()
