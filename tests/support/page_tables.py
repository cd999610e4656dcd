"""What a person does to the table of runs."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.support.repeating import until_seen


def tick_first(page: Page) -> None:
    """Ticks the first run of the table; its cells are painted, so that there is only a place to click at."""
    canvas = page.locator("[data-testid='stDataFrame'] canvas").first
    expect(canvas).to_be_visible()

    def click() -> None:
        box = canvas.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + 16, box["y"] + 52)

    rename = page.get_by_role("button", name="Rename")
    until_seen(click, lambda most_ms: rename.wait_for(timeout=most_ms))
