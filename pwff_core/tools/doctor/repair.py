"""The repairs of `pwff doctor --mend`. All are safe: no healthy run is touched, and what can still be read or undone is
kept, unless a purge was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from pwff_core.runs.store import SCHEMA_VERSION, Store, inspection
from pwff_core.runs.store.inspection import Condition
from pwff_core.runs.store.recovery import recover, set_aside
from pwff_core.runs.store.schema import RUNS
from pwff_core.tools.doctor.files import LONG_LOG, newest_copy, unusable
from pwff_core.tools.doctor.findings import counted
from pwff_core.tools.doctor.leftovers import files_of_run, leftovers, purgeable, size_of
from pwff_core.tools.doctor.runs import orphans
from pwff_core.tools.doctor.snapshot import StoreSnapshot, take_snapshot
from pwff_core.units import with_prefix

_ENDING_S = 5.0  # given to an engine to end


def repair(path: Path, *, purge_deleted: bool) -> Iterator[str]:
    """Repairs what can be repaired; yields a sentence after each repair. StoreError if one is not possible."""
    yield from _files(take_snapshot(path))
    snapshot = take_snapshot(path)
    if not snapshot.sound:
        return
    yield from _engines(snapshot)
    yield from _rows(snapshot)
    yield from _leftovers(snapshot)
    if purge_deleted:
        yield from _purge(snapshot)
    elif snapshot.health.log > LONG_LOG:
        inspection.shorten_log(snapshot.path)
        yield "The write-ahead log was moved into the store."


def _files(snapshot: StoreSnapshot) -> Iterator[str]:
    """Replaces a damaged store by what can be read of it, and renews one of an older version."""
    path, damaged = snapshot.path, inspection.was_store(snapshot.path, snapshot.health)
    if (damaged or unusable(snapshot.commands)) and snapshot.workers:
        pids = ", ".join(str(worker.process.pid) for worker in snapshot.workers)
        yield f"The store was left as it is, as engines still write to it (process {pids}); stop them and mend again."
        return
    if damaged:
        yield from _recover(path)
    if unusable(snapshot.commands):
        aside = set_aside(snapshot.commands_path)
        if inspection.health(path, RUNS, budget_s=0.0).condition is Condition.SOUND:
            inspection.forget_commands(path)
        yield f"{snapshot.commands_path.name} is now {aside.name}; a new one is made when it is needed."
    if Condition.OLDER in (snapshot.health.condition, snapshot.commands.condition):
        Store(path)
        copy = newest_copy(snapshot)
        yield f"The store was renewed to format {SCHEMA_VERSION}; as it was, it is kept as {copy}."


def _recover(path: Path) -> Iterator[str]:
    recovered = recover(path)
    contents = f"{counted(recovered.runs, 'run')} and {counted(recovered.rounds, 'round')}"
    yield f"A new store has all that could be read, {contents}; the damaged one is kept as {recovered.aside}."
    if recovered.from_copies:
        yield f"{counted(recovered.from_copies, 'run')} of them came from a copy that was made before a renewal."
    if recovered.incomplete:
        run_ids = ", ".join(recovered.incomplete)
        yield f"These runs have lost rounds, and play them again when they are resumed: {run_ids}."
    if recovered.unknown:
        yield f"{counted(recovered.unknown, 'round')} of runs whose settings are lost: in the damaged file alone."


def _engines(snapshot: StoreSnapshot) -> Iterator[str]:
    """Ends engines without a run, with the signal that a computer sends when it shuts down."""
    engines = orphans(snapshot)
    for orphan in engines:
        with suppress(psutil.NoSuchProcess):  # it has just ended by itself
            orphan.worker.process.terminate()
    gone, alive = psutil.wait_procs([orphan.worker.process for orphan in engines], timeout=_ENDING_S)
    for process in gone:
        yield f"Process {process.pid} was ended."
    for process in alive:
        yield f"Process {process.pid} was told to end and has not yet."


def _rows(snapshot: StoreSnapshot) -> Iterator[str]:
    corrected = inspection.put_right(snapshot.path)
    for run_id in corrected.stale:
        yield f"Run {run_id} is written down as failed; `pwff resume {run_id}` goes on with it."
    for run_id, (stated, stored) in corrected.miscounted.items():
        yield f"Run {run_id} has {counted(stored, 'round')}, not {stated}."


def _leftovers(snapshot: StoreSnapshot) -> Iterator[str]:
    for leftover in leftovers(snapshot):
        removed = _remove(leftover.path)
        result = (
            f"was removed: {with_prefix(leftover.size, 'B')}" if removed else "cannot be removed; remove it by hand"
        )
        yield f"{leftover.path.relative_to(snapshot.path.parent)} ({leftover.reason}) {result}."


def _purge(snapshot: StoreSnapshot) -> Iterator[str]:
    """Removes for good the runs that were deleted more than a day ago."""
    store_bytes, file_bytes, runs = size_of(snapshot.path), 0, 0
    for run_id in purgeable(snapshot):
        if inspection.purge(snapshot.path, run_id):
            runs += 1
            for file in files_of_run(snapshot.path, run_id):
                size = size_of(file)
                file_bytes += size if _remove(file) else 0
    if runs:
        inspection.compact(snapshot.path)
        freed = file_bytes + max(0, store_bytes - size_of(snapshot.path))
        yield f"{counted(runs, 'deleted run')} removed for good: {with_prefix(freed, 'B')}."


def _remove(path: Path) -> bool:
    """Removes a file, or a folder with its content; returns whether it is gone."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    return not path.exists()
