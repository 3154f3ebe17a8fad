"""The hostile suite, in short: `make test_hostile` runs all of it."""

import asyncio
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.examples import examples
from tests.hostile.attack import attack
from tests.hostile.scenarios import MANY
from tests.hostile.strangers import TokenlessCrowd, UnreadSockets, bad_token, creates, unknown
from tests.system.client import API
from vmsvc.service.identity import keystone
from vmsvc.web.http import limits

REQUESTS = examples(400, 800)
IDLE = 300


@pytest.mark.gen_test(timeout=100)
async def test_bad_requests_and_idle_crowds_cost_nobody_else_anything(template):
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-hostile-"))
    try:
        outcome = await attack(folder, template, REQUESTS, IDLE, slow_seconds=3, seed=1, examples=1)
    finally:
        shutil.rmtree(folder)
    assert not outcome.problems
    assert sum(answers.total() for answers in outcome.tally.answers.values()) > REQUESTS + IDLE


class TestReaders:
    """Connections that read what nobody has, and others that ask and go at once."""

    @pytest.fixture(name="mode")
    def _mode(self):
        return "tenant"

    @pytest.fixture(name="options")
    def _options(self):
        return {"cloud_rate": 50, "read_rate": 50}

    @pytest.mark.gen_test(timeout=60)
    async def test_readers_cost_the_cloud_one_read_a_second_and_delay_no_create(self, client, sim):
        await creates(client, 1)
        sim.forget_calls()
        loop = asyncio.get_running_loop()
        crowd, began = TokenlessCrowd(client.port, 200, unknown, hasty=50), loop.time()
        async with crowd.asking():
            await creates(client, 3)
            assert (await client.call("GET", "/readyz")).status == 200
        seconds = loop.time() - began
        # The service asks for its own VMs while they are made and deleted.
        assert len(sim.calls(service="compute", method="GET", path="/servers/[^d]")) < 60
        assert crowd.answers.keys() <= {"404", "429"} and crowd.answers["404"]
        # So many a second are served, and two seconds' worth at once; so many are refused.
        assert crowd.answers["404"] <= 50 * (seconds + 3)
        assert crowd.answers["429"] <= limits.REFUSALS_RATE * (seconds + 2)


class TestBadTokens:
    """Connections with a new bad token each time."""

    @pytest.fixture(name="options")
    def _options(self):
        return {"auth": "keystone", "cloud_rate": 50}

    @pytest.mark.gen_test(timeout=60)
    async def test_bad_tokens_cost_keystone_little_and_a_user_nothing(self, client, sim, project, monkeypatch):
        monkeypatch.setattr(keystone, "ACCEPTED_SECONDS", 0.2)
        sim.call("POST", "/sim/users", {"name": "mia", "project": project, "role": "member"})
        headers = {"X-Auth-Token": sim.token("mia", project)}
        await creates(client, 1, headers)
        sim.forget_calls()
        crowd = TokenlessCrowd(client.port, 300, bad_token)
        async with crowd.asking():
            await creates(client, 2, headers)
        asked = sim.calls(service="identity", method="GET", path="/auth/tokens")
        # 50 at once and two a second for the strangers' address, and each time that mia is not remembered any more.
        assert crowd.answers.keys() <= {"401", "429"} and crowd.answers["429"]
        assert len(asked) <= 50 + 2 * 30 + 40


@pytest.mark.gen_test(timeout=60)
async def test_peers_that_do_not_read_share_one_list(new_replica, sim, project):
    sim.add_host("large", vcpus=4000, ram_mb=4_000_000, disk_gb=10_000)
    sim.quota(project, instances=10_000, cores=10_000, ram=10**8, port=10_000)
    sim.foreign(project, count=MANY, host="large")
    _, client = await new_replica()
    while (await client.text(f"{API}/vm")).count('"status"') < MANY:
        await asyncio.sleep(0.1)

    async def unsent():
        shown = await client.text("/metrics")
        return float(re.search(r"^vmsvc_http_unsent_bytes (\S+)", shown, re.MULTILINE)[1])

    async with UnreadSockets(client.port, 200):
        for _ in range(2):
            await creates(client, 1)
            assert 0 < await unsent() <= 32 * 1024 * 1024
        assert (await client.call("GET", "/readyz")).status == 200
    async with asyncio.timeout(10):
        while await unsent():
            await asyncio.sleep(0.05)
