"""Clicks that a redraw may swallow: each is repeated only while the page shows no effect."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Page

from tests.support.browser import PATIENCE_S, current, settle

LOOK_MS = 100.0
_TRY_S = 5.0  # after so long without an effect the action was lost, and not only slow


def act_until(page: Page, act: Callable[[], None], done: Callable[[], bool]) -> None:
    """Acts, and acts again whenever `done` stays false, until it is true.

    For an action at a place on the screen. An element that is redrawn at that moment misses it, and no locator tells.
    """
    give_up_at = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < give_up_at, "The page does not react."
        act()
        lost_at = time.monotonic() + _TRY_S
        while not done() and time.monotonic() < lost_at:
            page.wait_for_timeout(LOOK_MS)


def choose(page: Page, box: str, option: str) -> None:
    """Picks an option of a select box, and waits until the box shows it."""
    settle(page)  # a box whose options change is drawn anew, and its open list closes
    select = current(page).get_by_role("combobox", name=box)
    wanted = page.get_by_role("option", name=option)
    act_until(page, select.click, wanted.is_visible)
    wanted.click()
    wanted.wait_for(state="hidden")
    settle(page)
