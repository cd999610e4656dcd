"""How SQLite is spoken to: a connection a call, transactions that wait their turn, errors as sentences."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pwff_core.errors import StoreError
from pwff_core.paths import STORE_VARIABLE

ELSEWHERE = f"choose another file with --store or ${STORE_VARIABLE}"
_CAUSES: tuple[tuple[str, str], ...] = (
    ("SQLITE_NOTADB", "is not a store of runs (not an SQLite file)"),
    ("SQLITE_BUSY", "is locked by another program; close that program and try again, or"),
    ("SQLITE_LOCKED", "is locked by another program; close that program and try again, or"),
    ("SQLITE_READONLY", "is read-only; allow writing to it and to its folder, or"),
    ("SQLITE_CANTOPEN", "cannot be opened; check that it is there and that its folder allows writing, or"),
    ("SQLITE_FULL", "has no room left on its disk; make room, or"),
)


@contextmanager
def connected(path: Path, mode: str, patience_s: float) -> Iterator[sqlite3.Connection]:
    """A connection (mode ro, rw or rwc) that waits so long for other writers; SQLite's errors become StoreErrors."""
    uri = f"{path.as_uri()}?mode={mode}"
    try:
        with closing(sqlite3.connect(uri, timeout=patience_s, isolation_level=None, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA synchronous = NORMAL")
            yield connection
    except sqlite3.Error as error:
        raise StoreError(_sentence(path, error)) from None


@contextmanager
def transaction(path: Path, patience_s: float) -> Iterator[sqlite3.Connection]:
    """All of it or nothing, and nobody else writes meanwhile."""
    with connected(path, "rw", patience_s) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def use_wal(connection: sqlite3.Connection, patience_s: float) -> None:
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


def _sentence(path: Path, error: sqlite3.Error) -> str:
    """What an SQLite error means to a person: where, what is wrong, what to do."""
    name = getattr(error, "sqlite_errorname", None) or ""
    cause = next((text for start, text in _CAUSES if name.startswith(start)), f"cannot be used ({error})")
    return f"The store {path} {cause}{'' if cause.endswith(', or') else ';'} {ELSEWHERE}."
