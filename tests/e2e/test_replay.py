"""A run that has ended is replayed as if it were live."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from pwff_core.config import RunConfig
from pwff_core.runs.store import RunStatus, Store
from tests.e2e.conftest import Visitor
from tests.support.browser import Site, button, current, settle
from tests.support.charts import wait_for_round
from tests.support.page_tables import tick_first
from tests.support.scripted import profile, whole_run

ROUND_S = 3600.0  # so long that even at 20 times the pace no round passes before the test clicks


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "runs.sqlite"
    store, records = Store(path), whole_run()
    run_id = store.create_run(RunConfig(clients=len(records[0].clients)), "A long one")
    store.claim(run_id)
    store.describe(run_id, [profile(client.client) for client in records[0].clients], (), len(records))
    for record in records:
        store.append(run_id, record.model_copy(update={"run": run_id, "wall_s": ROUND_S}))
    store.finish(run_id, RunStatus.FINISHED)
    return path


def test_a_run_is_replayed(visit: Visitor, site: Site) -> None:
    (row,) = site.store.runs()
    page = visit("runs")
    tick_first(page)
    button(page, "Replay").click()
    page.wait_for_url(re.compile(rf"[?&]replay={row.id}"))
    settle(page)
    expect(current(page).get_by_text(re.compile("Replay$")).first).to_be_visible()
    expect(current(page).get_by_text(f"0 of {row.rounds_done} rounds")).to_be_visible()
    current(page).get_by_role("button", name="To the end").click()
    wait_for_round(page, row.rounds_done, "replay-accuracy")
