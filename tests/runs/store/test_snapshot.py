"""A snapshot: everything that a page shows of a run, in one call and of one moment."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.records import Steering
from pwff_core.runs.store import RunSnapshot, RunStatus, Store, status
from tests.support.scripted import record
from tests.support.sqlite_trace import SqliteTrace
from tests.support.store_tables import sql

CONFIG = RunConfig(clients=2)


def separate_calls(store: Store, run_id: str, after: int, viewer: str) -> RunSnapshot:
    store.keep_lease(run_id, viewer)
    return RunSnapshot(
        store.run(run_id), store.rounds(run_id, after), store.steerings(run_id), store.pending_changes(run_id),
        store.pending(run_id), store.lease(run_id), store.queue(),
    )  # fmt: skip


def test_a_snapshot_equals_separate_calls(path: Path) -> None:
    store, page = Store(path), Store(path, readonly=True)
    run_id = store.create_run(CONFIG)
    assert page.snapshot(run_id, 0, "ada") == separate_calls(page, run_id, 0, "ada")
    store.claim(run_id)
    store.append(run_id, record(1, run_id))
    page.steer(run_id, "ada", {"channel.snr_db": 1.0})
    steering = Steering(position=2, stage="instruction", round=2, before={}, changes={"channel.snr_db": 1.0}, at=1.0)
    store.acknowledge(run_id, store.pending_commands(run_id)[-1].id, steering)
    page.steer(run_id, "ada", {"channel.bandwidth_hz": 2e6})
    page.pause(run_id, "ada")
    waiting = [store.create_run(CONFIG, in_queue=True) for _ in range(2)]
    first = page.snapshot(run_id, 0, "ada")
    assert first == separate_calls(page, run_id, 0, "ada")
    assert [record for _, record in first.rounds] == [record(1, run_id)] and first.steerings == [steering]
    assert (first.pending_changes, first.pending) == ({"channel.bandwidth_hz": 2e6}, {"pause"})
    assert first.lease is not None and first.lease.viewer == "ada"
    assert [row.id for row in first.queue] == waiting
    store.append(run_id, record(2, run_id))
    store.set_status(run_id, RunStatus.PAUSED)
    second = page.snapshot(run_id, first.rounds[-1][0], "bob")
    assert second == separate_calls(page, run_id, first.rounds[-1][0], "bob")
    assert [record.round for _, record in second.rounds] == [2] and second.row.rounds_done == 2
    store.finish(run_id, RunStatus.STOPPED)
    third = page.snapshot(run_id, second.rounds[-1][0])
    assert (third.rounds, third.pending_changes, third.pending, third.lease) == ([], {}, frozenset(), None)


def test_a_snapshot_opens_each_file_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, page = Store(path), Store(path, readonly=True)
    run_id = store.create_run(CONFIG)
    store.claim(run_id)
    store.take_over(run_id, "ada")
    trace = SqliteTrace(monkeypatch)
    assert page.snapshot(run_id, 0, "ada").lease is not None
    assert trace.files == ["runs.sqlite?mode=ro", "runs.commands.sqlite?mode=ro"]


def test_a_snapshot_s_row_and_rounds_are_of_one_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, page = Store(path), Store(path, readonly=True)
    run_id = store.create_run(CONFIG)
    store.claim(run_id)
    trace = SqliteTrace(monkeypatch)
    appended: list[int] = []

    def append(statement: str) -> None:
        if statement.startswith("SELECT id, record FROM rounds") and not appended:  # the row was read before
            appended.append(1)
            store.append(run_id, record(1, run_id))

    trace.before = append
    snapshot = page.snapshot(run_id)
    assert (snapshot.row.rounds_done, snapshot.rounds) == (0, [])
    assert store.run(run_id).rounds_done == 1


def test_a_snapshot_of_an_unknown_run_is_an_error(path: Path) -> None:
    page = Store(path, readonly=True)
    for run_id in ("nosuchid", "", "x' OR '1'='1"):
        with pytest.raises(StoreError, match="^There is no run"):
            page.snapshot(run_id)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT id, record FROM rounds WHERE run_id = 'a' AND id > 5 ORDER BY id", "rounds_of_run"),
        ("SELECT steering FROM steerings WHERE run_id = 'a' ORDER BY id", "steerings_of_run"),
        (f"SELECT * FROM runs WHERE {status.QUEUE}", "runs_that_wait"),
        ("SELECT * FROM runs WHERE NOT waits AND NOT deleted AND status IN ('queued', 'running')", "runs_by_status"),
    ],
)
def test_frequent_queries_use_an_index(path: Path, query: str, index: str) -> None:
    Store(path)
    with sqlite3.connect(path) as connection:
        (plan,) = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}") if "TEMP" not in row[3]]
    connection.close()
    assert index in plan and "SCAN rounds" not in plan


def test_the_cache_of_settings_tells_runs_apart(path: Path) -> None:
    store = Store(path)
    first, second = store.create_run(CONFIG), store.create_run(CONFIG.model_copy(update={"seed": 7}))
    assert [store.run(run_id).config.seed for run_id in (first, second, first)] == [CONFIG.seed, 7, CONFIG.seed]
    sql(path, f"UPDATE runs SET config = replace(config, '\"seed\":7', '\"seed\":8') WHERE id = '{second}'")
    assert store.run(second).config.seed == 8
