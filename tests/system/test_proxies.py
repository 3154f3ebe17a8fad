"""Clients behind a proxy that is trusted by its name, over real sockets and the resolver of the system."""

import pytest

from tests.system.client import API, until

PROXY, FORGED, ONE, OTHER = "127.0.0.1", "198.51.100.1", "192.0.2.7", "192.0.2.8"


@pytest.fixture(name="options")
def _options():
    """A client may ask the database for one read, and 100 s later for the next."""
    return {"trusted_proxies": "localhost, nobody.invalid", "read_rate": 0.01}


async def statuses(client, forwarded, number):
    """What a client gets for so many reads of what nobody has."""
    return [
        (await client.call("GET", f"{API}/events?limit=1", headers={"X-Forwarded-For": forwarded})).status
        for _ in range(number)
    ]


@pytest.mark.gen_test(timeout=40)
async def test_each_client_behind_a_named_proxy_has_its_own_budget_and_address(new_replica, caplog):
    _, client = await new_replica()
    await until(lambda: any("localhost is" in each.getMessage() for each in caplog.records))
    assert await statuses(client, f"{FORGED}, {ONE}", 2) == [200, 429]
    assert await statuses(client, f"203.0.113.5, {ONE}", 1) == [429]  # nobody gets a new budget by what he makes up
    assert await statuses(client, OTHER, 2) == [200, 429]
    lines = [each.getMessage() for each in caplog.records if each.name == "vmsvc.access"]
    seen = {address for address in (PROXY, FORGED, ONE, OTHER) for line in lines if f" {address} " in line}
    assert seen == {ONE, OTHER}
    said = [each.getMessage() for each in caplog.records if "nobody.invalid" in each.getMessage()]
    assert len(said) == 1 and "has no address" in said[0]
