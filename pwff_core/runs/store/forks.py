"""How a run goes on after it ended, and how a copy of it goes on from an earlier round with other settings."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pwff_core.config import next_round, stage_rounds
from pwff_core.errors import StoreError
from pwff_core.knobs import knobs, steered
from pwff_core.records import ClientProfile, RoundRecord, Steering, Value
from pwff_core.runs.liveness import this_moment
from pwff_core.runs.store.endings import RunStatus
from pwff_core.runs.store.rows import RunRow
from pwff_core.runs.store.status import abandoned
from pwff_core.runs.store.tables import Tables, steerings_of

_ID_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # no 0 and o, no 1, i and l
_WEIGHTS = "preferences.helpfulness_weights"
_RESUMABLE = (RunStatus.STOPPED, RunStatus.FAILED)


def new_id() -> str:
    """The id of a new run: 8 lower-case letters and digits."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(8))


def enqueue(connection: sqlite3.Connection, run_id: str, *, in_queue: bool) -> None:
    """Puts a run at the end of the queue, or records that the caller launches it now."""
    launched = ("", None) if in_queue else this_moment()
    query = (
        "UPDATE runs SET waits = ?, launched_boot = ?, launched_uptime_s = ?, "
        "place = (SELECT max(place) + 1 FROM runs) WHERE id = ?"
    )
    connection.execute(query, (in_queue, *launched, run_id))


def requeue(tables: Tables, connection: sqlite3.Connection, run_id: str, *, in_queue: bool) -> int:
    """Queues a stopped, failed or abandoned run again; returns the id of the last command that its worker has done."""
    row = tables.raw_on(connection, run_id)
    if row["deleted"]:
        raise StoreError(f"Run {run_id} is deleted; restore it first, then resume it.")
    status = RunStatus(row["status"])
    if status is RunStatus.FINISHED:
        raise StoreError(f"Run {run_id} is finished; fork it to go on from one of its rounds with other settings.")
    if status not in _RESUMABLE and not abandoned(row):
        state = "waits in the queue" if row["waits"] else f"is {status.value}"
        raise StoreError(f"Run {run_id} {state} already; there is nothing to resume.")
    query = (
        "UPDATE runs SET status = ?, message = '', pid = NULL, process_started_at = NULL, process_birth = '', "
        "heartbeat_at = NULL WHERE id = ?"
    )
    connection.execute(query, (RunStatus.QUEUED, run_id))
    enqueue(connection, run_id, in_queue=in_queue)
    return int(row["commands_taken"])


class _Point(NamedTuple):
    """A run as it stood after some of its rounds."""

    row: RunRow  # with the weights that its clients had then
    records: list[RoundRecord]
    steerings: list[Steering]
    rounds_total: int


def fork(
    tables: Tables, connection: sqlite3.Connection, run_id: str, position: int, changes: Mapping[str, Value]
) -> str:
    """Adds a run with another's first rounds and, from the next one on, other settings; returns its id."""
    point = _point(tables, connection, run_id, position)
    steering = _steering(point, changes)
    steerings = [*point.steerings, *([steering] if steering else [])]
    child, profiles = new_id(), profiles_text(_profiles(point.row, steering))
    connection.execute(
        "INSERT INTO runs (id, name, created_at, status, config, profiles, notes, rounds_done, rounds_total, parent, "
        "forked_at) SELECT ?, '', ?, ?, config, ?, notes, ?, ?, id, ? FROM runs WHERE id = ?",
        (child, time.time(), RunStatus.QUEUED, profiles, position, point.rounds_total, position, run_id),
    )
    connection.executemany(
        "INSERT INTO rounds (run_id, record) VALUES (?, ?)",
        [(child, record.model_copy(update={"run": child}).model_dump_json()) for record in point.records],
    )
    connection.executemany(
        "INSERT INTO steerings (run_id, steering) VALUES (?, ?)",
        [(child, each.model_dump_json()) for each in steerings],
    )
    return child


def profiles_text(profiles: Sequence[ClientProfile]) -> str:
    """Client profiles as they are stored: JSON."""
    return "[" + ",".join(profile.model_dump_json() for profile in profiles) + "]"


def _point(tables: Tables, connection: sqlite3.Connection, run_id: str, position: int) -> _Point:
    row = tables.parse(tables.raw_on(connection, run_id))
    query = "SELECT record FROM rounds WHERE run_id = ? ORDER BY id LIMIT ?"
    rows = connection.execute(query, (run_id, max(position, 0))).fetchall()
    records = [RoundRecord.model_validate_json(line["record"]) for line in rows]
    if not 1 <= position <= len(records):
        has = f"rounds 1 to {row.rounds_done}" if row.rounds_done else "no round yet"
        raise StoreError(f"Run {run_id} cannot be forked after round {position}: it has {has}.")
    planned = stage_rounds(row.config) | {record.stage: record.round for record in records if record.stage_end}
    total = sum(planned.values())
    if position >= total:
        raise StoreError(f"Run {run_id} ended with round {position}; fork it after an earlier one.")
    past = steerings_of(connection, run_id)
    weights = {client.client: client.helpfulness_weight for client in records[-1].clients}
    return _Point(
        _weighted(row, weights), records, [steering for steering in past if steering.position <= position], total
    )


def _steering(point: _Point, changes: Mapping[str, Value]) -> Steering | None:
    """The fork's changes, as a steering that holds from its first own round on; None if nothing differs."""
    past = [each.changes for each in point.steerings]
    config = steered(point.row.config, *past, changes)
    old, new = knobs(steered(point.row.config, *past)), knobs(config)
    before: dict[str, Value] = {path: old[path].value for path in changes}
    if before.get(_WEIGHTS, ()) is None:  # drawn from the seed
        before[_WEIGHTS] = tuple(profile.helpfulness_weight for profile in point.row.profiles)
    after: dict[str, Value] = {path: new[path].value for path in changes if new[path].value != before[path]}
    if not after:
        return None
    stage, number = next_round(config, point.records[-1])
    past_values = {path: before[path] for path in after}
    position = len(point.records) + 1
    return Steering(position=position, stage=stage, round=number, before=past_values, changes=after, at=time.time())


def _profiles(row: RunRow, steering: Steering | None) -> tuple[ClientProfile, ...]:
    weights = steering.changes.get(_WEIGHTS) if steering else None
    return _weighted(row, dict(enumerate(weights))).profiles if isinstance(weights, tuple) else row.profiles


def _weighted(row: RunRow, weights: Mapping[int, float]) -> RunRow:
    """The run with other weights on helpfulness, by client."""
    profiles = (
        profile.model_copy(update={"helpfulness_weight": weights.get(profile.client, profile.helpfulness_weight)})
        for profile in row.profiles
    )
    return row.model_copy(update={"profiles": tuple(profiles)})
