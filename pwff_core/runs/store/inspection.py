"""What `pwff doctor` asks of a store's files without trusting them; a Store only refuses a damaged one.

`recovery` makes a new file of what can be read.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store.connections import connected, transaction
from pwff_core.runs.store.endings import RunStatus
from pwff_core.runs.store.schema import APPLICATION_ID, backups, missing
from pwff_core.runs.store.status import UNFINISHED, abandoned, run_row

_MAGIC = b"SQLite format 3\x00"
_ID_AT = slice(68, 72)  # bytes of an SQLite file that hold PRAGMA application_id
_STEPS = 10_000  # of SQLite's virtual machine between two looks at the clock
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Condition(StrEnum):
    """The state of a store's file."""

    MISSING = "missing"
    SOUND = "sound"
    OLDER = "older"  # of an older version: making a Store of it upgrades it
    NEWER = "newer"
    FOREIGN = "foreign"  # an SQLite file of another program
    DAMAGED = "damaged"  # some of it can be read
    UNREADABLE = "unreadable"  # not an SQLite file, or damaged in its first bytes
    UNREACHABLE = "unreachable"  # locked, or cannot be opened


class Health(NamedTuple):
    """What the check of a file has found."""

    condition: Condition
    version: int = 0  # of its tables; 0 if unknown
    trouble: str = ""  # SQLite's error
    size: int = 0  # [byte]
    log: int = 0  # of the write-ahead log beside it [byte]
    whole: bool = True  # False: there was no time to check all of it


class Entry(NamedTuple):
    """A run's row as it is stored, also of deleted runs and of those with settings of another version."""

    id: str
    status: RunStatus
    deleted: bool
    deleted_at: float | None  # Unix seconds
    created_at: float
    heartbeat_at: float | None
    pid: int | None


class Disorder(NamedTuple):
    """Rows of runs that do not match reality, by the runs' ids."""

    stale: dict[str, str]  # said to play or to start soon, but their engine is gone → the failure message
    miscounted: dict[str, tuple[int, int]]  # → (rounds by the row, rounds in the table)


def health(path: Path, steps: Sequence[str], timeout_s: float = 2.0, *, budget_s: float = 1.0) -> Health:
    """Checks a file of a store without changing it.

    `steps` says which file: schema.RUNS or COMMANDS; `budget_s` bounds the check of its pages.
    """
    if missing(path):
        return Health(Condition.MISSING)
    log = path.with_name(f"{path.name}-wal")
    sizes = (path.stat().st_size, log.stat().st_size if log.exists() else 0)
    try:
        with _reading(path, timeout_s) as connection:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                return Health(Condition.FOREIGN, version, "", *sizes)
            if version > len(steps):
                return Health(Condition.NEWER, version, "", *sizes)
            trouble, whole = _checked(connection, budget_s)
    except sqlite3.Error as error:
        return Health(_condition(error), 0, str(error), *sizes)
    sound = Condition.OLDER if version < len(steps) else Condition.SOUND
    return Health(Condition.DAMAGED if trouble else sound, version, trouble, *sizes, whole)


def was_store(path: Path, health: Health) -> bool:
    """Whether a file is a damaged store. A file without its beginning needs signs beside it."""
    signs = is_store(RunFiles(path).commands) or bool(backups(path))
    return health.condition is Condition.DAMAGED or (health.condition is Condition.UNREADABLE and signs)


def roll(path: Path, timeout_s: float = 2.0) -> list[Entry]:
    """All rows of a sound store, oldest first. StoreError if they cannot be read."""
    with connected(path, "ro", timeout_s) as connection:
        rows = connection.execute(f"SELECT {', '.join(Entry._fields)} FROM runs ORDER BY created_at, rowid").fetchall()
    return [Entry(**{**dict(row), "status": RunStatus(row["status"]), "deleted": bool(row["deleted"])}) for row in rows]


def disorder(path: Path, timeout_s: float = 2.0) -> Disorder:
    """What `put_right` would change in a sound store. StoreError if it cannot be read."""
    with connected(path, "ro", timeout_s) as connection:
        return _disorder(connection, path)


