"""The Runs page: find a run, rename it, delete it and restore it."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.e2e.conftest import Visitor
from tests.support.accessibility import findings
from tests.support.browser import Site, button, current
from tests.support.page_tables import tick_first


def test_a_run_is_renamed_deleted_and_restored(visit: Visitor, site: Site) -> None:
    (row,) = site.store.runs()
    page = visit("runs")
    tick_first(page)
    page.get_by_role("button", name="Rename").click()  # a popover, which is no element but a container
    box = page.get_by_role("textbox", name="Name", exact=True)
    box.fill("<b>Lesson</b> *one*")
    page.get_by_role("button", name="Save").click()
    expect(current(page).get_by_text("<b>Lesson</b> *one*").first).to_be_visible()
    assert site.store.run(row.id).name == "<b>Lesson</b> *one*"
    assert findings(page) == []

    button(page, "Delete").click()
    expect(current(page).get_by_text("No run yet.")).to_be_visible()
    assert site.store.runs() == []
    current(page).get_by_role("button", name="Undo").click()
    expect(current(page).get_by_test_id("stDataFrame")).to_be_visible()
    assert [restored.id for restored in site.store.runs()] == [row.id]
