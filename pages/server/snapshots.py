"""What all browsers of this server share of the runs that they watch: the looks at the store.

Whoever asks first looks, most of the time the bell (bell.py), and the others take what was found while it is fresh.
Rounds that have been read are kept, so that a look reads new ones alone: of the MOST_RUNS runs that were asked for
last, and of none that nobody has looked at for a minute; about 20 kB a round of ten clients.
"""

from __future__ import annotations

import threading
import time
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from pages.run.origin import parent_of
from pages.run.view import Shown
from pages.server.cache import Shelf
from pwff_core.errors import StoreError
from pwff_core.records import RoundRecord
from pwff_core.runs import scheduler
from pwff_core.runs.store import Lease, RunRow, RunStatus, Store

FRESH_S = 0.1  # a look that somebody else began so lately is as good as one's own
SILENT_S = 5.0  # how long a run has given no sign of life is told anew so often
MOST_RUNS = 8
TURN = threading.Lock()  # sessions draw one after another: side by side, the first would be done when the last one is


class Seen(NamedTuple):
    """A run as it stood at a look, and the queue beside it."""

    shown: Shown
    waiting: tuple[RunRow, ...]  # the runs that wait, the first to start first
    lease: Lease | None  # who steers it
    revision: int  # another one whenever anything is otherwise that a page shows; never given twice
    store: Store  # that it was read from, open for reading
    at: float  # when the look began, by time.monotonic()


class _Watched:
    """One run, looked at by one session at a time."""

    def __init__(self, path: Path, run_id: str) -> None:
        self._path, self._run_id = path, run_id
        self._lock = threading.Lock()
        self._last: Seen | None = None
        self._refused: tuple[float, str] | None = None  # when a look failed, and why
        self._after, self._records = 0, tuple[RoundRecord, ...]()

    def seen(self, since: float) -> Seen:
        """The last look if it began at `since` or later, otherwise a new one; so it is with one that failed."""
        with self._lock:
            if self._last is not None and self._last.at >= since:
                return self._last
            if self._refused and self._refused[0] >= since:
                raise StoreError(self._refused[1])
            at = time.monotonic()
            try:
                self._last = self._look(at)
            except StoreError as error:
                self._refused = time.monotonic(), str(error)
                raise
            return self._last

    def _look(self, at: float) -> Seen:
        store = Store(self._path, readonly=True)
        snapshot = store.snapshot(self._run_id, after=self._after)
        if snapshot.queue and scheduler.advance(Store(self._path)):  # it was due, and waits no more
            snapshot = store.snapshot(self._run_id, after=self._after)
        if snapshot.rounds:
            self._after = snapshot.rounds[-1][0]
            self._records += tuple(record for _, record in snapshot.rounds)
        row, waiting = snapshot.row, tuple(snapshot.queue)
        place = next((place for place, one in enumerate(waiting, start=1) if one.id == row.id), 0)
        shown = Shown(
            row,
            self._records,
            snapshot.steerings,
            snapshot.pending_changes,
            snapshot.pending,
            place,
            parent_of(store, row),
        )
        before = self._last
        found = Seen(shown, waiting, snapshot.lease, next(_REVISIONS), store, at)
        same = before is not None and _drawn(before) == _drawn(found)
        return found._replace(revision=before.revision) if before is not None and same else found


_RUNS, _REVISIONS = Shelf(MOST_RUNS), count(1)


def seen(path: Path, run_id: str, *, now: bool = False) -> Seen:
    """A run of a store as it stands, or stood FRESH_S ago at the most; `now`: with all that was written until here.

    StoreError if the store cannot be read or has no such run.
    """
    watched = _RUNS.take((path, run_id), lambda: _Watched(path, run_id))
    return watched.seen(time.monotonic() - (0.0 if now else FRESH_S))


def _drawn(found: Seen) -> tuple[Any, ...]:
    """What a page draws of a look: not the worker's last sign of life, nor to the second how long there was none."""
    shown = found.shown
    row = shown.row.model_copy(update={"heartbeat_at": None})
    silent = 0
    if row.status is RunStatus.STALLED:
        row, silent = row.model_copy(update={"message": ""}), int(found.at / SILENT_S)
    parent = shown.parent and (shown.parent.name, len(shown.parent.frame))
    steers = found.lease and found.lease.viewer
    return row, silent, len(shown.records), *shown[2:-1], parent, found.waiting, steers
