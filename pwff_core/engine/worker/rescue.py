"""The last resort: the rounds of a run whose store has gone, as a recording in the system's temporary folder."""

from __future__ import annotations

import os
import tempfile

from pwff_core.runs.recording import Recording, to_json


def rescued(recording: Recording) -> str:
    """Writes the recording and says in a sentence where it is, or why it is nowhere."""
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
