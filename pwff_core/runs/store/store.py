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
from pwff_core.runs.store import forks, work
from pwff_core.runs.store.commands import Commands, asked_in, pending_in
from pwff_core.runs.store.connections import log_kept
from pwff_core.runs.store.rows import Command, Lease, Look, RunRow, RunStatus
from pwff_core.runs.store.schema import COMMANDS, RUNS, missing, outdated, prepare
from pwff_core.runs.store.status import QUEUE, abandoned, due
from pwff_core.runs.store.tables import Tables, cancelled, rounds_of, steerings_of
from pwff_core.runs.store.texts import checked_name, storable


class Store:
    """The runs in one file. Making a Store checks the file, makes it where there is none, and renews an older one.

    `readonly` is for pages and lists: runs can be read and their workers asked for things, nothing else. Every call
    opens a connection of its own (0.2 ms to read, 1 ms to write) and keeps nothing, so threads may share a Store. It
    gives up after `patience_s` seconds of waiting for another writer. Every failure is a StoreError of one sentence;
    its `passing` says whether waiting may help. `renewed` holds the copies of older files that this Store has renewed.
    """

    def __init__(self, path: Path, *, readonly: bool = False, patience_s: float = 5.0) -> None:
        self.path = path.absolute()
        self.readonly = readonly
        self.commands_path = RunFiles(self.path).commands
        self._tables = Tables(self.path, patience_s, readonly=readonly)
        self._commands = Commands(self.commands_path, patience_s)
        new = missing(self.path)
        made = [
            prepare(file, steps, patience_s)
            for file, steps in ((self.path, RUNS), (self.commands_path, COMMANDS))
            if not readonly or new or (not missing(file) and outdated(file, steps, patience_s))
        ]
        self.renewed = [copy for copy in made if copy]

    def at_hand(self) -> AbstractContextManager[None]:
        """For who writes often: meanwhile SQLite keeps the file's log; see `connections.log_kept`."""
        return log_kept(self.path)

    # ---- runs and rounds --------------------------------------------------------------------------------------------

    def create_run(
        self, config: RunConfig, name: str = "", *, waits: bool = False, comparison: str = "", owner: str = ""
    ) -> str:
        """Adds a queued run; returns its id, 8 lower-case letters and digits, safe in an address and as an argument.

        It is for the caller to launch it, unless it `waits`: then it stands in the queue until `next_waiting` hands
        it out. `comparison` is the id of the comparison that it is part of, `owner` whose run it is.
        """
        run_id, rounds = forks.new_id(), sum(stage_rounds(config).values())
        row = (run_id, storable(name), time.time(), RunStatus.QUEUED, config.model_dump_json(), rounds)
        with self._tables.writing() as connection:
            connection.execute(
                "INSERT INTO runs (id, name, created_at, status, config, rounds_total, comparison, owner) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, storable(comparison), storable(owner)),
            )
            forks.queued(connection, run_id, waits=waits)
        return run_id

    def run(self, run_id: str) -> RunRow:
        """One run, also a deleted one (`deleted` says so). StoreError if there is none of that id."""
        return self._tables.judged(self._tables.raw(run_id))

    def runs(self, comparison: str | None = None) -> list[RunRow]:
        """All runs, or those of a comparison, newest first; not those deleted or with settings of another version."""
        if comparison is None:
            return self._tables.listed("NOT deleted ORDER BY created_at DESC, rowid DESC")
        return self._tables.listed("NOT deleted AND comparison = ? ORDER BY created_at DESC, rowid DESC", comparison)

    def created(self, owner: str, since: float) -> int:
        """How many runs somebody has made since then (Unix seconds), deleted ones too."""
        with self._tables.reading() as connection:
            query = "SELECT count(*) FROM runs WHERE owner = ? AND created_at >= ?"
            return int(connection.execute(query, (storable(owner), since)).fetchone()[0])

    def rounds(self, run_id: str, after: int = 0) -> list[tuple[int, RoundRecord]]:
        """(row id, record) of a run's rounds with a row id above `after`, in order; pass the last id you have seen."""
        with self._tables.reading() as connection:
            return rounds_of(connection, run_id, after)

    def rename(self, run_id: str, name: str) -> None:
        """Gives a run a name, "" for none: one line of at most 80 printable characters that no other run has."""
        chosen = checked_name(name)
        with self._tables.writing() as connection:
            query = "SELECT id FROM runs WHERE name = ? AND id != ? AND NOT deleted"
            other = connection.execute(query, (chosen, storable(run_id))).fetchone() if chosen else None
            if other:
                raise StoreError(f'Run {other["id"]} is called "{chosen}" already; choose another name.')
            self._tables.change(connection, run_id, "name = ?", (chosen,))

    def delete(self, run_id: str) -> None:
        """Takes a run out of the list, and out of the queue; its rounds stay in the file. StoreError while it plays."""
        self._tables.raw(run_id)
        with self._tables.writing() as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row["status"] in (RunStatus.RUNNING, RunStatus.PAUSED) and not abandoned(row):
                raise StoreError(f"Run {run_id} is {row['status']}; stop it first, then delete it.")
            cancelled(connection, run_id)
            self._tables.change(connection, run_id, "deleted = 1, deleted_at = ?", (time.time(),))

    def restore(self, run_id: str) -> None:
        """Undoes `delete`. A run that waited does not wait again: it was cancelled."""
        with self._tables.writing() as connection:
            self._tables.change(connection, run_id, "deleted = 0, deleted_at = NULL", ())

    # ---- the queue --------------------------------------------------------------------------------------------------

    def waiting(self) -> list[RunRow]:
        """The runs that stand in the queue, the first to start first."""
        return self._tables.listed(QUEUE)

    def next_waiting(self, parallel: int = 1) -> str | None:
        """Takes the first run out of the queue if fewer than `parallel` runs play or are about to; the caller launches.

        However many ask at once, a run is handed out once. None if nothing waits or others still play.
        """
        if not self.due(parallel):  # a page asks each second: without a run to start it writes nothing
            return None
        with self._tables.writing() as connection:
            run_id = due(connection, parallel)
            if run_id is not None:
                query = "waits = 0, launched_boot = ?, launched_uptime_s = ?"
                self._tables.change(connection, run_id, query, this_moment())
        return run_id

    def due(self, parallel: int = 1) -> bool:
        """Whether `next_waiting` would hand out a run; writes nothing."""
        with self._tables.reading() as connection:
            return due(connection, parallel) is not None

    def not_launched(self, run_id: str, message: str) -> None:
        """A queued run whose worker could not be started has failed, and why; nothing if a worker has it meanwhile."""
        query = "UPDATE runs SET status = ?, message = ?, waits = 0 WHERE id = ? AND status = ?"
        with self._tables.writing() as connection:
            connection.execute(query, (RunStatus.FAILED, storable(message), run_id, RunStatus.QUEUED))

    def cancel(self, run_id: str) -> bool:
        """Takes a run out of the queue: it is stopped. False if it does not wait (any more)."""
        self._tables.raw(run_id)
        with self._tables.writing() as connection:
            return cancelled(connection, run_id)

    # ---- going on ---------------------------------------------------------------------------------------------------

    def reopen(self, run_id: str, *, waits: bool) -> None:
        """Queues a run again that was stopped, failed or abandoned, for a worker to go on with; see `create_run`.

        A stop that was asked of it is done with, and a pause lifted; other settings that were asked for will hold.
        StoreError if it is finished, deleted, waits already or has a worker.
        """
        with self._tables.writing() as connection:
            taken = forks.reopened(self._tables, connection, run_id, waits=waits)
            self._commands.reopen(run_id, taken)

    def fork(
        self, run_id: str, position: int, changes: Mapping[str, Value], name: str = "", *, waits: bool, owner: str = ""
    ) -> str:
        """Adds a run with the first `position` rounds of another and then other settings; returns its id.

        What is changed is a steering of the new run, which holds from round `position` + 1 on; what is as it was then
        is left out. ConfigError for changes that are not STEERABLE or not allowed; StoreError if the run has no such
        round, or none after it.
        """
        with self._tables.writing() as connection:
            child = forks.forked(self._tables, connection, run_id, position, changes)
            self._tables.change(connection, child, "name = ?, owner = ?", (checked_name(name), storable(owner)))
            forks.queued(connection, child, waits=waits)
        return child

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
        new = {path: wanted[path].value for path in changes if wanted[path].value != known[path].value}
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
        self._tables.raw(run_id)
        self._commands.post(run_id, "stop", viewer)

    def asked(self, run_id: str) -> dict[str, Value]:
        """Settings that were asked for and do not hold yet: dotted path → value."""
        return asked_in(self.posted(run_id))

    def pending(self, run_id: str) -> frozenset[str]:
        """Which of "pause", "resume" and "stop" were asked for and have not happened yet.

        Of a run that is held up nobody knows what has happened: it is to pause if that was asked for last.
        """
        return pending_in(self.posted(run_id), paused=self.run(run_id).status is RunStatus.PAUSED)

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
        self._tables.raw(run_id)
        self._commands.take_over(run_id, viewer)

    def look(self, run_id: str, after: int = 0, viewer: str = "") -> Look:
        """All that a page asks about a run at each look, from one moment: one connection to each file.

        `after` is the last row id of `rounds` that was seen; the viewer's lease is renewed if it has one.
        """
        with self._tables.reading() as connection:
            connection.execute("BEGIN")  # what is read in here belongs together
            raw = self._tables.found(connection, run_id)
            rounds, steerings = rounds_of(connection, run_id, after), steerings_of(connection, run_id)
            queued = connection.execute(f"SELECT * FROM runs WHERE {QUEUE}").fetchall()
        row = self._tables.judged(raw)
        ended = row.status.ended
        posted, lease = ([], None) if ended else self._commands.look(run_id, raw["commands_taken"], viewer)
        pending = pending_in(posted, paused=row.status is RunStatus.PAUSED)
        return Look(row, rounds, steerings, asked_in(posted), pending, lease, self._tables.known(queued))

    def steerings(self, run_id: str) -> list[Steering]:
        """The changes of a run's settings, and from when each holds, in order."""
        with self._tables.reading() as connection:
            return steerings_of(connection, run_id)

    # ---- for the run's worker; what writes raises TakenOverError, and writes nothing, if this process is not it -----

    def claim(self, run_id: str) -> None:
        """Makes this process the worker of a queued run. StoreError if another has it or it has ended."""
        with self._tables.writing() as connection:
            taken = work.claim(connection, run_id)
        if not taken:
            row = self.run(run_id)
            if row.deleted:
                raise StoreError(f"Run {run_id} is deleted; restore it first.")
            if not row.status.ended:
                raise StoreError(f"Run {run_id} is {row.status.value} already (process {row.pid}); it goes on there.")
            advice = "start a new run instead" if row.status is RunStatus.FINISHED else "resume it first"
            raise StoreError(f"Run {run_id} is {row.status.value} already; {advice}.")

    def describe(self, run_id: str, profiles: Sequence[ClientProfile], notes: Sequence[str], rounds_total: int) -> None:
        """Who the clients are, remarks on the data, and how many rounds there will be."""
        values = (forks.profiles_text(profiles), json.dumps([storable(note) for note in notes]), rounds_total)
        self._tables.work(run_id, "profiles = ?, notes = ?, rounds_total = ?", values)

    def append(self, run_id: str, record: RoundRecord) -> None:
        """One more round, in one transaction; once this returns, the round outlives the process and a power cut."""
        with self._tables.writing() as connection:
            work.write(connection, run_id, "rounds_done = rounds_done + 1", ())
            connection.execute("INSERT INTO rounds (run_id, record) VALUES (?, ?)", (run_id, record.model_dump_json()))

    def posted(self, run_id: str) -> list[Command]:
        """What was asked of the worker and not taken yet, in order; nothing once the run has ended."""
        row = self._tables.raw(run_id)
        return [] if RunStatus(row["status"]).ended else self._commands.after(run_id, row["commands_taken"])

    def take(self, run_id: str, last: int, steering: Steering | None) -> None:
        """The commands up to the id `last` are done, and what they changed holds."""
        with self._tables.writing() as connection:
            work.write(connection, run_id, "commands_taken = ?", (last,))
            if steering:
                line = (run_id, steering.model_dump_json())
                connection.execute("INSERT INTO steerings (run_id, steering) VALUES (?, ?)", line)

    def beat(self, run_id: str, status: RunStatus, message: str = "") -> None:
        """The worker is there, and plays (RUNNING) or waits for a resume (PAUSED).

        `message` is what it is at in place of a new round, a sentence.
        """
        self._tables.work(run_id, "status = ?, message = ?", (status, storable(message)))

    def pulse(self, run_id: str) -> bool:
        """The worker is there. False if the run is deleted, gone, or not this process's: then it is to end."""
        with self._tables.writing(lasting=False) as connection:
            return work.pulse(connection, run_id)

    def finish(self, run_id: str, status: RunStatus, message: str = "") -> None:
        """The run is over, with a sentence why where there is something to say."""
        self._tables.work(run_id, "status = ?, message = ?", (status, storable(message)))

    def _going(self, run_id: str, advice: str) -> RunRow:
        row = self.run(run_id)
        if row.status.ended:
            raise StoreError(f"Run {run_id} has ended ({row.status.value}); its rounds stay as they are. {advice}")
        return row
