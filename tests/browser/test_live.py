"""The page on the real service: the whole story, a restart behind a reverse proxy, and `EventSource` over restarts."""

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.live import LiveService
from tests.browser.proxy import NAME, ReverseProxy
from vmsvc.simulator.process import start

SLOW = 30_000  # milliseconds for what the cloud has to do


@pytest.fixture(name="cloud", scope="module")
def simulated_cloud() -> Iterator[str]:
    """A simulated cloud of one host of 4 vCPUs; where its clouds.yaml is."""
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-sim-"))
    running = start(folder, hosts=1, schedule_seconds=0.02, boot_seconds=0.1, delete_seconds=0.05, stop_seconds=0.03)
    yield str(running.clouds)
    os.kill(running.pid, signal.SIGTERM)
    os.waitpid(running.pid, 0)
    shutil.rmtree(folder)


@pytest.fixture(name="service")
def live_service(cloud: str, database, tmp_path: Path) -> Iterator[LiveService]:
    """The service with an operator's credentials and three seconds of notice; its VMs are gone afterwards."""
    service = LiveService(
        {
            "OS_CLOUD": "sim-admin",
            "OS_CLIENT_CONFIG_FILE": cloud,
            "VMSVC_FLAVOR": "m1.tiny",
            "VMSVC_DATABASE_URL": database.url,
            "VMSVC_GRACE_SECONDS": "3",
            "VMSVC_HOSTS": NAME,
        },
        tmp_path,
    )
    yield service
    for server in service.call("GET", "api/v1/vm")["servers"]:
        service.call("DELETE", f"api/v1/vm/{server['id']}")
    service.stop()


def ask_for(page: Page, name: str, kind: str, flavor: str, count: int = 1) -> None:
    """Fill in the dialog."""
    page.get_by_role("button", name="Create VM").click()
    page.get_by_role("radio", name=re.compile(f"^{kind}")).check()
    page.get_by_label("Name", exact=True).fill(name)
    page.locator("[name=flavor]").select_option(flavor)
    page.get_by_label("Count").fill(str(count))


def states(page: Page) -> list[tuple[str, str]]:
    """The event log as (name, state), oldest first."""
    rows = page.locator("#log-rows .log-row")
    found = rows.evaluate_all(  # at one moment: an event may come between two looks
        "rows => rows.map(row => ['.log-name', '.chip'].map(part => row.querySelector(part).textContent))"
    )
    return [tuple(one) for one in found][::-1]


def test_from_an_empty_cloud_to_an_eviction(service: LiveService, visit: Callable[..., Page]):
    page = visit(service, own=True)
    expect(page.locator("#vm-empty")).to_have_text("No VMs yet. Create the first one.")
    ask_for(page, "batch", "Preemptible", "m1.tiny", 4)
    page.get_by_role("button", name="Create 4").click()
    expect(page.locator("#vm-rows [data-tone=good]")).to_have_count(4, timeout=SLOW)

    ask_for(page, "db", "Standard", "m1.large")
    page.get_by_role("button", name="What would happen?").click()
    expect(page.locator(".victims li")).to_have_count(4)
    expect(page.locator("#vm-count")).to_have_text("4")  # asking changed nothing
    page.locator("#create-submit").click()
    expect(page.locator(".notice")).to_have_count(4, timeout=SLOW)
    expect(page.locator(".notice-clock").first).to_have_text(re.compile("0:0[123]"))
    expect(page.locator(".notice dd").first).to_have_text("db")
    expect(page.locator(".notice-clock")).to_have_text(["Evicted"] * 4, timeout=SLOW)
    row = page.locator("#vm-rows .vm-row").filter(has=page.get_by_text("db", exact=True))
    expect(row.locator(".chip")).to_have_text("active", timeout=SLOW)
    expect(page.locator("#strip-readout")).to_contain_text("4 standard + 0 preemptible of 4 vCPUs · 4 evictions")

    page.locator(".log-row").filter(has_text="evicted").first.click()
    expect(page.locator(".record summary strong")).to_have_text("Capacity for db")
    expect(page.locator(".timeline [data-step=freed_at]")).to_contain_text("its capacity is free")
    page.get_by_role("button", name="Close").click()
    page.reload()
    expect(page.locator("#strip-readout")).to_contain_text("4 evictions")
    expect(page.locator("#log-rows .chip").first).to_have_text("active")


def test_behind_a_reverse_proxy_a_restart_of_the_service_loses_nothing(
    service: LiveService, visit: Callable[..., Page]
):
    proxy = ReverseProxy(service.port, "/clouds/vmsvc/")
    try:
        page = visit(proxy, provoked=True, own=True)
        ask_for(page, "web-1", "Standard", "m1.tiny")
        page.locator("#create-submit").click()
        expect(page.locator("#vm-rows .chip")).to_have_text(["active"], timeout=SLOW)
        service.stop()
        expect(page.locator("#connection-text")).not_to_have_text("Live")
        service.start()
        service.call("POST", "api/v1/vm", {"is_preemptible": True, "name": "batch-1"})
        expect(page.locator("#connection-text")).to_have_text("Live", timeout=SLOW)
        expect(page.locator("#vm-rows .name")).to_have_text(["batch-1", "web-1"])
        expect(page.locator("#log-rows .chip")).to_have_count(6)
        events = service.call("GET", "api/v1/events?since=0")["events"]
        assert states(page) == [(event["data"]["vm"]["name"], event["data"]["state"]) for event in events]
    finally:
        page.context.close()
        proxy.stop()


LISTEN = """([name, filter]) => {
    const seen = window[name] = [];
    new EventSource("/api/v1/events?since=0" + filter).onmessage = message => seen.push(Number(message.lastEventId));
}"""


def test_an_event_source_loses_and_doubles_nothing_over_a_restart(service: LiveService, visit: Callable[..., Page]):
    page = visit(service, provoked=True)
    # The second gets nothing before the restart, and has to come back to its place all the same.
    filters = {"every": "", "deletes": "&type=delete"}
    for name, query in filters.items():
        page.evaluate(LISTEN, [name, query])
    created = service.call("POST", "api/v1/vm", {"is_preemptible": True})
    page.wait_for_function("window.every.length === 3", timeout=SLOW)
    service.stop()
    service.start()
    service.call("DELETE", f"api/v1/vm/{created['vm']['id']}")  # before the page has come back
    for name, query in filters.items():
        wanted = [event["data"]["seq"] for event in service.call("GET", f"api/v1/events?since=0{query}")["events"]]
        page.wait_for_function("([name, seq]) => window[name].includes(seq)", arg=[name, wanted[-1]], timeout=SLOW)
        assert page.evaluate("name => window[name]", name) == wanted and len(wanted) >= 2