def put_right(path: Path, timeout_s: float = 5.0) -> Disorder:
    """Writes down which runs have failed and how many rounds each has; returns what was wrong."""
    with transaction(path, timeout_s) as connection:
        disorder = _disorder(connection, path)
        for run_id, message in disorder.stale.items():
            failed = "UPDATE runs SET status = ?, message = ? WHERE id = ?"
            connection.execute(failed, (RunStatus.FAILED, message, run_id))
        for run_id, (_, counted) in disorder.miscounted.items():
            connection.execute("UPDATE runs SET rounds_done = ? WHERE id = ?", (counted, run_id))
    return disorder


def purge(path: Path, run_id: str, timeout_s: float = 5.0) -> bool:
    """Removes a deleted run and its rounds for good; False if it is not deleted (any more), or still plays."""
    with transaction(path, timeout_s) as connection:
        row = connection.execute("SELECT * FROM runs WHERE id = ? AND deleted", (run_id,)).fetchone()
        if row is None or not (RunStatus(row["status"]).ended or abandoned(row)):
            return False
        for table, column in (("rounds", "run_id"), ("steerings", "run_id"), ("runs", "id")):
            connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (run_id,))
    return True


def compact(path: Path, timeout_s: float = 5.0) -> None:
    """Gives the room of removed rows back to the disk."""
    with connected(path, "rw", timeout_s) as connection:
        connection.execute("VACUUM")
    shorten_log(path, timeout_s)


def is_store(path: Path) -> bool:
    """Whether a file begins as a store's does, whatever follows."""
    try:
        with path.open("rb") as file:
            head = file.read(_ID_AT.stop)
    except OSError:  # just removed, or not readable for us
        return False
    return head.startswith(_MAGIC) and head[_ID_AT] == APPLICATION_ID.to_bytes(4, "big")


def ids(path: Path, timeout_s: float = 2.0) -> set[str] | None:
    """The ids of all runs in a file of any version; none in a file of commands. None if they cannot all be read."""
    try:
        with _reading(path, timeout_s) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchall():
                return set()
            return {str(row[0]) for row in connection.execute("SELECT id FROM runs NOT INDEXED")}
    except sqlite3.Error:
        return None


def shorten_log(path: Path, timeout_s: float = 5.0) -> None:
    """Moves the write-ahead log into the file; nothing happens while another process uses the store."""
    with connected(path, "rw", timeout_s) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def forget_commands(path: Path, timeout_s: float = 5.0) -> None:
    """After the commands file was replaced: its ids begin at 1 again, and no run has done any of them."""
    with transaction(path, timeout_s) as connection:
        connection.execute("UPDATE runs SET commands_taken = 0")


def _disorder(connection: sqlite3.Connection, path: Path) -> Disorder:
    rows = connection.execute("SELECT * FROM runs WHERE status IN (?, ?, ?) AND NOT deleted", UNFINISHED).fetchall()
    stale = {}
    for row in rows:
        with suppress(ValidationError):  # of another version, which alone can tell
            if abandoned(row):
                stale[str(row["id"])] = run_row(row, path).message
    counted = connection.execute(
        "SELECT id, rounds_done, (SELECT count(*) FROM rounds WHERE run_id = runs.id) AS counted FROM runs "
        "WHERE rounds_done != counted"
    )
    return Disorder(stale, {str(row["id"]): (row["rounds_done"], row["counted"]) for row in counted})


@contextmanager
def _reading(path: Path, timeout_s: float) -> Iterator[sqlite3.Connection]:
    """A connection that only reads and raises SQLite's own errors."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=timeout_s, uri=True)) as connection:
        yield connection


def _checked(connection: sqlite3.Connection, budget_s: float) -> tuple[str, bool]:
    """What is wrong with the pages, or ""; and whether the time was enough to check all of them."""
    deadline = time.monotonic() + budget_s
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        report = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return "", False
    return ("" if report == "ok" else " ".join(report.split())), True


def _condition(error: sqlite3.Error) -> Condition:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary error code
    if code == sqlite3.SQLITE_NOTADB:
        return Condition.UNREADABLE
    return Condition.DAMAGED if code in _DAMAGE else Condition.UNREACHABLE
