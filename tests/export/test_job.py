"""A zip that a process of its own writes."""

from __future__ import annotations

import re
import time
import zipfile
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import psutil
import pytest

from pwff_core.config import RunConfig
from pwff_core.export.build import comparison_bundle
from pwff_core.export.bundle import Bundle
from pwff_core.export.job import ExportJob, ExportStatus, load_job, save_job
from pwff_core.export.options import ExportOptions, parse_options

TABLE = pd.DataFrame({"method": ["pwff", "local"], "accuracy": [0.9, float("inf")]})


def bundle() -> Bundle:
    return comparison_bundle(
        "Fig. 4 <b>mine</b>", "About.", {"bars": lambda: go.Figure(go.Bar(x=["a"], y=[1.0]))}, {"bars": "Bars."},
        {"means": TABLE}, RunConfig(seed=4),
    )  # fmt: skip


def final_status(job: ExportJob) -> ExportStatus:
    give_up_at = time.monotonic() + 60
    while not (status := job.status()).ended:
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
    return status


def test_the_zip_of_a_comparison_is_removed_with_its_job() -> None:
    job = ExportJob(bundle(), parse_options("zip", ["html", "csv"]))
    assert job.name == "pwff-fig-4-b-mine-b.zip"
    status = final_status(job)
    assert (status.error, status.hint) == ("", "")
    assert status.file is not None and status.file.name == job.name
    with zipfile.ZipFile(status.file) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
        assert names == {"figures/figures.html", "tables/means.csv", "caption.txt", "config.toml", "README.txt"}
        assert archive.read("pwff-fig-4-b-mine-b/tables/means.csv") == b"method,accuracy\npwff,0.9\nlocal,inf\n"
    folder = job.folder
    del job  # as when a browser's session ends
    assert not folder.exists()


def test_the_status_says_what_is_missing_in_the_zip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/nowhere")
    job = ExportJob(bundle(), parse_options("zip"))
    status = final_status(job)
    assert status.file is not None and "PNG, SVG and PDF are left out" in status.hint
    job.close()
    assert not status.file.exists()


def test_a_killed_process_is_an_error() -> None:
    job = ExportJob(bundle(), parse_options("zip", ["html"]))
    psutil.Process(job.process.pid).kill()
    error = final_status(job).error
    assert re.fullmatch(r"The export ended without a zip \(exit code -?\d+\); check free memory .*\.", error)


def test_closing_ends_the_process() -> None:
    job = ExportJob(bundle(), parse_options("zip", ["html"]))
    assert job.status() == ExportStatus()
    job.close()
    assert job.process.poll() is not None
    assert not job.folder.exists()


def test_an_unwritable_folder_is_the_error_of_the_job() -> None:
    job = ExportJob(bundle(), parse_options("zip", ["html"]))
    (job.folder / "out").write_text("in the way")  # long before the process comes to write there
    assert final_status(job).error.startswith("Cannot write into ")


def test_a_bundle_survives_saving_and_loading(tmp_path: Path) -> None:
    saved, options = bundle(), ExportOptions("zip", ("png", "csv"), "slide", None)
    save_job(saved, options, tmp_path)
    loaded, same = load_job(tmp_path)
    assert ExportOptions(same.content, tuple(same.formats), same.size, same.figures) == options
    pd.testing.assert_frame_equal(loaded.tables["means"], TABLE)
    assert loaded.figures["bars"].to_plotly_json() == saved.figures["bars"].to_plotly_json()
    assert loaded._replace(figures={}, tables={}) == saved._replace(figures={}, tables={})
