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
from pwff_core.export.build import comparison_parcel
from pwff_core.export.bundle import Parcel
from pwff_core.export.job import Look, Preparation, _loaded, _save
from pwff_core.export.options import Order, ordered

TABLE = pd.DataFrame({"method": ["pwff", "local"], "accuracy": [0.9, float("inf")]})


def parcel() -> Parcel:
    return comparison_parcel(
        "Fig. 4 <b>mine</b>", "About.", {"bars": lambda: go.Figure(go.Bar(x=["a"], y=[1.0]))}, {"bars": "Bars."},
        {"means": TABLE}, RunConfig(seed=4),
    )  # fmt: skip


def ended(preparation: Preparation) -> Look:
    give_up_at = time.monotonic() + 60
    while not (look := preparation.look()).ended:
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
    return look


def test_a_comparison_s_zip_is_written_aside_and_gone_with_its_owner() -> None:
    preparation = Preparation(parcel(), ordered("zip", ["html", "csv"]))
    assert preparation.name == "pwff-fig-4-b-mine-b.zip"
    look = ended(preparation)
    assert (look.error, look.hint) == ("", "")
    assert look.file is not None and look.file.name == preparation.name
    with zipfile.ZipFile(look.file) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
        assert names == {"figures/figures.html", "tables/means.csv", "caption.txt", "config.toml", "README.txt"}
        assert archive.read("pwff-fig-4-b-mine-b/tables/means.csv") == b"method,accuracy\npwff,0.9\nlocal,inf\n"
    folder = look.file.parents[1]
    del preparation  # as when a browser's session ends
    assert not folder.exists()


def test_what_is_missing_is_told_with_the_zip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/nowhere")
    preparation = Preparation(parcel(), ordered("zip"))
    look = ended(preparation)
    assert look.file is not None and "PNG, SVG and PDF are left out" in look.hint
    preparation.close()
    assert not look.file.exists()


def test_a_process_that_dies_is_an_error_and_not_a_wait() -> None:
    preparation = Preparation(parcel(), ordered("zip", ["html"]))
    psutil.Process(preparation._process.pid).kill()
    look = ended(preparation)
    assert re.fullmatch(r"The export ended without a zip \(exit code -?\d+\); check free memory .*\.", look.error)


def test_closing_ends_the_process() -> None:
    preparation = Preparation(parcel(), ordered("zip", ["html"]))
    assert preparation.look() == Look()
    preparation.close()
    assert preparation._process.poll() is not None
    assert not preparation._folder.exists()


def test_a_folder_that_cannot_be_written_is_the_process_s_sentence(tmp_path: Path) -> None:
    preparation = Preparation(parcel(), ordered("zip", ["html"]))
    (preparation._folder / "out").write_text("in the way")  # long before the process comes to write there
    assert ended(preparation).error.startswith("Cannot write into ")


def test_a_parcel_is_the_same_on_the_other_side(tmp_path: Path) -> None:
    sent, order = parcel(), Order("zip", ("png", "csv"), "slide", None)
    _save(sent, order, tmp_path)
    got, same = _loaded(tmp_path)
    assert Order(same.content, tuple(same.formats), same.size, same.figures) == order
    pd.testing.assert_frame_equal(got.tables["means"], TABLE)
    assert got.figures["bars"].to_plotly_json() == sent.figures["bars"].to_plotly_json()
    assert got._replace(figures={}, tables={}) == sent._replace(figures={}, tables={})
