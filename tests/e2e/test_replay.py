"""A run that has ended is played again, as if it went."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from pwff_core.config import RunConfig
from pwff_core.runs.store import RunStatus, Store
from tests.e2e.conftest import Visitor
from tests.support.browser import Site, settle
from tests.support.charts import wait_for_round
from tests.support.page_tables import tick_first
from tests.support.scripted import profile, whole_run

ROUND_S = 3600.0  # of computing: at 20 times its pace the replay still goes when a slow machine comes to the click


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


def test_a_run_is_played_again(visit: Visitor, site: Site) -> None:
    (row,) = site.store.runs()
    page = visit("runs")
    tick_first(page)
    page.get_by_role("button", name="Replay", exact=True).click()
    page.wait_for_url(re.compile(rf"[?&]replay={row.id}"))
    settle(page)
    expect(page.locator(".stMain").get_by_text(re.compile("Replay$")).first).to_be_visible()
    expect(page.get_by_text(f"0 of {row.rounds_done} rounds")).to_be_visible()
    page.get_by_role("button", name="To the end").click()
    wait_for_round(page, row.rounds_done, "replay-accuracy")
