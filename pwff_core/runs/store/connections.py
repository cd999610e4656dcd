"""Access to SQLite: a connection a call, transactions that wait their turn, errors as sentences, valid texts."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from pwff_core.errors import StoreError
from pwff_core.paths import STORE_VARIABLE

MAX_NAME = 80  # characters of a run's name
ELSEWHERE = f"choose another file with --store or ${STORE_VARIABLE}"
_NO_MEMORY = "cannot be used for lack of memory; close other programs and try again, or"
_PASSING: tuple[tuple[str, str], ...] = (  # errors that may pass: start of SQLite's name → what it means
    ("SQLITE_BUSY", "is locked by another program; close that program and try again, or"),
    ("SQLITE_LOCKED", "is locked by another program; close that program and try again, or"),
    ("SQLITE_READONLY", "is read-only; allow writing to it and to its folder, or"),
    ("SQLITE_CANTOPEN", "cannot be opened; check that it is there and that its folder allows writing, or"),
    ("SQLITE_FULL", "has no room left on its disk; make room, or"),
    ("SQLITE_IOERR_NOMEM", _NO_MEMORY),
    ("SQLITE_IOERR_SHMMAP", _NO_MEMORY),  # the log's index is mapped into memory
    ("SQLITE_IOERR", "cannot be read or written at the moment; check that its disk is there and has room, or"),
)
# to read a file, SQLite makes an index of its log beside it, which fails on a full disk and in a read-only folder
_NO_INDEX = ("SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_READONLY")


@contextmanager
def connected(path: Path, mode: str, timeout_s: float) -> Iterator[sqlite3.Connection]:
    """A connection (mode ro, rw or rwc) that waits up to `timeout_s` for other writers; errors become StoreErrors.

    What is written outlives the process at once, and a power cut a little later; see `transaction`.
    """
    try:
        with closing(_open(path, mode, timeout_s)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise _as_store_error(path, error) from None
    except MemoryError:  # Python's name for SQLITE_NOMEM
        raise StoreError(f"The store {path} {_NO_MEMORY} {ELSEWHERE}.", passing=True) from None


@contextmanager
def transaction(path: Path, timeout_s: float, *, lasting: bool = False) -> Iterator[sqlite3.Connection]:
    """A transaction for writing: all of it or nothing. A `lasting` one outlives a power cut once it is committed."""
    with connected(path, "rw", timeout_s) as connection:
        if lasting:
            connection.execute("PRAGMA synchronous = FULL")  # the log is on the disk before COMMIT returns
            connection.execute("PRAGMA fullfsync = ON")  # only a Mac needs it: its disks report too early
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


@contextmanager
def keep_log_open(path: Path) -> Iterator[None]:
    """Keeps a connection open, if the store can be opened now, so that SQLite keeps the log beside the file.

    When the last connection closes, SQLite copies the log into the file, waits for the disk and removes the log, and
    the next writer waits for all that.
    """
    with ExitStack() as stack:
        with suppress(sqlite3.Error, MemoryError):
            connection = stack.enter_context(closing(_open(path, "rw", 0.0)))
            connection.execute("SELECT 1 FROM sqlite_master").fetchall()  # only then is the log open
        yield


def use_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Switches a file to write-ahead logging, for good. Only here SQLite does not wait for other writers by itself."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _open(path: Path, mode: str, timeout_s: float) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?mode={mode}"
    try:
        return _connection(uri, timeout_s)
    except sqlite3.OperationalError as error:
        if mode != "ro" or not error.sqlite_errorname.startswith(_NO_INDEX) or _has_log(path):
            raise
        return _connection(f"{uri}&immutable=1", timeout_s)  # the file itself holds everything


def _connection(uri: str, timeout_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, timeout=timeout_s, isolation_level=None, uri=True)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = NORMAL")  # the first access to the file
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _as_store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """An SQLite error in words: where, what is wrong, what to do."""
    name = getattr(error, "sqlite_errorname", None) or ""
    cause = next((text for start, text in _PASSING if name.startswith(start)), "")
    if cause:
        return StoreError(f"The store {path} {cause} {ELSEWHERE}.", passing=True)
    foreign = name.startswith("SQLITE_NOTADB")
    cause = "is not a store of runs (not an SQLite file)" if foreign else f"cannot be used ({error})"
    return StoreError(f"The store {path} {cause}; {ELSEWHERE}.")


def checked_name(name: str) -> str:
    """A run's name without blanks around it. StoreError unless it is one short line of printable characters, or ""."""
    stripped = name.strip()
    rule = f"A run's name is one line of at most {MAX_NAME} characters"
    if len(stripped) > MAX_NAME:
        raise StoreError(f"{rule}; this one has {len(stripped):,}. Choose a shorter one.")
    if not stripped.isprintable():
        raise StoreError(f"{rule}; this one holds a line break or another character that cannot be seen. Leave it out.")
    return stripped


def storable(text: str) -> str:
    """The text with "?" for what UTF-8 cannot hold: half characters from a command line in another encoding."""
    return text.encode("utf-8", "replace").decode("utf-8")
