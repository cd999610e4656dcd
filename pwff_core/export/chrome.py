"""Pictures through Chrome: PNG, SVG and PDF, drawn by kaleido in a process of its own that can be ended at any time.

Chrome may be missing, crash or hang. None of this is an error here: it is told in a sentence, and whoever asked goes on
without the pictures that were not drawn.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import psutil
from plotly.io.json import to_json_plotly

from pwff_core.errors import EngineError
from pwff_core.export.options import FigureFormat
from pwff_core.figures.printing import Preset
from pwff_core.runs import processes

PATIENCE_S = 60.0  # without a sign of Chrome; on two idle cores a start takes 2 s and a picture 0.4 s
_ENDING_S = 5.0
_HOW_TO_GET_ONE = (
    "Install Google Chrome or Chromium (`apt install chromium`, or `kaleido_get_chrome`), or name its program in "
    "$BROWSER_PATH."
)
_LEFT_OUT = "PNG, SVG and PDF are left out; HTML and all tables need no Chrome."


class Picture(NamedTuple):
    """One file to draw."""

    figure: str  # JSON
    file: Path
    form: FigureFormat
    preset: Preset


def find_chrome() -> Path | None:
    """The browser that kaleido would take: $BROWSER_PATH, its own download, or the first of the usual on PATH."""
    from choreographer.browsers.chromium import Chromium  # only once somebody wants to export

    found = Chromium.find_browser(skip_local=False)
    return Path(found) if found and os.path.isfile(found) and os.access(found, os.X_OK) else None


def no_chrome_words() -> str:
    """What is missing without Chrome, and how to get one."""
    named = os.environ.get("BROWSER_PATH")
    if named is not None:
        return f"$BROWSER_PATH names {named!r}, which is no program, so {_LEFT_OUT} Let it name Chrome or Chromium."
    return f"No Chrome or Chromium was found, so {_LEFT_OUT} {_HOW_TO_GET_ONE}"


def draw(pictures: Sequence[Picture], told: Callable[[int], object] = lambda done: None) -> str:
    """Draws the pictures, all by one Chrome; `told` hears how many are there. Returns "" or why some are missing.

    A picture's file is whole or not there. OSError if one cannot be written.
    """
    if not pictures:
        return ""
    chrome = find_chrome()
    if chrome is None:
        return no_chrome_words()
    # whatever Chrome and kaleido leave lying about lies in this folder
    with tempfile.TemporaryDirectory(prefix="pwff-chrome-", ignore_cleanup_errors=True) as scratch:
        job = Path(scratch) / "job.json"
        job.write_text(json.dumps({"chrome": str(chrome), "pictures": [_task(one) for one in pictures]}))
        process = _started(job)
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert process.stdout is not None
        threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
        try:
            return _followed(lines, chrome, len(pictures), told)
        finally:
            end_family(process)


def _task(picture: Picture) -> dict[str, object]:
    preset = picture.preset
    scale = preset.png_dpi / 96 if picture.form == "png" else 1
    options = {"format": picture.form, "width": preset.width, "height": preset.height, "scale": scale}
    return {"figure": json.loads(picture.figure), "file": str(picture.file), "options": options}


def figure_text(figure: object) -> str:
    """A figure as JSON text."""
    return str(to_json_plotly(figure))


def _started(job: Path) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            processes.module_command("pwff_core.export.chrome_process", str(job)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=processes.environment() | {"TMPDIR": str(job.parent), "TEMP": str(job.parent)},
            start_new_session=True,
            creationflags=processes.creation_flags(),
        )
    except OSError as error:
        raise EngineError(f"The process that draws cannot be started ({error}); check free memory.") from None


def _pass_on(lines: IO[str], into: queue.SimpleQueue[str]) -> None:
    """Each line into the queue, and "" at the end: a queue can be waited on for a while, a pipe cannot everywhere."""
    with lines:
        for line in lines:
            into.put(line)
        into.put("")


def _followed(lines: queue.SimpleQueue[str], chrome: Path, count: int, told: Callable[[int], object]) -> str:
    """Listens until all pictures are there, or none can follow."""
    for done in range(1, count + 1):
        try:
            line = lines.get(timeout=PATIENCE_S)
        except queue.Empty:
            return (
                f"Chrome ({chrome}) did not answer for {PATIENCE_S:.0f} s and was ended{_so_far(done - 1, count)}. Try "
                "again while less is going on, or name another Chrome or Chromium in $BROWSER_PATH."
            )
        if not line:
            return (
                f"Chrome ({chrome}) ended before it had drawn everything{_so_far(done - 1, count)}. Try again; if it "
                f"stays so, this Chrome does not work here. {_HOW_TO_GET_ONE}"
            )
        if failed := json.loads(line).get("errno"):
            raise OSError(failed, os.strerror(failed))
        told(done)
    return ""


def _so_far(done: int, count: int) -> str:
    return f", so {_LEFT_OUT.rstrip('.')}" if not done else f", so only {done} of {count} pictures are there"


def end_family(process: subprocess.Popen[str]) -> None:
    """Ends a process and everything that it has started. Chrome runs in a session of its own: a group is not enough."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    if sys.platform != "win32":  # also those whose parent has gone before them
        for one in family:
            with suppress(ProcessLookupError):
                os.killpg(os.getpgid(one.pid), signal.SIGKILL)
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, timeout=_ENDING_S)
    process.wait()
