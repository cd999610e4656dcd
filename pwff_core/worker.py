"""The engine as a process: `python -m pwff_core.worker RUN_ID --store PATH` plays a run and writes it to the store.

`recorded` is that run as a stream, and the one place where a run meets the store; the command line's `pwff run` draws
from it too. A run ends as *finished*, *stopped* (a page's Stop, Ctrl-C, SIGTERM) or *failed*, and keeps its rounds.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pwff_core import queue
from pwff_core.config import STEERABLE, RunConfig, knobs, stage_rounds, steered
from pwff_core.conversation import models_folder
from pwff_core.errors import ConfigError, EngineError, ModelError, PwffError, TrainingError
from pwff_core.paths import default_store_path, log_path
from pwff_core.records import ClientProfile, RoundRecord, Stage, Steering, Value
from pwff_core.store import Command, RunStatus, Store

if TYPE_CHECKING:
    from pwff_core.federation import Federation

PATIENCE_S = 60.0  # a worker waits longer for a locked store than a page does: it has rounds to lose
LOOK_S = 0.2  # so often a paused worker looks whether it may go on
BEAT_S = 2.0  # so often it writes down that it is still there
WEIGHTS = "preferences.helpfulness_weights"


class Interruption:
    """SIGINT and SIGTERM as a KeyboardInterrupt that never comes while a round is being written.

    The first signal interrupts the computing inside `window()`, at once or when the next window opens; a second one
    ends the process on the spot. Outside the main thread, where Python has no signals, nothing is installed.
    """

    def __init__(self) -> None:
        self._pending = False
        self._open = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The signals are ours in here, and whose they were afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def window(self) -> Iterator[None]:
        """A stretch of computing that may be interrupted."""
        self._open = True
        try:
            if self._pending:
                raise KeyboardInterrupt
            yield
        finally:
            self._open = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._pending:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._pending = True
        if self._open:
            raise KeyboardInterrupt


def recorded(store: Store, run_id: str, *, force: bool = False) -> Generator[RoundRecord, None, None]:
    """Claims a queued run, plays it, and yields each round once the store has it.

    Whatever happens, the store says how the run ended before this returns or raises: PwffError (TrainingError for lack
    of memory, EngineError for what nobody foresaw) if it failed, KeyboardInterrupt if a signal stopped it. Closing the
    stream early stops the run. `force` plays it whatever memory is free.
    """
    interruption = Interruption()
    with interruption.installed():
        store.claim(run_id)
        try:
            yield from _rounds(store, run_id, interruption, force)
        except (KeyboardInterrupt, GeneratorExit):
            _finish_stopped(store, run_id)
            raise
        except Exception as error:
            failure = _as_failure(error, log_path(store.path, run_id))
            store.finish(run_id, RunStatus.FAILED, str(failure))
            raise failure from error


def _rounds(store: Store, run_id: str, interruption: Interruption, force: bool) -> Generator[RoundRecord, None, None]:
    """The run's rounds, each written before it is yielded; notes the end unless it raises."""
    with interruption.window():
        # the seconds that torch takes to load are for the run's worker alone
        from pwff_core import federation
        from pwff_core.models import saved

        running = federation.prepare(store.run(run_id).config, run_id, force=force)
    announced = running.rounds_total
    store.describe(run_id, running.profiles, running.notes, announced)
    control = Control(store, run_id, running, interruption)
    records, last, done = federation.play(running), None, 0
    while True:
        stop = done < announced and control.stops(done, last)  # after the last round it is too late for anything
        with interruption.window():
            last = None if stop else next(records, None)
        if last is None:
            break
        store.append(run_id, last)
        done += 1
        if running.rounds_total != announced:  # a stage has converged before its last round
            announced = running.rounds_total
            store.describe(run_id, running.profiles, running.notes, announced)
        yield last
    trouble = ""
    try:
        saved.save(models_folder(store.path, run_id), running.saved_models())
    except ModelError as error:  # the run is none the worse for it
        trouble = str(error)
    if stop:
        _finish_stopped(store, run_id, trouble)
    else:
        store.finish(run_id, RunStatus.FINISHED, trouble)


