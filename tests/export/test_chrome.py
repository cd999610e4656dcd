"""Pictures: once through a real browser, and past browsers that hang, crash or are not there."""

from __future__ import annotations

import errno
import json
import queue
import re
import sys
import time
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import psutil
import pypdf
import pytest
from PIL import Image

from pwff_core.export import chrome
from pwff_core.export.bundle import Delivery, Parcel, write
from pwff_core.export.chrome import Picture, draw, figure_text, find_chrome
from pwff_core.export.chrome_process import _write
from pwff_core.export.options import ordered
from pwff_core.figures.frames import round_frame, spans_of
from pwff_core.figures.panel_figure import panel_figure
from pwff_core.figures.printing import PRESETS, for_print
from tests.support.scripted import whole_run

needs_chrome = pytest.mark.skipif(find_chrome() is None, reason="there is no Chrome or Chromium on this computer")
needs_scripts = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins for Chrome are shell scripts")


def figure() -> go.Figure:
    records = whole_run()
    return panel_figure(
        "accuracy",
        round_frame(records),
        spans_of({"instruction": 3, "reward": 2, "alignment": 4}, records),
    )


def parcel(**figures: go.Figure) -> Parcel:
    return Parcel("pwff-test", "Test", "About.", figures, {}, {}, {}, {})


def pictures(folder: Path) -> list[Picture]:
    text = figure_text(for_print(figure(), PRESETS["ieee-1"]))
    return [Picture(text, folder / f"one.{form}", form, PRESETS["ieee-1"]) for form in ("png", "svg", "pdf")]


# a real browser, started once


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Delivery, list[tuple[int, int]]]:
    folder, told = tmp_path_factory.mktemp("drawn"), []
    order = ordered("figures", ["png", "svg", "pdf"])
    delivery = write(parcel(accuracy=figure()), order, folder, lambda done, of: told.append((done, of)))
    return folder, delivery, told


@needs_chrome
def test_every_format_is_there_and_told_of(drawn: tuple[Path, Delivery, list[tuple[int, int]]]) -> None:
    folder, (files, hint), told = drawn
    assert hint == ""
    assert [file.name for file in files] == ["accuracy.png", "accuracy.svg", "accuracy.pdf", "caption.txt"]
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in files)
    assert told == [(1, 3), (2, 3), (3, 3)]


@needs_chrome
def test_the_pdf_is_one_page_of_one_column_with_its_fonts_and_its_words(drawn: tuple[Path, Any, Any]) -> None:
    (page,) = pypdf.PdfReader(drawn[0] / "accuracy.pdf").pages
    assert float(page.mediabox.width) / 72 == pytest.approx(3.5, abs=0.005)
    assert float(page.mediabox.height) / 72 == pytest.approx(2.5, abs=0.005)
    fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]
    assert fonts
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object()
        assert {"/FontFile", "/FontFile2", "/FontFile3"} & set(descriptor), "a font is not embedded"
    text = page.extract_text()
    for word in ("Accuracy [%]", "Round, over all stages", "Instruction", "Rewards", "Alignment", "client range"):
        assert word in text
    assert "Accuracy on each client" not in text  # the title is the caption's


@needs_chrome
def test_png_and_svg_have_the_size(drawn: tuple[Path, Any, Any]) -> None:
    with Image.open(drawn[0] / "accuracy.png") as image:
        assert image.size == (2100, 1500)  # 3.5 × 2.5 in at 600 dots an inch
    svg = (drawn[0] / "accuracy.svg").read_text(encoding="utf-8")
    assert re.search(r'<svg[^>]* width="336" height="240"', svg)  # 96 of them are an inch


# browsers that do not work


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    program = tmp_path / "bin" / "chromium"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(program))
    return program


@needs_scripts
def test_a_chrome_that_hangs_is_ended_with_all_its_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"cd {tmp_path}\necho $$ > pids\nsleep 600 &\necho $! >> pids\nwait"
    program = stand_in(tmp_path, monkeypatch, script)
    monkeypatch.setattr(chrome, "PATIENCE_S", 6.0)
    start = time.monotonic()
    hint = draw(pictures(tmp_path))
    assert time.monotonic() - start < 20
    assert hint == (
        f"Chrome ({program}) did not answer for 6 s and was ended, so PNG, SVG and PDF are left out; HTML and all "
        "tables need no Chrome. Try again while less is going on, or name another Chrome or Chromium in $BROWSER_PATH."
    )
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    assert not list(tmp_path.glob("one.*"))


@needs_scripts
def test_a_chrome_that_crashes_costs_its_pictures_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = stand_in(tmp_path, monkeypatch, "exit 1")
    files, hint = write(parcel(accuracy=figure()), ordered("figures"), tmp_path / "out")
    assert [file.name for file in files] == ["figures.html", "caption.txt"]
    said = f"Chrome ({program}) ended before it had drawn everything, so PNG, SVG and PDF are left out; HTML and all"
    assert hint.startswith(said)


def test_without_a_chrome_the_hint_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(chrome, "find_chrome", lambda: None)
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    hint = draw(pictures(tmp_path))
    assert hint.startswith("No Chrome or Chromium was found, so PNG, SVG and PDF are left out; HTML and all tables")
    assert "`kaleido_get_chrome`" in hint and "$BROWSER_PATH" in hint
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path))
    assert draw(pictures(tmp_path)).startswith(f"$BROWSER_PATH names '{tmp_path}', which is no program")


@needs_scripts
def test_the_browser_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = stand_in(tmp_path, monkeypatch, "exit 0")
    assert find_chrome() == program
    program.chmod(0o644)
    assert find_chrome() is None


def test_no_pictures_start_no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/nowhere")
    assert draw([]) == ""


def test_a_browser_that_ends_halfway_leaves_what_it_drew() -> None:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    for line in ("{}\n", "{}\n", ""):
        lines.put(line)
    told: list[int] = []
    hint = chrome._followed(lines, Path("/usr/bin/chromium"), 5, told.append)
    assert told == [1, 2] and "so only 2 of 5 pictures are there" in hint


def test_a_full_disk_is_the_system_s_error() -> None:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    lines.put(json.dumps({"errno": errno.ENOSPC}))
    with pytest.raises(OSError, match="No space left") as error:
        chrome._followed(lines, Path("/usr/bin/chromium"), 5, lambda done: None)
    assert error.value.errno == errno.ENOSPC


def test_a_picture_is_whole_or_not_there(tmp_path: Path) -> None:
    assert _write(tmp_path / "one.png", b"whole") is None
    assert [file.name for file in tmp_path.iterdir()] == ["one.png"]
    (tmp_path / "folder.png").mkdir()
    assert _write(tmp_path / "folder.png", b"whole") in (errno.EISDIR, errno.EACCES)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.png", "one.png"]
