"""What an address holds: settings that a link shares, and nonsense, which a notice names."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visitor
from tests.support.browser import current


def expect_knobs(page: Page, clients: str, snr_db: str) -> None:
    for label, value in (("Clients", clients), ("SNR", snr_db)):
        expect(current(page).get_by_role("textbox", name=re.compile(f"^{label}"))).to_have_value(value)


def test_a_link_brings_its_settings(visit: Visitor) -> None:
    page = visit(f"?{urlencode({'clients': 3, 'channel.snr_db': 12.5, 'preset': 'demo'})}")
    expect_knobs(page, "3", "12.5")
    expect(page.locator(".stMain [data-testid='stAlert']").filter(has_text="cannot be")).to_have_count(0)


@pytest.mark.parametrize("bad", ["1e99", "<img src=x onerror=alert(1)> **many**"])
def test_nonsense_in_a_link_falls_back_with_a_notice(visit: Visitor, bad: str) -> None:
    page = visit(f"?clients={quote(bad)}&channel.snr_db=7&colour=red&run=nosuchrun")
    alerts = current(page).get_by_test_id("stAlert")
    expect(alerts.filter(has_text=f"cannot be “{bad}”")).to_be_visible()
    expect(alerts.filter(has_text="“colour”")).to_be_visible()
    expect(alerts.filter(has_text="nosuchrun")).to_be_visible()
    expect_knobs(page, "10", "7")
    expect(page.locator("img[src='x']")).to_have_count(0)
