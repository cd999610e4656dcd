"""Resume and fork through the scheduler: what they queue and launch, and when they are refused."""

from __future__ import annotations

import pytest

from pwff_core.config import RunConfig
from pwff_core.errors import ConfigError, StoreError
from pwff_core.knobs import with_changes
from pwff_core.runs import scheduler
from pwff_core.runs.checkpoints import TENSORS_FILE, folder_of, list_checkpoints
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support.checkpoints import write_checkpoint
from tests.support.launched import Launched
from tests.support.scripted import profile, record

CONFIG = with_changes(RunConfig(), {"clients": 2, "instruction.rounds": 4, "reward.rounds": 0, "alignment.rounds": 0})


def interrupted(store: Store, rounds: int, status: RunStatus = RunStatus.STOPPED) -> str:
    """A run that ended after so many rounds, each with a checkpoint."""
    run_id = store.create_run(CONFIG)
    store.claim(run_id)
    store.describe(run_id, (profile(0), profile(1)), (), 4)
    for number in range(1, rounds + 1):
        store.append(run_id, record(number, run_id))
        write_checkpoint(store.path, run_id, number, CONFIG)
    store.finish(run_id, status)
    return run_id


def test_resume_queues_a_run_and_launches_the_first_one(store: Store, launched: Launched) -> None:
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


def test_a_fork_has_its_parent_s_rounds_and_checkpoint(store: Store, launched: Launched) -> None:
    parent = interrupted(store, 3)
    assert [checkpoint.position for checkpoint in scheduler.fork_points(store, parent)] == [1, 2, 3]
    child = scheduler.fork(store, parent, 2, {"channel.snr_db": -5.0}, "Worse", owner="somebody", start=launched)
    row = store.run(child)
    assert (row.parent, row.forked_at, row.name, row.owner) == (parent, 2, "Worse", "somebody")
    child_records, parent_records = (
        [record.model_copy(update={"run": ""}) for _, record in store.rounds(run_id)] for run_id in (child, parent)
    )
    assert child_records == parent_records[:2]
    assert {record.run for _, record in store.rounds(child)} == {child}
    (steering,) = store.steerings(child)
    assert (steering.position, steering.round, dict(steering.changes)) == (3, 3, {"channel.snr_db": -5.0})
    assert [checkpoint.position for checkpoint in list_checkpoints(store.path, child)] == [2]
    assert launched == [child]
    assert store.run(parent).status is RunStatus.STOPPED


def test_a_fork_that_the_caller_plays_is_not_launched(store: Store, launched: Launched) -> None:
    child = scheduler.fork(store, interrupted(store, 2), 1, {}, in_queue=False, start=launched)
    assert launched == []
    assert store.queue() == []
    store.claim(child)


def test_a_fork_needs_a_checkpoint_before_the_last_round(store: Store, launched: Launched) -> None:
    finished, empty = interrupted(store, 4, RunStatus.FINISHED), interrupted(store, 0)
    assert [checkpoint.position for checkpoint in scheduler.fork_points(store, finished)] == [1, 2, 3]
    for run_id, position, reason in ((finished, 4, "after round 1, 2, 3"), (empty, 0, "nowhere"), (finished, 17, "17")):
        with pytest.raises(StoreError, match=reason):
            scheduler.fork(store, run_id, position, {}, start=launched)
    with pytest.raises(ConfigError, match="clients"):
        scheduler.fork(store, finished, 2, {"clients": 3}, start=launched)
    assert [row.id for row in store.runs()] == [empty, finished]
    assert launched == []


def test_a_fork_is_removed_if_its_checkpoint_cannot_be_copied(store: Store, launched: Launched) -> None:
    parent = interrupted(store, 2)
    (folder_of(RunFiles(store.path).checkpoints(parent), 2) / TENSORS_FILE).unlink()
    with pytest.raises(StoreError, match="cannot be taken over"):
        scheduler.fork(store, parent, 2, {}, start=launched)
    assert [row.id for row in store.runs()] == [parent]
    assert launched == []
