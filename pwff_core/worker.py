"""The engine as a process: `python -m pwff_core.worker RUN_ID --store PATH` plays a run and writes it to the store.

`recorded` is that run as a stream, and the one place where a run meets the store; the command line's `pwff run` draws
from it too. A run ends as *finished*, *stopped* (a page's Stop, Ctrl-C, SIGTERM) or *failed*, and keeps its rounds.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pwff_core.conversation import models_folder
from pwff_core.errors import EngineError, ModelError, PwffError, TrainingError
from pwff_core.launch import log_path
from pwff_core.paths import default_store_path
from pwff_core.records import RoundRecord
from pwff_core.store import RunStatus, Store

PATIENCE_S = 60.0  # a worker waits longer for a locked store than a page does: it has rounds to lose


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


def recorded(store: Store, run_id: str) -> Generator[RoundRecord, None, None]:
    """Claims a queued run, plays it, and yields each round once the store has it.

    Whatever happens, the store says how the run ended before this returns or raises: PwffError (TrainingError for lack
    of memory, EngineError for what nobody foresaw) if it failed, KeyboardInterrupt if a signal stopped it. Closing the
    stream early stops the run.
    """
    interruption = Interruption()
    with interruption.installed():
        store.claim(run_id)
        try:
            yield from _rounds(store, run_id, interruption)
        except (KeyboardInterrupt, GeneratorExit):
            _finish_stopped(store, run_id)
            raise
        except Exception as error:
            failure = _as_failure(error, log_path(store.path, run_id))
            store.finish(run_id, RunStatus.FAILED, str(failure))
            raise failure from error


def _rounds(store: Store, run_id: str, interruption: Interruption) -> Generator[RoundRecord, None, None]:
    """The run's rounds, each written before it is yielded; notes the end unless it raises."""
    with interruption.window():
        # the seconds that torch takes to load are for the run's worker alone
        from pwff_core import federation
        from pwff_core.models import saved

        running = federation.prepare(store.run(run_id).config, run_id)
    announced = running.rounds_total
    store.describe(run_id, running.profiles, running.notes, announced)
    records = federation.play(running)
    while True:
        stop = store.stop_requested(run_id)
        with interruption.window():
            record = None if stop else next(records, None)
        if record is None:
            break
        store.append(run_id, record)
        if running.rounds_total != announced:  # a stage has converged before its last round
            announced = running.rounds_total
            store.describe(run_id, running.profiles, running.notes, announced)
        yield record
    trouble = ""
    try:
        saved.save(models_folder(store.path, run_id), running.saved_models())
    except ModelError as error:  # the run is none the worse for it
        trouble = str(error)
    if stop and store.run(run_id).rounds_done < announced:
        _finish_stopped(store, run_id, trouble)
    else:
        store.finish(run_id, RunStatus.FINISHED, trouble)


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
    """The process; its exit code is 0 if the run finished or was stopped, 1 if it failed or could not be played."""
    parser = argparse.ArgumentParser(prog="python -m pwff_core.worker", description="Play one queued run of a store.")
    parser.add_argument("run_id", metavar="RUN_ID")
    parser.add_argument("--store", type=Path, default=default_store_path(), metavar="PATH")
    options = parser.parse_args(arguments)
    try:
        for _ in recorded(Store(options.store, patience_s=PATIENCE_S), options.run_id):
            pass
    except PwffError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
