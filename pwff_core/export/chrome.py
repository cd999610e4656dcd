"""Pictures through Chrome: PNG, SVG and PDF, drawn by kaleido in a process of its own that can be ended at any time.

Chrome may be missing, crash or hang. None of this is an error here: the caller gets a sentence about it, and the
pictures that were drawn.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from pwff_core.errors import EngineError
from pwff_core.export.options import FigureFormat
from pwff_core.figures.printing import PIXELS_PER_INCH, Preset
from pwff_core.runs import processes

TIMEOUT_S = 60.0  # without a sign of Chrome; on two idle cores a start takes 2 s and a picture 0.4 s
_KILL_S = 5.0  # that killed processes have to be gone
_HOW_TO_GET_ONE = (
    "Install Google Chrome or Chromium (`apt install chromium`, or `kaleido_get_chrome`), or name its program in "
    "$BROWSER_PATH."
)
_LEFT_OUT = "PNG, SVG and PDF are left out; HTML and all tables need no Chrome."


class Picture(NamedTuple):
    """One file to draw."""

    figure: str  # plotly's JSON
    file: Path
    form: FigureFormat
    preset: Preset


def find_chrome() -> Path | None:
    """The browser that kaleido would take: $BROWSER_PATH, its own download, or the first of the usual on PATH."""
    from choreographer.browsers.chromium import Chromium  # only once somebody wants to export

    browser = Chromium.find_browser(skip_local=False)
    return Path(browser) if browser and os.path.isfile(browser) and os.access(browser, os.X_OK) else None


def no_chrome_words() -> str:
    """What is missing without Chrome, and how to get one."""
    named = os.environ.get("BROWSER_PATH")
    if named is not None:
        return f"$BROWSER_PATH names {named!r}, which is no program, so {_LEFT_OUT} Let it name Chrome or Chromium."
    return f"No Chrome or Chromium was found, so {_LEFT_OUT} {_HOW_TO_GET_ONE}"


def draw(
    pictures: Sequence[Picture],
    chrome: Path | None,
    on_progress: Callable[[int], object] = lambda done: None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> str:
    """Draws the pictures, all by one Chrome, and calls `on_progress` with the number of those that are there.

    Returns "" or why some are missing. A picture's file is whole or not there. OSError if one cannot be written.

    Args:
        pictures: the files to draw.
        chrome: the browser (`find_chrome`); None where there is none.
        on_progress: called after each picture.
        timeout_s: without a picture for so long, Chrome is ended.
    """
    if not pictures:
        return ""
    if chrome is None:
        return no_chrome_words()
    # Chrome and kaleido leave files behind: they do it in this folder
    with tempfile.TemporaryDirectory(prefix="pwff-chrome-", ignore_cleanup_errors=True) as scratch:
        job = Path(scratch) / "job.json"
        job.write_text(json.dumps({"chrome": str(chrome), "pictures": [_task(picture) for picture in pictures]}))
        process = _start(job)
        assert process.stdout is not None
        lines = processes.read_lines(process.stdout)
        try:
            return wait_for_pictures(lines, chrome, len(pictures), on_progress, timeout_s=timeout_s)
        finally:
            kill_tree(process)


def _task(picture: Picture) -> dict[str, object]:
    preset = picture.preset
    scale = preset.png_dpi / PIXELS_PER_INCH if picture.form == "png" else 1
    options = {"format": picture.form, "width": preset.width, "height": preset.height, "scale": scale}
    return {"figure": json.loads(picture.figure), "file": str(picture.file), "options": options}


def _start(job: Path) -> subprocess.Popen[str]:
    try:
        return processes.spawn(
            "pwff_core.export.chrome_process",
            str(job),
            stdout=subprocess.PIPE,
            variables={"TMPDIR": str(job.parent), "TEMP": str(job.parent)},
        )
    except OSError as error:
        raise EngineError(f"The process that draws cannot be started ({error}); check free memory.") from None


def wait_for_pictures(
    lines: queue.SimpleQueue[str],
    chrome: Path,
    count: int,
    on_progress: Callable[[int], object],
    *,
    timeout_s: float = TIMEOUT_S,
) -> str:
    """Reads the process's lines until all pictures are there, or none can follow: "" or why some are missing."""
    for done in range(count):
        try:
            line = lines.get(timeout=timeout_s)
        except queue.Empty:
            return (
                f"Chrome ({chrome}) did not answer for {timeout_s:.0f} s and was ended{_so_far(done, count)}. Try "
                "again while less is going on, or name another Chrome or Chromium in $BROWSER_PATH."
            )
        if not line:
            return (
                f"Chrome ({chrome}) ended before it had drawn everything{_so_far(done, count)}. Try again; if it "
                f"stays so, this Chrome does not work here. {_HOW_TO_GET_ONE}"
            )
        if errno := json.loads(line).get("errno"):
            raise OSError(errno, os.strerror(errno))
        on_progress(done + 1)
    return ""


def _so_far(done: int, count: int) -> str:
    return f", so only {done} of {count} pictures are there" if done else f", so {_LEFT_OUT.rstrip('.')}"


def kill_tree(process: subprocess.Popen[str]) -> None:
    """Kills a process and all its descendants. Chrome runs in a session of its own: a process group is not enough."""
    try:
        descendants = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        descendants = []
    process.kill()
    if sys.platform != "win32":  # also those whose parent has ended before them
        for child in descendants:
            with suppress(ProcessLookupError):
                os.killpg(os.getpgid(child.pid), signal.SIGKILL)
    for child in descendants:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(descendants, timeout=_KILL_S)
    process.wait()
