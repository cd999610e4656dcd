"""The health of a store's files, the repair of wrong rows, and the removal of deleted runs."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.runs.store import SCHEMA_VERSION, RunStatus, Store, inspection
from pwff_core.runs.store.inspection import Condition, health
from pwff_core.runs.store.schema import COMMANDS, RUNS
from tests.support.scripted import played, record
from tests.support.store_tables import sql

CONFIG = RunConfig(clients=2)


# the health of a file


def test_a_sound_store(path: Path) -> None:
    store = Store(path)
    played(store, CONFIG)
    state = health(path, RUNS)
    assert (state.condition, state.version, state.trouble, state.whole) == (Condition.SOUND, SCHEMA_VERSION, "", True)
    assert state.size == path.stat().st_size > 0
    store.request_stop(store.create_run(CONFIG))
    assert health(store.commands_path, COMMANDS).condition is Condition.SOUND


def test_no_store_yet(path: Path) -> None:
    assert health(path, RUNS).condition is Condition.MISSING
    path.touch()
    assert health(path, RUNS).condition is Condition.MISSING


@pytest.mark.parametrize(
    ("statement", "condition"),
    [
        (f"PRAGMA user_version = {SCHEMA_VERSION - 1}", Condition.OLDER),
        (f"PRAGMA user_version = {SCHEMA_VERSION + 1}", Condition.NEWER),
        ("PRAGMA application_id = 7", Condition.FOREIGN),
    ],
)
def test_files_of_other_versions_and_programs_are_left_alone(path: Path, statement: str, condition: Condition) -> None:
    Store(path)
    sql(path, statement)
    before = path.read_bytes()
    assert health(path, RUNS).condition is condition
    assert path.read_bytes() == before


def test_damage_behind_a_sound_beginning(path: Path) -> None:
    played(Store(path), CONFIG)
    inspection.shorten_log(path)
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    state = health(path, RUNS)
    assert state.condition is Condition.DAMAGED and state.trouble
    path.write_bytes(content[: len(content) // 2])
    assert health(path, RUNS).condition is Condition.DAMAGED
    path.write_bytes(b"accuracy,loss\n" * 1000)
    assert health(path, RUNS).condition is Condition.UNREADABLE


def test_a_locked_file_is_not_a_damaged_one(path: Path) -> None:
    Store(path)
    sql(path, "PRAGMA journal_mode = DELETE")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    assert health(path, RUNS, timeout_s=0.01).condition is Condition.UNREACHABLE
    blocker.close()


def test_a_check_without_the_time_for_it_says_so(path: Path) -> None:
    run_id = Store(path).create_run(CONFIG)
    numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT"
    sql(path, f"INSERT INTO rounds (run_id, record) {numbers} '{run_id}', 'round ' || i FROM n")
    state = health(path, RUNS, budget_s=-1.0)
    assert (state.condition, state.whole) == (Condition.SOUND, False)


def test_ids_are_those_of_all_rows(path: Path) -> None:
    store = Store(path)
    kept, deleted = store.create_run(CONFIG), store.create_run(CONFIG)
    store.delete(deleted)
    store.request_stop(kept)
    assert inspection.ids(path) == {kept, deleted}
    assert inspection.ids(store.commands_path) == set()
    assert inspection.is_store(path) and inspection.is_store(store.commands_path)
    path.write_bytes(b"nothing" * 100)
    assert inspection.ids(path) is None
    assert not inspection.is_store(path)
    assert not inspection.is_store(path.with_name("nowhere"))


def test_the_roll_lists_every_run(path: Path) -> None:
    store = Store(path)
    first, deleted, other = (store.create_run(CONFIG) for _ in range(3))
    store.delete(deleted)
    sql(path, f"UPDATE runs SET config = replace(config, 'snr_db', 'snr') WHERE id = '{other}'")
    entries = inspection.roll(path)
    assert [(entry.id, entry.status, entry.deleted) for entry in entries] == [
        (first, RunStatus.QUEUED, False),
        (deleted, RunStatus.QUEUED, True),
        (other, RunStatus.QUEUED, False),
    ]
    assert [entry.deleted_at is None for entry in entries] == [True, False, True]


# repair


def lost(path: Path, rounds: int) -> str:
    """The id of a run with so many rounds whose worker is gone."""
    store = Store(path)
    run_id = store.create_run(CONFIG)
    store.claim(run_id)
    for number in range(1, rounds + 1):
        store.append(run_id, record(number, run_id))
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    sql(path, f"UPDATE runs SET pid = {child.pid}, process_birth = 'another' WHERE id = '{run_id}'")
    return run_id


def test_only_a_run_without_its_engine_is_recorded_as_failed(path: Path) -> None:
    store = Store(path)
    gone, finished, playing = lost(path, 2), played(store, CONFIG), store.create_run(CONFIG)
    waiting = store.create_run(CONFIG, in_queue=True)
    store.claim(playing)
    untouched = [store.run(run_id) for run_id in (finished, playing, waiting)]
    assert list(inspection.disorder(path).stale) == [gone]
    repaired = inspection.put_right(path)
    assert list(repaired.stale) == [gone]
    row = next(entry for entry in inspection.roll(path) if entry.id == gone)
    assert row.status is RunStatus.FAILED
    assert store.run(gone).message == repaired.stale[gone]
    assert "its 2 rounds are kept" in repaired.stale[gone]
    assert [store.run(run_id) for run_id in (finished, playing, waiting)] == untouched
    assert inspection.disorder(path) == inspection.Disorder({}, {})
    store.requeue(gone, in_queue=False)


def test_rounds_are_counted_anew(path: Path) -> None:
    store = Store(path)
    run_id = played(store, CONFIG)
    sql(path, "UPDATE runs SET rounds_done = 7")
    assert inspection.put_right(path).miscounted == {run_id: (7, 3)}
    assert store.run(run_id).rounds_done == 3


# removal


def test_only_a_deleted_run_without_a_worker_is_purged(path: Path) -> None:
    store = Store(path)
    kept, deleted = played(store, CONFIG), played(store, CONFIG)
    store.delete(deleted)
    assert not inspection.purge(path, kept)
    assert inspection.purge(path, deleted)
    assert not inspection.purge(path, deleted)
    with pytest.raises(StoreError, match="There is no run"):
        store.run(deleted)
    assert len(store.rounds(kept)) == 3 and store.rounds(deleted) == []
    playing = store.create_run(CONFIG)
    store.claim(playing)
    sql(path, f"UPDATE runs SET deleted = 1, deleted_at = {time.time()} WHERE id = '{playing}'")
    assert not inspection.purge(path, playing)


def test_compacting_frees_the_room_of_purged_runs(path: Path) -> None:
    store = Store(path)
    ids = [played(store, CONFIG) for _ in range(6)]
    inspection.shorten_log(path)
    before = path.stat().st_size
    for run_id in ids[:5]:
        store.delete(run_id)
        assert inspection.purge(path, run_id)
    inspection.compact(path)
    assert path.stat().st_size < before
    assert [row.id for row in store.runs()] == ids[5:]


def test_runs_get_commands_from_a_new_commands_file(path: Path) -> None:
    store = Store(path)
    run_id = store.create_run(CONFIG)
    store.claim(run_id)
    for _ in range(5):
        store.pause(run_id, "me")
    store.acknowledge(run_id, store.pending_commands(run_id)[-1].id, None)
    store.commands_path.unlink()
    for end in ("-wal", "-shm"):
        store.commands_path.with_name(store.commands_path.name + end).unlink(missing_ok=True)
    inspection.forget_commands(path)
    store.request_stop(run_id)
    assert [command.kind for command in store.pending_commands(run_id)] == ["stop"]
