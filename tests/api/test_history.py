"""Who reads the history leaves room for all others."""

import asyncio

import pytest

from vmsvc.web.http.limits import MAX_PAGE_READERS, MAX_PAGES

PATHS = ("/api/v1/events?type=evict", "/api/v1/evictions?reason=lifetime", "/api/v1/usage?hours=24", "/api/v1/advice")


@pytest.fixture(name="slow")
def _slow(service, evictions, monkeypatch):
    """Every reading of the history lasts until the event is set; how many are at it, at each beginning."""
    done, reading, most = asyncio.Event(), [0], []

    def wait_for(read):
        async def slowly(*args, **kwargs):
            reading[0] += 1
            most.append(reading[0])
            try:
                await done.wait()
                return await read(*args, **kwargs)
            finally:
                reading[0] -= 1

        return slowly

    for what, name in ((service, "events"), (evictions, "record"), (service, "usage")):
        monkeypatch.setattr(what, name, wait_for(getattr(what, name)))
    return done, most


async def get(port, path):
    """Status and head of the answer, over a connection of its own (Tornado's client has few)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    head = (await reader.read()).partition(b"\r\n\r\n")[0].decode("latin-1")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), head


@pytest.mark.gen_test(timeout=20)
async def test_few_read_the_history_at_once_some_wait_and_the_rest_get_retry_after(call, http_port, slow):
    done, most = slow
    asked = [asyncio.ensure_future(get(http_port, PATHS[number % 3])) for number in range(MAX_PAGES + 20)]
    while sum(task.done() for task in asked) < 20:
        await asyncio.sleep(0.01)
    assert len(most) == MAX_PAGE_READERS
    assert (await call("GET", "/api/v1/vm")).status == 200
    assert (await call("GET", "/api/v1/catalog")).status == 200
    done.set()
    answers = await asyncio.gather(*asked)
    assert sorted(status for status, _ in answers) == [200] * MAX_PAGES + [429] * 20
    assert all("Retry-After: 1" in head for status, head in answers if status == 429)
    assert max(most) == MAX_PAGE_READERS
    assert (await call("GET", PATHS[0])).status == 200


@pytest.mark.gen_test(timeout=20)
async def test_a_client_that_has_gone_before_its_turn_reads_nothing(call, http_port, slow):
    done, most = slow
    first = [asyncio.ensure_future(call("GET", PATHS[0])) for _ in range(MAX_PAGE_READERS)]
    while len(most) < MAX_PAGE_READERS:
        await asyncio.sleep(0.01)
    for _ in range(10):
        _, writer = await asyncio.open_connection("127.0.0.1", http_port)
        writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.close()
        await writer.wait_closed()
    await asyncio.sleep(0.05)
    done.set()
    assert {answer.status for answer in await asyncio.gather(*first)} == {200}
    assert (await call("GET", PATHS[0])).status == 200
    assert len(most) == MAX_PAGE_READERS + 1
