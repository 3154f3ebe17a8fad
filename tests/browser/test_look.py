"""How it looks: on a wall, on a phone, by day and by night; and that it keeps to its own files."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi
from tests.browser.scripted_capacity import CAPACITY
from tests.browser.scripted_handlers import STATIC

SCHEMES = ["light", "dark"]
SIZES = [(320, 568), (390, 844), (768, 1024), (1100, 620), (1920, 1080)]
# The contrast of each text with what is behind it, by the formula of WCAG 2.
CONTRASTS = """() => {
  const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) { return colour; }
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll('body *')].filter(element => element.checkVisibility()
    && !element.disabled && [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()));
  return texts.map(element => {
    const [one, other] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    return [element.className || element.tagName, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)];
  });
}"""


def busy(api: ScriptedApi) -> None:
    """Some of everything."""
    for number, state in enumerate(["active", "pending", "building", "noticed", "evicting", "deleting", "failed"]):
        api.add(
            f"a-rather-long-name-for-a-vm-{number}",
            preemptible=True,
            state=state,
            priority=number,
            evict_at=api.instant(90) if state == "noticed" else None,
            notice={"for": "v1", "request": "db-1", "criterion": "fewer victims of priority 10"},
        )
    for vm in list(api.servers.values()):
        api.tell("create", vm["state"], vm, reason="a reason that is so long that it does not fit on one line at all")


def test_nothing_sticks_out_sideways(api: ScriptedApi, visit: Callable[..., Page]):
    busy(api)
    page = visit(api, own=True)
    expect(page.locator(".notice")).to_have_count(2)
    page.wait_for_selector(".capacity-fits td")
    page.get_by_role("button", name="Create VM").click()
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function("width => innerWidth === width", arg=width)
        wide = page.evaluate("""() => [...document.querySelectorAll('html, #vm-grid, .panel, dialog[open]')].filter(
          ({ scrollWidth, clientWidth }) => scrollWidth > clientWidth).map(({ id, className }) => id || className)""")
        assert (width, wide) == (width, [])
        box = page.locator("#create-dialog").bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width and box["height"] <= height


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_text_can_be_read_by_day_and_by_night(scheme: str, api: ScriptedApi, visit: Callable[..., Page]):
    busy(api)
    page = visit(api, color_scheme=scheme)
    page.wait_for_selector(".capacity-fits td")
    expect(page.locator("#vm-rows .chip")).to_have_count(6)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0] > 127")
    assert ground == (scheme == "light")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 80
    assert [found for found in contrasts if found[1] < 4.5] == []


def test_nothing_moves_where_reduced_motion_is_set(api: ScriptedApi, visit: Callable[..., Page]):
    busy(api)
    page = visit(api, reduced_motion="reduce")
    moving = page.evaluate("""() => [...document.querySelectorAll('*')].filter(element => {
      const { transitionDuration, transitionProperty, animationName } = getComputedStyle(element);
      return animationName !== 'none' || (transitionProperty !== 'none' && parseFloat(transitionDuration) > 0);
    }).length""")
    assert moving == 0


def test_every_control_has_a_name(api: ScriptedApi, visit: Callable[..., Page]):
    busy(api)
    page = visit(api)
    page.get_by_role("button", name="Create VM").click()
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, input, select')].filter(control =>
      control.checkVisibility() && !control.getAttribute('aria-label') && !control.labels?.length
      && !control.textContent.trim()).map(({ outerHTML }) => outerHTML)""")
    assert nameless == []


def test_the_capacity_is_there_in_words_too(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api)
    tile = page.get_by_role("listitem").filter(has_text="bed-2")
    expect(tile.get_by_role("img").first).to_have_attribute(
        "aria-label", "vCPU: 1 standard, 1 preemptible, 0 not ours, 2 reserved, 0 free, of 4"
    )
    expect(page.get_by_role("listitem").filter(has_text="bed-4")).to_contain_text("not available")
    expect(page.locator(".capacity-fits tbody tr").nth(2)).to_have_text("m1.medium02")


