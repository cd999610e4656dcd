"""The panel "Export", without a browser: a real store, and an export job that a test moves on by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from pages.run import export
from pwff_core.config import RunConfig
from pwff_core.errors import EngineError
from pwff_core.export.bundle import Bundle
from pwff_core.export.job import ExportStatus
from pwff_core.export.options import ExportOptions
from pwff_core.runs.store import Store
from tests.support import scripted

RUN_PANEL = """
import streamlit as st
from pages.run.export import draw_export
from pwff_core.paths import default_store_path
from pwff_core.runs.store import Store

draw_export(Store(default_store_path(), readonly=True), st.session_state["shown"], "live")
"""


class FakeJob:
    """One that a test moves on."""

    made: list[FakeJob] = []
    now = ExportStatus()

    def __init__(self, bundle: Bundle, options: ExportOptions) -> None:
        self.bundle, self.options, self.closed = bundle, options, False
        self.name = f"{bundle.name}.zip"
        self.made.append(self)

    def status(self) -> ExportStatus:
        return FakeJob.now

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeJob]]:
    monkeypatch.setattr(export, "ExportJob", FakeJob)
    monkeypatch.setattr(export, "find_chrome", lambda: Path("/usr/bin/chromium"))
    FakeJob.made, FakeJob.now = [], ExportStatus()
    yield FakeJob.made


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PWFF_STORE", str(tmp_path / "runs.sqlite"))
    return Store(tmp_path / "runs.sqlite")


def played(store: Store) -> str:
    return scripted.played(store, RunConfig(clients=2, seed=9))


def opened(run_id: str) -> AppTest:
    page = AppTest.from_string(RUN_PANEL, default_timeout=30)
    page.session_state["shown"] = run_id
    return shown(page.run())


def shown(page: AppTest) -> AppTest:
    assert not page.exception, page.exception
    return page


def prepared(page: AppTest) -> AppTest:
    return shown(page.button("export:prepare:live").click().run())


def downloads(page: AppTest) -> list[str]:
    return [button.label for button in page.get("download_button")]


def test_the_panel_offers_sizes_formats_and_single_files(store: Store) -> None:
    page = opened(played(store))
    assert downloads(page) == [
        *("rounds.csv", "rounds.json", "rounds.parquet", "clients.csv", "clients.json", "clients.parquet"),
        *("run.json", "config.toml", "figures.html"),
    ]
    size, formats = page.get("button_group")
    assert size.options == ["IEEE, one column (3.5 in)", "IEEE, two columns (7.16 in)", "Slide, 16:9"]
    assert formats.options == ["PNG", "SVG", "PDF", "HTML", "CSV", "JSON", "Parquet"]
    assert not page.info and not page.button("export:prepare:live").disabled


def test_a_zip_is_prepared_followed_and_offered(store: Store, tmp_path: Path, jobs: list[FakeJob]) -> None:
    run_id = played(store)
    page = prepared(opened(run_id))
    (made,) = jobs
    assert (made.bundle.name, made.options.content, made.options.size) == (f"pwff-{run_id}", "zip", "ieee-1")
    assert page.button("export:prepare:live").disabled
    FakeJob.now = ExportStatus(done=3, total=24)
    assert "Picture 3 of 24 is drawn …" in [bar.proto.text for bar in shown(page.run()).get("progress")]
    (tmp_path / "one.zip").write_bytes(b"x" * 2_500_000)
    FakeJob.now = ExportStatus(file=tmp_path / "one.zip", hint="No Chrome <b>here</b>.")
    page.run()
    assert f"Download pwff-{run_id}.zip (2.5 MB)" in downloads(shown(page))
    assert [warning.value for warning in page.warning] == ["No Chrome \\<b\\>here\\</b\\>\\."]
    assert not page.button("export:prepare:live").disabled


def test_a_new_zip_takes_the_old_one_s_place_and_another_run_has_none(
    store: Store, tmp_path: Path, jobs: list[FakeJob]
) -> None:
    first, second = played(store), played(store)
    (tmp_path / "one.zip").write_bytes(b"x")
    FakeJob.now = ExportStatus(file=tmp_path / "one.zip")
    page = prepared(prepared(opened(first)))
    assert [made.closed for made in jobs] == [True, False]
    page.session_state["shown"] = second
    shown(page.run())
    assert [made.closed for made in jobs] == [True, True]
    assert not any(label.startswith("Download") for label in downloads(page))


def test_what_goes_wrong_is_a_sentence(store: Store, jobs: list[FakeJob], monkeypatch: pytest.MonkeyPatch) -> None:
    FakeJob.now = ExportStatus(error="no room left.")
    page = prepared(opened(played(store)))
    assert [error.value for error in page.error] == ["No room left\\."]

    def fails(bundle: Bundle, options: ExportOptions) -> None:
        raise EngineError("The export cannot be started.")

    monkeypatch.setattr(export, "ExportJob", fails)
    assert [error.value for error in prepared(page).error] == ["The export cannot be started\\."]

    def full(bundle: Bundle, options: ExportOptions) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "ExportJob", full)
    (error,) = prepared(page).error
    assert error.value.startswith("The zip cannot be prepared \\(No space left on device\\)")


def test_without_chrome_the_panel_says_so_and_offers_the_rest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_chrome", lambda: None)
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    page = opened(played(store))
    assert page.get("button_group")[1].options == ["HTML", "CSV", "JSON", "Parquet"]
    (info,) = page.info
    assert info.value.startswith("No Chrome or Chromium was found")
    prepared(page)
    assert FakeJob.made[0].options.formats == ("html", "csv", "json", "parquet")


def test_without_a_format_there_is_nothing_to_prepare(store: Store) -> None:
    page = opened(played(store))
    page.get("button_group")[1].set_value([]).run()
    assert shown(page).button("export:prepare:live").disabled


def test_single_files_are_made_when_they_are_asked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    offers: list[export.Offer] = []
    monkeypatch.setattr(export, "_panel", lambda offer, key: offers.append(offer))
    run_id = played(store)
    export.draw_export(store, run_id, "key")
    (offer,) = offers
    made = {name: export._single(offer, name) for name in offer.singles}
    assert pd.read_parquet(io.BytesIO(made["rounds.parquet"]))["accuracy"].tolist() == [0.01, 0.02, 0.03]
    assert json.loads(made["run.json"])["id"] == run_id
    assert b"seed = 9\n" in made["config.toml"]
    assert made["figures.html"].startswith(b"<!DOCTYPE html>") and b"figure-accuracy" in made["figures.html"]


def test_a_comparison_s_figures_are_drawn_only_when_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    offers: list[export.Offer] = []
    monkeypatch.setattr(export, "_panel", lambda offer, key: offers.append(offer))
    drawn: list[str] = []

    def bars() -> go.Figure:
        drawn.append("bars")
        return go.Figure(go.Bar(x=["PWFF"], y=[1.0]))

    export.draw_export_comparison(
        "Fig. 4", {"bars": bars}, {"means": pd.DataFrame({"method": ["pwff"]})}, captions={"bars": "Bars."},
        about="Two methods.", config=RunConfig(seed=9), key="compare",
    )  # fmt: skip
    (offer,) = offers
    assert offer.singles == ("means.csv", "means.json", "means.parquet", "config.toml", "figures.html")
    assert export._single(offer, "means.csv") == b"method\npwff\n"
    assert drawn == []
    assert b"<figcaption>Bars.</figcaption>" in export._single(offer, "figures.html")
    assert drawn == ["bars"]
