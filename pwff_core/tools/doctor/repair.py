"""What `pwff doctor --mend` does. All of it is safe: a run that is well is not touched, and what could still be read or
undone is kept, unless a purge was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from pwff_core.runs.store import SCHEMA_VERSION, Store, inspection
from pwff_core.runs.store.inspection import Condition
from pwff_core.runs.store.recovery import salvage, set_aside
from pwff_core.runs.store.schema import RUNS
from pwff_core.tools.doctor.files import LONG_LOG, lost, newest_copy
from pwff_core.tools.doctor.findings import counted
from pwff_core.tools.doctor.leftovers import files_of, leftovers, purgeable, size_of
from pwff_core.tools.doctor.runs import orphans
from pwff_core.tools.doctor.snapshot import Patient, looked_at
from pwff_core.units import with_prefix

_ENDING_S = 5.0  # an engine that is told to end has this long


def mend(path: Path, *, purge_deleted: bool) -> Iterator[str]:
    """Mends what can be mended, and yields a sentence for each thing once it is done. StoreError if it cannot be."""
    yield from _files(looked_at(path))
    patient = looked_at(path)
    if not patient.sound:
        return
    yield from _engines(patient)
    yield from _rows(patient)
    yield from _leftovers(patient)
    if purge_deleted:
        yield from _purge(patient)
    elif patient.health.log > LONG_LOG:
        inspection.shorten_log(patient.path)
        yield "The write-ahead log was moved into the store."


def _files(patient: Patient) -> Iterator[str]:
    """A store that can be used, where there was one that is damaged or of an older version."""
    path, damaged = patient.path, inspection.was_store(patient.path, patient.health)
    if (damaged or lost(patient.commands)) and patient.workers:
        pids = ", ".join(str(worker.process.pid) for worker in patient.workers)
        yield f"The store was left as it is, as engines still write to it (process {pids}); stop them and mend again."
        return
    if damaged:
        yield from _salvaged(path)
    if lost(patient.commands):
        aside = set_aside(patient.commands_path)
        if inspection.health(path, RUNS, budget_s=0.0).condition is Condition.SOUND:
            inspection.forget_commands(path)
        yield f"{patient.commands_path.name} is now {aside.name}; a new one is made when it is needed."
    if Condition.OLDER in (patient.health.condition, patient.commands.condition):
        Store(path)
        kept = newest_copy(patient)
        yield f"The store was renewed to format {SCHEMA_VERSION}; as it was, it is kept as {kept}."


def _salvaged(path: Path) -> Iterator[str]:
    done = salvage(path)
    read = f"{counted(done.runs, 'run')} and {counted(done.rounds, 'round')}"
    yield f"A new store has all that could be read, {read}; the damaged one is kept as {done.aside}."
    if done.from_copies:
        yield f"{counted(done.from_copies, 'run')} of them came from a copy that was made before a renewal."
    if done.incomplete:
        yield f"These runs have lost rounds, and play them again when they are resumed: {', '.join(done.incomplete)}."
    if done.unknown:
        yield f"{counted(done.unknown, 'round')} of runs whose settings are lost: in the damaged file alone."


def _engines(patient: Patient) -> Iterator[str]:
    """Ends engines that play for nobody, as a computer that shuts down would."""
    found = orphans(patient)
    for orphan in found:
        with suppress(psutil.NoSuchProcess):  # it has just ended by itself
            orphan.worker.process.terminate()
    gone, alive = psutil.wait_procs([orphan.worker.process for orphan in found], timeout=_ENDING_S)
    for process in gone:
        yield f"Process {process.pid} was ended."
    for process in alive:
        yield f"Process {process.pid} was told to end and has not yet."


def _rows(patient: Patient) -> Iterator[str]:
    done = inspection.put_right(patient.path)
    for run_id in done.stale:
        yield f"Run {run_id} is written down as failed; `pwff resume {run_id}` goes on with it."
    for run_id, (said, kept) in done.miscounted.items():
        yield f"Run {run_id} has {counted(kept, 'round')}, not {said}."


def _leftovers(patient: Patient) -> Iterator[str]:
    for one in leftovers(patient):
        gone = _removed(one.path)
        done = f"was removed: {with_prefix(one.size, 'B')}" if gone else "cannot be removed; remove it by hand"
        yield f"{one.path.relative_to(patient.path.parent)} ({one.why}) {done}."


def _purge(patient: Patient) -> Iterator[str]:
    """Removes for good what was deleted more than a day ago."""
    before, files, runs = size_of(patient.path), 0, 0
    for run_id in purgeable(patient):
        if inspection.purge(patient.path, run_id):
            runs += 1
            for file in files_of(patient.path, run_id):
                size = size_of(file)
                files += size if _removed(file) else 0
    if runs:
        inspection.compact(patient.path)
        freed = files + max(0, before - size_of(patient.path))
        yield f"{counted(runs, 'deleted run')} removed for good: {with_prefix(freed, 'B')}."


def _removed(path: Path) -> bool:
    """Removes a file, or a folder with all that is in it; whether it is gone."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    return not path.exists()