def test_hosts_are_in_the_order_of_their_numbers(api: ScriptedApi, visit: Callable[..., Page]):
    (host, *_) = CAPACITY["hosts"]
    api.capacity = {**CAPACITY, "hosts": [{**host, "name": name} for name in ("bed-1", "bed-10", "bed-2")]}
    expect(visit(api).locator(".host h3")).to_have_text(["bed-1", "bed-2", "bed-10"])


def test_a_tenant_without_limits_sees_what_is_used(api: ScriptedApi, visit: Callable[..., Page]):
    api.capacity = {
        "mode": "tenant",
        "quota": {
            "limit": {"instances": 10},
            "used": {"instances": 3, "cores": 7},
            "standard": {"instances": 1, "cores": 3},
            "preemptible": {"instances": 2, "cores": 4},
            "free": {"instances": 7},
        },
        "hosts": [],
        "flavors": [],
    }
    page = visit(api)
    expect(page.locator("#mode")).to_have_text("tenant")
    expect(page.locator(".bar-value")).to_have_text(["7 free", "7 used"])
    expect(page.locator(".capacity-hosts")).to_be_hidden()


def test_no_source_writes_html_or_names_another_host():
    for source in (*STATIC.glob("js/*.js"), STATIC / "index.html", STATIC / "app.css"):
        text = source.read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
            r"|createContextualFragment|srcdoc",
            text,
        ), source
        assert not re.search(r"https?://", text), source
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"(?:src|href)=\"/", page)


# What is smaller than 44 px; the whole row of the log opens its event, not the name alone.
SMALL = """() => [...document.querySelectorAll(
    'button:not(.log-name), select, input:not([type=radio]), summary, .kinds label, #vm-rows .vm-row, .log-row'
  )].filter(control => control.checkVisibility()).map(control => {
    const { width, height } = control.getBoundingClientRect();
    return [control.id || control.className || control.textContent, width, height];
  }).filter(([, width, height]) => width < 44 || height < 44)"""


def test_a_finger_finds_every_control_on_a_phone(api: ScriptedApi, visit: Callable[..., Page]):
    busy(api)
    victim = api.find("c0000004-0000-4000-8000-000000000000")
    page = visit(api, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    expect(page.locator(".notice")).to_have_count(2)
    assert page.evaluate(SMALL) == []
    expect(page.locator(".vm-row .row-action:visible")).to_have_count(0)  # nothing that ends a VM is beside another
    page.locator("#vm-rows .name", has_text=victim["name"]).tap()
    box = page.locator("#details-dialog").bounding_box()
    assert box and (box["x"], box["width"], box["height"]) == (0, 390, 844)
    bar = page.get_by_role("button", name="Release early…").bounding_box()
    assert bar and bar["height"] >= 44 and bar["y"] + bar["height"] <= 844
    assert page.evaluate(SMALL) == []
    page.get_by_role("button", name="Close").tap()
    page.get_by_role("button", name="Create VM").tap()
    assert page.evaluate(SMALL) == []


def test_on_paper_there_are_all_rows_and_no_controls(api: ScriptedApi, visit: Callable[..., Page]):
    for number in range(60):
        api.add(f"vm-{number}", age=number)
    page = visit(api, own=True, color_scheme="dark")
    expect(page.locator("#vm-count")).to_have_text("60")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    rows = page.locator("#vm-rows .vm-row")
    expect(rows).to_have_count(60)
    tops = rows.evaluate_all("rows => rows.map(row => row.getBoundingClientRect().top)")
    assert tops == sorted(tops) and len(set(tops)) == 60
    expect(page.get_by_role("button", name=re.compile("^(Create VM|Webhooks|Delete|Pause)"))).to_have_count(0)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert rows.count() < 60
