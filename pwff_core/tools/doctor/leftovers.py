"""Files beside a store that nobody needs: half-written or damaged ones, and those of runs that are gone."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pwff_core.runs.checkpoints import (
    INFO_FILE,
    TENSORS_FILE,
    CheckpointInfo,
    complete_folders,
    folder_of,
    list_checkpoints_in,
)
from pwff_core.runs.run_files import RunFiles
from pwff_core.tools.doctor.findings import Finding, Level, counted
from pwff_core.tools.doctor.snapshot import StoreSnapshot
from pwff_core.units import with_prefix

UNDO_S = 24 * 3600.0  # a deletion can be undone for so long
_BUDGET_S = 0.4  # for hashing checkpoints, the newest first
_LARGEST_HASHED = 200_000_000  # bytes; of a larger checkpoint only the size is compared
_MODELS_HEAD = "saved.json"  # as models/saved.py writes it, which needs torch
_ID = re.compile(r"[a-z2-9]{8}")  # as `Store.create_run` makes them: a file with another name is not ours
_FOLDERS = ("checkpoints", "models", "logs")
Reason = Literal["damaged", "half-written", "of a run that is gone"]


class Leftover(NamedTuple):
    """A file or folder that nobody needs."""

    path: Path
    reason: Reason
    size: int  # [byte]


def findings(snapshot: StoreSnapshot) -> Iterator[Finding]:
    """The checklist of the files beside a sound store."""
    folder = snapshot.path.parent
    useless = leftovers(snapshot)
    for reason in dict.fromkeys(leftover.reason for leftover in useless):
        group = [leftover for leftover in useless if leftover.reason == reason]
        names = ", ".join(str(leftover.path.relative_to(folder)) for leftover in group[:5])
        more = f" and {len(group) - 5} more" if len(group) > 5 else ""
        size = with_prefix(sum(leftover.size for leftover in group), "B")
        yield Finding(
            "Files",
            Level.PROBLEM,
            f"{names}{more} ({size}): {reason}.",
            "`pwff doctor --mend` removes what is useless.",
        )
    if not useless:
        sizes = ", ".join(f"{name} {with_prefix(size_of(folder / name), 'B')}" for name in _FOLDERS)
        yield Finding("Files", Level.OK, f"Nothing useless lies beside the store ({sizes}).")
    if snapshot.other_run_ids is None:
        yield Finding(
            "Files", Level.NOTE,
            f"Another store in {folder} cannot be read in full, so files of runs that are gone were not looked for.",
            "Move that store away once you do not need it any more.",
        )  # fmt: skip
    yield from _deleted(snapshot)


def _deleted(snapshot: StoreSnapshot) -> Iterator[Finding]:
    old = purgeable(snapshot)
    if old:
        size = sum(size_of(path) for run_id in old for path in files_of_run(snapshot.path, run_id))
        yield Finding(
            "Files", Level.NOTE, f"{counted(len(old), 'run')} deleted more than a day ago can still be restored; "
            f"files take {with_prefix(size, 'B')}, their rounds a part of the store.",
            "`pwff doctor --mend --purge-deleted` removes them for good.",
        )  # fmt: skip


def purgeable(snapshot: StoreSnapshot) -> list[str]:
    """Ids of the runs that were deleted more than a day ago."""
    before = time.time() - UNDO_S
    return [entry.id for entry in snapshot.entries.values() if entry.deleted and (entry.deleted_at or before) < before]


def leftovers(snapshot: StoreSnapshot) -> list[Leftover]:
    """Files that may be removed without a loss. Those of a run that plays are left out: it is writing them."""
    busy = {entry.id for entry in snapshot.entries.values() if not entry.status.ended} - snapshot.disorder.stale.keys()
    busy |= {worker.run_id for worker in snapshot.workers}
    at_rest = [run_id for run_id in reversed(snapshot.entries) if run_id not in busy and _ID.fullmatch(run_id)]
    useless = [*_half_written(snapshot.path, at_rest), *_damaged(snapshot.path, at_rest)]
    if snapshot.other_run_ids is not None:
        useless += _of_gone_runs(snapshot.path, snapshot.entries.keys() | snapshot.other_run_ids | busy)
    return useless


def _half_written(path: Path, run_ids: Sequence[str]) -> Iterator[Leftover]:
    for run_id in run_ids:
        folder = RunFiles(path).models(run_id)
        beside = [folder.with_name(f"{run_id}.{end}") for end in (("new", "old") if folder.exists() else ("new",))]
        for half in (*RunFiles(path).checkpoints(run_id).glob("*.new"), *(half for half in beside if half.exists())):
            yield Leftover(half, "half-written", size_of(half))


def _damaged(path: Path, run_ids: Sequence[str]) -> Iterator[Leftover]:
    """Checkpoints whose content differs from what was written. One of another version is left alone."""
    give_up_at = time.monotonic() + _BUDGET_S
    for run_id in run_ids:
        folder = RunFiles(path).checkpoints(run_id)
        by_folder = {folder_of(folder, mark.position): mark for mark in list_checkpoints_in(folder)}
        for place in sorted(complete_folders(folder), reverse=True):
            mark = by_folder.get(place)
            hashed = mark is not None and mark.size < _LARGEST_HASHED and time.monotonic() < give_up_at
            if not (_whole(place / TENSORS_FILE, mark, hashed=hashed) if mark else _is_json(place / INFO_FILE)):
                yield Leftover(place, "damaged", size_of(place))


def _whole(file: Path, mark: CheckpointInfo, *, hashed: bool) -> bool:
    try:
        if not hashed:
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


def _of_gone_runs(path: Path, run_ids: Collection[str]) -> Iterator[Leftover]:
    """All files of runs that are in no store.

    Other programs may have folders of these names, so a run counts as ours only by its models or checkpoints, whose
    files no other program writes.
    """
    parent = path.parent
    candidates = [head.parent.name for head in sorted((parent / "models").glob(f"*/{_MODELS_HEAD}"))]
    candidates += [head.parent.parent.name for head in sorted((parent / "checkpoints").glob(f"*/[0-9]*/{INFO_FILE}"))]
    for run_id in dict.fromkeys(candidates):
        if _ID.fullmatch(run_id) and run_id not in run_ids:
            for file in files_of_run(path, run_id):
                yield Leftover(file, "of a run that is gone", size_of(file))


def files_of_run(path: Path, run_id: str) -> list[Path]:
    """All files and folders of one run beside a store."""
    return [
        child for kind in _FOLDERS for child in _children(path.parent / kind) if child.name.partition(".")[0] == run_id
    ]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 for one that is removed meanwhile."""
    total = 0
    for file in [path, *path.rglob("*")]:
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
