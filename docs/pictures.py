"""Take the pictures of the page that README and the tutorial show: `make pictures` (about four minutes).

The script starts a service with an embedded database and a simulated cloud of its own, plays the demo on it until VMs
have been evicted, and photographs the page while a notice runs.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

STATIC = Path(__file__).resolve().parent.parent / "static"
CHROMIUM = "/usr/bin/chromium"
NOTICE_SECONDS = 25
FILL_SECONDS = 150  # the demo has filled the cloud and evicted several times
WAIT = 120_000  # milliseconds for a notice to come
SETTINGS = {"VMSVC_GRACE_SECONDS": str(NOTICE_SECONDS), "VMSVC_SIM_HOSTS": "6", "VMSVC_LOG_FORMAT": "text"}
DESK = {"width": 1440, "height": 960}
PHONE = {"width": 390, "height": 844}


@contextlib.contextmanager
def running(module: str, **environment: str) -> Iterator[None]:
    """One of vmsvc's programs, until the end of the block."""
    process = subprocess.Popen([sys.executable, "-m", module], env=os.environ | environment, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def until_ready(url: str) -> None:
    """Returns as soon as the service answers /readyz with 200. Raises TimeoutError after a minute."""
    for _ in range(120):
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{url}/readyz", timeout=5):
            return
        time.sleep(0.5)
    raise TimeoutError(f"{url} is not ready")


def page_of(browser: Browser, url: str, **options: object) -> Page:
    """The page with a notice on it that has run for some seconds."""
    page = browser.new_context(**options).new_page()  # type: ignore[arg-type]
    page.goto(url)
    page.locator(".notice-list > li").first.wait_for(timeout=WAIT)
    page.wait_for_timeout(3_000)
    return page


def details_of_an_evicted_vm(page: Page) -> Locator:
    """The dialog of a VM whose eviction is over, with the timeline open."""
    evicted = page.locator("#log-rows").get_by_text("evicted", exact=True).first
    evicted.wait_for(timeout=WAIT)
    page.wait_for_timeout(3_000)  # the request of this eviction becomes ACTIVE
    evicted.click()
    dialog = page.locator("#details-dialog")
    dialog.wait_for(timeout=WAIT)
    summary = dialog.locator("details > summary").first
    summary.wait_for(timeout=WAIT)
    if not dialog.locator("details[open]").count():
        summary.click()
    page.wait_for_timeout(500)
    return dialog


def main() -> None:
    """Write the four pictures into static/."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory() as folder,
        running("vmsvc", VMSVC_PORT=str(port), VMSVC_DATA_DIR=folder, **SETTINGS),
    ):
        until_ready(url)
        with running("vmsvc.demo", VMSVC_URL=url), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            time.sleep(FILL_SECONDS)
            page_of(browser, url, viewport=DESK).screenshot(path=STATIC / "dashboard.png")
            dark = page_of(browser, url, viewport=DESK, color_scheme="dark")
            dark.screenshot(path=STATIC / "dashboard-dark.png")
            phone = page_of(browser, url, viewport=PHONE, device_scale_factor=2, is_mobile=True)
            phone.screenshot(path=STATIC / "dashboard-phone.png")
            tall = page_of(browser, url, viewport={**DESK, "height": 1100})
            details_of_an_evicted_vm(tall).screenshot(path=STATIC / "eviction.png")
            browser.close()


if __name__ == "__main__":
    main()
