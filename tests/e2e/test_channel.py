"""The Channel lab draws, and follows a slider."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.e2e.conftest import Visitor
from tests.support.accessibility import findings
from tests.support.browser import current, settle
from tests.support.charts import chart, drawn

SECTIONS = ("Fading", "Rate", "What crosses the air", "Delay and energy", "Formulas", "Exhibits")


def test_the_lab_follows_a_slider(visit: Visitor) -> None:
    page = visit("channel")
    page.get_by_role("tab", name="Delay and energy").click()
    bars = chart(page, "lab-delay")
    label, before = bars.get_attribute("aria-label"), drawn(page, "lab-delay")["traces"]
    current(page).get_by_role("slider", name=re.compile("^SNR")).press("ArrowRight")
    expect(current(page).get_by_role("textbox", name=re.compile("^SNR"))).not_to_have_value("5")
    expect(bars).not_to_have_attribute("aria-label", label or "")
    settle(page)
    after = drawn(page, "lab-delay")["traces"]
    pairs = [pair for old, new in zip(before, after, strict=True) for pair in zip(old["x"], new["x"], strict=True)]
    assert sum(old > 0 for old, _ in pairs) >= 2 * 7  # simulated and expected, for each method that uploads
    assert all(new < old for old, new in pairs if old > 0)  # more SNR, less delay


def test_every_section_opens(visit: Visitor) -> None:
    page = visit("channel")
    for section in SECTIONS:
        page.get_by_role("tab", name=section, exact=True).click()
        expect(page.get_by_role("tabpanel", name=section, exact=True)).to_contain_text(re.compile(r"\w{3}"))
        assert findings(page) == []
