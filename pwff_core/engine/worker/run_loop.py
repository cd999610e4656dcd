"""The life of a run that this process has claimed: how it sets out, what is kept of each round, how it ends."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from pwff_core.engine.worker.catch_up import RESUMING, caught_up, difference_note, progress, take_threads_up
from pwff_core.engine.worker.control import Control
from pwff_core.engine.worker.failures import NO_ROOM
from pwff_core.engine.worker.heartbeat import Pulse
from pwff_core.engine.worker.rescue import rescued
from pwff_core.engine.worker.retry import Patience, tell
from pwff_core.engine.worker.signals import Interruption
from pwff_core.errors import ModelError, PwffError, StoreError, TakenOverError
from pwff_core.records import ClientProfile, RoundRecord, Steering
from pwff_core.runs import limits
from pwff_core.runs.recording import Recording, versions
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunRow, RunStatus, Store

if TYPE_CHECKING:
    from pwff_core.engine.checkpointer import Checkpointer
    from pwff_core.engine.setup import Federation


class Life:
    """A claimed run. After `rounds` has raised, one of `fail`, `leave` and `break_off` ends it."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        interruption: Interruption,
        patient: Patience,
        pulse: Pulse,
        told: Callable[[str], None],
    ) -> None:
        self._store, self._run_id, self._told = store, run_id, told
        self._interruption, self._patient, self._pulse = interruption, patient, pulse
        self._control = Control(store, run_id, interruption, patient)
        self._checkpoints: Checkpointer | None = None
        # what this process knows of the run, should the store go
        self._row: RunRow | None = None
        self._records: list[RoundRecord] = []
        self._steerings: list[Steering] = []
        self._remarks: list[str] = []  # notes on how the run went, beside those on its data
        self._troubled = False  # whether a checkpoint could not be written

    def rounds(self, force: bool) -> Generator[RoundRecord, None, None]:
        """The run's new rounds, each written before it is yielded; writes down how it ended, unless it raises."""
        running, checkpoints = self._prepared(force)
        following = self._caught_up(running, checkpoints)
        if following is None:  # the models that are kept are newer than those at hand
            self._end(RunStatus.STOPPED, self._patient(self._so_far))
            return
        while True:
            stopped = self._stops(running)
            with self._interruption.window():
                record = None if stopped else next(following, None)
            if record is None:
                break
            self._write(running, checkpoints, record)
            yield record
        trouble = self._keep_models(running, checkpoints, finished=not stopped)
        if stopped:
            self._end(RunStatus.STOPPED, f"{self._patient(self._so_far)} {trouble}".strip())
        else:
            self._end(RunStatus.FINISHED, trouble)

    # ---- bad ends ---------------------------------------------------------------------------------------------------

    def fail(self, failure: PwffError) -> PwffError:
        """Writes down why the run failed, and returns what to raise. TakenOverError if it is not ours."""
        if self._checkpoints:
            with self._interruption.window():
                self._checkpoints.finish(False)
        try:
            self._end(RunStatus.FAILED, str(failure))
        except TakenOverError:
            raise
        except StoreError:  # what failed may be the store itself
            return self.leave(failure)
        return failure

    def leave(self, reason: PwffError) -> StoreError:
        """Ends without a word in the store: it has gone, or the run is another's. Returns what to raise.

        Rounds that the store does not show any more are written to a file.
        """
        if self._checkpoints:
            self._checkpoints.discard()
        try:
            self._store.run(self._run_id)
        except StoreError:
            if self._row:
                known = self._row.model_copy(update={"status": RunStatus.FAILED, "message": str(reason)})
                saved = rescued(Recording(known, tuple(self._records), tuple(self._steerings), versions()))
                return StoreError(f"{reason} {saved}")
        return StoreError(str(reason))

    def break_off(self) -> None:
        """The run is stopped, at once: a checkpoint that is being written is given up, and the store told just once."""
        if self._checkpoints:
            self._checkpoints.discard()
        self._pulse.closing = True
        try:
            self._store.finish(self._run_id, RunStatus.STOPPED, self._so_far())
        except StoreError as error:
            tell(f"The run was stopped, and its rounds are kept, but that could not be written down: {error}")

    # ---- setting out ------------------------------------------------------------------------------------------------

    def _prepared(self, force: bool) -> tuple[Federation, Checkpointer]:
        """The federation as the run started, and who keeps its states."""
        store, run_id = self._store, self._run_id
        with self._interruption.window():
            row = self._row = self._patient(lambda: store.run(run_id))
            self._records = [record for _, record in self._patient(lambda: store.rounds(run_id))]
            self._steerings = self._patient(lambda: store.steerings(run_id))
            if self._records:
                self._tell(RESUMING)
            # the seconds that torch takes to load are for the run's worker alone
            from pwff_core.engine import checkpointer, setup

            limits.check(row.config)
            take_threads_up(store.path, run_id)
            warnings.filterwarnings("error", NO_ROOM)
            running = setup.prepare(row.config, run_id, store_path=store.path, force=force)
            self._checkpoints = checkpointer.Checkpointer(
                RunFiles(store.path).checkpoints(run_id), row.config.checkpoint_every
            )
        return running, self._checkpoints

    def _caught_up(self, running: Federation, checkpoints: Checkpointer) -> Iterator[RoundRecord] | None:
        """The rounds to come, the federation standing after those that are kept; None if the run is to stop."""
        assert self._row  # it is prepared
        row, kept = self._row, len(self._records)
        with self._interruption.window():
            from pwff_core.engine import checkpointer

            position = checkpointer.restore(running, self._store.path, self._run_id, self._records)
        self._remarks = [note for note in row.notes if note not in running.notes]
        if kept > row.forked_at:
            self._remark(f"Resumed after round {kept}.")
        if position < kept:
            self._describe(running, row.profiles)
        found = caught_up(
            running, position, self._records, self._steerings, self._interruption,
            goes_on=self._goes_on,
            keep=lambda record, number: checkpoints.save(running, record, number),
        )  # fmt: skip
        if found is None:
            return None
        if found.differing:
            self._remark(difference_note(found.differing))
        self._describe(running, running.profiles)
        if kept:
            self._tell("")
        return found.following

    def _goes_on(self, number: int) -> bool:
        """Whether a kept round is to be played again, as which pages and terminals then show it."""
        if self._control.heard() is None:
            return False
        self._tell(progress(number, len(self._records)))
        return True

    # ---- a round ----------------------------------------------------------------------------------------------------

    def _stops(self, running: Federation) -> bool:
        """Does what pages have asked for; whether the run is to stop."""
        if len(self._records) >= running.rounds_total:  # after the last round it is too late for anything
            return False
        posted = self._control.heard()
        if posted is None:
            return True
        steering = self._control.steer(running, posted, self._records)
        if steering:
            self._steerings.append(steering)
            self._describe(running, running.profiles)
        return False

    def _write(self, running: Federation, checkpoints: Checkpointer, record: RoundRecord) -> None:
        self._patient(lambda: self._store.append(self._run_id, record))
        self._records.append(record)
        with self._interruption.window():
            checkpoints.save(running, record, len(self._records))
        if record.stage_end:  # perhaps before its last round
            self._describe(running, running.profiles)
        self._hear_of_trouble(running, checkpoints)

    def _keep_models(self, running: Federation, checkpoints: Checkpointer, *, finished: bool) -> str:
        """Keeps the models as they are now; why that did not work, or ""."""
        from pwff_core.engine.models import saved_models

        with self._interruption.window():
            try:
                saved_models.save(RunFiles(self._store.path).models(self._run_id), running.saved_models())
                trouble = ""
            except ModelError as error:  # the run is none the worse for it
                trouble = str(error)
            checkpoints.finish(finished)
        self._hear_of_trouble(running, checkpoints)
        return trouble

    # ---- what the store is told -------------------------------------------------------------------------------------

    def _hear_of_trouble(self, running: Federation, checkpoints: Checkpointer) -> None:
        """A checkpoint that could not be written costs computing when the run is resumed, and nothing else."""
        if checkpoints.trouble and not self._troubled:
            self._troubled = True
            self._remark(
                f"{checkpoints.trouble} The run goes on; if it is interrupted, it plays the rounds since the last one "
                "again."
            )
            self._describe(running, running.profiles)

    def _remark(self, note: str) -> None:
        if note not in self._remarks:
            self._remarks.append(note)

    def _tell(self, words: str) -> None:
        """What the engine is at in place of a new round; "" once it is at that again."""
        self._told(words)
        self._patient(lambda: self._store.set_status(self._run_id, RunStatus.RUNNING, words))

    def _describe(self, running: Federation, profiles: Sequence[ClientProfile]) -> None:
        assert self._row  # it is prepared
        told = {
            "profiles": tuple(profiles), "notes": (*running.notes, *self._remarks), "rounds_total": running.rounds_total
        }  # fmt: skip
        row = self._row = self._row.model_copy(update=told)
        self._patient(lambda: self._store.describe(self._run_id, row.profiles, row.notes, row.rounds_total))

    def _so_far(self) -> str:
        row = self._store.run(self._run_id)
        return f"Stopped after {row.rounds_done} of {row.rounds_total} rounds."

    def _end(self, status: RunStatus, message: str) -> None:
        self._pulse.closing = True
        self._patient(lambda: self._store.finish(self._run_id, status, message))
