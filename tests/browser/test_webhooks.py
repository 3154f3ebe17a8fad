"""Webhooks on the page of the real service: from the first to its end."""

import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.live import LiveService
from tests.browser.test_axe import violations
from vmsvc.simulator.process import start

SLOW = 15_000  # milliseconds for what is sent


class Receiver:
    """Agrees, and answers each event with `status`; `events` is what came."""

    def __init__(self) -> None:
        self.status, self.events = 204, []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_OPTIONS(self) -> None:  # pylint: disable=invalid-name
                """Agree."""
                self.answer(200)

            def do_POST(self) -> None:  # pylint: disable=invalid-name
                """Note the event."""
                receiver.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer(receiver.status)

            def answer(self, status: int) -> None:
                """A status alone."""
                self.send_response(status)
                self.send_header("WebHook-Allowed-Origin", "*")
                self.end_headers()

            def log_message(self, *args: object) -> None:  # pylint: disable=arguments-differ
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Close its socket and end its thread."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(name="receiver")
def fixture_receiver() -> Iterator[Receiver]:
    """A receiver on loopback."""
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture(name="service")
def fixture_service(database, tmp_path: Path) -> Iterator[LiveService]:
    """The service on a small simulated cloud; webhooks may go to loopback."""
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-sim-"))
    running = start(folder, hosts=1, schedule_seconds=0.02, boot_seconds=0.1, delete_seconds=0.05, stop_seconds=0.03)
    service = LiveService(
        {
            "OS_CLOUD": "sim-admin",
            "OS_CLIENT_CONFIG_FILE": str(running.clouds),
            "VMSVC_FLAVOR": "m1.tiny",
            "VMSVC_DATABASE_URL": database.url,
            "VMSVC_WEBHOOK_NETWORKS": "127.0.0.0/8",
        },
        tmp_path,
    )
    yield service
    service.stop()
    os.kill(running.pid, signal.SIGTERM)
    os.waitpid(running.pid, 0)
    shutil.rmtree(folder)


def test_a_webhook_is_made_tested_switched_off_replayed_and_removed(
    service: LiveService, receiver: Receiver, visit: Callable[..., Page], tmp_path: Path
):
    page = visit(service, provoked=True)
    page.get_by_role("button", name="Webhooks").click()
    dialog, items = page.locator("#webhooks-dialog"), page.locator("#webhooks-list > li")
    expect(items).to_have_text("There is none yet.")
    dialog.get_by_label("URL").fill("http://169.254.169.254/")
    dialog.get_by_role("button", name="Add webhook").click()
    expect(page.locator("#webhooks-outcome")).to_contain_text("url")
    dialog.get_by_label("URL").fill(receiver.url)
    dialog.get_by_label("Events").select_option("create")
    dialog.get_by_role("button", name="Add webhook").click()
    expect(items.locator(".chip")).to_have_text("verified", timeout=SLOW)
    secret = page.locator("#webhooks-secret-text").input_value()
    assert secret.startswith("whsec_")
    items.get_by_role("button", name="Test").click()
    expect(page.locator("#webhooks-outcome")).to_have_text("The test was delivered; the answer was 204.", timeout=SLOW)

    receiver.status = 410
    created = service.call("POST", "api/v1/vm", {"is_preemptible": True})
    dialog.get_by_role("button", name="Close").click()
    while service.call("GET", "api/v1/webhooks")["webhooks"][0]["status"] != "off":  # the first event does that
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Webhooks").click()
    expect(items.locator(".note")).to_contain_text("Switched off: its receiver answered 410.")
    expect(page.locator("#webhooks-secret")).to_be_hidden()
    expect(items.locator(".failures li").last).to_contain_text("it answered 410, after 1 attempt")
    assert violations(page) == []
    page.screenshot(path=tmp_path / "webhooks.png")

    receiver.status = 204
    items.get_by_role("button", name="Switch on").click()
    expect(items.locator(".chip")).to_have_text("verified", timeout=SLOW)
    items.get_by_role("button", name="Replay what failed").click()
    expect(page.locator("#webhooks-outcome")).to_contain_text("sent again", timeout=SLOW)
    items.get_by_role("button", name="New secret…").click()
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#webhooks-secret-text")).not_to_have_value(secret)
    items.get_by_role("button", name="Delete…").click()
    page.locator("#confirm-yes").click()
    expect(items).to_have_text("There is none yet.")
    assert {event["type"] for event in receiver.events} == {"test", "create"}
    service.call("DELETE", f"api/v1/vm/{created['vm']['id']}")
