"""What a run's worker writes, as long as it is the worker.

A worker may be taken for dead and not be (its process cannot be seen from another container, say), and its run be given
to another one. So a run belongs to one process, which is in the run's row, and every write asks for that process.
"""

from __future__ import annotations

import sqlite3
import time

from pwff_core.errors import StoreError, TakenOverError
from pwff_core.runs.liveness import SAME_PROCESS_S, this_process
from pwff_core.runs.store.rows import RunStatus
from pwff_core.runs.store.texts import storable

_PLAYS = (RunStatus.RUNNING, RunStatus.PAUSED)
_MINE = (  # as in `liveness.alive`: start times are compared only where the system tells nothing better
    "id = ? AND status IN (?, ?) AND pid = ? AND (process_birth != '' OR abs(process_started_at - ?) < ?) "
    "AND process_birth = ?"
)


def claim(connection: sqlite3.Connection, run_id: str) -> bool:
    """Makes this process the worker of a queued run; False if the run is not queued, or deleted."""
    query = (
        "UPDATE runs SET status = ?, waits = 0, pid = ?, process_started_at = ?, process_birth = ?, heartbeat_at = ? "
        "WHERE id = ? AND status = ? AND NOT deleted"
    )
    values = (RunStatus.RUNNING, *this_process(), time.time(), storable(run_id), RunStatus.QUEUED)
    return bool(connection.execute(query, values).rowcount)


def write(connection: sqlite3.Connection, run_id: str, assignments: str, values: tuple[object, ...]) -> None:
    """Changes the row of this process's run, and says that it is there. TakenOverError if it is not its run."""
    query = f"UPDATE runs SET {assignments}, heartbeat_at = ? WHERE {_MINE}"
    if not connection.execute(query, (*values, time.time(), *_mine(run_id))).rowcount:
        raise _not_mine(connection, run_id)


def pulse(connection: sqlite3.Connection, run_id: str) -> bool:
    """Says that this process is there; False if the run is deleted, gone, or not this process's."""
    query = f"UPDATE runs SET heartbeat_at = ? WHERE NOT deleted AND {_MINE}"
    return bool(connection.execute(query, (time.time(), *_mine(run_id))).rowcount)


def _mine(run_id: str) -> tuple[object, ...]:
    me = this_process()
    return storable(run_id), *_PLAYS, me.pid, me.started_at, SAME_PROCESS_S, me.birth


def _not_mine(connection: sqlite3.Connection, run_id: str) -> StoreError:
    row = connection.execute("SELECT pid, status FROM runs WHERE id = ?", (storable(run_id),)).fetchone()
    if row is None:
        return TakenOverError(f"Run {run_id} is not in the store any more; its worker ends.")
    if row["status"] in _PLAYS:
        return TakenOverError(f"Another worker has taken run {run_id} over (process {row['pid']}); this one ends.")
    return TakenOverError(f"Run {run_id} is {row['status']}, and no worker's; claim it before writing to it.")
