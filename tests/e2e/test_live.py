"""A lesson on the Live page: start, watch, zoom, steer, come back, stop, export."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect
from pypdf import PdfReader

from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.runs.store import RunStatus
from tests.e2e.conftest import TINY, Visitor
from tests.support.accessibility import findings
from tests.support.browser import ENGINE_MS, Site, button, current, settle
from tests.support.charts import drawn, last_round, wait_for_round, wait_for_run, zoom
from tests.support.scripted import profile, whole_run

# more rounds than the lesson takes, and no fading: a round's delay is then bits / (B log2(1 + SNR)) to the last digit
LESSON = TINY | {
    "instruction.rounds": 2000, "instruction.local_steps": 4, "reward.rounds": 0, "alignment.rounds": 0,
    "channel.fading": "awgn", "channel.snr_db": 5,
}  # fmt: skip
PANELS = ("accuracy", "delay", "energy")


def run_in(page: Page) -> str:
    """The run in the page's address."""
    return parse_qs(urlsplit(page.url).query)["run"][0]


def test_a_lesson(visit: Visitor, site: Site, tmp_path: Path) -> None:
    page = visit(f"?{urlencode(LESSON)}")
    earlier = run_in(page)
    button(page, "Start").click()
    page.wait_for_url(lambda address: "run=" in address and earlier not in address)
    run_id = run_in(page)
    expect(current(page).get_by_text(re.compile(f"run {run_id}", re.IGNORECASE)).first).to_be_visible()
    wait_for_run(page, run_id)
    wait_for_round(page, 2)

    zoomed, last = zoom(page, "accuracy"), last_round(page)
    wait_for_round(page, last + 3)
    assert drawn(page, "accuracy")["range"] == zoomed

    first = steer_to(page, 0)
    for panel in PANELS:
        wait_for_round(page, first + 1, panel)
    settle(page)
    assert [steering.position for steering in site.store.steerings(run_id)] == [first]
    for panel in PANELS:
        assert first - 0.5 in drawn(page, panel)["lines"]
        assert any("0 dB" in label for label in drawn(page, panel)["labels"])
    slowest = next(trace for trace in drawn(page, "delay")["traces"] if trace["name"].lower().startswith("slowest"))
    by_round = dict(zip(slowest["x"], slowest["y"], strict=True))
    assert by_round[first] / by_round[first - 1] == pytest.approx(math.log2(1 + 10**0.5) / math.log2(1 + 1))
    assert findings(page) == []

    before = last_round(page)
    page.reload()
    settle(page)
    assert run_in(page) == run_id
    for panel in PANELS:
        wait_for_round(page, before, panel)
    assert first - 0.5 in drawn(page, "delay")["lines"]

    button(page, "Stop").click()
    expect(current(page).get_by_text("What was measured is kept")).to_be_visible(timeout=ENGINE_MS)
    assert site.store.run(run_id).status is RunStatus.STOPPED
    assert run_in(page) == run_id
    export_and_check(page, tmp_path, site.store.run(run_id).rounds_done)


def test_two_browsers_do_not_fight_over_a_run(visit: Visitor, site: Site) -> None:
    run_id = site.store.create_run(with_changes(RunConfig(), TINY))
    site.store.claim(run_id)  # its engine is this process, which plays two rounds and no more
    site.store.describe(run_id, [profile(0), profile(1)], [], 4)
    for record in whole_run(run_id, weights=(0.25, 0.75))[:2]:
        site.store.append(run_id, record)
    first = visit(f"?run={run_id}")
    set_snr(first, 0)
    expect(current(first).get_by_text("SNR 0 dB: asked")).to_be_visible()
    assert site.store.pending_changes(run_id) == {"channel.snr_db": 0}

    second = visit(f"?run={run_id}")
    expect(button(second, "Stop")).to_be_disabled()
    button(second, "Take over").click()
    expect(button(second, "Stop")).to_be_enabled()
    expect(current(first).get_by_text("Another browser steers this run. Here you watch")).to_be_visible()
    expect(button(first, "Stop")).to_be_disabled()
    site.store.finish(run_id, RunStatus.STOPPED)


def set_snr(page: Page, snr_db: int) -> None:
    """Types an SNR into its box."""
    box = current(page).get_by_role("textbox", name=re.compile("^SNR"))
    box.fill(f"{snr_db}")
    box.press("Enter")


def steer_to(page: Page, snr_db: int) -> int:
    """Sets the SNR while the run plays; returns the round from which, as the page says, it holds."""
    set_snr(page, snr_db)
    notice = current(page).get_by_text(re.compile(r"From round \d+: SNR 5 → 0 dB")).first
    expect(notice).to_be_visible(timeout=ENGINE_MS)
    return int(re.findall(r"From round (\d+)", notice.inner_text())[-1])


def export_and_check(page: Page, folder: Path, rounds: int) -> None:
    """Exports the run that is shown: one zip with figures, tables, settings and captions."""
    page.locator(".stMain").get_by_text("Export", exact=True).click()
    for picture in ("PNG", "SVG"):  # each takes a second a chart: PDF stands for them
        button(page, picture).click()
        settle(page)
    button(page, "Prepare the zip").click()
    with page.expect_download() as download:
        current(page).get_by_role("button", name=re.compile(r"^Download pwff-\w+\.zip")).click()
    path = folder / "run.zip"
    download.value.save_as(path)
    with zipfile.ZipFile(path) as package:
        assert package.testzip() is None
        inside = {Path(name).relative_to(f"pwff-{run_in(page)}").as_posix(): name for name in package.namelist()}
        figures = {f"figures/{panel}.pdf" for panel in PANELS}
        tables = {f"tables/{table}.{kind}" for table in ("rounds", "clients") for kind in ("csv", "json", "parquet")}
        texts = {"run.json", "config.toml", "caption.txt", "README.txt"}
        assert inside.keys() >= figures | tables | texts
        assert len(package.read(inside["tables/rounds.csv"]).splitlines()) == rounds + 1
        whole = json.loads(package.read(inside["run.json"]))
        assert [change["changes"] for change in whole["steerings"]] == [{"channel.snr_db": 0}]
        (sheet,) = PdfReader(io.BytesIO(package.read(inside["figures/delay.pdf"]))).pages
        assert float(sheet.mediabox.width) / 72 == pytest.approx(3.5, abs=0.01)  # inches: IEEE, one column
