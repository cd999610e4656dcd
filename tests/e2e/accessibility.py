"""What axe-core says of a page as it stands."""

from __future__ import annotations

from typing import Any, NamedTuple

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser import settle

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
    """What is serious and not exempt, a line a thing, once the page is drawn."""
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
