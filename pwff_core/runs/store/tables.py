"""The first file: the tables of runs, rounds and steerings, and how their rows are found and changed."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from pwff_core.errors import StoreError
from pwff_core.records import RoundRecord, Steering
from pwff_core.runs.store import work
from pwff_core.runs.store.connections import connected, transaction
from pwff_core.runs.store.rows import RunRow, RunStatus
from pwff_core.runs.store.status import run_row
from pwff_core.runs.store.texts import no_run, storable

CANCELLED = "Cancelled before it started."


class Tables:
    """The runs file of a store."""

    def __init__(self, path: Path, patience_s: float, *, readonly: bool) -> None:
        self.path = path
        self._patience_s = patience_s
        self._readonly = readonly

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that only reads."""
        with connected(self.path, "ro", self._patience_s) as connection:
            yield connection

    @contextmanager
    def writing(self, *, lasting: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction, which outlives a power cut if it is `lasting`. StoreError if the store is for reading only."""
        if self._readonly:
            raise StoreError(f"The store {self.path} is opened for reading only; open it for writing to change it.")
        with transaction(self.path, self._patience_s, lasting=lasting) as connection:
            yield connection

    def raw(self, run_id: str) -> sqlite3.Row:
        """A run's row. StoreError if there is none."""
        with self.reading() as connection:
            return self.found(connection, run_id)

    def found(self, connection: sqlite3.Connection, run_id: str) -> sqlite3.Row:
        """The same, on a connection that is there."""
        row: sqlite3.Row | None = None
        if re.fullmatch(r"[a-z0-9]{1,32}", run_id):
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise no_run(self.path, run_id)
        return row

    def judged(self, raw: sqlite3.Row) -> RunRow:
        """A row as a run as it stands now. StoreError if its settings are none that this version knows."""
        try:
            return run_row(raw, self.path)
        except ValidationError:
            raise StoreError(
                f"Run {raw['id']} in {self.path} was written by another version of pwff; open it with that."
            ) from None

    def known(self, raw: Sequence[sqlite3.Row]) -> list[RunRow]:
        """Those rows with settings that this version knows, as runs."""
        rows = []
        for row in raw:
            try:
                rows.append(run_row(row, self.path))
            except ValidationError:
                continue
        return rows

    def listed(self, condition: str, *values: str) -> list[RunRow]:
        """The runs that fulfil a condition in SQL."""
        with self.reading() as connection:
            raw = connection.execute(f"SELECT * FROM runs WHERE {condition}", values).fetchall()
        return self.known(raw)

    def change(self, connection: sqlite3.Connection, run_id: str, assignments: str, values: tuple[object, ...]) -> None:
        """Changes a run's row, whoever asks. StoreError if there is none."""
        query = f"UPDATE runs SET {assignments} WHERE id = ?"
        if not connection.execute(query, (*values, storable(run_id))).rowcount:
            raise no_run(self.path, run_id)

    def work(self, run_id: str, assignments: str, values: tuple[object, ...]) -> None:
        """Changes the row of the run that this process plays. TakenOverError if it plays no such run."""
        with self.writing() as connection:
            work.write(connection, run_id, assignments, values)


def cancelled(connection: sqlite3.Connection, run_id: str) -> bool:
    """Takes a run out of the queue; False if it does not wait."""
    query = "UPDATE runs SET waits = 0, status = ?, message = ? WHERE id = ? AND waits AND status = ?"
    return bool(connection.execute(query, (RunStatus.STOPPED, CANCELLED, run_id, RunStatus.QUEUED)).rowcount)


def rounds_of(connection: sqlite3.Connection, run_id: str, after: int) -> list[tuple[int, RoundRecord]]:
    """(row id, record) of a run's rounds with a row id above `after`, in order."""
    query = "SELECT id, record FROM rounds WHERE run_id = ? AND id > ? ORDER BY id"
    found = connection.execute(query, (storable(run_id), after))
    return [(row["id"], RoundRecord.model_validate_json(row["record"])) for row in found]


def steerings_of(connection: sqlite3.Connection, run_id: str) -> list[Steering]:
    """The changes of a run's settings, in order."""
    found = connection.execute("SELECT steering FROM steerings WHERE run_id = ? ORDER BY id", (storable(run_id),))
    return [Steering.model_validate_json(row["steering"]) for row in found]
