"""What axe-core says of a page as it stands."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.support.browser import settle

PASSING_S = 10.0  # what is gone after so long was only fading in or out
SERIOUS = ("serious", "critical")  # axe-core's words for what keeps people out


class Exempt(NamedTuple):
    """Something that Streamlit draws itself, so that we cannot mend it."""

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
    """What is serious, not exempt and there to stay, a line a thing, once the page is drawn.

    A scan may meet a passing state, as a text that is half faded: where it finds something it is repeated. What is
    told was found by a scan that began at least PASSING_S after the first one, however long each takes.
    """
    begun_at = time.monotonic()
    while True:
        last = time.monotonic() > begun_at + PASSING_S
        found = _scan(page)
        if last or not found:
            return found
        page.wait_for_timeout(200)


def _scan(page: Page) -> list[str]:
    """What is serious and not exempt at this moment."""
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
    """Whether the element at `target`, where a rule found something, is exempt from that rule."""
    selectors = [exempt.selector for exempt in EXEMPT if exempt.rule == rule]
    question = "([target, selectors]) => selectors.some((one) => document.querySelector(target)?.matches(one))"
    return bool(page.evaluate(question, [target, selectors]))
