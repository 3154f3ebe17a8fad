"""A browser for all of these tests, a scripted service for each, and what must hold after every one of them."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

from tests.browser.scripted_api import ScriptedApi

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP vmsvc.example 127.0.0.1",
]
# Chromium logs answers of 4xx and 5xx and lost sockets as errors; a test that provokes them says so.
# Over plain http, and under another name than loopback's, it also says which headers it ignores.
PROVOKED = (
    "Failed to load resource: the server responded with a status of",
    "Failed to load resource: net::ERR_CONNECTION_REFUSED",
    "WebSocket connection to",
    "The Cross-Origin-Opener-Policy header has been ignored",
)
# Chromium cuts every request, to loopback too, when an interface of the machine comes or goes: a container starts.
CUT = "net::ERR_NETWORK_CHANGED"
LOADS = 3
VIEWPORT = {"width": 1280, "height": 800}
WAIT = 10_000  # milliseconds for anything that the page has to do


# Playwright's synchronous interface keeps an event loop in this thread: it must be gone before other tests want one.
@pytest.fixture(name="browser", scope="package")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(name="api")
def scripted_api() -> Iterator[ScriptedApi]:
    """The service, scripted."""
    scripted = ScriptedApi()
    yield scripted
    scripted.stop()


class Watch:
    """What a page does that it must not: errors on the console (a breach of the policy is one), requests elsewhere."""

    def __init__(self, page: Page, origin: str, provoked: bool):
        self.faults: list[str] = []
        self.cuts = 0
        self._origin, self._provoked = origin, provoked
        self._listeners: dict[str, Callable[[Any], object]] = {
            "console": self._console,
            "pageerror": lambda error: self.faults.append(f"uncaught: {error}"),
            "request": self._request,
            "dialog": lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()),
        }
        for event, listener in self._listeners.items():
            page.on(event, listener)

    def end(self, page: Page) -> None:
        """Look away."""
        for event, listener in self._listeners.items():
            page.remove_listener(event, listener)

    def _console(self, message: ConsoleMessage) -> None:
        if CUT in message.text:
            self.cuts += 1
        elif message.type in ("error", "warning") and not (self._provoked and message.text.startswith(PROVOKED)):
            self.faults.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        if urlsplit(request.url).netloc != self._origin:
            self.faults.append(f"request to {request.url}")


class KeptPage:
    """One page for all tests that do not need their own: a new window costs more than what most tests do in it. Each
    test has a service on a port of its own, so an origin of its own."""

    def __init__(self, browser: Browser):
        self._browser = browser
        self._page: Page | None = None

    def take(self) -> Page:
        """The page, for one test."""
        page, self._page = self._page, None
        return page or self._browser.new_context(viewport=VIEWPORT).new_page()

    def give_back(self, page: Page) -> None:
        """Leave nothing of this test in it; where that fails, the next test gets a new one."""
        try:
            page.evaluate("localStorage.clear(); sessionStorage.clear()")
            page.goto("about:blank")
            page.mouse.move(0, 0)
            page.context.clear_cookies()
        except Error:
            page.context.close()
        else:
            self._page = page


@pytest.fixture(name="kept_page", scope="package")
def fixture_kept_page(browser: Browser) -> KeptPage:
    """One for the browser."""
    return KeptPage(browser)


@pytest.fixture
def visit(browser: Browser, kept_page: KeptPage) -> Iterator[Callable[..., Page]]:
    """Opens the page of a scripted service. `provoked`: the test makes answers or sockets fail; `own`: it changes more
    of the page than its document (the clock, scripts, the size); the rest are options of the browser context. What
    every test relies on is checked at its end."""
    opened: list[tuple[Page, Watch, bool]] = []

    def load(page: Page, watch: Watch, url: str, live: bool) -> None:
        """Go there. A load that the machine cut is made again: a page whose scripts did not come cannot help itself."""
        for _ in range(LOADS):
            cuts = watch.cuts
            try:
                page.goto(url, wait_until="load")
                if live:
                    page.wait_for_selector("body[data-connection=live]")
            except Error:
                if watch.cuts == cuts:
                    raise
            if watch.cuts == cuts:
                return

    def open_page(
        service: ScriptedApi, *, provoked: bool = False, live: bool = True, own: bool = False, **options: Any
    ) -> Page:
        is_kept = not (own or options or opened)
        page = kept_page.take() if is_kept else browser.new_context(**{"viewport": VIEWPORT, **options}).new_page()
        page.set_default_timeout(WAIT)
        watch = Watch(page, urlsplit(service.url).netloc, provoked)
        opened.append((page, watch, is_kept))
        load(page, watch, service.url, live)
        return page

    yield open_page
    faults = [fault for _, watch, _ in opened for fault in watch.faults]
    for page, watch, is_kept in opened:
        watch.end(page)
        if is_kept:
            kept_page.give_back(page)
        else:
            page.context.close()
    assert not faults
