"""The Runs page: find a run, give it a name, delete it and bring it back, play it again."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser import Site, settle
from tests.e2e.accessibility import findings
from tests.e2e.charts import wait_for_round
from tests.e2e.conftest import Visitor


def tick_first(page: Page) -> None:
    """Ticks the first run of the table; its cells are painted, so that there is only a place to click at."""
    canvas = page.locator("[data-testid='stDataFrame'] canvas").first
    expect(canvas).to_be_visible()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 16, box["y"] + 52)
    expect(page.get_by_role("button", name="Rename")).to_be_visible()


def test_a_run_is_renamed_deleted_and_brought_back(visit: Visitor, site: Site) -> None:
    (row,) = site.store.runs()
    page = visit("runs")
    tick_first(page)
    page.get_by_role("button", name="Rename").click()
    box = page.get_by_role("textbox", name="Name", exact=True)
    box.fill("<b>Lesson</b> *one*")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("<b>Lesson</b> *one*").first).to_be_visible()
    assert site.store.run(row.id).name == "<b>Lesson</b> *one*"
    assert findings(page) == []

    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("No run yet.")).to_be_visible()
    assert site.store.runs() == []
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("[data-testid='stDataFrame']")).to_be_visible()
    assert [kept.id for kept in site.store.runs()] == [row.id]


def test_a_run_is_played_again(visit: Visitor, site: Site) -> None:
    (row,) = site.store.runs()
    page = visit("runs")
    tick_first(page)
    page.get_by_role("button", name="Replay", exact=True).click()
    page.wait_for_url(re.compile(rf"[?&]replay={row.id}"))
    settle(page)
    expect(page.locator(".stMain").get_by_text(re.compile("Replay$")).first).to_be_visible()
    page.get_by_role("button", name="To the end").click()
    wait_for_round(page, row.rounds_done, "replay-accuracy")
