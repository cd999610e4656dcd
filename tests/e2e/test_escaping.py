"""Hostile names, notes, messages and prompts in a real browser: nothing runs, nothing is asked of another computer."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Dialog, expect

from pwff_core.runs.store import Store
from tests.e2e.conftest import Visitor
from tests.support.browser import Site, settle
from tests.support.planted import NASTY, plant

_FOUND = """() => [...document.querySelectorAll(
  ".stApp img[src='x'], .stApp img[src*='foreign'], .stApp a[href*='foreign'], .stApp .katex, .stApp b"
)].map((found) => found.outerHTML)"""


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "runs.sqlite"
    plant(Store(path))
    return path


@pytest.mark.parametrize("page_name", ["", "runs", "clients", "compare"])
def test_a_hostile_text_is_letters(visit: Visitor, site: Site, page_name: str) -> None:
    run_id = next(row.id for row in site.store.runs() if row.name == NASTY and row.rounds_done)
    page = visit(f"{page_name}?run={run_id}")
    dialogs: list[str] = []

    def note(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", note)
    settle(page)
    if not page_name:
        shown = NASTY.replace("https:", "https:\u2060")  # or the browser would show a link
        expect(page.get_by_text(shown).first).to_be_visible()
    assert page.evaluate(_FOUND) == []
    assert dialogs == []  # what else a page has to complain of, requests to others among it, `visit` tells
