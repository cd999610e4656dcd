"""A visitor's own examples: a file is uploaded in the browser, and the settings name it."""

from __future__ import annotations

from playwright.sync_api import expect

from pwff_core.runs.run_files import RunFiles
from tests.e2e.conftest import Visitor
from tests.support.accessibility import findings
from tests.support.browser import Site, button, current, settle

NAME = "my <b>*rows*.csv"
ROWS = b"instruction,output\nsay hello,hello\n"


def test_a_file_is_uploaded_and_put_aside(visit: Visitor, site: Site) -> None:
    page = visit()
    page.get_by_text("Source and number of examples").click()
    current(page).locator("[data-testid='stFileUploader'] input[type=file]").set_input_files(
        {"name": NAME, "mimeType": "text/csv", "buffer": ROWS}
    )
    expect(current(page).get_by_text(f"The next run learns from {NAME}.")).to_be_visible()
    settle(page)
    (kept,) = RunFiles(site.store.path).uploads.iterdir()
    assert kept.read_bytes() == ROWS and f"data.source=upload%3A{kept.name}" in page.url
    assert findings(page) == []
    button(page, "Use the embedded texts").click()
    expect(page.get_by_text("The next run learns from")).to_have_count(0)
    settle(page)
    assert "upload" not in page.url
