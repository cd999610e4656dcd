"""Hostile names, notes, messages and prompts in a real browser: no code runs, and no other computer is contacted."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Dialog, expect

from pwff_core.runs.store import Store
from tests.e2e.conftest import Visitor
from tests.support.browser import Site, current, settle
from tests.support.planted import NASTY, plant

_ACTIVE_CONTENT = """() => [...document.querySelectorAll(
  ".stApp img[src='x'], .stApp img[src*='foreign'], .stApp a[href*='foreign'], .stApp .katex, .stApp b"
)].map((element) => element.outerHTML)"""


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "runs.sqlite"
    plant(Store(path))
    return path


@pytest.mark.parametrize("page_name", ["", "runs", "clients", "compare"])
def test_a_hostile_text_is_plain_text(visit: Visitor, site: Site, page_name: str) -> None:
    run_id = next(row.id for row in site.store.runs() if row.name == NASTY and row.rounds_done)
    page = visit(f"{page_name}?run={run_id}")
    dialogs: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    settle(page)
    if not page_name:
        text = NASTY.replace("https:", "https:\u2060")  # so that Markdown makes no link of it
        expect(current(page).get_by_text(text).first).to_be_visible()
    assert page.evaluate(_ACTIVE_CONTENT) == []
    assert dialogs == []  # `visit` checks the rest: no errors, no requests to other computers
