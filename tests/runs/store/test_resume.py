"""Ended runs are queued again, and only a run's worker writes to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from pwff_core.errors import StoreError, TakenOverError
from pwff_core.runs import processes
from pwff_core.runs.store import RunStatus, Store
from tests.support.played_stores import CONFIG, played, steered_at
from tests.support.scripted import whole_run
from tests.support.store_tables import sql

GONE = "pid = 4194305, process_birth = ''"  # above the highest id of a Linux process


# queued again


@pytest.mark.parametrize("in_queue", [False, True])
@pytest.mark.parametrize("end", ["stopped", "failed", "abandoned", "never launched"])
def test_an_ended_run_is_requeued_with_its_rounds(store: Store, end: str, in_queue: bool) -> None:
    run_id = store.create_run(CONFIG) if end == "never launched" else played(store, 4)
    if end == "never launched":
        sql(store.path, "UPDATE runs SET launched_uptime_s = launched_uptime_s - 61")
    elif end == "abandoned":
        sql(store.path, f"UPDATE runs SET {GONE}")
    else:
        store.finish(run_id, RunStatus(end), "Out of memory.")
    assert store.run(run_id).status.ended
    rounds = store.rounds(run_id)
    store.requeue(run_id, in_queue=in_queue)
    row = store.run(run_id)
    assert (row.status, row.message, row.in_queue, row.pid) == (RunStatus.QUEUED, "", in_queue, None)
    assert row.heartbeat_at is None and row.rounds_done == len(rounds)
    if in_queue:
        assert store.next_in_queue() == run_id
    store.claim(run_id)
    assert store.run(run_id).status is RunStatus.RUNNING and store.rounds(run_id) == rounds
    number = len(rounds)
    store.append(run_id, whole_run(run_id)[number])
    assert store.run(run_id).rounds_done == number + 1


def test_a_requeued_run_goes_to_the_end_of_the_queue(store: Store) -> None:
    stopped = played(store, 1)
    store.finish(stopped, RunStatus.STOPPED)
    waiting = store.create_run(CONFIG, in_queue=True)
    sql(store.path, f"UPDATE runs SET created_at = created_at + 9999 WHERE id = '{waiting}'")  # the clock was set back
    store.requeue(stopped, in_queue=True)
    last = store.create_run(CONFIG, in_queue=True)
    assert [row.id for row in store.queue()] == [waiting, stopped, last]


def test_requeue_forgets_pause_and_stop_and_keeps_pending_changes(store: Store) -> None:
    run_id = played(store, 2)
    store.steer(run_id, "me", {"channel.snr_db": 1.0})
    store.acknowledge(run_id, store.pending_commands(run_id)[-1].id, steered_at(3, {"channel.snr_db": 1.0}))
    store.pause(run_id, "me")
    store.steer(run_id, "me", {"channel.bandwidth_hz": 2e6})
    store.request_stop(run_id)
    store.finish(run_id, RunStatus.STOPPED)
    store.requeue(run_id, in_queue=True)
    assert store.pending(run_id) == frozenset()
    assert store.pending_changes(run_id) == {"channel.bandwidth_hz": 2e6}
    assert len(store.steerings(run_id)) == 1
    store.request_stop(run_id)  # a new command counts
    assert store.pending(run_id) == {"stop"}


def running(store: Store) -> str:
    return played(store, 1)


def paused(store: Store) -> str:
    run_id = played(store, 1)
    store.set_status(run_id, RunStatus.PAUSED)
    return run_id


def silent(store: Store) -> str:
    run_id = played(store, 1)
    sql(store.path, "UPDATE runs SET heartbeat_at = heartbeat_at - 3600")
    return run_id


def waiting(store: Store) -> str:
    return store.create_run(CONFIG, in_queue=True)


def finished(store: Store) -> str:
    run_id = played(store)
    store.finish(run_id, RunStatus.FINISHED)
    return run_id


def deleted(store: Store) -> str:
    run_id = played(store, 1)
    store.finish(run_id, RunStatus.STOPPED)
    store.delete(run_id)
    return run_id


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (running, "is running already; there is nothing to resume."),
        (paused, "is paused already"),
        (silent, "is running already"),  # perhaps suspended, but alive
        (waiting, "waits in the queue already"),
        (finished, "is finished; fork it to go on from one of its rounds with other settings."),
        (deleted, "is deleted; restore it first"),
    ],
)
def test_only_an_incomplete_ended_run_is_requeued(store: Store, made: Callable[[Store], str], reason: str) -> None:
    run_id = made(store)
    before = store.run(run_id)
    with pytest.raises(StoreError, match=f"^Run {run_id} {reason}"):
        store.requeue(run_id, in_queue=True)
    assert store.run(run_id).model_copy(update={"message": ""}) == before.model_copy(update={"message": ""})


# which process may write


WRITES: list[Callable[[Store, str], object]] = [
    lambda store, run_id: store.append(run_id, whole_run(run_id)[1]),
    lambda store, run_id: store.acknowledge(run_id, 5, steered_at(2, {"channel.snr_db": 1.0})),
    lambda store, run_id: store.describe(run_id, [], [], 1),
    lambda store, run_id: store.set_status(run_id, RunStatus.PAUSED),
    lambda store, run_id: store.finish(run_id, RunStatus.FAILED, "Mine."),
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("pid = pid + 1", "Another worker has taken run {} over \\(process [0-9]+\\); this one ends."),
        ("process_birth = 'another boot:1', process_started_at = 5", "Another worker has taken run {} over"),
        ("status = 'queued', pid = NULL, process_birth = ''", "Run {} is queued, and no worker's"),
        ("status = 'failed'", "Run {} is failed, and no worker's"),
    ],
)
def test_a_run_that_was_taken_over_is_not_written_to(
    store: Store, write: Callable[[Store, str], object], change: str, reason: str
) -> None:
    run_id = played(store, 1)
    assert store.heartbeat(run_id)
    sql(store.path, f"UPDATE runs SET {change}")
    before = (store.run(run_id), store.rounds(run_id), store.steerings(run_id))
    with pytest.raises(TakenOverError, match=reason.format(run_id)):
        write(store, run_id)
    assert not store.heartbeat(run_id)
    assert (store.run(run_id), store.rounds(run_id), store.steerings(run_id)) == before


@pytest.mark.parametrize("write", WRITES)
def test_a_run_that_is_gone_is_not_written_to(store: Store, write: Callable[[Store, str], object]) -> None:
    with pytest.raises(TakenOverError, match="Run nosuchid is not in the store any more; its worker ends."):
        write(store, "nosuchid")
    assert not store.heartbeat("nosuchid")
    assert store.rounds("nosuchid") == []


def test_heartbeats_count_until_the_run_is_deleted(store: Store) -> None:
    run_id = silent(store)
    assert store.run(run_id).status is RunStatus.STALLED
    assert store.heartbeat(run_id)
    assert store.run(run_id).status is RunStatus.RUNNING
    sql(store.path, "UPDATE runs SET deleted = 1")
    assert not store.heartbeat(run_id)


CLAIM = """
import sys
from pathlib import Path
from pwff_core.errors import StoreError
from pwff_core.runs.store import Store
store = Store(Path(sys.argv[1]), timeout_s=60.0)
print("ready", flush=True)
input()
try:
    store.claim(sys.argv[2])
    print("mine", flush=True)
except StoreError as error:
    print(error, flush=True)
input()
"""


def test_one_of_several_processes_claims_a_requeued_run_and_loses_it_when_it_dies(store: Store) -> None:
    run_id = played(store, 2)
    store.finish(run_id, RunStatus.STOPPED)
    store.requeue(run_id, in_queue=False)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(store.path), run_id],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=processes.environment(), text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    outputs = []
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        assert process.stdout is not None
        outputs.append(process.stdout.readline().strip())
    (winner,) = [process for process, line in zip(started, outputs, strict=True) if line == "mine"]
    assert sum(f"is running already (process {winner.pid})" in line for line in outputs) == 2
    with pytest.raises(TakenOverError, match=rf"\(process {winner.pid}\)"):
        store.append(run_id, whole_run(run_id)[2])
    with pytest.raises(StoreError, match="is running already; there is nothing to resume"):
        store.requeue(run_id, in_queue=True)
    for process in started:
        process.kill()
        process.communicate()
    assert store.run(run_id).status is RunStatus.FAILED
    store.requeue(run_id, in_queue=False)
    store.claim(run_id)
    store.append(run_id, whole_run(run_id)[2])
    assert store.run(run_id).rounds_done == 3
