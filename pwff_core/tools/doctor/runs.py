"""Runs whose engine is gone or silent, engines without a run, the queue, and rows from the future."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from pwff_core.runs.store import RunStatus
from pwff_core.tools.doctor.findings import Finding, Level, counted
from pwff_core.tools.doctor.snapshot import StoreSnapshot, Worker

GRACE_S = 60.0  # an engine whose run has ended has this long to end too
AHEAD_S = 60.0  # clocks of computers that share a disk differ by less
_LISTED = 5  # runs with the same problem that get a line each
_UNFINISHED = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED)


class Orphan(NamedTuple):
    """An engine that plays for nobody."""

    worker: Worker
    reason: str


def findings(snapshot: StoreSnapshot) -> Iterator[Finding]:
    """The checklist of the runs of a sound store."""
    problems = [*_stale(snapshot), *_silent(snapshot), *_miscounted(snapshot)]
    playing = [row for row in snapshot.rows if row.status in (RunStatus.RUNNING, RunStatus.PAUSED)]
    text = f"{len(playing)} of them going, and each one's engine answers." if playing else "None of them is going."
    yield from problems or [Finding("Runs", Level.OK, text)]
    yield from _engines(snapshot)
    yield from _queue(snapshot)
    yield from _future(snapshot)


def _stale(snapshot: StoreSnapshot) -> Iterator[Finding]:
    stale = snapshot.disorder.stale
    listed = list(stale) if len(stale) <= _LISTED else list(stale)[: _LISTED - 1]
    for run_id in listed:
        yield Finding(
            "Runs", Level.PROBLEM, f"{run_id} has lost its engine, and its row does not say so: {stale[run_id]}",
            f"`pwff doctor --mend` writes it down; `pwff resume {run_id}` goes on with it, now or then.",
        )  # fmt: skip
    if rest := [run_id for run_id in stale if run_id not in listed]:
        yield Finding(
            "Runs", Level.PROBLEM, f"{len(rest)} more have lost their engines: {', '.join(rest)}.",
            "`pwff doctor --mend` writes it down; `pwff resume RUN` goes on with each.",
        )  # fmt: skip


def _silent(snapshot: StoreSnapshot) -> Iterator[Finding]:
    for row in snapshot.rows:
        if row.status is RunStatus.STALLED:
            yield Finding(
                "Runs", Level.PROBLEM, f"{row.id} does not go on: {row.message}",
                f"Remove what holds it up; or end process {row.pid}, and `pwff resume {row.id}`.",
            )  # fmt: skip


def _miscounted(snapshot: StoreSnapshot) -> Iterator[Finding]:
    for run_id, (stated, stored) in snapshot.disorder.miscounted.items():
        yield Finding(
            "Runs", Level.PROBLEM, f"{run_id} says that it has {stated} rounds, and has {stored}.",
            "`pwff doctor --mend` counts them anew.",
        )  # fmt: skip


def _engines(snapshot: StoreSnapshot) -> Iterator[Finding]:
    without_a_run = orphans(snapshot)
    for orphan in without_a_run:
        yield Finding(
            "Engines", Level.PROBLEM,
            f"Process {orphan.worker.process.pid} plays run {orphan.worker.run_id}, which {orphan.reason}.",
            "`pwff doctor --mend` ends it.",
        )  # fmt: skip
    if not without_a_run:
        text = f"{len(snapshot.workers)} at work, each for a run of this store."
        yield Finding("Engines", Level.OK, text if snapshot.workers else "None is at work in the background.")


def orphans(snapshot: StoreSnapshot) -> list[Orphan]:
    """The workers of this store that no run needs; one whose run has only just ended is none."""
    result = []
    for worker in snapshot.workers:
        entry = snapshot.entries.get(worker.run_id)
        if entry is None:
            result.append(Orphan(worker, "is not in the store"))
        elif entry.deleted:
            result.append(Orphan(worker, "is deleted"))
        elif entry.status in _UNFINISHED:
            if entry.pid not in (None, worker.process.pid) and entry.status is not RunStatus.QUEUED:
                result.append(Orphan(worker, f"process {entry.pid} plays"))
        elif abs(time.time() - (entry.heartbeat_at or entry.created_at)) > GRACE_S:
            result.append(Orphan(worker, f"is {entry.status.value}"))
    return result


def _queue(snapshot: StoreSnapshot) -> Iterator[Finding]:
    waiting = [row.id for row in snapshot.rows if row.in_queue]
    playing = [row for row in snapshot.rows if not row.in_queue and not row.status.ended]
    if waiting and not playing:
        text = f"{counted(len(waiting), 'run')} in it and none plays: nobody is there to start the next one."
        yield Finding(
            "Queue", Level.NOTE, text,
            "Open the pages (`pwff app`): they start it, and each engine that ends the one after it.",
        )  # fmt: skip
    else:
        yield Finding("Queue", Level.OK, f"{counted(len(waiting), 'run')} in it." if waiting else "It is empty.")


def _future(snapshot: StoreSnapshot) -> Iterator[Finding]:
    now = time.time()
    newest = {entry.id: max(entry.created_at, entry.heartbeat_at or 0.0) for entry in snapshot.entries.values()}
    ahead = sorted((at - now, run_id) for run_id, at in newest.items() if at - now > AHEAD_S)
    if ahead:
        ahead_s, run_id = ahead[-1]
        yield Finding(
            "Clock", Level.NOTE,
            f"{counted(len(ahead), 'run')} in the future, {run_id} by {ahead_s:,.0f} s: the clock was set back or is "
            "wrong. Order and times in lists may be odd; training does not depend on the clock.",
            "Set the clock if it is wrong.",
        )  # fmt: skip
    else:
        yield Finding("Clock", Level.OK, "No run is from the future.")
