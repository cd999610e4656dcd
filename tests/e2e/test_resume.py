"""A run is never lost: its engine is killed and it is resumed; it is stopped and forked."""

from __future__ import annotations

import math
import re
from urllib.parse import urlencode

import psutil
import pytest
from playwright.sync_api import Page, expect

from pwff_core.runs.checkpoints import list_checkpoints
from pwff_core.runs.store import Store
from tests.e2e.conftest import TINY, Visitor
from tests.e2e.test_live import run_in, set_snr
from tests.support.accessibility import findings
from tests.support.browser import ENGINE_MS, Site, button, current, settle
from tests.support.charts import drawn, wait_for_lines, wait_for_round, wait_for_run
from tests.support.repeating import choose

# more rounds than the test waits for, and no fading, so that a round's delay follows from the SNR alone
LONG = TINY | {
    "instruction.rounds": 2000, "reward.rounds": 0, "alignment.rounds": 0, "channel.fading": "awgn",
    "channel.snr_db": 5,
}  # fmt: skip
PANELS = ("accuracy", "delay", "energy")


def test_a_run_outlives_its_engine_and_is_forked(visit: Visitor, site: Site) -> None:
    page = visit(f"?{urlencode(LONG)}")
    earlier = run_in(page)
    button(page, "Start").click()
    page.wait_for_url(lambda address: "run=" in address and earlier not in address)
    run_id = run_in(page)
    wait_for_run(page, run_id)
    wait_for_round(page, 3)

    kill_engine(site.store, run_id)
    expect(
        current(page).get_by_text(re.compile(rf"Run {run_id} was interrupted after \d+ of 2000 rounds"))
    ).to_be_visible()
    expect(button(page, "Resume")).to_be_enabled()
    before = site.store.rounds(run_id)
    assert len(before) >= 3
    assert findings(page) == []

    other = visit(f"?run={run_id}")
    expect(button(other, "Resume")).to_be_enabled()
    button(page, "Resume").click()
    expect(button(page, "Pause")).to_be_enabled()
    expect(current(other).get_by_text("Another browser steers this run. Here you watch")).to_be_visible()
    other.close()
    assert run_in(page) == run_id
    wait_for_round(page, len(before) + 2)
    rounds = site.store.rounds(run_id)
    assert rounds[: len(before)] == before
    assert [record.round for _, record in rounds] == list(range(1, len(rounds) + 1))

    button(page, "Stop").click()
    expect(current(page).get_by_text("What was measured is kept")).to_be_visible(timeout=ENGINE_MS)
    expect(button(page, "Resume")).to_be_enabled()
    fork_with_another_snr(page, site.store, run_id)


def kill_engine(store: Store, run_id: str) -> None:
    """Ends the run's worker as a power cut does: it can write nothing more."""
    pid = store.run(run_id).pid
    assert pid is not None
    psutil.Process(pid).kill()


def fork_with_another_snr(page: Page, store: Store, run_id: str) -> None:
    """Forks from the last checkpoint but one; the fork starts by itself, with the parent's curves beneath its own."""
    set_snr(page, 0)
    settle(page)
    page.get_by_text("Fork this run: go on from one of its rounds").click()
    before_last = list_checkpoints(store.path, run_id)[-2].position
    choose(page, "Fork it", f"after round {before_last}, round {before_last} of instruction tuning")
    expect(current(page).get_by_text(f"From round {before_last + 1}: SNR 5 → 0 dB")).to_be_visible()
    assert findings(page) == []
    button(page, "Fork with these settings").click()
    page.wait_for_url(lambda address: "run=" in address and run_id not in address)
    child = store.run(run_in(page))
    assert (child.parent, child.name) == (run_id, f"Run {run_id}, SNR 0 dB")
    at = child.forked_at
    assert at == before_last < store.run(run_id).rounds_done
    origin = f"Forked after round {at} of run {run_id}, with SNR 0 dB in place of 5."
    expect(current(page).get_by_text(origin)).to_be_visible()
    for panel in PANELS:
        wait_for_run(page, child.id, panel)
        wait_for_round(page, at + 2, panel)
        wait_for_lines(page, panel, [f"parent: run {run_id}"])
    parents = [trace for trace in drawn(page, "delay")["traces"] if trace["name"].startswith("parent: ")]
    own = next(trace for trace in drawn(page, "delay")["traces"] if trace["name"] == "slowest client")
    assert {trace["dash"] for trace in parents} == {"dash"} and parents[0]["x"][0] == at
    assert (own["x"][:at], own["x"][at]) == (list(range(1, at + 1)), at + 1)
    # bits / (B log2(1 + SNR)): the measured delay before the fork, and after it the ratio of the two rates
    assert own["y"][at] / parents[0]["y"][0] == pytest.approx(math.log2(1 + 10**0.5) / math.log2(1 + 1))
    assert own["y"][at - 1] == pytest.approx(parents[0]["y"][0])
    assert store.rounds(child.id)[0][1].run == child.id
