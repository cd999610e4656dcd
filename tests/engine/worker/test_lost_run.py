"""A worker that loses its run: the store is gone or damaged, or the run is deleted or taken over."""

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
    """A store that does not wait for a lock, so that the worker tries again."""
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
def test_the_rounds_are_saved_elsewhere_if_the_store_is_removed(
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
    recording = from_json(saved.read_text(encoding="utf-8"))
    assert recording.records == tuple(record(number, run_id) for number in (1, 2, 3))
    assert (recording.row.id, recording.row.status, recording.row.config) == (run_id, RunStatus.FAILED, CONFIG)
    assert [(steering.position, steering.changes) for steering in recording.steerings] == [(4, {"channel.snr_db": 9.0})]
    assert not store.path.exists()


def test_a_run_continues_if_its_disk_comes_back_in_time(store: Store, run_id: str) -> None:
    disk, elsewhere = store.path.parent, store.path.parent.with_name("unplugged")

    def before_round(number: int) -> None:
        if number == 3:
            disk.rename(elsewhere)
            threading.Timer(0.3, lambda: elsewhere.rename(disk)).start()

    row = play(store, ScriptedEngine(before_round), run_id, HASTY._replace(gone_s=60.0))
    assert (row.status, kept(store, run_id)) == (RunStatus.FINISHED, [1, 2, 3, 4, 5])


def test_rounds_that_cannot_be_saved_either_are_reported_as_lost(store: Store, run_id: str, temporary: Path) -> None:
    shutil.rmtree(temporary)
    engine = ScriptedEngine(lambda number: remove_folder(store) if number == 2 else None)
    with pytest.raises(StoreError, match=r"Its 1 round is lost: .*temporary cannot be written to either \(No such"):
        list(play_run(store, run_id, engine=engine, timing=HASTY))


def test_the_rounds_are_saved_elsewhere_if_the_store_is_damaged(store: Store, run_id: str, temporary: Path) -> None:

    def overwrite(number: int) -> None:
        if number == 3:
            text = store.path.with_name("text")
            text.write_bytes(b"somebody has saved a text under this name" * 1000)
            remove_file(store)
            text.rename(store.path)

    engine = ScriptedEngine(overwrite)
    with pytest.raises(StoreError, match="is not a store of runs.* Its 2 rounds are kept in"):
        list(
            play_run(store, run_id, engine=engine, timing=NEVER_BEATING)
        )  # a heartbeat would keep the former file open
    (saved,) = temporary.iterdir()
    assert len(from_json(saved.read_text(encoding="utf-8")).records) == 2


# the run is deleted or taken over


def change(store: Store, query: str) -> None:
    with closing(sqlite3.connect(store.path, isolation_level=None, timeout=60)) as connection:
        connection.execute(query)


@pytest.mark.parametrize(
    "query",
    ["UPDATE runs SET deleted = 1", "UPDATE runs SET pid = 1, process_birth = 'another'", "DELETE FROM runs"],
)
def test_a_deleted_or_taken_over_run_is_left_in_the_middle_of_a_round(
    store: Store, run_id: str, temporary: Path, query: str
) -> None:
    def take_away(number: int) -> None:
        if number == 3:
            change(store, query)
            time.sleep(600)  # a round of ten minutes, unless it is interrupted

    engine = ScriptedEngine(take_away)
    stream = play_run(store, run_id, engine=engine, timing=HASTY)
    next(stream), next(stream)
    with pytest.raises(StoreError, match="is not this process's any more: it was deleted, or another worker has"):
        next(stream)
    assert kept(store, run_id) == [1, 2]  # they stay in the file
    saved = [from_json(path.read_text(encoding="utf-8")) for path in temporary.iterdir()]
    assert [recording.row.rounds_done for recording in saved] == ([2] if query.startswith("DELETE") else [])
    with closing(sqlite3.connect(store.path)) as connection:
        statuses = [status for (status,) in connection.execute("SELECT status FROM runs")]
    assert statuses == ([] if query.startswith("DELETE") else ["running"])  # the worker wrote nothing


def test_a_write_that_meets_another_worker_ends_the_run(store: Store, run_id: str) -> None:

    def take_over(number: int) -> None:
        if number == 3:
            change(store, "UPDATE runs SET pid = 1, process_birth = 'another'")

    with pytest.raises(StoreError, match="Another worker has taken run") as caught:
        play(store, ScriptedEngine(take_over), run_id, NEVER_BEATING)  # the write notices it first
    assert not isinstance(caught.value, TakenOverError) and caught.value.__cause__ is None
    assert kept(store, run_id) == [1, 2]


def test_a_heartbeat_after_the_end_is_no_loss(store: Store, run_id: str) -> None:
    class Slow(Store):
        def finish(self, run_id: str, status: RunStatus, message: str = "") -> None:
            super().finish(run_id, status, message)
            time.sleep(0.2)  # many heartbeats

    assert play(Slow(store.path), ScriptedEngine(), run_id, HASTY).status is RunStatus.FINISHED


def test_outside_the_main_thread_a_lost_run_is_left_after_its_round(store: Store, run_id: str) -> None:
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
