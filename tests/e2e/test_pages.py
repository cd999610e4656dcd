"""Every page, light and dark, wide and on a phone: axe-core finds nothing serious, and nothing overflows."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Visitor
from tests.support.accessibility import findings
from tests.support.browser import ROOT
from tests.support.charts import chart, drawn, wait_for_zoom

PAGES = [path.stem for path in sorted((ROOT / "pages").glob("*.py"))]
BACKGROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(16, 22, 28)"}  # of .streamlit/config.toml

_FITS = "() => { const main = document.querySelector('.stMain'); return main.scrollWidth <= main.clientWidth; }"


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible(visit: Visitor, name: str, width: int) -> None:
    page = visit("" if name == "live" else name, width=width)
    problems = {}
    for scheme, background in BACKGROUNDS.items():
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        expect(page.locator(".stApp")).to_have_css("background-color", background)
        problems[scheme] = findings(page)
    assert problems == {"light": [], "dark": []}
    page.wait_for_function(_FITS)  # once every chart has taken the width that there is


def test_a_chart_works_by_keyboard_and_sends_nothing_away(visit: Visitor) -> None:
    page = visit()
    buttons, before = chart(page, "accuracy").get_by_role("button"), drawn(page, "accuracy")["range"]
    expect(buttons.first).to_be_visible()  # they are named once plotly has drawn
    names = [button.get_attribute("aria-label") or "" for button in buttons.all()]
    assert not [name for name in names if "share" in name.lower() or "cloud" in name.lower()]
    buttons.nth(names.index("Zoom in")).press("Enter")
    wait_for_zoom(page, "accuracy", before)
