"""Store: the one class through which everybody reads and writes runs."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from pwff_core.config import RunConfig, knobs, stage_rounds, steered
from pwff_core.errors import StoreError
from pwff_core.liveness import this_process
from pwff_core.records import ClientProfile, RoundRecord, Steering, Value
from pwff_core.store.commands import Commands
from pwff_core.store.connections import connected, transaction
from pwff_core.store.rows import Command, Lease, RunRow, RunStatus, abandoned, due, run_row
from pwff_core.store.schema import COMMANDS, RUNS, missing, outdated, prepare
from pwff_core.store.texts import checked_name, storable

CANCELLED = "Cancelled before it started."
_ID_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # no 0 and o, no 1, i and l


class Store:
    """The runs in one file. Making a Store checks the file, makes it where there is none, and renews an older one.

    `readonly` is for pages and lists: runs can be read and their workers asked for things, nothing else. Every call
    opens a connection of its own (0.2 ms to read, 1 ms to write) and keeps nothing, so threads may share a Store. It
    gives up after `patience_s` seconds of waiting for another writer. Every failure is a StoreError of one sentence.
    """

    def __init__(self, path: Path, *, readonly: bool = False, patience_s: float = 5.0) -> None:
        self.path = path.absolute()
        self.readonly = readonly
        self.commands_path = self.path.with_name(f"{self.path.stem}.commands{self.path.suffix}")
        self._commands = Commands(self.commands_path, patience_s)
        self._patience_s = patience_s
        new = missing(self.path)
        for file, steps in ((self.path, RUNS), (self.commands_path, COMMANDS)):
            if not readonly or new or (not missing(file) and outdated(file, patience_s)):
                prepare(file, steps, patience_s)

    # ---- runs and rounds --------------------------------------------------------------------------------------------

    def create_run(self, config: RunConfig, name: str = "", *, waits: bool = False, comparison: str = "") -> str:
        """Adds a queued run; returns its id, 8 lower-case letters and digits, safe in an address and as an argument.

        It is for the caller to launch it, unless it `waits`: then it stands in the queue until `next_waiting` hands
        it out. `comparison` is the id of the comparison that it is part of.
        """
        run_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(8))
        now, rounds = time.time(), sum(stage_rounds(config).values())
        row = (run_id, storable(name), now, RunStatus.QUEUED, config.model_dump_json(), rounds, waits)
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO runs (id, name, created_at, status, config, rounds_total, waits, launched_at, comparison) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, None if waits else now, storable(comparison)),
            )
        return run_id

    def run(self, run_id: str) -> RunRow:
        """One run, also a deleted one (`deleted` says so). StoreError if there is none of that id."""
        row = self._raw(run_id)
        try:
            return run_row(row, self.path)
        except ValidationError:
            raise StoreError(
                f"Run {run_id} in {self.path} was written by another version of pwff; open it with that."
            ) from None

    def runs(self, comparison: str | None = None) -> list[RunRow]:
        """All runs, or those of a comparison, newest first; not those deleted or with settings of another version."""
        if comparison is None:
            return self._listed("NOT deleted ORDER BY created_at DESC, rowid DESC")
        return self._listed("NOT deleted AND comparison = ? ORDER BY created_at DESC, rowid DESC", comparison)

    def rounds(self, run_id: str, after: int = 0) -> list[tuple[int, RoundRecord]]:
        """(row id, record) of a run's rounds with a row id above `after`, in order; pass the last id you have seen."""
        with self._reading() as connection:
            query = "SELECT id, record FROM rounds WHERE run_id = ? AND id > ? ORDER BY id"
            raw = connection.execute(query, (storable(run_id), after)).fetchall()
        return [(row["id"], RoundRecord.model_validate_json(row["record"])) for row in raw]

    def rename(self, run_id: str, name: str) -> None:
        """Gives a run a name, "" for none: one line of at most 80 printable characters that no other run has."""
        chosen = checked_name(name)
        with self._writing() as connection:
            query = "SELECT id FROM runs WHERE name = ? AND id != ? AND NOT deleted"
            other = connection.execute(query, (chosen, storable(run_id))).fetchone() if chosen else None
            if other:
                raise StoreError(f'Run {other["id"]} is called "{chosen}" already; choose another name.')
            self._change(connection, run_id, "name = ?", (chosen,))

    def delete(self, run_id: str) -> None:
        """Takes a run out of the list, and out of the queue; its rounds stay in the file. StoreError while it plays."""
        self._raw(run_id)
        with self._writing() as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row["status"] in (RunStatus.RUNNING, RunStatus.PAUSED) and not abandoned(row):
                raise StoreError(f"Run {run_id} is {row['status']}; stop it first, then delete it.")
            self._cancel(connection, run_id)
            self._change(connection, run_id, "deleted = 1", ())

    def restore(self, run_id: str) -> None:
        """Undoes `delete`. A run that waited does not wait again: it was cancelled."""
        self._update(run_id, "deleted = 0", ())

    # ---- the queue --------------------------------------------------------------------------------------------------

    def waiting(self) -> list[RunRow]:
        """The runs that stand in the queue, the first to start first."""
        return self._listed("waits AND NOT deleted ORDER BY created_at, rowid")

    def next_waiting(self, parallel: int = 1) -> str | None:
        """Takes the first run out of the queue if fewer than `parallel` runs play or are about to; the caller launches.

        However many ask at once, a run is handed out once. None if nothing waits or others still play.
        """
        with self._reading() as connection:  # a page asks each second: without a run to start it writes nothing
            if due(connection, parallel) is None:
                return None
        with self._writing() as connection:
            run_id = due(connection, parallel)
            if run_id is not None:
                self._change(connection, run_id, "waits = 0, launched_at = ?", (time.time(),))
        return run_id

    def cancel(self, run_id: str) -> bool:
        """Takes a run out of the queue: it is stopped. False if it does not wait (any more)."""
        self._raw(run_id)
        with self._writing() as connection:
            return self._cancel(connection, run_id)

    # ---- what pages ask of a worker; on a read-only Store too -------------------------------------------------------

    def steer(self, run_id: str, viewer: str, changes: Mapping[str, Value]) -> None:
        """Asks for other settings from the next round on. What is as it is already is not asked for.

        ConfigError for a setting that is not STEERABLE or a value that is not allowed; StoreError if the run has ended
        or another viewer steers it.
        """
        row = self._going(run_id, "Start a new run to try other settings.")
        past = [steering.changes for steering in self.steerings(run_id)]
        now = steered(row.config, *past, self.asked(run_id))
        known, wanted = knobs(now), knobs(steered(now, changes))
        new = {path: wanted[path].default for path in changes if wanted[path].default != known[path].default}
        if new:
            self._commands.post(run_id, "steer", viewer, new)

    def pause(self, run_id: str, viewer: str) -> None:
        """Asks the worker to wait after the round that it is in. StoreErrors as for `steer`."""
        self._going(run_id, "There is nothing to pause.")
        self._commands.post(run_id, "pause", viewer)

    def resume(self, run_id: str, viewer: str) -> None:
        """Asks a paused worker to go on. StoreErrors as for `steer`."""
        self._going(run_id, "Start a new run to go on.")
        self._commands.post(run_id, "resume", viewer)

    def request_stop(self, run_id: str, viewer: str = "") -> None:
        """Asks the worker to end the run after the round that it is in. Without a viewer it needs no lease."""
        self._raw(run_id)
        self._commands.post(run_id, "stop", viewer)

    def asked(self, run_id: str) -> dict[str, Value]:
        """Settings that were asked for and do not hold yet: dotted path → value."""
        asked: dict[str, Value] = {}
        for command in self.posted(run_id):
            asked |= command.changes
        return asked

    def pending(self, run_id: str) -> frozenset[str]:
        """Which of "pause", "resume" and "stop" were asked for and have not happened yet."""
        kinds = [command.kind for command in self.posted(run_id)]
        paused = self._raw(run_id)["status"] == RunStatus.PAUSED
        wish = next((kind for kind in reversed(kinds) if kind in ("pause", "resume")), "")
        waiting = {wish} if wish == ("resume" if paused else "pause") else set()
        return frozenset(waiting | ({"stop"} & {*kinds}))

    def stop_requested(self, run_id: str) -> bool:
        """Whether a page asked the run to stop, and it has not yet."""
        return "stop" in self.pending(run_id)

    def lease(self, run_id: str) -> Lease | None:
        """Who steers a run now; None if nobody ever did, or was not seen for LEASE_S."""
        return self._commands.lease(run_id)

    def keep_lease(self, run_id: str, viewer: str) -> bool:
        """A page's look: renews the viewer's lease. False if it is not its own."""
        return self._commands.keep(run_id, viewer)

    def take_over(self, run_id: str, viewer: str) -> None:
        """Makes a viewer the one that steers, whoever did before."""
        self._raw(run_id)
        self._commands.take_over(run_id, viewer)

    def steerings(self, run_id: str) -> list[Steering]:
        """The changes of a run's settings, and from when each holds, in order."""
        with self._reading() as connection:
            query = "SELECT steering FROM steerings WHERE run_id = ? ORDER BY id"
            raw = connection.execute(query, (storable(run_id),)).fetchall()
        return [Steering.model_validate_json(row["steering"]) for row in raw]

    # ---- for the run's worker ---------------------------------------------------------------------------------------

    def claim(self, run_id: str) -> None:
        """Makes this process the worker of a queued run. StoreError if another has it or it has ended."""
        me = this_process()
        with self._writing() as connection:
            taken = connection.execute(
                "UPDATE runs SET status = ?, waits = 0, pid = ?, process_started_at = ?, heartbeat_at = ? "
                "WHERE id = ? AND status = ? AND NOT deleted",
                (RunStatus.RUNNING, me.pid, me.started_at, time.time(), storable(run_id), RunStatus.QUEUED),
            ).rowcount
        if not taken:
            row = self.run(run_id)
            state = "is deleted" if row.deleted else f"is {row.status.value} already"
            by = f" (process {row.pid})" if row.status in (RunStatus.RUNNING, RunStatus.PAUSED) else ""
            raise StoreError(f"Run {run_id} {state}{by}; start a new run instead.")

    def describe(self, run_id: str, profiles: Sequence[ClientProfile], notes: Sequence[str], rounds_total: int) -> None:
        """Who the clients are, remarks on the data, and how many rounds there will be."""
        people = "[" + ",".join(profile.model_dump_json() for profile in profiles) + "]"
        remarks = json.dumps([storable(note) for note in notes])
        values = (people, remarks, rounds_total, time.time())
        self._update(run_id, "profiles = ?, notes = ?, rounds_total = ?, heartbeat_at = ?", values)

    def append(self, run_id: str, record: RoundRecord) -> None:
        """One more round, in one transaction; once this returns, the round outlives the process."""
        with self._writing() as connection:
            connection.execute("INSERT INTO rounds (run_id, record) VALUES (?, ?)", (run_id, record.model_dump_json()))
            self._change(connection, run_id, "rounds_done = rounds_done + 1, heartbeat_at = ?", (time.time(),))

    def posted(self, run_id: str) -> list[Command]:
        """What was asked of the worker and not taken yet, in order; nothing once the run has ended."""
        row = self._raw(run_id)
        return [] if RunStatus(row["status"]).ended else self._commands.after(run_id, row["commands_taken"])

    def take(self, run_id: str, last: int, steering: Steering | None) -> None:
        """The commands up to the id `last` are done, and what they changed holds."""
        with self._writing() as connection:
            if steering:
                line = (run_id, steering.model_dump_json())
                connection.execute("INSERT INTO steerings (run_id, steering) VALUES (?, ?)", line)
            self._change(connection, run_id, "commands_taken = ?, heartbeat_at = ?", (last, time.time()))

    def beat(self, run_id: str, status: RunStatus) -> None:
        """The worker is there, and plays (RUNNING) or waits for a resume (PAUSED)."""
        self._update(run_id, "status = ?, heartbeat_at = ?", (status, time.time()))

    def finish(self, run_id: str, status: RunStatus, message: str = "") -> None:
        """The run is over, with a sentence why where there is something to say."""
        self._update(run_id, "status = ?, message = ?, heartbeat_at = ?", (status, storable(message), time.time()))

    # -----------------------------------------------------------------------------------------------------------------

    def _raw(self, run_id: str) -> sqlite3.Row:
        row: sqlite3.Row | None = None
        if re.fullmatch(r"[a-z0-9]{1,32}", run_id):
            with self._reading() as connection:
                row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise self._no_run(run_id)
        return row

    def _listed(self, condition: str, *values: str) -> list[RunRow]:
        with self._reading() as connection:
            raw = connection.execute(f"SELECT * FROM runs WHERE {condition}", values).fetchall()
        rows = []
        for row in raw:
            try:
                rows.append(run_row(row, self.path))
            except ValidationError:
                continue
        return rows

    def _going(self, run_id: str, advice: str) -> RunRow:
        row = self.run(run_id)
        if row.status.ended:
            raise StoreError(f"Run {run_id} has ended ({row.status.value}); its rounds stay as they are. {advice}")
        return row

    def _update(self, run_id: str, assignments: str, values: tuple[object, ...]) -> None:
        with self._writing() as connection:
            self._change(connection, run_id, assignments, values)

    def _change(
        self, connection: sqlite3.Connection, run_id: str, assignments: str, values: tuple[object, ...]
    ) -> None:
        query = f"UPDATE runs SET {assignments} WHERE id = ?"
        if not connection.execute(query, (*values, storable(run_id))).rowcount:
            raise self._no_run(run_id)

    def _cancel(self, connection: sqlite3.Connection, run_id: str) -> bool:
        query = "UPDATE runs SET waits = 0, status = ?, message = ? WHERE id = ? AND waits AND status = ?"
        return bool(connection.execute(query, (RunStatus.STOPPED, CANCELLED, run_id, RunStatus.QUEUED)).rowcount)

    def _no_run(self, run_id: str) -> StoreError:
        return StoreError(f"There is no run {run_id[:40]!r} in {self.path}; `pwff runs` lists those there are.")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with connected(self.path, "ro", self._patience_s) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if self.readonly:
            raise StoreError(f"The store {self.path} is opened for reading only; open it for writing to change it.")
        with transaction(self.path, self._patience_s) as connection:
            yield connection
