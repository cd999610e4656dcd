"""The first visit: there is no run yet, so a recorded one plays."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Visitor
from tests.support.browser import button, current
from tests.support.charts import wait_for_round


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty") / "runs.sqlite"


def test_a_recorded_run_plays_under_start(visit: Visitor) -> None:
    page = visit()
    expect(button(page, "Start")).to_be_enabled()
    expect(current(page).get_by_text(re.compile("Recorded$")).first).to_be_visible()
    current(page).get_by_role("button", name="From the start").click()  # on a slow machine the end may have come
    expect(current(page).get_by_text(re.compile(r"\b([1-9]|1\d|2[0-6]) of 27 rounds"))).to_be_visible()
    current(page).get_by_role("button", name="To the end").click()
    wait_for_round(page, 27, "replay-accuracy")
