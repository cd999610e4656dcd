"""The second file: the commands of pages for a run's worker, and which viewer steers it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pwff_core.errors import StoreError
from pwff_core.records import Value
from pwff_core.runs.store.connections import connected, storable, transaction
from pwff_core.runs.store.rows import Command, Lease
from pwff_core.runs.store.schema import COMMANDS, missing, prepare

LEASE_S = 15.0  # a viewer that was not seen for so long loses the lease
_RENEW_S = 3.0  # a younger lease is not renewed, so that most looks at a page write nothing


class Commands:
    """The commands file of a store; the first write makes it."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self.path = path
        self._timeout_s = timeout_s

    def post(self, run_id: str, kind: str, viewer: str, changes: Mapping[str, Value] | None = None) -> None:
        """Adds a command. A viewer needs the lease, and takes it where nobody has it; the viewer "" needs none.

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
        """A run's commands with an id above `last`, in order."""
        if missing(self.path):
            return []
        with connected(self.path, "ro", self._timeout_s) as connection:
            return _after(connection, run_id, last)

    def lease(self, run_id: str) -> Lease | None:
        """The viewer that steers a run; None if there is none, or it was not seen for LEASE_S."""
        if missing(self.path):
            return None
        with connected(self.path, "ro", self._timeout_s) as connection:
            row = _lease(connection, run_id)
        return Lease(row["viewer"], row["since"]) if row and _holds(row) else None

    def keep(self, run_id: str, viewer: str) -> bool:
        """Renews a viewer's lease; False if it has none."""
        if missing(self.path):
            return False
        with connected(self.path, "ro", self._timeout_s) as connection:
            row = _lease(connection, run_id)
        return self._renew(run_id, viewer, row)

    def snapshot(self, run_id: str, last: int, viewer: str) -> tuple[list[Command], Lease | None]:
        """`after`, `keep` and `lease` at once."""
        if missing(self.path):
            return [], None
        with connected(self.path, "ro", self._timeout_s) as connection:
            commands, row = _after(connection, run_id, last), _lease(connection, run_id)
        held = row is not None and (self._renew(run_id, viewer, row) or _holds(row))
        return commands, Lease(row["viewer"], row["since"]) if row and held else None

    def forget_pause_and_stop(self, run_id: str, last: int) -> None:
        """Deletes a run's pause, resume and stop commands with an id above `last`; changes of settings stay."""
        if missing(self.path):
            return
        with self._writing() as connection:
            query = "DELETE FROM commands WHERE run_id = ? AND id > ? AND command != 'steer'"
            connection.execute(query, (run_id, last))

    def take_over(self, run_id: str, viewer: str) -> None:
        """Gives the lease to a viewer, whichever one has it."""
        with self._writing() as connection:
            _give(connection, run_id, storable(viewer))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if missing(self.path):
            prepare(self.path, COMMANDS, self._timeout_s)
        with transaction(self.path, self._timeout_s) as connection:
            yield connection

    def _renew(self, run_id: str, viewer: str, row: sqlite3.Row | None) -> bool:
        """Renews a lease if it is this viewer's and is old, or of the future because the clock was set back."""
        if row is None or row["viewer"] != viewer or _age_s(row) >= LEASE_S:
            return False
        if 0 <= _age_s(row) < _RENEW_S:
            return True
        with self._writing() as connection:
            renewal = "UPDATE leases SET seen_at = ? WHERE run_id = ? AND viewer = ?"
            return bool(connection.execute(renewal, (time.time(), run_id, viewer)).rowcount)


def changes_in(commands: Sequence[Command]) -> dict[str, Value]:
    """The settings that commands change, the later over the earlier: dotted path → value."""
    return {path: value for command in commands for path, value in command.changes.items()}


def pending_in(commands: Sequence[Command], *, paused: bool) -> frozenset[str]:
    """Which of "pause", "resume" and "stop" are still to be done, given whether the run is paused."""
    kinds = [command.kind for command in commands]
    last = next((kind for kind in reversed(kinds) if kind in ("pause", "resume")), "")
    pending = {last} if last == ("resume" if paused else "pause") else set()
    return frozenset(pending | ({"stop"} & {*kinds}))


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
    """Whether a lease is young enough. One of the future is not: a clock that was set back would prolong it."""
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
    """A command's changes from JSON, which has lists in the place of tuples."""
    changes: dict[str, Value] = json.loads(text)
    return {path: tuple(value) if isinstance(value, list) else value for path, value in changes.items()}
