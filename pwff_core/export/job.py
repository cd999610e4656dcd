"""An export job: a process of its own writes the zip, so that a page stays alive and small.

    page  →  ExportJob(bundle, options)  →  python -m pwff_core.export FOLDER  →  one zip in FOLDER/out

The folder and the process end with the ExportJob, which a browser's session holds, or the server.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from plotly.io import from_json
from plotly.io.json import to_json_plotly

from pwff_core.errors import EngineError
from pwff_core.export.bundle import Bundle, write
from pwff_core.export.chrome import kill_tree
from pwff_core.export.options import ExportOptions
from pwff_core.runs import processes

_BUNDLE, _REPORT, _OUT = "bundle.json", "report.jsonl", "out"


class ExportStatus(NamedTuple):
    """How far a job is."""

    done: int = 0  # pictures
    total: int = 0
    file: Path | None = None  # the zip, once it is there
    hint: str = ""  # what is missing in it, and why
    error: str = ""  # why there is none

    @property
    def ended(self) -> bool:
        """Whether nothing will follow."""
        return self.file is not None or bool(self.error)


class ExportJob:
    """A zip on its way. EngineError if the process cannot be started, OSError if there is no room for its files."""

    def __init__(self, bundle: Bundle, options: ExportOptions) -> None:
        self.name = f"{bundle.name}.zip"
        self.folder = Path(tempfile.mkdtemp(prefix="pwff-export-"))
        try:
            save_job(bundle, options, self.folder)
            self.process = _start(self.folder)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self._clean_up = weakref.finalize(self, _clean_up, self.process, self.folder)

    def status(self) -> ExportStatus:
        """How far it is, from the last line that the process wrote."""
        code = self.process.poll()  # first: what it wrote before it ended is then all there
        lines = (self.folder / _REPORT).read_text(encoding="utf-8").splitlines()
        last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        if "file" in last:
            return ExportStatus(file=Path(last["file"]), hint=last["hint"])
        if "error" in last:
            return ExportStatus(error=last["error"])
        if code is not None:
            error = f"The export ended without a zip (exit code {code}); check free memory and try again."
            return ExportStatus(error=error)
        return ExportStatus(last.get("done", 0), last.get("total", 0))

    def close(self) -> None:
        """Ends the process if it still works, and removes the zip."""
        self._clean_up()


def _clean_up(process: subprocess.Popen[str], folder: Path) -> None:
    kill_tree(process)
    shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path) -> subprocess.Popen[str]:
    with (folder / _REPORT).open("w", encoding="utf-8") as report:
        try:
            return processes.spawn("pwff_core.export", str(folder), stdout=report)
        except OSError as error:
            raise EngineError(f"The export cannot be started ({error}); check free memory.") from None


def save_job(bundle: Bundle, options: ExportOptions, folder: Path) -> None:
    """Writes what the process needs: figures as plotly's JSON, tables as Parquet."""
    tree = bundle._asdict() | {
        "figures": {name: json.loads(to_json_plotly(figure)) for name, figure in bundle.figures.items()},
        "tables": list(bundle.tables),
    }
    for name, table in bundle.tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    job = {"bundle": tree, "options": options._asdict()}
    (folder / _BUNDLE).write_text(json.dumps(job), encoding="utf-8")


def load_job(folder: Path) -> tuple[Bundle, ExportOptions]:
    """What `save_job` wrote."""
    job = json.loads((folder / _BUNDLE).read_text(encoding="utf-8"))
    tree, options = job["bundle"], ExportOptions(**job["options"])
    tree["figures"] = {name: from_json(json.dumps(figure)) for name, figure in tree["figures"].items()}
    tree["tables"] = {name: pd.read_parquet(folder / f"{name}.parquet") for name in tree["tables"]}
    return Bundle(**tree), options


def run_job(folder: Path) -> None:
    """In the process: writes the zip and reports on it, a line of JSON on stdout each time."""

    def report(**fields: object) -> None:
        print(json.dumps(fields), flush=True)

    bundle, options = load_job(folder)
    result = write(bundle, options, folder / _OUT, lambda done, total: report(done=done, total=total))
    report(file=str(result.files[0]), hint=result.hint)
