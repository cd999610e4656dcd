"""The store of runs: one SQLite file that the engine writes and the pages read.

Two files lie side by side. `runs.sqlite` holds the runs and their rounds: a page adds the row of a new run, and from
then on the run's worker alone writes it. `runs.commands.sqlite` holds what pages ask of a worker, so that neither waits
for the other. Every call opens a connection of its own (0.2 ms to read, 1 ms to write) and keeps nothing, so threads
may share a Store. The file is long because nothing else in the house may speak SQL.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.errors import StoreError
from pwff_core.liveness import Process, alive, this_process
from pwff_core.paths import STORE_VARIABLE
from pwff_core.records import ClientProfile, RoundRecord

SCHEMA_VERSION = 1
CLAIM_WITHIN_S = 60.0  # a queued run that no worker took by then is not going to start
_APPLICATION_ID = 0x70776666  # "pwff": tells our files from other programs' SQLite files
_ID_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # no 0 and o, no 1, i and l
_ELSEWHERE = f"choose another file with --store or ${STORE_VARIABLE}"

_RUNS_SCHEMA = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at REAL NOT NULL,
    status TEXT NOT NULL, message TEXT NOT NULL DEFAULT '',
    config TEXT NOT NULL, profiles TEXT NOT NULL DEFAULT '[]', notes TEXT NOT NULL DEFAULT '[]',
    rounds_done INTEGER NOT NULL DEFAULT 0, rounds_total INTEGER NOT NULL,
    pid INTEGER, process_started_at REAL, heartbeat_at REAL, deleted INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE rounds (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL REFERENCES runs (id), record TEXT NOT NULL
);
CREATE INDEX rounds_of_run ON rounds (run_id, id);
"""
_COMMANDS_SCHEMA = """
CREATE TABLE commands (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, command TEXT NOT NULL, created_at REAL NOT NULL
);
CREATE INDEX commands_of_run ON commands (run_id, id);
"""


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether no round will follow."""
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING)


class RunRow(BaseModel):
    """A run as the store knows it; its rounds are fetched apart. Times are Unix seconds."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    created_at: float
    status: RunStatus
    message: str  # "" or why it failed or stopped
    config: RunConfig
    profiles: tuple[ClientProfile, ...]
    notes: tuple[str, ...]
    rounds_done: int
    rounds_total: int
    pid: int | None
    heartbeat_at: float | None
    deleted: bool


