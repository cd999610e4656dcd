"""How a run stands, judged at each reading: nobody else would write down that its worker is gone, or gives no sign."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import time
from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter

from pwff_core.config import RunConfig
from pwff_core.records import ClientProfile
from pwff_core.runs.liveness import Moment, Process, alive, passed_s, suspended
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store.rows import RunRow, RunStatus
from pwff_core.units import seconds_text

CLAIM_WITHIN_S = 60.0  # a run that was launched and that no worker took by then is not going to start
STALE_S = 10.0  # a worker writes down that it is there every 2 s; without a sign for so long, something holds it up
GOING = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED)  # as they are stored: no round may follow any other
_FULL_MB = 16.0  # with less room than this on its disk, a store that is not written to is full
_LOG_TAIL = 4096  # bytes of a log that are looked at for its last words
_LAST_WORDS = 400  # characters of them that are shown
QUEUE = "waits AND NOT deleted ORDER BY place, created_at, rowid"  # the condition of its rows, and their order
_PROFILES = TypeAdapter(tuple[ClientProfile, ...])
_CAN_RESUME = "The run can be resumed."


def run_row(row: sqlite3.Row, store_path: Path) -> RunRow:
    """A row of the table as a run, as it stands now. ValidationError if this version does not know its settings."""
    values = {name: row[name] for name in RunRow.model_fields}
    values |= {"config": _config(row["config"]), "profiles": _profiles(row["profiles"])}
    found = RunRow.model_validate(values | {"notes": json.loads(row["notes"])})
    if abandoned(row):
        return found.model_copy(update={"status": RunStatus.FAILED, "message": _obituary(found, store_path)})
    if found.status in (RunStatus.RUNNING, RunStatus.PAUSED) and abs(_silent_s(found)) > STALE_S:
        return found.model_copy(update={"status": RunStatus.WAITING, "message": _hindrance(found, store_path)})
    return found


def abandoned(row: sqlite3.Row) -> bool:
    """Whether a run says that it plays, or is about to, and nobody is there who would play it."""
    status = RunStatus(row["status"])
    if status is RunStatus.QUEUED:
        return not row["waits"] and passed_s(_launched(row)) > CLAIM_WITHIN_S
    return not status.ended and not alive(Process(row["pid"], row["process_started_at"], row["process_birth"]))


def due(connection: sqlite3.Connection, parallel: int) -> str | None:
    """The first run of the queue if fewer than `parallel` runs play or are about to, otherwise None."""
    first = connection.execute(f"SELECT id FROM runs WHERE {QUEUE} LIMIT 1").fetchone()
    if first is None:
        return None
    query = "SELECT * FROM runs WHERE NOT waits AND NOT deleted AND status IN (?, ?, ?)"
    begun = connection.execute(query, GOING)
    return str(first["id"]) if sum(not abandoned(row) for row in begun) < parallel else None


# settings and clients of a run are read at each look and hardly ever change; nobody changes what is kept here
@lru_cache(maxsize=256)
def _config(text: str) -> RunConfig:
    return RunConfig.model_validate_json(text)


@lru_cache(maxsize=256)
def _profiles(text: str) -> tuple[ClientProfile, ...]:
    return _PROFILES.validate_json(text)


def _launched(row: sqlite3.Row) -> Moment:
    """When its engine was started last. An older pwff did not write it down in this way: that was long ago."""
    uptime_s: float | None = row["launched_uptime_s"]
    return Moment(row["launched_boot"], -math.inf if uptime_s is None else uptime_s)


def _silent_s(row: RunRow) -> float:
    """Seconds since the last sign of life; negative if it is of a time that has not come: the clock was set back."""
    return time.time() - (row.heartbeat_at or -math.inf)


def _hindrance(row: RunRow, store_path: Path) -> str:
    """What holds up a worker that is there: what can be seen from here, otherwise what it said last."""
    if row.pid is not None and suspended(row.pid):
        return f"The engine is suspended (process {row.pid}); it goes on where it was once it is continued."
    free_mb = shutil.disk_usage(store_path.parent).free / 1e6
    if free_mb < _FULL_MB:
        return f"The disk of {store_path.parent} is full ({free_mb:.1f} MB left); make room, and the run goes on."
    for_s = _silent_s(row)
    silence = f"for {seconds_text(for_s)}" if for_s > 0 else "since the computer's clock was set back"
    return f"No sign of life {silence}, but the engine is there (process {row.pid}).{_said(row, store_path)}"


def _obituary(row: RunRow, store_path: Path) -> str:
    said = _said(row, store_path)
    if row.status is RunStatus.QUEUED:
        return f"The engine did not start within {CLAIM_WITHIN_S:.0f} s.{said} {_CAN_RESUME}"
    rounds = {0: "no round was complete", 1: "its 1 round is kept"}
    kept = rounds.get(row.rounds_done, f"its {row.rounds_done} rounds are kept")
    without = "" if said else "without a word "
    return f"The engine stopped {without}(process {row.pid} is gone); {kept}.{said} {_CAN_RESUME}"


def _said(row: RunRow, store_path: Path) -> str:
    words = _last_words(RunFiles(store_path).log(row.id))
    return f" Its last words: {words}{'' if words[-1] in '.!?…' else '.'}" if words else ""


def _last_words(log: Path) -> str:
    """The last line that a worker wrote, or ""; what it says may be anything."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LOG_TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:  # no log: the worker was started by hand
        return ""
    last = next((line for line in reversed(lines) if line.strip()), "")
    words = "".join(letter for letter in " ".join(last.split()) if letter.isprintable())
    return words if len(words) <= _LAST_WORDS else f"{words[:_LAST_WORDS]}…"
