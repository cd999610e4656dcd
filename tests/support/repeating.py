"""What a person does who has clicked and sees that nothing has come of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from tests.support.browser import PATIENCE_S

_TRY_MS = 15_000.0


def until_seen(act: Callable[[], None], seen: Callable[[float], object]) -> None:
    """Acts, again and again, until `seen` returns, which is given the milliseconds that it may wait.

    For what is done at a place on the screen: an element that is drawn anew at that moment, as they are on a slow
    machine, misses it.
    """
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        act()
        try:
            seen(_TRY_MS)
        except PlaywrightTimeoutError:
            if time.monotonic() > give_up_at:
                raise
        else:
            return


def choose(page: Page, box: str, option: str) -> None:
    """Picks an option of a box; its list closes when the box is drawn anew."""
    wanted = page.get_by_role("option", name=option)
    until_seen(page.get_by_role("combobox", name=box).click, lambda most_ms: wanted.click(timeout=most_ms))
