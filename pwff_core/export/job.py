"""An export that is prepared aside: a process of its own writes the zip, so that a page stays alive and small.

    page  →  Preparation(parcel, order)  →  python -m pwff_core.export FOLDER  →  one zip in FOLDER/out

The folder and the process end with the Preparation, whoever holds it: a browser's session, or the server.
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

from pwff_core.errors import EngineError
from pwff_core.export.bundle import Parcel, write
from pwff_core.export.chrome import end_family, figure_text
from pwff_core.export.options import Order
from pwff_core.runs import processes

_PARCEL, _REPORT, _OUT = "parcel.json", "report.jsonl", "out"


class Look(NamedTuple):
    """How far a preparation is."""

    done: int = 0  # pictures
    all: int = 0
    file: Path | None = None  # the zip, once it is there
    hint: str = ""  # what is missing in it, and why
    error: str = ""  # why there is none

    @property
    def ended(self) -> bool:
        """Whether nothing will follow."""
        return self.file is not None or bool(self.error)


class Preparation:
    """A zip on its way. EngineError if the process cannot be started, OSError if there is no room for it."""

    def __init__(self, parcel: Parcel, order: Order) -> None:
        self.name = f"{parcel.name}.zip"
        self._folder = Path(tempfile.mkdtemp(prefix="pwff-export-"))
        try:
            _save(parcel, order, self._folder)
            self._process = _started(self._folder)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._clear = weakref.finalize(self, _cleared, self._process, self._folder)

    def look(self) -> Look:
        """How far it is; costs a glance at a file."""
        code = self._process.poll()  # first: what it wrote before it ended is then all there
        lines = (self._folder / _REPORT).read_text(encoding="utf-8").splitlines()
        last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        if "file" in last:
            return Look(file=Path(last["file"]), hint=last["hint"])
        if "error" in last:
            return Look(error=last["error"])
        if code is not None:
            return Look(error=f"The export ended without a zip (exit code {code}); check free memory and try again.")
        return Look(last.get("done", 0), last.get("all", 0))

    def close(self) -> None:
        """Ends the process if it still works, and removes the zip."""
        self._clear()


def _cleared(process: subprocess.Popen[str], folder: Path) -> None:
    end_family(process)
    shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path) -> subprocess.Popen[str]:
    with (folder / _REPORT).open("w", encoding="utf-8") as report:
        try:
            return subprocess.Popen(
                processes.module_command("pwff_core.export", str(folder)),
                stdin=subprocess.DEVNULL,
                stdout=report,
                stderr=subprocess.DEVNULL,
                text=True,
                env=processes.environment(),
                start_new_session=True,
                creationflags=processes.creation_flags(),
            )
        except OSError as error:
            raise EngineError(f"The export cannot be started ({error}); check free memory.") from None


def _save(parcel: Parcel, order: Order, folder: Path) -> None:
    tree = parcel._asdict() | {
        "figures": {name: json.loads(figure_text(figure)) for name, figure in parcel.figures.items()},
        "tables": list(parcel.tables),
    }
    for name, table in parcel.tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    (folder / _PARCEL).write_text(json.dumps({"parcel": tree, "order": order._asdict()}), encoding="utf-8")


def _loaded(folder: Path) -> tuple[Parcel, Order]:
    found = json.loads((folder / _PARCEL).read_text(encoding="utf-8"))
    tree, order = found["parcel"], Order(**found["order"])
    tree["figures"] = {name: from_json(json.dumps(figure)) for name, figure in tree["figures"].items()}
    tree["tables"] = {name: pd.read_parquet(folder / f"{name}.parquet") for name in tree["tables"]}
    return Parcel(**tree), order


def prepare(folder: Path) -> None:
    """In the process: writes the zip, and tells how it goes, a line of JSON on stdout each time."""

    def tell(**what: object) -> None:
        print(json.dumps(what), flush=True)

    parcel, order = _loaded(folder)
    delivery = write(parcel, order, folder / _OUT, lambda done, of: tell(done=done, all=of))
    tell(file=str(delivery.files[0]), hint=delivery.hint)
