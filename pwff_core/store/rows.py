"""What comes out of the store: a run as it stands, who steers it, what was asked of it."""

from __future__ import annotations

import json
import sqlite3
import time
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from pwff_core.config import RunConfig
from pwff_core.liveness import Process, alive
from pwff_core.paths import log_path
from pwff_core.records import ClientProfile, Value

CLAIM_WITHIN_S = 60.0  # a run that was launched and that no worker took by then is not going to start
_LOG_TAIL = 4096  # bytes of a log that are looked at for its last words
_LAST_WORDS = 200  # characters of them that are shown


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether no round will follow."""
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED)


class RunRow(BaseModel):
    """A run as the store knows it; its rounds are fetched apart. Times are Unix seconds."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    created_at: float
    status: RunStatus
    message: str  # "" or why it failed or stopped
    config: RunConfig  # as it started; what was changed since are its steerings
    profiles: tuple[ClientProfile, ...]
    notes: tuple[str, ...]
    rounds_done: int
    rounds_total: int
    pid: int | None
    heartbeat_at: float | None
    deleted: bool
    waits: bool = False  # stands in the queue: nobody has launched it yet
    comparison: str = ""  # the comparison that it is part of, if any


class Lease(NamedTuple):
    """Who steers a run, since when (Unix seconds)."""

    viewer: str
    since: float


class Command(NamedTuple):
    """What a page asked of a run's worker."""

    id: int
    kind: Literal["steer", "pause", "resume", "stop"]
    changes: dict[str, Value]  # of a steer: dotted path → value


def run_row(row: sqlite3.Row, store_path: Path) -> RunRow:
    """A row of the table as a run. ValidationError if its settings are none that this version knows.

    Whether its worker is still there is judged at each reading: nobody else would write down that it is not.
    """
    values = {name: row[name] for name in RunRow.model_fields}
    for name in ("config", "profiles", "notes"):
        values[name] = json.loads(values[name])
    found = RunRow.model_validate(values)
    if not abandoned(row):
        return found
    return found.model_copy(update={"status": RunStatus.FAILED, "message": _obituary(found, store_path)})


def abandoned(row: sqlite3.Row) -> bool:
    """Whether a run says that it plays, or is about to, and nobody is there who would play it."""
    status = RunStatus(row["status"])
    if status is RunStatus.QUEUED:
        return not row["waits"] and time.time() - row["launched_at"] > CLAIM_WITHIN_S
    return not status.ended and not alive(Process(row["pid"], row["process_started_at"]))


def due(connection: sqlite3.Connection, parallel: int) -> str | None:
    """The first run of the queue if fewer than `parallel` runs play or are about to, otherwise None."""
    query = "SELECT id FROM runs WHERE waits AND NOT deleted ORDER BY created_at, rowid LIMIT 1"
    first = connection.execute(query).fetchone()
    if first is None:
        return None
    begun = connection.execute(
        "SELECT * FROM runs WHERE NOT waits AND NOT deleted AND status IN (?, ?, ?)",
        (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED),
    )
    return str(first["id"]) if sum(not abandoned(row) for row in begun) < parallel else None


def _obituary(row: RunRow, store_path: Path) -> str:
    words = _last_words(log_path(store_path, row.id))
    said = f" Its last words: {words}" if words else ""
    if row.status is RunStatus.QUEUED:
        return f"The engine did not start within {CLAIM_WITHIN_S:.0f} s; start the run again.{said}"
    rounds = {0: "no round was complete", 1: "its 1 round is kept"}
    kept = rounds.get(row.rounds_done, f"its {row.rounds_done} rounds are kept")
    return f"The engine stopped {'' if words else 'without a word '}(process {row.pid} is gone); {kept}.{said}"


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
