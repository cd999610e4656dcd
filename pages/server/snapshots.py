"""Snapshots of the runs that are watched, shared by all browsers of this server.

Whoever asks first reads the store, most of the time the thread of push.py, and the others take the same snapshot while
it is fresh. Rounds that have been read are kept, so that a snapshot reads new ones alone: of the MOST_RUNS runs that
were asked for last, and of none that nobody has watched for a minute; about 20 kB a round of ten clients.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from pages.parts.run_table import short_names, stored_frame
from pages.server.cache import Cache
from pages.server.drawings import RunView
from pwff_core.errors import StoreError
from pwff_core.figures.panels import Parent
from pwff_core.records import RoundRecord
from pwff_core.runs import scheduler
from pwff_core.runs.store import Lease, RunRow, RunStatus, Store

FRESH_S = 0.1  # a snapshot that another session began so lately is as good as a new one
SILENT_S = 5.0  # how often the words on a run without a sign of life are renewed
MOST_RUNS = 8
DRAWING_TURN = threading.Lock()  # sessions draw one after another: side by side, the first would end with the last


class Snapshot(NamedTuple):
    """A run as it stood at one moment, and the queue beside it."""

    view: RunView
    queue: tuple[RunRow, ...]  # the runs that wait, the first to start first
    lease: Lease | None  # the browser that steers it
    revision: int  # a new one whenever anything differs that a page shows; never given twice
    store: Store  # that it was read from, open for reading
    begun_at: float  # when reading began, by the clock of `Snapshots`


class _WatchedRun:
    """One run, read by one session at a time."""

    def __init__(self, path: Path, run_id: str, clock: Callable[[], float]) -> None:
        self._path, self._run_id, self._clock = path, run_id, clock
        self._lock = threading.Lock()
        self._latest: Snapshot | None = None
        self._failure: tuple[float, str] | None = None  # when reading failed, and why
        self._after, self._records = 0, tuple[RoundRecord, ...]()

    def snapshot(self, since: float) -> Snapshot:
        """The latest snapshot if it was begun at `since` or later, otherwise a new one; a failure is shared alike."""
        with self._lock:
            if self._latest is not None and self._latest.begun_at >= since:
                return self._latest
            if self._failure and self._failure[0] >= since:
                raise StoreError(self._failure[1])
            begun_at = self._clock()
            try:
                self._latest = self._read(begun_at)
            except StoreError as error:
                self._failure = self._clock(), str(error)
                raise
            return self._latest

    def _read(self, begun_at: float) -> Snapshot:
        store = Store(self._path, readonly=True)
        stored = store.snapshot(self._run_id, after=self._after)
        if stored.queue and scheduler.advance(Store(self._path)):  # it was due, and waits no more
            stored = store.snapshot(self._run_id, after=self._after)
        if stored.rounds:
            self._after = stored.rounds[-1][0]
            self._records += tuple(record for _, record in stored.rounds)
        row, queue = stored.row, tuple(stored.queue)
        view = RunView(
            row,
            self._records,
            stored.steerings,
            stored.pending_changes,
            stored.pending,
            next((position for position, waiting in enumerate(queue, start=1) if waiting.id == row.id), 0),
            parent_curves(store, row),
        )
        snapshot = Snapshot(view, queue, stored.lease, next(_REVISIONS), store, begun_at)
        before = self._latest
        if before is not None and _drawn_values(before) == _drawn_values(snapshot):
            return snapshot._replace(revision=before.revision)
        return snapshot


class Snapshots:
    """The runs that are watched, each with its latest snapshot."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs = Cache(MOST_RUNS, clock=clock)

    def __len__(self) -> int:
        return len(self._runs)

    def latest(self, path: Path, run_id: str, *, now: bool = False) -> Snapshot:
        """A run of a store as it stands, or stood FRESH_S ago at the most; `now`: with all that was written until here.

        StoreError if the store cannot be read or has no such run.
        """
        run = self._runs.get((path, run_id), lambda: _WatchedRun(path, run_id, self._clock))
        return run.snapshot(self._clock() - (0.0 if now else FRESH_S))


_REVISIONS = count(1)
latest_snapshot = Snapshots().latest  # of all sessions


def _drawn_values(snapshot: Snapshot) -> tuple[Any, ...]:
    """What a page draws: not the worker's last sign of life, nor to the second how long there was none."""
    view = snapshot.view
    row = view.row.model_copy(update={"heartbeat_at": None})
    silent = 0
    if row.status is RunStatus.STALLED:
        row, silent = row.model_copy(update={"message": ""}), int(snapshot.begun_at / SILENT_S)
    parent = view.parent and (view.parent.name, len(view.parent.frame))
    steering_viewer = snapshot.lease and snapshot.lease.viewer
    pending = view.pending_changes, view.pending_commands, view.queue_position
    return row, silent, len(view.records), view.steerings, *pending, parent, snapshot.queue, steering_viewer


def parent_row(store: Store, row: RunRow) -> RunRow | None:
    """The run that a run was forked from; None if it is no fork, or its parent cannot be read or was deleted."""
    if not row.parent:
        return None
    try:
        parent = store.run(row.parent)
    except StoreError:  # written by another version
        return None
    return None if parent.deleted else parent


def parent_curves(store: Store, row: RunRow) -> Parent | None:
    """The parent's rounds from the fork on; None where it has none after that, or there is no parent (any more)."""
    parent = parent_row(store, row)
    if parent is None or parent.rounds_done <= row.forked_at:
        return None
    name = short_names([parent])[0] if parent.name else f"run {parent.id}"
    return Parent(name, stored_frame(store, parent).loc[row.forked_at :])
