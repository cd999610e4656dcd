"""How a run stands, worked out at each reading: a worker that is gone or stalls cannot write that down itself."""

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
from pwff_core.runs.store import endings
from pwff_core.runs.store.endings import CLAIM_WITHIN_S, RunStatus
from pwff_core.runs.store.rows import RunRow
from pwff_core.units import seconds_text

STALE_S = 10.0  # a worker writes a heartbeat every 2 s; one that has not for so long is stalled
UNFINISHED = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED)  # the stored statuses that a round may follow
QUEUE = "waits AND NOT deleted ORDER BY place, created_at, rowid"  # SQL: the runs in the queue, in order
_FULL_MB = 16.0  # a disk with less room than this is full
_LOG_TAIL_BYTES = 4096  # of a log that are searched for its last line
_LOG_TAIL_LENGTH = 400  # characters of that line that are shown
_COLUMNS = tuple(field.alias or name for name, field in RunRow.model_fields.items())
_PROFILES = TypeAdapter(tuple[ClientProfile, ...])


def run_row(row: sqlite3.Row, store_path: Path, stale_s: float | None = None) -> RunRow:
    """A row of the table as a run, as it stands now.

    `stale_s` is the age of a heartbeat from which on a run is stalled: STALE_S unless given. ValidationError if this
    version does not know the run's settings.
    """
    values = {column: row[column] for column in _COLUMNS}
    values |= {"config": _config(row["config"]), "profiles": _profiles(row["profiles"])}
    run = RunRow.model_validate(values | {"notes": json.loads(row["notes"])})
    if abandoned(row):
        return run.model_copy(update={"status": RunStatus.FAILED, "message": _failure_message(run, store_path)})
    silent_s = abs(_heartbeat_age_s(run))
    if run.status in (RunStatus.RUNNING, RunStatus.PAUSED) and silent_s > (STALE_S if stale_s is None else stale_s):
        return run.model_copy(update={"status": RunStatus.STALLED, "message": _stall_message(run, store_path)})
    return run


def abandoned(row: sqlite3.Row) -> bool:
    """Whether a run is said to play, or to start soon, and no process is there that would play it."""
    status = RunStatus(row["status"])
    if status is RunStatus.QUEUED:
        return not row["waits"] and passed_s(_launched_at(row)) > CLAIM_WITHIN_S
    return not status.ended and not alive(Process(row["pid"], row["process_started_at"], row["process_birth"]))


def due(connection: sqlite3.Connection, parallel: int) -> str | None:
    """The first run of the queue if fewer than `parallel` runs play or are about to, otherwise None."""
    first = connection.execute(f"SELECT id FROM runs WHERE {QUEUE} LIMIT 1").fetchone()
    if first is None:
        return None
    query = "SELECT * FROM runs WHERE NOT waits AND NOT deleted AND status IN (?, ?, ?)"
    launched = connection.execute(query, UNFINISHED)
    return str(first["id"]) if sum(not abandoned(row) for row in launched) < parallel else None


# settings and clients of a run are read at each look and hardly ever change; nobody changes the cached values
@lru_cache(maxsize=256)
def _config(text: str) -> RunConfig:
    return RunConfig.model_validate_json(text)


@lru_cache(maxsize=256)
def _profiles(text: str) -> tuple[ClientProfile, ...]:
    return _PROFILES.validate_json(text)


def _launched_at(row: sqlite3.Row) -> Moment:
    """When its engine was last started; long ago for a run of an older pwff, which did not record it."""
    uptime_s: float | None = row["launched_uptime_s"]
    return Moment(row["launched_boot"], -math.inf if uptime_s is None else uptime_s)


def _heartbeat_age_s(row: RunRow) -> float:
    """Seconds since the last heartbeat; negative if the clock was set back since then."""
    return time.time() - (row.heartbeat_at or -math.inf)


def _stall_message(row: RunRow, store_path: Path) -> str:
    """What holds up a worker that is there: what can be seen from here, otherwise the tail of its log."""
    if row.pid is not None and suspended(row.pid):
        return f"The engine is suspended (process {row.pid}); it goes on where it was once it is continued."
    free_mb = shutil.disk_usage(store_path.parent).free / 1e6
    if free_mb < _FULL_MB:
        return f"The disk of {store_path.parent} is full ({free_mb:.1f} MB left); make room, and the run goes on."
    age_s = _heartbeat_age_s(row)
    silence = f"for {seconds_text(age_s)}" if age_s > 0 else "since the computer's clock was set back"
    tail = endings.log_tail_words(_log_tail(row, store_path))
    return f"No sign of life {silence}, but the engine is there (process {row.pid}).{tail}"


def _failure_message(row: RunRow, store_path: Path) -> str:
    tail = _log_tail(row, store_path)
    if row.status is RunStatus.QUEUED:
        return endings.not_started(tail)
    return endings.engine_gone(row.pid, row.rounds_done, tail)


def _log_tail(row: RunRow, store_path: Path) -> str:
    """The last line that a run's worker printed, or ""; it may hold anything."""
    try:
        with RunFiles(store_path).log(row.id).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LOG_TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:  # no log: the worker was started by hand
        return ""
    last = next((line for line in reversed(lines) if line.strip()), "")
    text = "".join(letter for letter in " ".join(last.split()) if letter.isprintable())
    return text if len(text) <= _LOG_TAIL_LENGTH else f"{text[:_LOG_TAIL_LENGTH]}…"
