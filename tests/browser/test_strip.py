"""The strip chart: use and evictions over the last hours, there again after a reload, read out in words."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi


def test_it_shows_use_and_evictions_in_words_and_as_areas(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api)
    expect(page.locator("#strip-readout")).to_have_text(
        re.compile(r"Now: 4 standard \+ 4 preemptible of 12 vCPUs · 3 evictions in 6 h 00 min")
    )
    expect(page.locator("#strip-evictions .eviction")).to_have_count(2)
    heights = page.locator(".area-standard").evaluate("area => area.getAttribute('d').match(/V[0-9.]+/g)")
    assert heights[0] > heights[1] > heights[2] == heights[3]  # the higher the use, the smaller the ordinate
    page.reload()
    expect(page.locator("#strip-evictions .eviction")).to_have_count(2)


def test_a_moment_is_chosen_with_the_keyboard_and_told(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api)
    plot = page.get_by_role("slider", name="Use and evictions")
    expect(page.locator("#strip-readout")).to_contain_text("Now:")
    plot.press("ArrowLeft")
    expect(plot).to_have_attribute(
        "aria-valuetext",
        re.compile(r"\d\d:\d\d:\d\d: 4 standard \+ 4 preemptible of 12 vCPUs · 2 evictions in 1 h 30 min"),
    )
    plot.press("Home")
    expect(page.locator("#strip-readout")).to_contain_text("1 standard + 0 preemptible of 12 vCPUs · no eviction")
    page.locator("#vm-grid").focus()
    expect(page.locator("#strip-readout")).to_contain_text("Now:")


def test_another_time_is_asked_for_and_remembered(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api)
    page.get_by_label("Time shown").select_option("24 hours")
    expect(page.locator("#strip-readout")).to_contain_text("3 evictions in 1 d 0 h")
    page.reload()
    expect(page.get_by_label("Time shown")).to_have_value("24")
    expect(page.locator("#strip-readout")).to_contain_text("3 evictions in 1 d 0 h")


def test_the_axis_is_as_long_as_was_chosen_however_young_the_service_is(api: ScriptedApi, visit: Callable[..., Page]):
    api.usage |= {"since": api.instant(-2410), "step_seconds": 600}
    page = visit(api)
    expect(page.get_by_label("Time shown")).to_have_value("1")  # nobody has chosen yet
    expect(page.locator("#strip-readout")).to_contain_text("3 evictions in 40 min, since the service was first started")
    first = page.locator("#strip-times span").first
    drawn, seen = "area => area.getBBox().x / area.ownerSVGElement.viewBox.baseVal.width", []
    for hours in ("6 hours", "7 days"):
        before = first.text_content() or ""
        page.get_by_label("Time shown").select_option(hours)
        expect(first).not_to_have_text(before)
        seen.append((first.text_content(), page.locator(".area-standard").evaluate(drawn)))
    assert seen[0][0] != seen[1][0] and 0.8 < seen[0][1] < seen[1][1] < 1
    page.locator("#strip-plot").press("Home")
    expect(page.locator("#strip-readout")).to_contain_text("1 standard + 0 preemptible")


def test_a_tenant_s_chart_and_table_go_by_what_is_known_of_hosts(api: ScriptedApi, visit: Callable[..., Page]):
    flavor = {"name": "m1.tiny", "vcpus": 1, "ram": 512, "fits_now": 99_987, "fits_after_evictions": 99_990}
    api.capacity = {
        "mode": "tenant",
        "quota": {"limit": {"cores": 1_000_000}, "used": {}, "free": {}},
        "hosts": [],
        "flavors": [{**flavor, "fits_by_evidence": 3}],
    }
    page = visit(api)
    expect(page.locator("#strip-readout")).to_contain_text("4 standard + 4 preemptible of 1,000,000 vCPUs")
    share = "area => area.getBBox().height / area.ownerSVGElement.viewBox.baseVal.height"
    assert page.locator(".area-preemptible").evaluate(share) > 0.5
    expect(page.locator(".limit")).to_be_hidden()
    expect(page.locator(".capacity-fits thead th")).to_have_text(["Flavor", "By evidence", "By quota"])
    expect(page.locator(".capacity-fits tbody tr")).to_have_text("m1.tiny399,987")


def test_without_hosts_the_quota_is_the_measure_and_without_a_limit_none(api: ScriptedApi, visit: Callable[..., Page]):
    api.capacity = {
        "mode": "tenant",
        "quota": {"limit": {"cores": 10}, "used": {}, "free": {}},
        "hosts": [],
        "flavors": [],
    }
    page = visit(api)
    expect(page.locator("#strip-readout")).to_contain_text("of 10 vCPUs")
    api.capacity = {**api.capacity, "quota": {"limit": {}, "used": {}, "free": {}}}
    page.reload()
    expect(page.locator("#strip-readout")).to_contain_text("4 standard + 4 preemptible vCPUs")
    expect(page.locator(".limit")).to_be_hidden()
