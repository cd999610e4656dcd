"""The Compare page: two methods queue, play one after the other, and are compared."""

from __future__ import annotations

from urllib.parse import urlencode

from playwright.sync_api import expect

from pwff_core.runs.store import RunStatus
from tests.e2e.conftest import ENGINE_MS, TINY, Visitor
from tests.support.accessibility import findings
from tests.support.browser import Site, button, current, settle
from tests.support.charts import wait_for_lines
from tests.support.repeating import choose

METHODS = {"fedada": "FedAda", "fedlora": "FedLoRA"}  # both end after instruction tuning


def test_two_methods_play_one_after_the_other(visit: Visitor, site: Site) -> None:
    page = visit(f"?{urlencode(TINY)}")
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Compare")
    settle(page)
    current(page).get_by_role("radio", name="Own choice").click()
    for other in ("PWFF", "Vanilla FL"):
        button(page, f"Remove {other}").click()
        expect(page.get_by_role("button", name=f"Remove {other}", exact=True)).to_have_count(0)
        settle(page)
    seeds = current(page).get_by_role("textbox", name="Seeds")
    seeds.fill("7")
    seeds.press("Enter")
    choose(page, "Settings", "those of the Live page")
    expect(current(page).get_by_text("2 runs, one after another")).to_be_visible()
    expect(current(page).get_by_text("Each has 2 clients")).to_be_visible()
    button(page, "Start").click()
    expect(current(page).get_by_text("2 of 2 runs finished.")).to_be_visible(timeout=ENGINE_MS)
    wait_for_lines(page, "compare-accuracy", METHODS.values())

    rows = [row for row in site.store.runs() if row.comparison]
    assert {row.config.method for row in rows} == set(METHODS)
    assert {(row.status, row.config.seed, row.rounds_done) for row in rows} == {(RunStatus.FINISHED, 7, 2)}
    expect(current(page).get_by_role("heading", name="All numbers")).to_be_visible()
    assert findings(page) == []
