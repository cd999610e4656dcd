"""Store: the one class through which everybody reads and writes runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.errors import StoreError
from pwff_core.knobs import knobs, steered
from pwff_core.records import ClientProfile, RoundRecord, Steering, Value
from pwff_core.runs.liveness import this_moment
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import forks, tables
from pwff_core.runs.store.commands import Commands, changes_in, pending_in
from pwff_core.runs.store.connections import checked_name, keep_log_open, storable
from pwff_core.runs.store.endings import RunStatus
from pwff_core.runs.store.rows import Command, Lease, RunRow, RunSnapshot
from pwff_core.runs.store.schema import COMMANDS, RUNS, missing, outdated, prepare
from pwff_core.runs.store.status import QUEUE, abandoned, due
from pwff_core.runs.store.tables import Tables, rounds_of, steerings_of

Changes = Mapping[str, Value]  # dotted path of a setting → its new value


class Store:
    """The runs in one file. Making a Store checks the file, makes it where there is none, and upgrades an older one.

    A `readonly` Store is for pages and lists: it can read runs and post commands for their workers, nothing else. Every
    call opens a connection of its own (0.2 ms to read, 1 ms to write), so threads may share a Store. It waits up to
    `timeout_s` seconds for another writer. Every failure is a StoreError of one sentence; its `passing` says whether
    trying again may help. `renewed` holds the backups of files that this Store has upgraded. A run whose heartbeat is
    older than `stale_s` is stalled (default: status.STALE_S).
    """

    def __init__(self, path: Path, *, readonly: bool = False, timeout_s: float = 5.0, stale_s: float | None = None):
        self.path = path.absolute()
        self.readonly = readonly
        self.commands_path = RunFiles(self.path).commands
        self._tables = Tables(self.path, timeout_s, readonly=readonly, stale_s=stale_s)
        self._commands = Commands(self.commands_path, timeout_s)
        new = missing(self.path)
        copies = [
            prepare(file, steps, timeout_s)
            for file, steps in ((self.path, RUNS), (self.commands_path, COMMANDS))
            if not readonly or new or (not missing(file) and outdated(file, steps, timeout_s))
        ]
        self.renewed = [copy for copy in copies if copy]

    def keep_log_open(self) -> AbstractContextManager[None]:
        """Makes frequent writes faster while it is open; see `connections.keep_log_open`."""
        return keep_log_open(self.path)

    # ---- runs and rounds --------------------------------------------------------------------------------------------

    def create_run(
        self, config: RunConfig, name: str = "", *, in_queue: bool = False, comparison: str = "", owner: str = ""
    ) -> str:
        """Adds a queued run; returns its id, 8 lower-case letters and digits, safe in an address and as an argument.

        A run that is `in_queue` waits until `next_in_queue` hands it out; any other one the caller launches.
        `comparison` is the id of the comparison that it is part of; for `owner` see RunRow.
        """
        run_id, rounds = forks.new_id(), sum(stage_rounds(config).values())
        row = (run_id, storable(name), time.time(), RunStatus.QUEUED, config.model_dump_json(), rounds)
        with self._tables.writing() as connection:
            connection.execute(
                "INSERT INTO runs (id, name, created_at, status, config, rounds_total, comparison, owner) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, storable(comparison), storable(owner)),
            )
            forks.enqueue(connection, run_id, in_queue=in_queue)
        return run_id

    def run(self, run_id: str) -> RunRow:
        """One run, also a deleted one (`deleted` says so). StoreError if there is none of that id."""
        return self._tables.parse(self._tables.raw(run_id))

    def runs(self, comparison: str | None = None) -> list[RunRow]:
        """All runs, or those of a comparison, newest first; without deleted ones and those of another version."""
        which, values = ("", ()) if comparison is None else ("AND comparison = ? ", (comparison,))
        return self._tables.select(f"NOT deleted {which}ORDER BY created_at DESC, rowid DESC", *values)

    def created(self, owner: str, since: float) -> int:
        """How many runs an owner has made since then (Unix seconds), deleted ones included."""
        with self._tables.reading() as connection:
            query = "SELECT count(*) FROM runs WHERE owner = ? AND created_at >= ?"
            return int(connection.execute(query, (storable(owner), since)).fetchone()[0])

    def rounds(self, run_id: str, after: int = 0) -> list[tuple[int, RoundRecord]]:
        """(row id, record) of a run's rounds with a row id above `after`, in order."""
        with self._tables.reading() as connection:
            return rounds_of(connection, run_id, after)

    def rename(self, run_id: str, name: str) -> None:
        """Gives a run a name, "" for none: one line of at most 80 printable characters that no other run has."""
        new_name = checked_name(name)
        with self._tables.writing() as connection:
            query = "SELECT id FROM runs WHERE name = ? AND id != ? AND NOT deleted"
            other = connection.execute(query, (new_name, storable(run_id))).fetchone() if new_name else None
            if other:
                raise StoreError(f'Run {other["id"]} is called "{new_name}" already; choose another name.')
            self._tables.update(connection, run_id, "name = ?", (new_name,))

    def delete(self, run_id: str) -> None:
        """Takes a run out of the list and the queue; its rounds stay in the file. StoreError while it plays."""
        self._tables.raw(run_id)
        with self._tables.writing() as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row["status"] in (RunStatus.RUNNING, RunStatus.PAUSED) and not abandoned(row):
                raise StoreError(f"Run {run_id} is {row['status']}; stop it first, then delete it.")
            tables.cancel(connection, run_id)
            self._tables.update(connection, run_id, "deleted = 1, deleted_at = ?", (time.time(),))

    def restore(self, run_id: str) -> None:
        """Undoes `delete`. A run that was in the queue stays out of it: it was cancelled."""
        with self._tables.writing() as connection:
            self._tables.update(connection, run_id, "deleted = 0, deleted_at = NULL", ())

    # ---- the queue --------------------------------------------------------------------------------------------------

    def queue(self) -> list[RunRow]:
        """The runs in the queue, the first to start first."""
        return self._tables.select(QUEUE)

    def next_in_queue(self, parallel: int = 1) -> str | None:
        """Takes the first run out of the queue, for the caller to launch, if fewer than `parallel` runs play.

        However many processes ask at once, a run is handed out once. None if the queue is empty or others still play.
        """
        if not self.due(parallel):  # a page asks each second: it writes only when there is a run to start
            return None
        with self._tables.writing() as connection:
            run_id = due(connection, parallel)
            if run_id is not None:
                query = "waits = 0, launched_boot = ?, launched_uptime_s = ?"
                self._tables.update(connection, run_id, query, this_moment())
        return run_id

    def due(self, parallel: int = 1) -> bool:
        """Whether `next_in_queue` would hand out a run; writes nothing."""
        with self._tables.reading() as connection:
            return due(connection, parallel) is not None

    def not_launched(self, run_id: str, message: str) -> None:
        """Records why the worker of a queued run could not be started; nothing if a worker has claimed it meanwhile."""
        query = "UPDATE runs SET status = ?, message = ?, waits = 0 WHERE id = ? AND status = ?"
        with self._tables.writing() as connection:
            connection.execute(query, (RunStatus.FAILED, storable(message), run_id, RunStatus.QUEUED))

    def cancel(self, run_id: str) -> bool:
        """Takes a run out of the queue: it is stopped. False if it is not in the queue."""
        self._tables.raw(run_id)
        with self._tables.writing() as connection:
            return tables.cancel(connection, run_id)

    # ---- resume and fork --------------------------------------------------------------------------------------------

    def requeue(self, run_id: str, *, in_queue: bool) -> None:
        """Queues a stopped, failed or abandoned run again, for a worker to go on with; `in_queue` as for `create_run`.

        Commands to stop or pause it are forgotten; changes of settings that were asked for will hold. StoreError if the
        run is finished, deleted, in the queue already or has a worker.
        """
        with self._tables.writing() as connection:
            done = forks.requeue(self._tables, connection, run_id, in_queue=in_queue)
            self._commands.forget_pause_and_stop(run_id, done)

    def fork(
        self, run_id: str, position: int, changes: Changes, name: str = "", *, in_queue: bool, owner: str = ""
    ) -> str:
        """Adds a run with the first `position` rounds of another and then other settings; returns its id.

        The changes are a steering of the new run, which holds from round `position` + 1 on; a change to the value that
        held there anyway is left out. ConfigError for changes that are not STEERABLE or not allowed; StoreError if the
        run has no such round, or none after it.
        """
        with self._tables.writing() as connection:
            child = forks.fork(self._tables, connection, run_id, position, changes)
            self._tables.update(connection, child, "name = ?, owner = ?", (checked_name(name), storable(owner)))
            forks.enqueue(connection, child, in_queue=in_queue)
        return child

    # ---- commands for a worker; on a readonly Store too --------------------------------------------------------------

    def steer(self, run_id: str, viewer: str, changes: Changes) -> None:
        """Asks for other settings from the next round on; a setting that has the value already is left out.

        ConfigError for a setting that is not STEERABLE or a value that is not allowed; StoreError if the run has ended
        or another viewer steers it.
        """
        row = self._unfinished(run_id, "Start a new run to try other settings.")
        past = [steering.changes for steering in self.steerings(run_id)]
        now = steered(row.config, *past, self.pending_changes(run_id))
        before, after = knobs(now), knobs(steered(now, changes))
        new = {path: after[path].value for path in changes if after[path].value != before[path].value}
        if new:
            self._commands.post(run_id, "steer", viewer, new)

    def pause(self, run_id: str, viewer: str) -> None:
        """Asks the worker to wait after its current round. StoreErrors as for `steer`."""
        self._unfinished(run_id, "There is nothing to pause.")
        self._commands.post(run_id, "pause", viewer)

    def resume(self, run_id: str, viewer: str) -> None:
        """Asks a paused worker to go on. StoreErrors as for `steer`."""
        self._unfinished(run_id, "Start a new run to go on.")
        self._commands.post(run_id, "resume", viewer)

    def request_stop(self, run_id: str, viewer: str = "") -> None:
        """Asks the worker to end the run after its current round. Without a viewer it needs no lease."""
        self._tables.raw(run_id)
        self._commands.post(run_id, "stop", viewer)

    def pending_changes(self, run_id: str) -> dict[str, Value]:
        """Settings that were asked for and do not hold yet: dotted path → value."""
        return changes_in(self.pending_commands(run_id))

    def pending(self, run_id: str) -> frozenset[str]:
        """Which of "pause", "resume" and "stop" were asked for and have not happened yet.

        A stalled run counts as not paused: it is to pause if that was asked for last.
        """
        return pending_in(self.pending_commands(run_id), paused=self.run(run_id).status is RunStatus.PAUSED)

    def stop_requested(self, run_id: str) -> bool:
        """Whether a page asked the run to stop, and it has not yet."""
        return "stop" in self.pending(run_id)

    def lease(self, run_id: str) -> Lease | None:
        """The viewer that steers a run now; None if there is none, or it was not seen for LEASE_S."""
        return self._commands.lease(run_id)

    def keep_lease(self, run_id: str, viewer: str) -> bool:
        """Renews the viewer's lease. False if another viewer, or none, has it."""
        return self._commands.keep(run_id, viewer)

    def take_over(self, run_id: str, viewer: str) -> None:
        """Makes a viewer the one that steers, even if another one did."""
        self._tables.raw(run_id)
        self._commands.take_over(run_id, viewer)

    def snapshot(self, run_id: str, after: int = 0, viewer: str = "") -> RunSnapshot:
        """Everything that a page shows of a run, from one moment and with one connection to each file.

        `after` is the last row id of `rounds` that the page has; the viewer's lease is renewed if it has one.
        """
        with self._tables.reading() as connection:
            connection.execute("BEGIN")  # all reads see the same moment
            raw = self._tables.raw_on(connection, run_id)
            rounds, steerings = rounds_of(connection, run_id, after), steerings_of(connection, run_id)
            queue = connection.execute(f"SELECT * FROM runs WHERE {QUEUE}").fetchall()
        row = self._tables.parse(raw)
        last, ended = raw["commands_taken"], row.status.ended
        commands, lease = ([], None) if ended else self._commands.snapshot(run_id, last, viewer)
        pending = pending_in(commands, paused=row.status is RunStatus.PAUSED)
        return RunSnapshot(row, rounds, steerings, changes_in(commands), pending, lease, self._tables.parse_all(queue))

    def steerings(self, run_id: str) -> list[Steering]:
        """The changes of a run's settings, each with the round from which it holds, in order."""
        with self._tables.reading() as connection:
            return steerings_of(connection, run_id)

    # ---- for the run's worker; writes raise TakenOverError, and write nothing, if this process is not the worker -----

    def claim(self, run_id: str) -> None:
        """Makes this process the worker of a queued run. StoreError if another has it or it has ended."""
        with self._tables.writing() as connection:
            claimed = tables.claim(connection, run_id)
        if not claimed:
            raise tables.not_claimed(self.run(run_id))

    def describe(self, run_id: str, profiles: Sequence[ClientProfile], notes: Sequence[str], rounds_total: int) -> None:
        """Stores the clients' profiles, notes for people, and the number of rounds over all stages."""
        values = (forks.profiles_text(profiles), json.dumps([storable(note) for note in notes]), rounds_total)
        self._tables.update_ours(run_id, "profiles = ?, notes = ?, rounds_total = ?", values)

    def append(self, run_id: str, record: RoundRecord) -> None:
        """Adds a round in one transaction; once this returns, the round outlives the process and a power cut."""
        with self._tables.writing() as connection:
            tables.update_ours(connection, run_id, "rounds_done = rounds_done + 1", ())
            connection.execute("INSERT INTO rounds (run_id, record) VALUES (?, ?)", (run_id, record.model_dump_json()))

    def pending_commands(self, run_id: str) -> list[Command]:
        """The commands that the worker has not acknowledged yet, in order; none once the run has ended."""
        row = self._tables.raw(run_id)
        return [] if RunStatus(row["status"]).ended else self._commands.after(run_id, row["commands_taken"])

    def acknowledge(self, run_id: str, last: int, steering: Steering | None) -> None:
        """Records that the commands up to the id `last` are done, and the change of settings that they made."""
        with self._tables.writing() as connection:
            tables.update_ours(connection, run_id, "commands_taken = ?", (last,))
            if steering:
                row = (run_id, steering.model_dump_json())
                connection.execute("INSERT INTO steerings (run_id, steering) VALUES (?, ?)", row)

    def set_status(self, run_id: str, status: RunStatus, message: str = "") -> None:
        """Records that the worker plays (RUNNING) or waits for a resume (PAUSED).

        `message` is a sentence on what it does before its next new round.
        """
        self._tables.update_ours(run_id, "status = ?, message = ?", (status, storable(message)))

    def heartbeat(self, run_id: str) -> bool:
        """Writes the worker's heartbeat. False if the run is deleted, gone, or not this process's: it should end."""
        with self._tables.writing(lasting=False) as connection:
            return tables.heartbeat(connection, run_id)

    def finish(self, run_id: str, status: RunStatus, message: str = "") -> None:
        """Ends the run, with a sentence on why where there is something to say."""
        self._tables.update_ours(run_id, "status = ?, message = ?", (status, storable(message)))

    def _unfinished(self, run_id: str, advice: str) -> RunRow:
        row = self.run(run_id)
        if row.status.ended:
            raise StoreError(f"Run {run_id} has ended ({row.status.value}); its rounds stay as they are. {advice}")
        return row
