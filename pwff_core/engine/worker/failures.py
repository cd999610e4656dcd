"""Bad ends: an unexpected error as a sentence, and the rounds of a run whose store has gone."""

from __future__ import annotations

import os
import re
import tempfile
import traceback
from pathlib import Path

from pwff_core.engine.worker.retry import report
from pwff_core.errors import EngineError, PwffError, TrainingError
from pwff_core.runs.recording import Recording, to_json

# torch's warning that it lacks memory for a product and takes another kernel, which would change the last digits
NO_ROOM = "mkldnn_.* failed"


def as_failure(error: Exception, log: Path) -> PwffError:
    """Any exception as one sentence; the traceback of an unexpected one goes to the log, or else to stderr."""
    if isinstance(error, PwffError):
        return error
    if _is_out_of_memory(error):
        return TrainingError(
            "The computer has not enough memory for this run; resume it after closing other programs, or start a new "
            "one with fewer clients, a smaller batch size, shorter examples (data.max_length) or a smaller backbone."
        )
    text = " ".join(str(error).split())  # one line
    message = f"The engine failed: {type(error).__name__}: {text}."
    try:
        log.parent.mkdir(exist_ok=True)  # without parents: the store's own folder may have been removed
        with log.open("a", encoding="utf-8", errors="replace") as file:
            traceback.print_exception(error, file=file)
    except OSError:
        report("".join(traceback.format_exception(error)))
        return EngineError(message)
    return EngineError(f"{message} The full report is in {log}.")


def save_rounds(recording: Recording) -> str:
    """Writes a run whose store has gone into the system's temporary folder; a sentence says where, or why not."""
    done = len(recording.records)
    if not done:
        return "It had no round to lose."
    rounds = "Its 1 round is" if done == 1 else f"Its {done} rounds are"
    try:
        handle, name = tempfile.mkstemp(prefix=f"pwff-{recording.row.id}-", suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(to_json(recording))
    except OSError as error:
        return f"{rounds} lost: {tempfile.gettempdir()} cannot be written to either ({error.strerror})."
    return f"{rounds} kept in {name}, as `pwff export` writes a run.json."


def _is_out_of_memory(error: Exception) -> bool:
    """Python's MemoryError, or torch's error: on the GPU it has a name of its own, on the CPU only its text tells."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
        or (isinstance(error, UserWarning) and re.match(NO_ROOM, str(error)) is not None)
    )