class Store:
    """The runs in one file. Making a Store checks the file, and makes it where there is none.

    `readonly` is for pages and lists: runs can be read and asked to stop, nothing else. A call gives up after
    `patience_s` seconds of waiting for another writer. Every failure is a StoreError of one sentence.
    """

    def __init__(self, path: Path, *, readonly: bool = False, patience_s: float = 5.0) -> None:
        self.path = path.absolute()
        self.readonly = readonly
        self.commands_path = self.path.with_name(f"{self.path.stem}.commands{self.path.suffix}")
        self._patience_s = patience_s
        new = not (os.path.isfile(self.path) and os.path.getsize(self.path))
        if not readonly or new:
            _prepare(self.path, _RUNS_SCHEMA, patience_s)
            _prepare(self.commands_path, _COMMANDS_SCHEMA, patience_s)
        with self._reading() as connection:
            _check_header(connection, self.path)

    def create_run(self, config: RunConfig, name: str = "") -> str:
        """Adds a queued run; returns its id, 8 lower-case letters and digits, safe in an address and as an argument."""
        run_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(8))
        rounds = sum(stage_rounds(config).values())
        row = (run_id, _storable(name), time.time(), RunStatus.QUEUED, config.model_dump_json(), rounds)
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO runs (id, name, created_at, status, config, rounds_total) VALUES (?, ?, ?, ?, ?, ?)", row
            )
        return run_id

    def run(self, run_id: str) -> RunRow:
        """One run, also a deleted one (`deleted` says so). StoreError if there is none of that id."""
        row = self._raw(run_id)
        try:
            return _run_row(row)
        except ValidationError:
            raise StoreError(
                f"Run {run_id} in {self.path} was written by another version of pwff; open it with that."
            ) from None

    def runs(self) -> list[RunRow]:
        """All runs that are not deleted, newest first, save those whose settings this version cannot read."""
        with self._reading() as connection:
            query = "SELECT * FROM runs WHERE NOT deleted ORDER BY created_at DESC, rowid DESC"
            raw = connection.execute(query).fetchall()
        rows = []
        for row in raw:
            try:
                rows.append(_run_row(row))
            except ValidationError:
                continue
        return rows

    def claim(self, run_id: str) -> None:
        """Makes this process the worker of a queued run. StoreError if another has it or it has ended."""
        me = this_process()
        with self._writing() as connection:
            taken = connection.execute(
                "UPDATE runs SET status = ?, pid = ?, process_started_at = ?, heartbeat_at = ? "
                "WHERE id = ? AND status = ? AND NOT deleted",
                (RunStatus.RUNNING, me.pid, me.started_at, time.time(), _storable(run_id), RunStatus.QUEUED),
            ).rowcount
        if not taken:
            row = self.run(run_id)
            state = "is deleted" if row.deleted else f"is {row.status.value} already"
            by = f" (process {row.pid})" if row.status is RunStatus.RUNNING else ""
            raise StoreError(f"Run {run_id} {state}{by}; start a new run instead.")

    def describe(self, run_id: str, profiles: Sequence[ClientProfile], notes: Sequence[str], rounds_total: int) -> None:
        """Worker: who the clients are, remarks on the data, and how many rounds there will be."""
        people = "[" + ",".join(profile.model_dump_json() for profile in profiles) + "]"
        remarks = json.dumps([_storable(note) for note in notes])
        values = (people, remarks, rounds_total, time.time())
        self._update(run_id, "profiles = ?, notes = ?, rounds_total = ?, heartbeat_at = ?", values)

    def append(self, run_id: str, record: RoundRecord) -> None:
        """Worker: one more round, in one transaction; once this returns, the round outlives the process."""
        with self._writing() as connection:
            connection.execute("INSERT INTO rounds (run_id, record) VALUES (?, ?)", (run_id, record.model_dump_json()))
            connection.execute(
                "UPDATE runs SET rounds_done = rounds_done + 1, heartbeat_at = ? WHERE id = ?", (time.time(), run_id)
            )

    def finish(self, run_id: str, status: RunStatus, message: str = "") -> None:
        """Worker: the run is over, with a sentence why where there is something to say."""
        self._update(run_id, "status = ?, message = ?, heartbeat_at = ?", (status, _storable(message), time.time()))

    def rounds(self, run_id: str, after: int = 0) -> list[tuple[int, RoundRecord]]:
        """(row id, record) of a run's rounds with a row id above `after`, in order; pass the last id you have seen."""
        with self._reading() as connection:
            query = "SELECT id, record FROM rounds WHERE run_id = ? AND id > ? ORDER BY id"
            raw = connection.execute(query, (_storable(run_id), after)).fetchall()
        return [(row["id"], RoundRecord.model_validate_json(row["record"])) for row in raw]

    def request_stop(self, run_id: str) -> None:
        """Page: asks the run's worker to stop after the round that it is in. Works on a read-only Store too."""
        self._raw(run_id)
        _prepare(self.commands_path, _COMMANDS_SCHEMA, self._patience_s)
        with _transaction(self.commands_path, self._patience_s) as connection:
            command = "INSERT INTO commands (run_id, command, created_at) VALUES (?, 'stop', ?)"
            connection.execute(command, (run_id, time.time()))

    def stop_requested(self, run_id: str) -> bool:
        """Worker: whether a page asked the run to stop."""
        if not self.commands_path.exists():
            return False
        with _connected(self.commands_path, "ro", self._patience_s) as connection:
            query = "SELECT EXISTS (SELECT 1 FROM commands WHERE run_id = ? AND command = 'stop')"
            return bool(connection.execute(query, (run_id,)).fetchone()[0])

    def delete(self, run_id: str) -> None:
        """Takes a run out of the list; its rounds stay in the file. StoreError while it runs."""
        if self.run(run_id).status is RunStatus.RUNNING:
            raise StoreError(f"Run {run_id} is running; stop it before you delete it.")
        self._update(run_id, "deleted = 1", ())

    def _raw(self, run_id: str) -> sqlite3.Row:
        row: sqlite3.Row | None = None
        if re.fullmatch(r"[a-z0-9]{1,32}", run_id):
            with self._reading() as connection:
                row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise self._no_run(run_id)
        return row

    def _update(self, run_id: str, assignments: str, values: tuple[object, ...]) -> None:
        with self._writing() as connection:
            changed = connection.execute(f"UPDATE runs SET {assignments} WHERE id = ?", (*values, run_id)).rowcount
        if not changed:
            raise self._no_run(run_id)

    def _no_run(self, run_id: str) -> StoreError:
        return StoreError(f"There is no run {run_id[:40]!r} in {self.path}; `pwff runs` lists those there are.")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with _connected(self.path, "ro", self._patience_s) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if self.readonly:
            raise StoreError(f"The store {self.path} is opened for reading only; open it for writing to change it.")
        with _transaction(self.path, self._patience_s) as connection:
            yield connection


