"""Clicks on the table of runs."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.support.browser import current, settle
from tests.support.repeating import act_until


def tick_first(page: Page) -> None:
    """Ticks the first run of the table. Its cells are painted on a canvas, so the click goes to a place."""
    table = current(page).get_by_test_id("stDataFrame")
    canvas = table.locator("canvas").first
    expect(canvas).to_be_visible()
    ticked = table.locator("[role='row'][aria-selected='true']")

    def click() -> None:
        box = canvas.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + 16, box["y"] + 52)

    act_until(page, click, lambda: ticked.count() > 0)
    settle(page)
