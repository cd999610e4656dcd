"""Runs whose engine is gone or gives no sign, engines without a run, the queue, and rows from the future."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from pwff_core.runs.store import RunStatus
from pwff_core.tools.doctor.findings import Finding, Level, counted
from pwff_core.tools.doctor.snapshot import Patient, Worker

GRACE_S = 60.0  # an engine whose run has ended has this long to end too
AHEAD_S = 60.0  # clocks of computers that share a disk differ by less
_SHOWN = 5  # of runs with the same trouble, one by one
_PLAYS = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED)


class Orphan(NamedTuple):
    """An engine that plays for nobody."""

    worker: Worker
    reason: str


def findings(patient: Patient) -> Iterator[Finding]:
    """What there is to say of the runs of a sound store."""
    troubles = [*_stale(patient), *_silent(patient), *_miscounted(patient)]
    playing = [row for row in patient.rows if row.status in (RunStatus.RUNNING, RunStatus.PAUSED)]
    well = f"{len(playing)} of them going, and each one's engine answers." if playing else "None of them is going."
    yield from troubles or [Finding("Runs", Level.OK, well)]
    yield from _engines(patient)
    yield from _queue(patient)
    yield from _future(patient)


def _stale(patient: Patient) -> Iterator[Finding]:
    stale = patient.disorder.stale
    shown = list(stale) if len(stale) <= _SHOWN else list(stale)[: _SHOWN - 1]
    for run_id, obituary in ((run_id, stale[run_id]) for run_id in shown):
        yield Finding(
            "Runs", Level.PROBLEM, f"{run_id} has lost its engine, and its row does not say so: {obituary}",
            f"`pwff doctor --mend` writes it down; `pwff resume {run_id}` goes on with it, now or then.",
        )  # fmt: skip
    if rest := [run_id for run_id in stale if run_id not in shown]:
        yield Finding(
            "Runs", Level.PROBLEM, f"{len(rest)} more have lost their engines: {', '.join(rest)}.",
            "`pwff doctor --mend` writes it down; `pwff resume RUN` goes on with each.",
        )  # fmt: skip


def _silent(patient: Patient) -> Iterator[Finding]:
    for row in patient.rows:
        if row.status is RunStatus.WAITING:
            yield Finding(
                "Runs", Level.PROBLEM, f"{row.id} does not go on: {row.message}",
                f"Remove what holds it up; or end process {row.pid}, and `pwff resume {row.id}`.",
            )  # fmt: skip


def _miscounted(patient: Patient) -> Iterator[Finding]:
    for run_id, (said, kept) in patient.disorder.miscounted.items():
        yield Finding(
            "Runs", Level.PROBLEM, f"{run_id} says that it has {said} rounds, and has {kept}.",
            "`pwff doctor --mend` counts them anew.",
        )  # fmt: skip


def _engines(patient: Patient) -> Iterator[Finding]:
    found = orphans(patient)
    for orphan in found:
        yield Finding(
            "Engines", Level.PROBLEM,
            f"Process {orphan.worker.process.pid} plays run {orphan.worker.run_id}, which {orphan.reason}.",
            "`pwff doctor --mend` ends it.",
        )  # fmt: skip
    if not found:
        busy = f"{len(patient.workers)} at work, each for a run of this store."
        yield Finding("Engines", Level.OK, busy if patient.workers else "None is at work in the background.")


def orphans(patient: Patient) -> list[Orphan]:
    """The workers of this store that no run needs; one whose run has only just ended is none."""
    found = []
    for worker in patient.workers:
        entry = patient.entries.get(worker.run_id)
        if entry is None:
            found.append(Orphan(worker, "is not in the store"))
        elif entry.deleted:
            found.append(Orphan(worker, "is deleted"))
        elif entry.status in _PLAYS:
            if entry.pid not in (None, worker.process.pid) and entry.status is not RunStatus.QUEUED:
                found.append(Orphan(worker, f"process {entry.pid} plays"))
        elif abs(time.time() - (entry.heartbeat_at or entry.created_at)) > GRACE_S:
            found.append(Orphan(worker, f"is {entry.status.value}"))
    return found


def _queue(patient: Patient) -> Iterator[Finding]:
    waiting = [row.id for row in patient.rows if row.waits]
    going = [row for row in patient.rows if not row.waits and not row.status.ended]
    if waiting and not going:
        stands = f"{counted(len(waiting), 'run')} in it and none plays: nobody is there to start the next one."
        yield Finding(
            "Queue", Level.NOTE, stands,
            "Open the pages (`pwff app`): they start it, and each engine that ends the one after it.",
        )  # fmt: skip
    else:
        yield Finding("Queue", Level.OK, f"{counted(len(waiting), 'run')} in it." if waiting else "It is empty.")


def _future(patient: Patient) -> Iterator[Finding]:
    now = time.time()
    ahead = [(max(entry.created_at, entry.heartbeat_at or 0.0) - now, entry.id) for entry in patient.entries.values()]
    late = sorted((by, run_id) for by, run_id in ahead if by > AHEAD_S)
    if late:
        by, run_id = late[-1]
        yield Finding(
            "Clock", Level.NOTE,
            f"{counted(len(late), 'run')} in the future, {run_id} by {by:,.0f} s: the clock was set back or is wrong. "
            "Order and times in lists may be odd; training does not depend on the clock.",
            "Set the clock if it is wrong.",
        )  # fmt: skip
    else:
        yield Finding("Clock", Level.OK, "No run is from the future.")
