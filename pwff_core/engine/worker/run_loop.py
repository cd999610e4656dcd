"""A run as a stream: claimed, prepared, played, written and ended. The one place where a run meets the store."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from pwff_core.engine.worker.catch_up import RESUMING, catch_up, difference_note, progress, restore_threads
from pwff_core.engine.worker.control import Control
from pwff_core.engine.worker.engine_protocol import Engine, TorchEngine
from pwff_core.engine.worker.failures import NO_ROOM, as_failure, save_rounds
from pwff_core.engine.worker.heartbeat import Heartbeat
from pwff_core.engine.worker.retry import Retry, report
from pwff_core.engine.worker.signals import Signals
from pwff_core.engine.worker.timing import USUAL, Timing
from pwff_core.errors import ModelError, PwffError, StoreError, TakenOverError
from pwff_core.records import ClientProfile, RoundRecord, Steering
from pwff_core.runs import limits
from pwff_core.runs.recording import Recording, versions
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import CLAIM_WITHIN_S, RunRow, RunStatus, Store
from pwff_core.runs.store.endings import stopped

if TYPE_CHECKING:
    from pwff_core.engine.checkpointer import Checkpointer
    from pwff_core.engine.setup import Federation


def play_run(
    store: Store,
    run_id: str,
    *,
    force: bool = False,
    on_progress: Callable[[str], None] = lambda message: None,
    engine: Engine | None = None,
    timing: Timing = USUAL,
    report: Callable[[str], None] = report,
    on_loss: Callable[[StoreError], None] = lambda reason: None,
) -> Generator[RoundRecord, None, None]:
    """Claims a queued run, plays it, and yields each new round once the store has it.

    A run that has rounds already goes on after them. While the store cannot be written for a passing reason, the run
    waits. If the store is there, it says how the run ended before this returns or raises. Closing the stream early
    stops the run.

    Args:
        store: the store that holds the run.
        run_id: the run to play.
        force: play it even if memory seems too small.
        on_progress: called with a sentence for each step of a resumed run before its first new round, then with "".
        engine: what trains; a TorchEngine unless given.
        timing: the worker's times.
        report: called with each line for the run's log.
        on_loss: called from another thread when the run is found deleted, taken over or its store gone.

    Raises:
        PwffError: the run failed; TrainingError for lack of memory, EngineError for anything unexpected.
        StoreError: the run was deleted or taken over, or the store has gone.
        KeyboardInterrupt: a signal stopped the run.
    """
    signals = Signals(timing)
    retry = Retry(signals, timing, report=report)
    with signals.installed():
        retry(lambda: store.claim(run_id), within_s=CLAIM_WITHIN_S)  # later, the run counts as never started
        heartbeat = Heartbeat(store, run_id, signals, timing, on_loss)
        loop = RunLoop(store, run_id, engine or TorchEngine(), signals, retry, heartbeat, on_progress)
        with store.keep_log_open(), heartbeat.beating():
            try:
                yield from loop.rounds(force)
            except TakenOverError as error:
                raise loop.leave(error) from None
            except KeyboardInterrupt:
                if heartbeat.lost:
                    raise loop.leave(heartbeat.lost) from None
                loop.break_off()
                raise
            except GeneratorExit:
                loop.break_off()
                raise


class RunLoop:
    """A claimed run. After `rounds` has raised, `leave` or `break_off` ends it, unless it has failed."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        engine: Engine,
        signals: Signals,
        retry: Retry,
        heartbeat: Heartbeat,
        on_progress: Callable[[str], None],
    ) -> None:
        self._store, self._run_id, self._files = store, run_id, RunFiles(store.path)
        self._engine, self._on_progress = engine, on_progress
        self._signals, self._retry, self._heartbeat = signals, retry, heartbeat
        self._control = Control(store, run_id, engine, signals, retry)
        self._checkpoints: Checkpointer | None = None
        # a copy of the run, in case the store goes
        self._row: RunRow | None = None
        self._records: list[RoundRecord] = []
        self._steerings: list[Steering] = []
        self._notes: list[str] = []  # on how the run went; those on its data are the federation's
        self._checkpoint_failed = False

    def rounds(self, force: bool) -> Generator[RoundRecord, None, None]:
        """The run's new rounds; an error is written down as a sentence and raised as a PwffError."""
        try:
            yield from self._play(force)
        except TakenOverError:
            raise
        except Exception as error:
            if self._signals.pending:  # the interrupted code has turned the interrupt into this error
                raise KeyboardInterrupt from error
            raise self._fail(as_failure(error, self._files.log(self._run_id))) from error

    def _play(self, force: bool) -> Generator[RoundRecord, None, None]:
        """The run's new rounds, each written before it is yielded; then writes down how the run ended."""
        federation, checkpoints = self._prepare(force)
        following = self._catch_up(federation, checkpoints)
        if following is None:  # stopped on the way; the stored models are newer than the federation's
            self._end(RunStatus.STOPPED, self._retry(self._stopped_message))
            return
        while True:
            is_stopped = self._stops(federation)
            with self._signals.window():
                record = None if is_stopped else next(following, None)
            if record is None:
                break
            self._write(federation, checkpoints, record)
            yield record
        trouble = self._save_models(federation, checkpoints, finished=not is_stopped)
        if is_stopped:
            self._end(RunStatus.STOPPED, f"{self._retry(self._stopped_message)} {trouble}".strip())
        else:
            self._end(RunStatus.FINISHED, trouble)

    # ---- bad ends ---------------------------------------------------------------------------------------------------

    def _fail(self, failure: PwffError) -> PwffError:
        """Writes down why the run failed; returns the error to raise. TakenOverError if the run is another's."""
        if self._checkpoints:
            with self._signals.window():
                self._checkpoints.finish(False)
        try:
            self._end(RunStatus.FAILED, str(failure))
        except TakenOverError:
            raise
        except StoreError:  # the store itself may be what failed
            return self.leave(failure)
        return failure

    def leave(self, reason: PwffError) -> StoreError:
        """Ends without writing to the store, which has gone or gives the run to another; returns the error to raise.

        Rounds that the store does not have any more are written to a file.
        """
        if self._checkpoints:
            self._checkpoints.discard()
        try:
            self._store.run(self._run_id)
        except StoreError:
            if self._row:
                row = self._row.model_copy(update={"status": RunStatus.FAILED, "message": str(reason)})
                recording = Recording(row, tuple(self._records), tuple(self._steerings), versions())
                return StoreError(f"{reason} {save_rounds(recording)}")
        return StoreError(str(reason))

    def break_off(self) -> None:
        """Stops the run at once: gives up an unfinished checkpoint, and tries only once to write to the store."""
        if self._checkpoints:
            self._checkpoints.discard()
        self._heartbeat.closing = True
        try:
            self._store.finish(self._run_id, RunStatus.STOPPED, self._stopped_message())
        except StoreError as error:
            self._retry.report(
                f"The run was stopped, and its rounds are kept, but that could not be written down: {error}"
            )

    # ---- before the first new round ---------------------------------------------------------------------------------

    def _prepare(self, force: bool) -> tuple[Federation, Checkpointer]:
        """The federation as the run started, and what writes its checkpoints."""
        store, run_id = self._store, self._run_id
        with self._signals.window():
            row = self._row = self._retry(lambda: store.run(run_id))
            self._records = [record for _, record in self._retry(lambda: store.rounds(run_id))]
            self._steerings = self._retry(lambda: store.steerings(run_id))
            if self._records:
                self._show_progress(RESUMING)
            limits.check(row.config)
            restore_threads(store.path, run_id)
            warnings.filterwarnings("error", NO_ROOM)
            federation = self._engine.prepare(row.config, run_id, store_path=store.path, force=force)
            self._checkpoints = self._engine.checkpointer(self._files.checkpoints(run_id), row.config.checkpoint_every)
        return federation, self._checkpoints

    def _catch_up(self, federation: Federation, checkpoints: Checkpointer) -> Iterator[RoundRecord] | None:
        """Brings the federation to the end of the stored rounds; returns those to come, or None if the run stops."""
        assert self._row  # it is prepared
        row, stored = self._row, len(self._records)
        with self._signals.window():
            position = self._engine.restore(federation, self._store.path, self._run_id, self._records)
        self._notes = [note for note in row.notes if note not in federation.notes]
        if stored > row.forked_at:
            self._add_note(f"Resumed after round {stored}.")
        if position < stored:
            self._describe(federation, row.profiles)
        caught_up = catch_up(
            self._engine, federation, position, self._records, self._steerings, self._signals,
            may_play=self._may_play_again,
            keep=lambda record, number: checkpoints.save(federation, record, number),
        )  # fmt: skip
        if caught_up is None:
            return None
        if caught_up.differing:
            self._add_note(difference_note(caught_up.differing))
        self._describe(federation, federation.profiles)
        if stored:
            self._show_progress("")
        return caught_up.following

    def _may_play_again(self, number: int) -> bool:
        """Shows that a stored round is played again; False if the run is to stop instead."""
        if self._control.await_commands() is None:
            return False
        self._show_progress(progress(number, len(self._records)))
        return True

    # ---- a round ----------------------------------------------------------------------------------------------------

    def _stops(self, federation: Federation) -> bool:
        """Carries out the pages' commands; whether the run is to stop."""
        if len(self._records) >= federation.rounds_total:  # after the last round it is too late for any command
            return False
        commands = self._control.await_commands()
        if commands is None:
            return True
        steering = self._control.steer(federation, commands, self._records)
        if steering:
            self._steerings.append(steering)
            self._describe(federation, federation.profiles)
        return False

    def _write(self, federation: Federation, checkpoints: Checkpointer, record: RoundRecord) -> None:
        self._retry(lambda: self._store.append(self._run_id, record))
        self._records.append(record)
        with self._signals.window():
            checkpoints.save(federation, record, len(self._records))
        if record.stage_end:  # perhaps earlier than planned, which changes rounds_total
            self._describe(federation, federation.profiles)
        self._note_checkpoint_trouble(federation, checkpoints)

    def _save_models(self, federation: Federation, checkpoints: Checkpointer, *, finished: bool) -> str:
        """Saves the models as they are now; returns why that failed, or ""."""
        from pwff_core.engine.models import saved_models

        with self._signals.window():
            try:
                saved_models.save(self._files.models(self._run_id), federation.saved_models())
                trouble = ""
            except ModelError as error:  # the run itself is complete
                trouble = str(error)
            checkpoints.finish(finished)
        self._note_checkpoint_trouble(federation, checkpoints)
        return trouble

    # ---- writing to the store ---------------------------------------------------------------------------------------

    def _note_checkpoint_trouble(self, federation: Federation, checkpoints: Checkpointer) -> None:
        """Notes once that a checkpoint could not be written: a resumed run then plays more rounds again."""
        if checkpoints.trouble and not self._checkpoint_failed:
            self._checkpoint_failed = True
            self._add_note(
                f"{checkpoints.trouble} The run goes on; if it is interrupted, it plays the rounds since the last one "
                "again."
            )
            self._describe(federation, federation.profiles)

    def _add_note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)

    def _show_progress(self, message: str) -> None:
        """Shows what the engine does before its next new round; "" once that begins."""
        self._on_progress(message)
        self._retry(lambda: self._store.set_status(self._run_id, RunStatus.RUNNING, message))

    def _describe(self, federation: Federation, profiles: Sequence[ClientProfile]) -> None:
        assert self._row  # it is prepared
        notes, total = (*federation.notes, *self._notes), federation.rounds_total
        update = {"profiles": tuple(profiles), "notes": notes, "rounds_total": total}
        row = self._row = self._row.model_copy(update=update)
        self._retry(lambda: self._store.describe(self._run_id, row.profiles, row.notes, row.rounds_total))

    def _stopped_message(self) -> str:
        row = self._store.run(self._run_id)
        return stopped(row.rounds_done, row.rounds_total)

    def _end(self, status: RunStatus, message: str) -> None:
        self._heartbeat.closing = True
        self._retry(lambda: self._store.finish(self._run_id, status, message))