class Control:
    """What pages ask of a run that plays, done between two of its rounds."""

    def __init__(self, store: Store, run_id: str, running: Federation, interruption: Interruption) -> None:
        self._store, self._run_id, self._running, self._interruption = store, run_id, running, interruption

    def stops(self, done: int, last: RoundRecord | None) -> bool:
        """Does what was asked for since the last of `done` rounds; whether the run is to stop. Waits while paused."""
        store, run_id = self._store, self._run_id
        posted, beaten = store.posted(run_id), 0.0
        while _wish(posted) == "pause":  # nothing is taken before it goes on: changes made meanwhile are one steering
            if not beaten or time.monotonic() - beaten > BEAT_S:
                store.beat(run_id, RunStatus.PAUSED)
                beaten = time.monotonic()
            with self._interruption.window():
                time.sleep(LOOK_S)
            posted = store.posted(run_id)
        if _wish(posted) == "stop":  # it stays posted, so that pages say so until the run has ended
            return True
        if beaten:
            store.beat(run_id, RunStatus.RUNNING)
        if posted:
            store.take(run_id, posted[-1].id, self._steering(posted, done, last))
        return False

    def _steering(self, posted: Sequence[Command], done: int, last: RoundRecord | None) -> Steering | None:
        """Applies all changes that were asked for as one; None if they leave everything as it is."""
        running = self._running
        before, wanted = _steerable(running.config, running.profiles), running.config
        for command in posted:
            try:
                wanted = steered(wanted, command.changes)
            except ConfigError as error:  # no reason to end the run
                print(f"Settings not changed: {error}", file=sys.stderr)
        after = _steerable(wanted, running.profiles)
        changes = {path: value for path, value in after.items() if value != before[path]}
        if not changes:
            return None
        from pwff_core import federation

        federation.steer(running, changes)
        self._store.describe(self._run_id, running.profiles, running.notes, running.rounds_total)
        stage, number = _next_round(running.config, last)
        past = {path: before[path] for path in changes}
        return Steering(position=done + 1, stage=stage, round=number, before=past, changes=changes, at=time.time())


def _wish(posted: Sequence[Command]) -> str:
    """What the run is to do: "stop" if that was ever asked for, otherwise the last of "pause" and "resume", or ""."""
    kinds = [command.kind for command in posted if command.kind != "steer"]
    return "stop" if "stop" in kinds else kinds[-1] if kinds else ""


def _steerable(config: RunConfig, profiles: Sequence[ClientProfile]) -> dict[str, Value]:
    """What can be steered, as it is; weights that were drawn from the seed are the profiles'."""
    known = knobs(config)
    values: dict[str, Value] = {path: known[path].default for path in STEERABLE}
    if values[WEIGHTS] is None:
        values[WEIGHTS] = tuple(profile.helpfulness_weight for profile in profiles)
    return values


def _next_round(config: RunConfig, last: RoundRecord | None) -> tuple[Stage, int]:
    """Stage and number of the round after the last one."""
    stages = list(stage_rounds(config))
    if last is None:
        return stages[0], 1
    return (stages[stages.index(last.stage) + 1], 1) if last.stage_end else (last.stage, last.round + 1)


def _finish_stopped(store: Store, run_id: str, trouble: str = "") -> None:
    row = store.run(run_id)
    told = f"Stopped after {row.rounds_done} of {row.rounds_total} rounds. {trouble}"
    store.finish(run_id, RunStatus.STOPPED, told.strip())


def _as_failure(error: Exception, log: Path) -> PwffError:
    """Any exception as one sentence for a person; what nobody foresaw goes to the log with its traceback."""
    if isinstance(error, PwffError):
        return error
    if _is_out_of_memory(error):
        return TrainingError(
            "The computer has not enough memory for this run; choose fewer clients, a smaller batch size, shorter "
            "examples (data.max_length) or a smaller backbone."
        )
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", errors="replace") as report:
        traceback.print_exception(error, file=report)
    text = " ".join(str(error).split())  # one line
    return EngineError(f"The engine failed: {type(error).__name__}: {text}. The full report is in {log}.")


def _is_out_of_memory(error: Exception) -> bool:
    """Python's own MemoryError and what torch raises instead, on the GPU by its name and on the CPU by its text."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def main(arguments: list[str] | None = None) -> int:
    """The process; its exit code is 0 if the run finished or was stopped, 1 if it failed or could not be played.

    When the run has ended, the next one of the queue is launched. Not after a signal: whoever ends a process from
    outside, as a computer does that shuts down, does not want another one, and a page that looks will start it.
    """
    parser = argparse.ArgumentParser(prog="python -m pwff_core.worker", description="Play one queued run of a store.")
    parser.add_argument("run_id", metavar="RUN_ID")
    parser.add_argument("--store", type=Path, default=default_store_path(), metavar="PATH")
    options = parser.parse_args(arguments)
    try:
        store = Store(options.store, patience_s=PATIENCE_S)
        code = _play_to_the_end(store, options.run_id)
        queue.advance(store)
        return code
    except PwffError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 0


def _play_to_the_end(store: Store, run_id: str) -> int:
    try:
        for _ in recorded(store, run_id):
            pass
    except PwffError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
