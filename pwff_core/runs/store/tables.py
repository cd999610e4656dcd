"""The first file: the tables of runs, rounds and steerings, and how their rows are read and changed.

A worker may be taken for dead and not be (its process cannot be seen from another container, say), and its run be given
to another one. So a run belongs to one process, which is in the run's row, and every write of a worker checks for it.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from pwff_core.errors import StoreError, TakenOverError
from pwff_core.records import RoundRecord, Steering
from pwff_core.runs.liveness import SAME_PROCESS_S, this_process
from pwff_core.runs.store.connections import connected, storable, transaction
from pwff_core.runs.store.endings import CANCELLED, RunStatus
from pwff_core.runs.store.rows import RunRow
from pwff_core.runs.store.status import run_row

_PLAYING = (RunStatus.RUNNING, RunStatus.PAUSED)
_IS_OURS = (  # as in `liveness.alive`: start times are compared only where the system tells nothing better
    "id = ? AND status IN (?, ?) AND pid = ? AND (process_birth != '' OR abs(process_started_at - ?) < ?) "
    "AND process_birth = ?"
)


class Tables:
    """The runs file of a store."""

    def __init__(self, path: Path, timeout_s: float, *, readonly: bool, stale_s: float | None = None) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._readonly = readonly
        self._stale_s = stale_s

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that only reads."""
        with connected(self.path, "ro", self._timeout_s) as connection:
            yield connection

    @contextmanager
    def writing(self, *, lasting: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction, which outlives a power cut if it is `lasting`. StoreError if the store is for reading only."""
        if self._readonly:
            raise StoreError(f"The store {self.path} is opened for reading only; open it for writing to change it.")
        with transaction(self.path, self._timeout_s, lasting=lasting) as connection:
            yield connection

    def raw(self, run_id: str) -> sqlite3.Row:
        """A run's row. StoreError if there is none."""
        with self.reading() as connection:
            return self.raw_on(connection, run_id)

    def raw_on(self, connection: sqlite3.Connection, run_id: str) -> sqlite3.Row:
        """`raw`, on an open connection."""
        row: sqlite3.Row | None = None
        if re.fullmatch(r"[a-z0-9]{1,32}", run_id):
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise no_run(self.path, run_id)
        return row

    def parse(self, raw: sqlite3.Row) -> RunRow:
        """A row as a run as it stands now. StoreError if this version does not know its settings."""
        try:
            return run_row(raw, self.path, self._stale_s)
        except ValidationError:
            raise StoreError(
                f"Run {raw['id']} in {self.path} was written by another version of pwff; open it with that."
            ) from None

    def parse_all(self, raw: Sequence[sqlite3.Row]) -> list[RunRow]:
        """Rows as runs, without those whose settings this version does not know."""
        rows = []
        for row in raw:
            try:
                rows.append(run_row(row, self.path, self._stale_s))
            except ValidationError:
                continue
        return rows

    def select(self, condition: str, *values: str) -> list[RunRow]:
        """The runs that fulfil a condition in SQL."""
        with self.reading() as connection:
            raw = connection.execute(f"SELECT * FROM runs WHERE {condition}", values).fetchall()
        return self.parse_all(raw)

    def update(self, connection: sqlite3.Connection, run_id: str, assignments: str, values: tuple[object, ...]) -> None:
        """Changes a run's row, whoever asks. StoreError if there is none."""
        query = f"UPDATE runs SET {assignments} WHERE id = ?"
        if not connection.execute(query, (*values, storable(run_id))).rowcount:
            raise no_run(self.path, run_id)

    def update_ours(self, run_id: str, assignments: str, values: tuple[object, ...]) -> None:
        """Changes the row of the run that this process plays. TakenOverError if it plays no such run."""
        with self.writing() as connection:
            update_ours(connection, run_id, assignments, values)


def no_run(path: Path, run_id: str) -> StoreError:
    """The error for an id that a store does not have."""
    return StoreError(f"There is no run {run_id[:40]!r} in {path}; `pwff runs` lists those there are.")


def cancel(connection: sqlite3.Connection, run_id: str) -> bool:
    """Takes a run out of the queue; False if it is not in it."""
    query = "UPDATE runs SET waits = 0, status = ?, message = ? WHERE id = ? AND waits AND status = ?"
    return bool(connection.execute(query, (RunStatus.STOPPED, CANCELLED, run_id, RunStatus.QUEUED)).rowcount)


def rounds_of(connection: sqlite3.Connection, run_id: str, after: int) -> list[tuple[int, RoundRecord]]:
    """(row id, record) of a run's rounds with a row id above `after`, in order."""
    query = "SELECT id, record FROM rounds WHERE run_id = ? AND id > ? ORDER BY id"
    rows = connection.execute(query, (storable(run_id), after))
    return [(row["id"], RoundRecord.model_validate_json(row["record"])) for row in rows]


def steerings_of(connection: sqlite3.Connection, run_id: str) -> list[Steering]:
    """The changes of a run's settings, in order."""
    rows = connection.execute("SELECT steering FROM steerings WHERE run_id = ? ORDER BY id", (storable(run_id),))
    return [Steering.model_validate_json(row["steering"]) for row in rows]


# ---- what a run's worker writes, as long as it is the worker -----------------------------------------------------


def claim(connection: sqlite3.Connection, run_id: str) -> bool:
    """Makes this process the worker of a queued run; False if the run is not queued, or deleted."""
    query = (
        "UPDATE runs SET status = ?, waits = 0, pid = ?, process_started_at = ?, process_birth = ?, heartbeat_at = ? "
        "WHERE id = ? AND status = ? AND NOT deleted"
    )
    values = (RunStatus.RUNNING, *this_process(), time.time(), storable(run_id), RunStatus.QUEUED)
    return bool(connection.execute(query, values).rowcount)


def not_claimed(row: RunRow) -> StoreError:
    """The error for a run that could not be claimed."""
    if row.deleted:
        return StoreError(f"Run {row.id} is deleted; restore it first.")
    if not row.status.ended:
        return StoreError(f"Run {row.id} is {row.status.value} already (process {row.pid}); it goes on there.")
    advice = "start a new run instead" if row.status is RunStatus.FINISHED else "resume it first"
    return StoreError(f"Run {row.id} is {row.status.value} already; {advice}.")


def update_ours(connection: sqlite3.Connection, run_id: str, assignments: str, values: tuple[object, ...]) -> None:
    """Changes the row of this process's run, with a heartbeat. TakenOverError if the run is not this process's."""
    query = f"UPDATE runs SET {assignments}, heartbeat_at = ? WHERE {_IS_OURS}"
    if not connection.execute(query, (*values, time.time(), *_ours(run_id))).rowcount:
        raise _taken_over(connection, run_id)


def heartbeat(connection: sqlite3.Connection, run_id: str) -> bool:
    """Writes a heartbeat; False if the run is deleted, gone, or not this process's."""
    query = f"UPDATE runs SET heartbeat_at = ? WHERE NOT deleted AND {_IS_OURS}"
    return bool(connection.execute(query, (time.time(), *_ours(run_id))).rowcount)


def _ours(run_id: str) -> tuple[object, ...]:
    """The values for _IS_OURS."""
    process = this_process()
    return storable(run_id), *_PLAYING, process.pid, process.started_at, SAME_PROCESS_S, process.birth


def _taken_over(connection: sqlite3.Connection, run_id: str) -> StoreError:
    row = connection.execute("SELECT pid, status FROM runs WHERE id = ?", (storable(run_id),)).fetchone()
    if row is None:
        return TakenOverError(f"Run {run_id} is not in the store any more; its worker ends.")
    if row["status"] in _PLAYING:
        return TakenOverError(f"Another worker has taken run {run_id} over (process {row['pid']}); this one ends.")
    return TakenOverError(f"Run {run_id} is {row['status']}, and no worker's; claim it before writing to it.")
