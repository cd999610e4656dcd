"""A run that is not this process's any more: the store has gone or is damaged, the run deleted or taken over."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pwff_core.engine.worker import play_run
from pwff_core.errors import StoreError, TakenOverError
from pwff_core.runs.recording import from_json
from pwff_core.runs.store import RunStatus, Store
from tests.support.scripted import ScriptedEngine, record
from tests.support.workers import CONFIG, HASTY, NEVER_BEATING, kept, play

pytestmark = pytest.mark.usefixtures("temporary")


@pytest.fixture
def store(store: Store) -> Store:
    """It gives up on a lock at once: the worker tries again."""
    return Store(store.path, timeout_s=0.05)


@pytest.fixture
def run_id(store: Store) -> str:
    return store.create_run(CONFIG)


def remove_file(store: Store) -> None:
    for path in store.path.parent.glob("runs*"):
        path.unlink()


def remove_folder(store: Store) -> None:
    shutil.rmtree(store.path.parent, ignore_errors=True)


@pytest.mark.parametrize("remove", [remove_file, remove_folder])
def test_a_store_that_has_gone_is_not_made_again_and_no_round_is_lost(
    store: Store, run_id: str, temporary: Path, remove: Callable[[Store], None]
) -> None:
    engine = ScriptedEngine(lambda number: remove(store) if number == 4 else None)
    stream = play_run(store, run_id, engine=engine, timing=HASTY)
    for _ in range(3):
        next(stream)
    store.steer(run_id, "me", {"channel.snr_db": 9.0})
    with pytest.raises(StoreError) as caught:
        next(stream)
    (saved,) = temporary.iterdir()
    assert str(caught.value) == (
        f"The store {store.path} has gone: its file, its folder or its disk was removed. "
        f"Its 3 rounds are kept in {saved}, as `pwff export` writes a run.json."
    )
    found = from_json(saved.read_text(encoding="utf-8"))
    assert found.records == tuple(record(number, run_id) for number in (1, 2, 3))
    assert (found.row.id, found.row.status, found.row.config) == (run_id, RunStatus.FAILED, CONFIG)
    assert [(steering.position, steering.changes) for steering in found.steerings] == [(4, {"channel.snr_db": 9.0})]
    assert not store.path.exists()


def test_a_disk_that_comes_back_in_time_is_gone_on_with(store: Store, run_id: str) -> None:
    disk, elsewhere = store.path.parent, store.path.parent.with_name("unplugged")

    def before_round(number: int) -> None:
        if number == 3:
            disk.rename(elsewhere)
            threading.Timer(0.3, lambda: elsewhere.rename(disk)).start()

    row = play(store, ScriptedEngine(before_round), run_id, HASTY._replace(gone_s=60.0))
    assert (row.status, kept(store, run_id)) == (RunStatus.FINISHED, [1, 2, 3, 4, 5])


def test_where_the_rounds_cannot_be_saved_either_it_is_said(store: Store, run_id: str, temporary: Path) -> None:
    shutil.rmtree(temporary)
    engine = ScriptedEngine(lambda number: remove_folder(store) if number == 2 else None)
    with pytest.raises(StoreError, match=r"Its 1 round is lost: .*temporary cannot be written to either \(No such"):
        list(play_run(store, run_id, engine=engine, timing=HASTY))


def test_a_store_that_is_damaged_fails_the_run_and_its_rounds_are_saved(
    store: Store, run_id: str, temporary: Path
) -> None:

    def overwrite(number: int) -> None:
        if number == 3:
            text = store.path.with_name("text")
            text.write_bytes(b"somebody has saved a text under this name" * 1000)
            remove_file(store)
            text.rename(store.path)

    engine = ScriptedEngine(overwrite)
    with pytest.raises(StoreError, match="is not a store of runs.* Its 2 rounds are kept in"):
        list(play_run(store, run_id, engine=engine, timing=NEVER_BEATING))  # it would have the former file open
    (saved,) = temporary.iterdir()
    assert len(from_json(saved.read_text(encoding="utf-8")).records) == 2


# what is another's


def change(store: Store, query: str) -> None:
    with closing(sqlite3.connect(store.path, isolation_level=None, timeout=60)) as connection:
        connection.execute(query)


@pytest.mark.parametrize(
    "query",
    ["UPDATE runs SET deleted = 1", "UPDATE runs SET pid = 1, process_birth = 'another'", "DELETE FROM runs"],
)
def test_a_run_that_is_not_ours_any_more_is_left_at_once(
    store: Store, run_id: str, temporary: Path, query: str
) -> None:
    def taken_away(number: int) -> None:
        if number == 3:
            change(store, query)
            time.sleep(600)  # a round that takes ten minutes, unless it is broken off

    engine = ScriptedEngine(taken_away)
    stream = play_run(store, run_id, engine=engine, timing=HASTY)
    next(stream), next(stream)
    with pytest.raises(StoreError, match="is not this process's any more: it was deleted, or another worker has"):
        next(stream)
    assert kept(store, run_id) == [1, 2]  # they stay in the file
    saved = [from_json(path.read_text(encoding="utf-8")) for path in temporary.iterdir()]
    assert [found.row.rounds_done for found in saved] == ([2] if query.startswith("DELETE") else [])
    with closing(sqlite3.connect(store.path)) as connection:
        statuses = [status for (status,) in connection.execute("SELECT status FROM runs")]
    assert statuses == ([] if query.startswith("DELETE") else ["running"])  # nothing was written about it


def test_a_write_that_finds_another_worker_ends_the_run_here(store: Store, run_id: str) -> None:

    def taken_over(number: int) -> None:
        if number == 3:
            change(store, "UPDATE runs SET pid = 1, process_birth = 'another'")

    with pytest.raises(StoreError, match="Another worker has taken run") as caught:
        play(store, ScriptedEngine(taken_over), run_id, NEVER_BEATING)  # the write comes first
    assert not isinstance(caught.value, TakenOverError) and caught.value.__cause__ is None
    assert kept(store, run_id) == [1, 2]


def test_a_run_that_has_just_ended_is_nobody_s_and_that_is_right(store: Store, run_id: str) -> None:
    class Slow(Store):
        def finish(self, run_id: str, status: RunStatus, message: str = "") -> None:
            super().finish(run_id, status, message)
            time.sleep(0.2)  # many heartbeats

    assert play(Slow(store.path), ScriptedEngine(), run_id, HASTY).status is RunStatus.FINISHED


def test_a_run_outside_the_main_thread_leaves_at_the_end_of_its_round(store: Store, run_id: str) -> None:
    noticed = threading.Event()

    def delete(number: int) -> None:
        if number == 2:
            change(store, "UPDATE runs SET deleted = 1")
            noticed.wait(60)

    engine = ScriptedEngine(delete)
    caught: list[StoreError] = []

    def elsewhere() -> None:
        try:
            list(play_run(store, run_id, engine=engine, timing=HASTY, on_loss=lambda reason: noticed.set()))
        except StoreError as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(caught) == 1 and "is not this process's any more" in str(caught[0])
    assert kept(store, run_id) == [1, 2]
