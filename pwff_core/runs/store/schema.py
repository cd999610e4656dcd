"""The tables, version by version: a new file goes through all steps, an older one through those that it lacks.

An older file is copied before it is upgraded.
"""

from __future__ import annotations

import glob
import itertools
import os
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pwff_core.errors import StoreError
from pwff_core.paths import STORE_VARIABLE, sync
from pwff_core.runs.store.connections import ELSEWHERE, connected, transaction, use_wal

APPLICATION_ID = 0x70776666  # "pwff": tells our files from other programs' SQLite files

# step n of each makes version n out of version n − 1; a step that has been released is never changed
RUNS = (
    """
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
    CREATE INDEX rounds_of_run ON rounds (run_id, id)
    """,
    """
    ALTER TABLE runs ADD COLUMN waits INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN launched_at REAL;
    ALTER TABLE runs ADD COLUMN comparison TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN commands_taken INTEGER NOT NULL DEFAULT 0;
    UPDATE runs SET launched_at = created_at;
    CREATE TABLE steerings (
        id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL REFERENCES runs (id), steering TEXT NOT NULL
    );
    CREATE INDEX steerings_of_run ON steerings (run_id, id)
    """,
    """
    ALTER TABLE runs ADD COLUMN parent TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN forked_at INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN owner TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN deleted_at REAL;
    ALTER TABLE runs ADD COLUMN process_birth TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN launched_boot TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN launched_uptime_s REAL;
    ALTER TABLE runs ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
    UPDATE runs SET deleted_at = CAST(strftime('%s', 'now') AS REAL) WHERE deleted;
    CREATE INDEX runs_that_wait ON runs (place, created_at) WHERE waits;
    CREATE INDEX runs_by_status ON runs (status)
    """,
)
COMMANDS = (
    """
    CREATE TABLE commands (
        id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, command TEXT NOT NULL, created_at REAL NOT NULL
    );
    CREATE INDEX commands_of_run ON commands (run_id, id)
    """,
    """
    ALTER TABLE commands ADD COLUMN changes TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE commands ADD COLUMN viewer TEXT NOT NULL DEFAULT '';
    CREATE TABLE leases (run_id TEXT PRIMARY KEY, viewer TEXT NOT NULL, since REAL NOT NULL, seen_at REAL NOT NULL)
    """,
)
SCHEMA_VERSION = len(RUNS)


def prepare(path: Path, steps: Sequence[str], timeout_s: float) -> Path | None:
    """Makes the folder, the file and its tables or upgrades them, and checks that the file can be written.

    Returns the copy of an older file, if this call has upgraded one.
    """
    if os.path.isdir(path):
        raise StoreError(f"{path} is a folder, not a store; name a file in it with --store or ${STORE_VARIABLE}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The store's folder {path.parent} cannot be made ({error.strerror}); {ELSEWHERE}.") from None
    with connected(path, "rwc", timeout_s) as connection:
        if _has_tables(connection):
            _checked_version(connection, path, steps)  # before anything is written: it may be another program's
        use_wal(connection, timeout_s)
    with transaction(path, timeout_s) as connection:
        done = _checked_version(connection, path, steps) if _has_tables(connection) else 0
        copy = back_up(path, done, timeout_s) if 0 < done < len(steps) else None  # no other process writes meanwhile
        for step in steps[done:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")  # a write each time: only a write shows that it works
    return copy


def missing(path: Path) -> bool:
    """Whether there is no file yet, or an empty one that somebody is just making."""
    return not (os.path.isfile(path) and os.path.getsize(path))


def outdated(path: Path, steps: Sequence[str], timeout_s: float) -> bool:
    """Whether a file lacks steps. StoreError for another program's file and for one of a newer version."""
    with connected(path, "ro", timeout_s) as connection:
        return not _has_tables(connection) or _checked_version(connection, path, steps) < len(steps)


def backups(path: Path) -> list[Path]:
    """The copies of a file from before it was upgraded; they stay until somebody deletes them."""
    return sorted(path.parent.glob(f"{glob.escape(path.stem)}.v[0-9]*-backup*{glob.escape(path.suffix)}"))


def back_up(path: Path, version: int, timeout_s: float) -> Path:
    """Copies a file with what its log holds, and syncs the copy. StoreError if it cannot be written.

    The copy of runs.sqlite of version 2 is called runs.v2-backup.sqlite, or -backup-2 where there is one already.
    """
    backup = _free_name(path, version)
    try:
        handle, name = tempfile.mkstemp(prefix=f"{backup.name}.", suffix=".new", dir=path.parent)
        os.close(handle)
        partial = Path(name)
        try:
            with connected(path, "ro", timeout_s) as source, closing(sqlite3.connect(partial)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            sync(partial)
            partial.replace(backup)
            sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"The store {path} is of an older pwff and was not renewed: a copy of it cannot be written to "
            f"{path.parent} ({error.strerror}); make room there or allow writing.",
            passing=True,
        ) from None
    return backup


def _free_name(path: Path, version: int) -> Path:
    names = (f"{path.stem}.v{version}-backup{'' if n == 1 else f'-{n}'}{path.suffix}" for n in itertools.count(1))
    return next(copy for name in names if not (copy := path.with_name(name)).exists())


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _checked_version(connection: sqlite3.Connection, path: Path, steps: Sequence[str]) -> int:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is an SQLite file of another program, not a store of runs; {ELSEWHERE}.")
    if version > len(steps):
        raise StoreError(
            f"The store {path} was written by a newer pwff (format {version}; this one reads up to {len(steps)}); "
            f"upgrade pwff or {ELSEWHERE}."
        )
    return version
