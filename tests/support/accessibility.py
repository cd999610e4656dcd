"""The accessibility faults that axe-core finds on a page."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.support.browser import settle

PASSING_S = 10.0  # a fault that a later scan does not find was only a fade
SERIOUS = ("serious", "critical")  # axe-core's words for what keeps people out


class Exempt(NamedTuple):
    """A fault of something that Streamlit draws, so that it cannot be mended here."""

    rule: str  # axe-core's id
    selector: str
    reason: str


EXEMPT = (
    Exempt(
        "aria-dialog-name",
        "[data-testid='stToast']",
        "Streamlit gives a toast the role of a dialog and takes no name for it; its text is read out all the same.",
    ),
)


def findings(page: Page) -> list[str]:
    """A line for each serious fault that is not exempt and lasts, once the page is drawn.

    A scan may meet a passing state, for example a half-faded text, so a scan that finds something is repeated. Only
    findings of a scan that began at least PASSING_S after the first one are returned.
    """
    begun_at = time.monotonic()
    while True:
        last = time.monotonic() > begun_at + PASSING_S
        problems = _scan(page)
        if last or not problems:
            return problems
        page.wait_for_timeout(200)


def _scan(page: Page) -> list[str]:
    """A line for each serious fault of this moment that is not exempt."""
    settle(page)
    rules: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:150]} – {' '.join(node['failureSummary'].split())[:250]}"
        for rule in rules
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
        if not _exempt(page, rule["id"], node["target"][-1])
    ]


def _exempt(page: Page, rule: str, target: str) -> bool:
    """Whether the element at `target` is exempt from a rule that it breaks."""
    selectors = [exempt.selector for exempt in EXEMPT if exempt.rule == rule]
    matches = "([target, selectors]) => selectors.some((selector) => document.querySelector(target)?.matches(selector))"
    return bool(page.evaluate(matches, [target, selectors]))
