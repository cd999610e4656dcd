"""The second file: what pages ask of a run's worker, and which of them steers it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pwff_core.errors import StoreError
from pwff_core.records import Value
from pwff_core.runs.store.connections import connected, transaction
from pwff_core.runs.store.rows import Command, Lease
from pwff_core.runs.store.schema import COMMANDS, missing, prepare
from pwff_core.runs.store.texts import storable

LEASE_S = 15.0  # a viewer that was not seen for so long does not steer any more
_RENEW_S = 3.0  # a lease that was renewed so lately need not be again: a look at a page then writes nothing


class Commands:
    """The commands file of a store; it is made when something is first written to it."""

    def __init__(self, path: Path, patience_s: float) -> None:
        self.path = path
        self._patience_s = patience_s

    def post(self, run_id: str, kind: str, viewer: str, changes: Mapping[str, Value] | None = None) -> None:
        """One more command. A viewer needs the lease and takes it where nobody has it; "" needs none.

        StoreError if another viewer has it.
        """
        viewer = storable(viewer)
        with self._writing() as connection:
            if viewer:
                _take_or_renew(connection, run_id, viewer)
            connection.execute(
                "INSERT INTO commands (run_id, command, created_at, changes, viewer) VALUES (?, ?, ?, ?, ?)",
                (run_id, kind, time.time(), json.dumps(changes or {}), viewer),
            )

    def after(self, run_id: str, last: int) -> list[Command]:
        """A run's commands with an id above `last`, in the order in which they were asked."""
        if missing(self.path):
            return []
        with connected(self.path, "ro", self._patience_s) as connection:
            return _after(connection, run_id, last)

    def lease(self, run_id: str) -> Lease | None:
        """Who steers a run; None if nobody does, or was not seen for LEASE_S."""
        if missing(self.path):
            return None
        with connected(self.path, "ro", self._patience_s) as connection:
            row = _lease(connection, run_id)
        return Lease(row["viewer"], row["since"]) if row and _holds(row) else None

    def keep(self, run_id: str, viewer: str) -> bool:
        """Renews a viewer's lease; False if it has none."""
        if missing(self.path):
            return False
        with connected(self.path, "ro", self._patience_s) as connection:
            row = _lease(connection, run_id)
        return self._kept(run_id, viewer, row)

    def look(self, run_id: str, last: int, viewer: str) -> tuple[list[Command], Lease | None]:
        """`after`, `keep` and `lease` at once."""
        if missing(self.path):
            return [], None
        with connected(self.path, "ro", self._patience_s) as connection:
            posted, row = _after(connection, run_id, last), _lease(connection, run_id)
        held = row is not None and (self._kept(run_id, viewer, row) or _holds(row))
        return posted, Lease(row["viewer"], row["since"]) if row and held else None

    def reopen(self, run_id: str, last: int) -> None:
        """Forgets what was asked after the command `last` about pausing and stopping; changes of settings stay."""
        if missing(self.path):
            return
        with self._writing() as connection:
            query = "DELETE FROM commands WHERE run_id = ? AND id > ? AND command != 'steer'"
            connection.execute(query, (run_id, last))

    def take_over(self, run_id: str, viewer: str) -> None:
        """Gives the lease to a viewer, whoever has it."""
        with self._writing() as connection:
            _give(connection, run_id, storable(viewer))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if missing(self.path):
            prepare(self.path, COMMANDS, self._patience_s)
        with transaction(self.path, self._patience_s) as connection:
            yield connection

    def _kept(self, run_id: str, viewer: str, row: sqlite3.Row | None) -> bool:
        """Renews a lease if it is this viewer's, and is old or, after the clock was set back, of a time to come."""
        if row is None or row["viewer"] != viewer or _age_s(row) >= LEASE_S:
            return False
        if 0 <= _age_s(row) < _RENEW_S:
            return True
        with self._writing() as connection:
            renewal = "UPDATE leases SET seen_at = ? WHERE run_id = ? AND viewer = ?"
            return bool(connection.execute(renewal, (time.time(), run_id, viewer)).rowcount)


def asked_in(posted: Sequence[Command]) -> dict[str, Value]:
    """The settings that commands ask for, the later over the earlier: dotted path → value."""
    return {path: value for command in posted for path, value in command.changes.items()}


def pending_in(posted: Sequence[Command], *, paused: bool) -> frozenset[str]:
    """Which of "pause", "resume" and "stop" commands ask of a run that is paused, or is not."""
    kinds = [command.kind for command in posted]
    wish = next((kind for kind in reversed(kinds) if kind in ("pause", "resume")), "")
    waiting = {wish} if wish == ("resume" if paused else "pause") else set()
    return frozenset(waiting | ({"stop"} & {*kinds}))


def _after(connection: sqlite3.Connection, run_id: str, last: int) -> list[Command]:
    query = "SELECT id, command, changes FROM commands WHERE run_id = ? AND id > ? ORDER BY id"
    rows = connection.execute(query, (run_id, last)).fetchall()
    return [Command(row["id"], row["command"], _changes(row["changes"])) for row in rows]


def _lease(connection: sqlite3.Connection, run_id: str) -> sqlite3.Row | None:
    query = "SELECT viewer, since, seen_at FROM leases WHERE run_id = ?"
    row: sqlite3.Row | None = connection.execute(query, (run_id,)).fetchone()
    return row


def _age_s(lease: sqlite3.Row) -> float:
    age_s: float = time.time() - lease["seen_at"]
    return age_s


def _holds(lease: sqlite3.Row) -> bool:
    """Whether it has not run out. One of a time to come has: otherwise a clock that was set back would hold it."""
    return abs(_age_s(lease)) < LEASE_S


def _take_or_renew(connection: sqlite3.Connection, run_id: str, viewer: str) -> None:
    lease = _lease(connection, run_id)
    if lease is None or not _holds(lease):
        _give(connection, run_id, viewer)
    elif lease["viewer"] == viewer:
        connection.execute("UPDATE leases SET seen_at = ? WHERE run_id = ?", (time.time(), run_id))
    else:
        raise StoreError(f"Another browser steers run {run_id} at the moment; press Take over to steer it from here.")


def _give(connection: sqlite3.Connection, run_id: str, viewer: str) -> None:
    now = time.time()
    giving = "INSERT OR REPLACE INTO leases (run_id, viewer, since, seen_at) VALUES (?, ?, ?, ?)"
    connection.execute(giving, (run_id, viewer, now, now))


def _changes(text: str) -> dict[str, Value]:
    """JSON has no tuples: a list of weights comes back as one."""
    read: dict[str, Value] = json.loads(text)
    return {path: tuple(value) if isinstance(value, list) else value for path, value in read.items()}
