"""Stores with runs, as older versions of pwff wrote them: made by the schema steps of that version."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pwff_core.config import RunConfig
from pwff_core.records import Steering
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import schema
from tests.support.scripted import profile, record

CONFIG = RunConfig(clients=2)
STEERING = Steering(
    position=2, stage="instruction", round=2, before={"channel.snr_db": 5.0}, changes={"channel.snr_db": 9.0}, at=1.0
)


def older(path: Path, version: int) -> None:
    """Both files of version 1 or 2: a finished run of three rounds, a stopped one of two, one that is deleted, one that
    waits (launched long ago in version 1, which had no queue), and a stop that was asked of it."""
    with _file(path, schema.RUNS[:version]) as connection:
        for run_id, status, rounds in (
            *(("finished", "finished", 3), ("stopped", "stopped", 2)),
            *(("deleted", "failed", 1), ("forgotten", "queued", 0)),
        ):
            people = json.dumps([json.loads(profile(client).model_dump_json()) for client in range(2)])
            values = (run_id, f"my {run_id}", 1000.0, status, CONFIG.model_dump_json(), people, rounds, 27)
            connection.execute(
                "INSERT INTO runs (id, name, created_at, status, config, profiles, rounds_done, rounds_total) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            for number in range(1, rounds + 1):
                line = (run_id, record(number, run_id).model_dump_json())
                connection.execute("INSERT INTO rounds (run_id, record) VALUES (?, ?)", line)
        connection.execute("UPDATE runs SET deleted = 1 WHERE id = 'deleted'")
        if version > 1:
            connection.execute("UPDATE runs SET waits = 1 WHERE id = 'forgotten'")
            line = ("finished", STEERING.model_dump_json())
            connection.execute("INSERT INTO steerings (run_id, steering) VALUES (?, ?)", line)
    with _file(RunFiles(path).commands, schema.COMMANDS[:version]) as connection:
        connection.execute("INSERT INTO commands (run_id, command, created_at) VALUES ('forgotten', 'stop', 1001.0)")


def _file(path: Path, steps: Sequence[str]) -> closing[sqlite3.Connection]:
    """A new file of that many steps, on a connection that writes at once."""
    connection = sqlite3.connect(path, isolation_level=None)
    for step in steps:
        connection.executescript(step)
    connection.executescript(
        f"PRAGMA application_id = {schema.APPLICATION_ID}; PRAGMA user_version = {len(steps)}; "
        "PRAGMA journal_mode = WAL;"
    )
    return closing(connection)


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of a file, by table."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in sorted(tables)}
