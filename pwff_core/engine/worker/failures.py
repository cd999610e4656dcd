"""What ends a run that nobody stopped, as a sentence for a person."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

from pwff_core.engine.worker.retry import tell
from pwff_core.errors import EngineError, PwffError, TrainingError

# torch says so where it has no memory for a product, and takes another kernel, whose last digits are others
NO_ROOM = "mkldnn_.* failed"


def as_failure(error: Exception, log: Path) -> PwffError:
    """Any exception as one sentence; what nobody foresaw goes to the log with its traceback, or else to stderr."""
    if isinstance(error, PwffError):
        return error
    if _is_out_of_memory(error):
        return TrainingError(
            "The computer has not enough memory for this run; resume it after closing other programs, or start a new "
            "one with fewer clients, a smaller batch size, shorter examples (data.max_length) or a smaller backbone."
        )
    text = " ".join(str(error).split())  # one line
    told = f"The engine failed: {type(error).__name__}: {text}."
    try:
        log.parent.mkdir(exist_ok=True)  # not the store's own folder, which may have been removed
        with log.open("a", encoding="utf-8", errors="replace") as report:
            traceback.print_exception(error, file=report)
    except OSError:
        tell("".join(traceback.format_exception(error)))
        return EngineError(told)
    return EngineError(f"{told} The full report is in {log}.")


def _is_out_of_memory(error: Exception) -> bool:
    """Python's own MemoryError and what torch raises instead, on the GPU by its name and on the CPU by its text."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
        or (isinstance(error, UserWarning) and re.match(NO_ROOM, str(error)) is not None)
    )
