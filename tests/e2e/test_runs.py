"""The Runs page: find a run, give it a name, delete it and bring it back."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.e2e.conftest import Visitor
from tests.support.accessibility import findings
from tests.support.browser import Site
from tests.support.page_tables import tick_first


def test_a_run_is_renamed_deleted_and_brought_back(visit: Visitor, site: Site) -> None:
    (row,) = site.store.runs()
    page = visit("runs")
    tick_first(page)
    page.get_by_role("button", name="Rename").click()
    box = page.get_by_role("textbox", name="Name", exact=True)
    box.fill("<b>Lesson</b> *one*")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("<b>Lesson</b> *one*").first).to_be_visible()
    assert site.store.run(row.id).name == "<b>Lesson</b> *one*"
    assert findings(page) == []

    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("No run yet.")).to_be_visible()
    assert site.store.runs() == []
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("[data-testid='stDataFrame']")).to_be_visible()
    assert [kept.id for kept in site.store.runs()] == [row.id]
