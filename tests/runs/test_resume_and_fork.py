"""Resume and fork as a page asks for them: what is in the queue then, and what is not possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwff_core.config import RunConfig
from pwff_core.errors import ConfigError, StoreError
from pwff_core.knobs import with_changes
from pwff_core.runs import scheduler
from pwff_core.runs.checkpoints import STATE, folder_of, list_checkpoints
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support.checkpoints import marked
from tests.support.launched import Launched
from tests.support.scripted import profile, record

CONFIG = with_changes(RunConfig(), {"clients": 2, "instruction.rounds": 4, "reward.rounds": 0, "alignment.rounds": 0})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs.sqlite")


@pytest.fixture
def launched() -> Launched:
    return Launched()


def interrupted(store: Store, rounds: int, status: RunStatus = RunStatus.STOPPED) -> str:
    """A run that has so many rounds, each with a checkpoint, and then ended."""
    run_id = store.create_run(CONFIG)
    store.claim(run_id)
    store.describe(run_id, (profile(0), profile(1)), (), 4)
    for number in range(1, rounds + 1):
        store.append(run_id, record(number, run_id))
        marked(store.path, run_id, number, CONFIG)
    store.finish(run_id, status)
    return run_id


def test_resume_puts_a_run_into_the_queue_and_starts_it(store: Store, launched: Launched) -> None:
    stopped, failed = interrupted(store, 2), interrupted(store, 1, RunStatus.FAILED)
    scheduler.resume(store, stopped, launched)
    scheduler.resume(store, failed, launched)
    assert launched == [stopped]
    assert [row.id for row in store.queue()] == [failed]
    assert (store.run(stopped).status, store.run(stopped).rounds_done) == (RunStatus.QUEUED, 2)
    with pytest.raises(StoreError, match=stopped):  # a second press
        scheduler.resume(store, stopped, launched)
    assert launched == [stopped]


def test_a_finished_run_is_not_resumed(store: Store, launched: Launched) -> None:
    with pytest.raises(StoreError, match="fork"):
        scheduler.resume(store, interrupted(store, 4, RunStatus.FINISHED), launched)
    assert launched == []


def test_a_fork_is_its_parent_up_to_a_round(store: Store, launched: Launched) -> None:
    parent = interrupted(store, 3)
    assert [mark.position for mark in scheduler.fork_points(store, parent)] == [1, 2, 3]
    child = scheduler.fork(store, parent, 2, {"channel.snr_db": -5.0}, "Worse", owner="somebody", start=launched)
    row = store.run(child)
    assert (row.parent, row.forked_at, row.name, row.owner) == (parent, 2, "Worse", "somebody")
    ours, theirs = (
        [record.model_copy(update={"run": ""}) for _, record in store.rounds(run_id)] for run_id in (child, parent)
    )
    assert ours == theirs[:2]
    assert {record.run for _, record in store.rounds(child)} == {child}
    (steering,) = store.steerings(child)
    assert (steering.position, steering.round, dict(steering.changes)) == (3, 3, {"channel.snr_db": -5.0})
    assert [mark.position for mark in list_checkpoints(store.path, child)] == [2]
    assert launched == [child]
    assert store.run(parent).status is RunStatus.STOPPED


def test_a_fork_that_the_caller_plays_is_not_launched(store: Store, launched: Launched) -> None:
    child = scheduler.fork(store, interrupted(store, 2), 1, {}, in_queue=False, start=launched)
    assert launched == []
    assert store.queue() == []
    store.claim(child)


def test_no_fork_after_the_last_round_nor_without_a_checkpoint(store: Store, launched: Launched) -> None:
    whole, none = interrupted(store, 4, RunStatus.FINISHED), interrupted(store, 0)
    assert [mark.position for mark in scheduler.fork_points(store, whole)] == [1, 2, 3]
    for run_id, position, told in ((whole, 4, "after round 1, 2, 3"), (none, 0, "nowhere"), (whole, 17, "17")):
        with pytest.raises(StoreError, match=told):
            scheduler.fork(store, run_id, position, {}, start=launched)
    with pytest.raises(ConfigError, match="clients"):
        scheduler.fork(store, whole, 2, {"clients": 3}, start=launched)
    assert [row.id for row in store.runs()] == [none, whole]
    assert launched == []


def test_a_fork_that_cannot_have_the_checkpoint_is_taken_back(store: Store, launched: Launched) -> None:
    parent = interrupted(store, 2)
    (folder_of(RunFiles(store.path).checkpoints(parent), 2) / STATE).unlink()
    with pytest.raises(StoreError, match="cannot be taken over"):
        scheduler.fork(store, parent, 2, {}, start=launched)
    assert [row.id for row in store.runs()] == [parent]
    assert launched == []
