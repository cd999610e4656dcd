"""The panel "Export", without a browser: a real store, and an export job that a test moves on by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from pages.run.export import comparison_offer, run_offer
from pwff_core.config import RunConfig
from pwff_core.errors import EngineError
from pwff_core.export.bundle import Bundle
from pwff_core.export.job import ExportStatus
from pwff_core.export.options import ExportOptions
from pwff_core.runs.store import Store
from tests.support import scripted
from tests.support.pages import without_exception

RUN_PANEL = """
import streamlit as st
from pages.run.export import draw_export, run_offer
from pwff_core.paths import default_store_path
from pwff_core.runs.store import Store

offer = run_offer(Store(default_store_path(), readonly=True), st.session_state["run"])
draw_export(offer, "live", start_job=st.session_state["start_job"], chrome=st.session_state["chrome"])
"""


class Jobs:
    """Starts export jobs that a test moves on."""

    def __init__(self) -> None:
        self.started: list[FakeJob] = []
        self.now = ExportStatus()

    def __call__(self, bundle: Bundle, options: ExportOptions) -> FakeJob:
        self.started.append(FakeJob(self, bundle, options))
        return self.started[-1]


class FakeJob:
    def __init__(self, jobs: Jobs, bundle: Bundle, options: ExportOptions) -> None:
        self._jobs, self.bundle, self.options, self.closed = jobs, bundle, options, False
        self.name = f"{bundle.name}.zip"

    def status(self) -> ExportStatus:
        return self._jobs.now

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PWFF_STORE", str(tmp_path / "runs.sqlite"))
    return Store(tmp_path / "runs.sqlite")


def played(store: Store) -> str:
    return scripted.played(store, RunConfig(clients=2, seed=9))


def opened(run_id: str, jobs: Callable[[Bundle, ExportOptions], FakeJob], *, chrome: bool = True) -> AppTest:
    page = AppTest.from_string(RUN_PANEL, default_timeout=30)
    page.session_state["run"] = run_id
    page.session_state["start_job"] = jobs
    page.session_state["chrome"] = lambda: Path("/usr/bin/chromium") if chrome else None
    return without_exception(page.run())


def prepared(page: AppTest) -> AppTest:
    return without_exception(page.button("export:prepare:live").click().run())


def downloads(page: AppTest) -> list[str]:
    return [button.label for button in page.get("download_button")]


def test_the_panel_offers_sizes_formats_and_single_files(store: Store, jobs: Jobs) -> None:
    page = opened(played(store), jobs)
    assert downloads(page) == [
        *("rounds.csv", "rounds.json", "rounds.parquet", "clients.csv", "clients.json", "clients.parquet"),
        *("run.json", "config.toml", "figures.html"),
    ]
    size, formats = page.get("button_group")
    assert size.options == ["IEEE, one column (3.5 in)", "IEEE, two columns (7.16 in)", "Slide, 16:9"]
    assert formats.options == ["PNG", "SVG", "PDF", "HTML", "CSV", "JSON", "Parquet"]
    assert not page.info and not page.button("export:prepare:live").disabled


def test_a_zip_is_prepared_followed_and_offered(store: Store, tmp_path: Path, jobs: Jobs) -> None:
    run_id = played(store)
    page = prepared(opened(run_id, jobs))
    (job,) = jobs.started
    assert (job.bundle.name, job.options.content, job.options.size) == (f"pwff-{run_id}", "zip", "ieee-1")
    assert page.button("export:prepare:live").disabled
    jobs.now = ExportStatus(done=3, total=24)
    assert "Picture 3 of 24 is drawn …" in [bar.proto.text for bar in without_exception(page.run()).get("progress")]
    (tmp_path / "one.zip").write_bytes(b"x" * 2_500_000)
    jobs.now = ExportStatus(file=tmp_path / "one.zip", hint="No Chrome <b>here</b>.")
    page.run()
    assert f"Download pwff-{run_id}.zip (2.5 MB)" in downloads(without_exception(page))
    assert [warning.value for warning in page.warning] == ["No Chrome \\<b\\>here\\</b\\>\\."]
    assert not page.button("export:prepare:live").disabled


def test_a_new_zip_takes_the_old_one_s_place_and_another_run_has_none(store: Store, tmp_path: Path, jobs: Jobs) -> None:
    first, second = played(store), played(store)
    (tmp_path / "one.zip").write_bytes(b"x")
    jobs.now = ExportStatus(file=tmp_path / "one.zip")
    page = prepared(prepared(opened(first, jobs)))
    assert [job.closed for job in jobs.started] == [True, False]
    page.session_state["run"] = second
    without_exception(page.run())
    assert [job.closed for job in jobs.started] == [True, True]
    assert not any(label.startswith("Download") for label in downloads(page))


def test_what_goes_wrong_is_said_in_a_sentence(store: Store, jobs: Jobs) -> None:
    jobs.now = ExportStatus(error="no room left.")
    page = prepared(opened(played(store), jobs))
    assert [error.value for error in page.error] == ["No room left\\."]

    def fail(bundle: Bundle, options: ExportOptions) -> FakeJob:
        raise EngineError("The export cannot be started.")

    page.session_state["start_job"] = fail
    assert [error.value for error in prepared(without_exception(page.run())).error] == [
        "The export cannot be started\\."
    ]

    def fill_disk(bundle: Bundle, options: ExportOptions) -> FakeJob:
        raise OSError(28, "No space left on device")

    page.session_state["start_job"] = fill_disk
    (error,) = prepared(without_exception(page.run())).error
    assert error.value.startswith("The zip cannot be prepared \\(No space left on device\\)")


def test_without_chrome_the_panel_says_so_and_offers_the_rest(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    page = opened(played(store), jobs, chrome=False)
    assert page.get("button_group")[1].options == ["HTML", "CSV", "JSON", "Parquet"]
    (info,) = page.info
    assert info.value.startswith("No Chrome or Chromium was found")
    prepared(page)
    assert jobs.started[0].options.formats == ("html", "csv", "json", "parquet")


def test_without_a_format_there_is_nothing_to_prepare(store: Store, jobs: Jobs) -> None:
    page = opened(played(store), jobs)
    page.get("button_group")[1].set_value([]).run()
    assert without_exception(page).button("export:prepare:live").disabled


def test_single_files_are_made_when_they_are_asked_for(store: Store) -> None:
    run_id = played(store)
    offer = run_offer(store, run_id)
    files = {name: offer.file(name) for name in offer.singles}
    assert pd.read_parquet(io.BytesIO(files["rounds.parquet"]))["accuracy"].tolist() == [0.01, 0.02, 0.03]
    assert json.loads(files["run.json"])["id"] == run_id
    assert b"seed = 9\n" in files["config.toml"]
    assert files["figures.html"].startswith(b"<!DOCTYPE html>") and b"figure-accuracy" in files["figures.html"]


def test_a_comparison_s_figures_are_drawn_only_when_they_are_taken() -> None:
    drawn: list[str] = []

    def bars() -> go.Figure:
        drawn.append("bars")
        return go.Figure(go.Bar(x=["PWFF"], y=[1.0]))

    offer = comparison_offer(
        "Fig. 4", {"bars": bars}, {"means": pd.DataFrame({"method": ["pwff"]})}, captions={"bars": "Bars."},
        about="Two methods.", config=RunConfig(seed=9),
    )  # fmt: skip
    assert offer.singles == ("means.csv", "means.json", "means.parquet", "config.toml", "figures.html")
    assert offer.file("means.csv") == b"method\npwff\n"
    assert drawn == []
    assert b"<figcaption>Bars.</figcaption>" in offer.file("figures.html")
    assert drawn == ["bars"]
