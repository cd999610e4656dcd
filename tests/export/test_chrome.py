"""Pictures: once through a real browser, and past browsers that hang, crash or are not there."""

from __future__ import annotations

import errno
import json
import queue
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import psutil
import pypdf
import pytest
from PIL import Image
from plotly.io.json import to_json_plotly

from pwff_core.export.bundle import Bundle, ExportResult, write
from pwff_core.export.chrome import Picture, draw, find_chrome, wait_for_pictures
from pwff_core.export.chrome_process import write_whole
from pwff_core.export.options import parse_options
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


def bundle(**figures: go.Figure) -> Bundle:
    return Bundle("pwff-test", "Test", "About.", figures, {}, {}, {}, {})


def pictures(folder: Path) -> list[Picture]:
    text = str(to_json_plotly(for_print(figure(), PRESETS["ieee-1"])))
    return [Picture(text, folder / f"one.{form}", form, PRESETS["ieee-1"]) for form in ("png", "svg", "pdf")]


# a real browser, started once


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportResult, list[tuple[int, int]]]:
    folder, progress = tmp_path_factory.mktemp("drawn"), []
    options = parse_options("figures", ["png", "svg", "pdf"])
    result = write(bundle(accuracy=figure()), options, folder, lambda done, total: progress.append((done, total)))
    return folder, result, progress


@needs_chrome
def test_every_format_is_drawn_and_reported(drawn: tuple[Path, ExportResult, list[tuple[int, int]]]) -> None:
    folder, (files, hint), progress = drawn
    assert hint == ""
    assert [file.name for file in files] == ["accuracy.png", "accuracy.svg", "accuracy.pdf", "caption.txt"]
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in files)
    assert progress == [(1, 3), (2, 3), (3, 3)]


@needs_chrome
def test_the_pdf_has_the_size_of_a_column_and_embeds_its_fonts(drawn: tuple[Path, Any, Any]) -> None:
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


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a shell script the browser that is found."""

    def install(script: str) -> Path:
        program = tmp_path / "bin" / "chromium"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("BROWSER_PATH", str(program))
        return program

    return install


@needs_scripts
def test_a_hanging_chrome_is_killed_with_its_children(tmp_path: Path, stand_in: Callable[[str], Path]) -> None:
    program = stand_in(f"cd {tmp_path}\necho $$ > pids\nsleep 600 &\necho $! >> pids\nwait")
    assert draw(pictures(tmp_path), program, timeout_s=6.0) == (
        f"Chrome ({program}) did not answer for 6 s and was ended, so PNG, SVG and PDF are left out; HTML and all "
        "tables need no Chrome. Try again while less is going on, or name another Chrome or Chromium in $BROWSER_PATH."
    )
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    assert not list(tmp_path.glob("one.*"))


@needs_scripts
def test_a_crashing_chrome_costs_its_pictures_alone(tmp_path: Path, stand_in: Callable[[str], Path]) -> None:
    program = stand_in("exit 1")
    files, hint = write(bundle(accuracy=figure()), parse_options("figures"), tmp_path / "out")
    assert [file.name for file in files] == ["figures.html", "caption.txt"]
    reason = f"Chrome ({program}) ended before it had drawn everything, so PNG, SVG and PDF are left out; HTML and all"
    assert hint.startswith(reason)


def test_without_a_chrome_the_hint_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    hint = draw(pictures(tmp_path), None)
    assert hint.startswith("No Chrome or Chromium was found, so PNG, SVG and PDF are left out; HTML and all tables")
    assert "`kaleido_get_chrome`" in hint and "$BROWSER_PATH" in hint
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path))
    assert draw(pictures(tmp_path), find_chrome()).startswith(f"$BROWSER_PATH names '{tmp_path}', which is no program")


@needs_scripts
def test_the_browser_is_the_one_in_the_variable(stand_in: Callable[[str], Path]) -> None:
    program = stand_in("exit 0")
    assert find_chrome() == program
    program.chmod(0o644)
    assert find_chrome() is None


def test_no_pictures_start_no_browser() -> None:
    assert draw([], Path("/nowhere")) == ""


def lines_of(*texts: str) -> queue.SimpleQueue[str]:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    for text in texts:
        lines.put(text)
    return lines


def test_a_browser_that_ends_halfway_leaves_what_it_drew() -> None:
    progress: list[int] = []
    hint = wait_for_pictures(lines_of("{}\n", "{}\n", ""), Path("/usr/bin/chromium"), 5, progress.append)
    assert progress == [1, 2] and "so only 2 of 5 pictures are there" in hint


def test_a_full_disk_is_the_system_s_error() -> None:
    lines = lines_of(json.dumps({"errno": errno.ENOSPC}))
    with pytest.raises(OSError, match="No space left") as error:
        wait_for_pictures(lines, Path("/usr/bin/chromium"), 5, lambda done: None)
    assert error.value.errno == errno.ENOSPC


def test_a_picture_is_whole_or_not_there(tmp_path: Path) -> None:
    assert write_whole(tmp_path / "one.png", b"whole") is None
    assert [file.name for file in tmp_path.iterdir()] == ["one.png"]
    (tmp_path / "folder.png").mkdir()
    assert write_whole(tmp_path / "folder.png", b"whole") in (errno.EISDIR, errno.EACCES)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.png", "one.png"]