@contextmanager
def _connected(path: Path, mode: str, patience_s: float) -> Iterator[sqlite3.Connection]:
    """A connection (mode ro, rw or rwc) whose SQLite errors come out as StoreErrors."""
    uri = f"{path.as_uri()}?mode={mode}"
    try:
        with closing(sqlite3.connect(uri, timeout=patience_s, isolation_level=None, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA synchronous = NORMAL")
            yield connection
    except sqlite3.Error as error:
        raise StoreError(_sentence(path, error)) from None


@contextmanager
def _transaction(path: Path, patience_s: float) -> Iterator[sqlite3.Connection]:
    with _connected(path, "rw", patience_s) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _prepare(path: Path, schema: str, patience_s: float) -> None:
    """Makes folder, file and tables where they are missing, and finds out whether the file can be written."""
    if os.path.isdir(path):
        raise StoreError(f"{path} is a folder, not a store; name a file in it with --store or ${STORE_VARIABLE}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The store's folder {path.parent} cannot be made ({error.strerror}); {_ELSEWHERE}.") from None
    with _connected(path, "rwc", patience_s) as connection:
        if _has_tables(connection):
            _check_header(connection, path)  # before anything is written: it may be another program's
        _use_wal(connection, patience_s)
    with _transaction(path, patience_s) as connection:
        if not _has_tables(connection):
            for statement in schema.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")  # a write each time: only that shows it can be


def _use_wal(connection: sqlite3.Connection, patience_s: float) -> None:
    """Switches to write-ahead logging, for good. SQLite does not wait for others here as it does elsewhere."""
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _check_header(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION_ID:
        raise StoreError(f"{path} is an SQLite file of another program, not a store of runs; {_ELSEWHERE}.")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"The store {path} was written by a newer pwff (format {version}; this one reads up to {SCHEMA_VERSION}); "
            f"upgrade pwff or {_ELSEWHERE}."
        )


_CAUSES: tuple[tuple[str, str], ...] = (
    ("SQLITE_NOTADB", "is not a store of runs (not an SQLite file)"),
    ("SQLITE_BUSY", "is locked by another program; close that program and try again, or"),
    ("SQLITE_LOCKED", "is locked by another program; close that program and try again, or"),
    ("SQLITE_READONLY", "is read-only; allow writing to it and to its folder, or"),
    ("SQLITE_CANTOPEN", "cannot be opened; check that it is there and that its folder allows writing, or"),
    ("SQLITE_FULL", "has no room left on its disk; make room, or"),
)


def _sentence(path: Path, error: sqlite3.Error) -> str:
    """What an SQLite error means to a person: where, what is wrong, what to do."""
    name = getattr(error, "sqlite_errorname", None) or ""
    cause = next((text for start, text in _CAUSES if name.startswith(start)), f"cannot be used ({error})")
    return f"The store {path} {cause}{'' if cause.endswith(', or') else ';'} {_ELSEWHERE}."


def _storable(text: str) -> str:
    """The text with what UTF-8 cannot hold (half characters from a command line in another encoding) replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _run_row(row: sqlite3.Row) -> RunRow:
    values = dict(row)
    for name in ("config", "profiles", "notes"):
        values[name] = json.loads(values[name])
    started_at = values.pop("process_started_at")
    found = RunRow.model_validate(values)
    message = _death(found, started_at)
    return found.model_copy(update={"status": RunStatus.FAILED, "message": message}) if message else found


def _death(row: RunRow, started_at: float | None) -> str:
    """Why a run that says it is queued or running is not, or "". Judged at each reading: a reader may not write."""
    if row.status is RunStatus.QUEUED and time.time() - row.created_at > CLAIM_WITHIN_S:
        return f"The engine did not start within {CLAIM_WITHIN_S:.0f} s; start the run again."
    if row.status is not RunStatus.RUNNING or row.pid is None or started_at is None:
        return ""
    if alive(Process(row.pid, started_at)):
        return ""
    rounds = {0: "no round was complete", 1: "its 1 round is kept"}
    kept = rounds.get(row.rounds_done, f"its {row.rounds_done} rounds are kept")
    return f"The engine stopped without a word (process {row.pid} is gone); {kept}."
