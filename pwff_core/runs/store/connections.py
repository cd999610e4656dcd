"""How SQLite is spoken to: a connection a call, transactions that wait their turn, errors as sentences."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from pwff_core.errors import StoreError
from pwff_core.paths import STORE_VARIABLE

ELSEWHERE = f"choose another file with --store or ${STORE_VARIABLE}"
_NO_MEMORY = "cannot be used for lack of memory; close other programs and try again, or"
_PASSING: tuple[tuple[str, str], ...] = (  # start of SQLite's name of an error → what it means
    ("SQLITE_BUSY", "is locked by another program; close that program and try again, or"),
    ("SQLITE_LOCKED", "is locked by another program; close that program and try again, or"),
    ("SQLITE_READONLY", "is read-only; allow writing to it and to its folder, or"),
    ("SQLITE_CANTOPEN", "cannot be opened; check that it is there and that its folder allows writing, or"),
    ("SQLITE_FULL", "has no room left on its disk; make room, or"),
    ("SQLITE_IOERR_NOMEM", _NO_MEMORY),
    ("SQLITE_IOERR_SHMMAP", _NO_MEMORY),  # the log's index is mapped into memory
    ("SQLITE_IOERR", "cannot be read or written at the moment; check that its disk is there and has room, or"),
)
# even to read, SQLite makes an index of the log beside the file: not on a full disk, nor where nothing may be written
_NO_INDEX = ("SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_READONLY")


@contextmanager
def connected(path: Path, mode: str, patience_s: float) -> Iterator[sqlite3.Connection]:
    """A connection (mode ro, rw or rwc) that waits so long for other writers; SQLite's errors become StoreErrors.

    What is written outlives the process at once, and a power cut a little later; see `transaction`.
    """
    try:
        with closing(_opened(path, mode, patience_s)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise _as_store_error(path, error) from None
    except MemoryError:  # as Python calls SQLITE_NOMEM
        raise StoreError(f"The store {path} {_NO_MEMORY} {ELSEWHERE}.", passing=True) from None


@contextmanager
def transaction(path: Path, patience_s: float, *, lasting: bool = False) -> Iterator[sqlite3.Connection]:
    """All of it or nothing, and nobody else writes meanwhile. What is `lasting` outlives a power cut from then on."""
    with connected(path, "rw", patience_s) as connection:
        if lasting:
            connection.execute("PRAGMA synchronous = FULL")  # the log is on the disk before COMMIT returns
            connection.execute("PRAGMA fullfsync = ON")  # on a Mac, where disks say so too early; elsewhere nothing
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


@contextmanager
def log_kept(path: Path) -> Iterator[None]:
    """Keeps the log of a store on its disk, if it can be opened now.

    Whenever the last connection to a store closes, SQLite copies the log into it, waits for the disk and removes it;
    whoever comes next makes a new one, and a writer who comes then waits.
    """
    with ExitStack() as stack:
        with suppress(sqlite3.Error, MemoryError):
            connection = stack.enter_context(closing(_opened(path, "rw", 0.0)))
            connection.execute("SELECT 1 FROM sqlite_master").fetchall()  # only then is the log open
        yield


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


def _opened(path: Path, mode: str, patience_s: float) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?mode={mode}"
    try:
        return _connection(uri, patience_s)
    except sqlite3.OperationalError as error:
        if mode != "ro" or not error.sqlite_errorname.startswith(_NO_INDEX) or _has_log(path):
            raise
        return _connection(f"{uri}&immutable=1", patience_s)  # all there is to read is in the file itself


def _connection(uri: str, patience_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, timeout=patience_s, isolation_level=None, uri=True)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = NORMAL")  # the first look into the file
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _as_store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What an SQLite error means to a person: where, what is wrong, what to do."""
    name = getattr(error, "sqlite_errorname", None) or ""
    cause = next((text for start, text in _PASSING if name.startswith(start)), "")
    if cause:
        return StoreError(f"The store {path} {cause} {ELSEWHERE}.", passing=True)
    none = name.startswith("SQLITE_NOTADB")
    cause = "is not a store of runs (not an SQLite file)" if none else f"cannot be used ({error})"
    return StoreError(f"The store {path} {cause}; {ELSEWHERE}.")
