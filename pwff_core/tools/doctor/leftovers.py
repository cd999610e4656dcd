"""What lies beside a store: checkpoints, models and logs, of runs that are there and of runs that are gone."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pwff_core.runs.checkpoints import HEAD, STATE, Mark, complete, folder_of, marks_in
from pwff_core.runs.run_files import RunFiles
from pwff_core.tools.doctor.findings import Finding, Level, counted
from pwff_core.tools.doctor.snapshot import Patient
from pwff_core.units import with_prefix

KEPT_DELETED_S = 24 * 3600.0  # a deletion can be undone for so long
_BUDGET_S = 0.4  # for reading checkpoints to the last byte, the newest first
_DEEP = 200_000_000  # bytes; of larger ones only the size is compared
_MODELS_HEAD = "saved.json"  # as models/saved.py writes it, which needs torch
_ID = re.compile(r"[a-z2-9]{8}")  # as `Store.create_run` makes them: what is called otherwise is not ours
_FOLDERS = ("checkpoints", "models", "logs")
Why = Literal["damaged", "half-written", "of a run that is gone"]


class Leftover(NamedTuple):
    """A file or folder that nobody needs."""

    path: Path
    why: Why
    size: int  # [byte]


def findings(patient: Patient) -> Iterator[Finding]:
    """What there is to say of the disk around a sound store."""
    folder = patient.path.parent
    found = leftovers(patient)
    for why in dict.fromkeys(one.why for one in found):
        of_kind = [one for one in found if one.why == why]
        names = ", ".join(str(one.path.relative_to(folder)) for one in of_kind[:5])
        more = f" and {len(of_kind) - 5} more" if len(of_kind) > 5 else ""
        size = with_prefix(sum(one.size for one in of_kind), "B")
        yield Finding(
            "Files", Level.PROBLEM, f"{names}{more} ({size}): {why}.", "`pwff doctor --mend` removes what is useless."
        )
    if not found:
        sizes = ", ".join(f"{name} {with_prefix(size_of(folder / name), 'B')}" for name in _FOLDERS)
        yield Finding("Files", Level.OK, f"Nothing useless lies beside the store ({sizes}).")
    if patient.elsewhere is None:
        yield Finding(
            "Files", Level.NOTE,
            f"Another store in {folder} cannot be read in full, so files of runs that are gone were not looked for.",
            "Move that store away once you do not need it any more.",
        )  # fmt: skip
    yield from _deleted(patient)


def _deleted(patient: Patient) -> Iterator[Finding]:
    old = purgeable(patient)
    if old:
        size = sum(size_of(path) for run_id in old for path in files_of(patient.path, run_id))
        yield Finding(
            "Files", Level.NOTE, f"{counted(len(old), 'run')} deleted more than a day ago can still be restored; "
            f"files take {with_prefix(size, 'B')}, their rounds a part of the store.",
            "`pwff doctor --mend --purge-deleted` removes them for good.",
        )  # fmt: skip


def purgeable(patient: Patient) -> list[str]:
    """Ids of the runs that were deleted more than a day ago."""
    before = time.time() - KEPT_DELETED_S
    return [one.id for one in patient.entries.values() if one.deleted and (one.deleted_at or before) < before]


def leftovers(patient: Patient) -> list[Leftover]:
    """What may be removed without a loss. Of a run that plays nothing is looked at: it is just being written."""
    busy = {entry.id for entry in patient.entries.values() if not entry.status.ended} - patient.disorder.stale.keys()
    busy |= {worker.run_id for worker in patient.workers}
    at_rest = [run_id for run_id in reversed(patient.entries) if run_id not in busy and _ID.fullmatch(run_id)]
    found = [*_half_written(patient.path, at_rest), *_damaged(patient.path, at_rest)]
    if patient.elsewhere is not None:
        found += _gone(patient.path, patient.entries.keys() | patient.elsewhere | busy)
    return found


def _half_written(path: Path, run_ids: Sequence[str]) -> Iterator[Leftover]:
    for run_id in run_ids:
        folder = RunFiles(path).models(run_id)
        beside = [folder.with_name(f"{run_id}.{end}") for end in (("new", "old") if folder.exists() else ("new",))]
        for half in (*RunFiles(path).checkpoints(run_id).glob("*.new"), *(one for one in beside if one.exists())):
            yield Leftover(half, "half-written", size_of(half))


def _damaged(path: Path, run_ids: Sequence[str]) -> Iterator[Leftover]:
    """Checkpoints that are not what was written. One with the mark of another version is left alone."""
    give_up_at = time.monotonic() + _BUDGET_S
    for run_id in run_ids:
        folder = RunFiles(path).checkpoints(run_id)
        known = {folder_of(folder, mark.position): mark for mark in marks_in(folder)}
        for place in sorted(complete(folder), reverse=True):
            mark = known.get(place)
            deep = mark is not None and mark.size < _DEEP and time.monotonic() < give_up_at
            if not (_whole(place / STATE, mark, deep=deep) if mark else _is_json(place / HEAD)):
                yield Leftover(place, "damaged", size_of(place))


def _whole(file: Path, mark: Mark, *, deep: bool) -> bool:
    try:
        if not deep:
            return file.stat().st_size == mark.size
        with file.open("rb") as content:
            return hashlib.file_digest(content, "blake2b").hexdigest() == mark.digest
    except FileNotFoundError:
        return False


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True


def _gone(path: Path, known: Collection[str]) -> Iterator[Leftover]:
    """All files of runs that no store has. Other programs may keep theirs in folders of these names, so a run is only
    believed to be one of ours where its models or checkpoints lie, which look like nobody else's."""
    parent = path.parent
    ours = [head.parent.name for head in sorted((parent / "models").glob(f"*/{_MODELS_HEAD}"))]
    ours += [head.parent.parent.name for head in sorted((parent / "checkpoints").glob(f"*/[0-9]*/{HEAD}"))]
    for run_id in dict.fromkeys(ours):
        if _ID.fullmatch(run_id) and run_id not in known:
            for file in files_of(path, run_id):
                yield Leftover(file, "of a run that is gone", size_of(file))


def files_of(path: Path, run_id: str) -> list[Path]:
    """All that lies beside a store for one run."""
    return [
        child for kind in _FOLDERS for child in _children(path.parent / kind) if child.name.partition(".")[0] == run_id
    ]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; what is removed meanwhile has none."""
    total = 0
    for file in [path, *path.rglob("*")]:
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
