"""The queue in the store: its order, and when the next run is handed out."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.runs.liveness import Process
from pwff_core.runs.store import RunStatus, Store
from tests.support.store_tables import sql

CONFIG = RunConfig(clients=2)


def dead_process() -> Process:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return Process(child.pid, time.time())


def test_the_queue_is_first_in_first_out(store: Store) -> None:
    ids = [store.create_run(CONFIG, name, in_queue=True) for name in "abc"]
    assert [row.id for row in store.queue()] == ids
    assert all(row.in_queue and row.status is RunStatus.QUEUED for row in store.runs())


def test_the_next_run_is_handed_out_once_the_one_before_has_ended(store: Store) -> None:
    first, second = (store.create_run(CONFIG, in_queue=True) for _ in range(2))
    assert store.next_in_queue() == first
    assert not store.run(first).in_queue
    assert store.next_in_queue() is None  # handed out, and not claimed yet
    store.claim(first)
    assert store.next_in_queue() is None
    store.set_status(first, RunStatus.PAUSED)
    assert store.next_in_queue() is None
    store.finish(first, RunStatus.FINISHED)
    assert store.next_in_queue() == second
    assert store.queue() == []


def test_parallel_runs_are_handed_out_barrier(store: Store) -> None:
    ids = [store.create_run(CONFIG, in_queue=True) for _ in range(3)]
    assert [store.next_in_queue(parallel=2) for _ in range(3)] == [*ids[:2], None]


def test_a_run_that_starts_at_once_holds_the_queue_until_its_launch_times_out(store: Store) -> None:
    waiting, at_once = store.create_run(CONFIG, in_queue=True), store.create_run(CONFIG)
    assert store.next_in_queue() is None
    earlier = "launched_uptime_s = launched_uptime_s - 61"  # its launch has timed out
    sql(store.path, f"UPDATE runs SET {earlier} WHERE id = '{at_once}'")
    assert store.next_in_queue() == waiting


def test_a_launch_times_out_and_a_wait_in_the_queue_does_not(store: Store) -> None:
    run_id = store.create_run(CONFIG, in_queue=True)
    sql(store.path, "UPDATE runs SET created_at = created_at - 86400")
    assert store.run(run_id).status is RunStatus.QUEUED
    assert store.next_in_queue() == run_id
    assert store.run(run_id).status is RunStatus.QUEUED
    sql(store.path, "UPDATE runs SET launched_uptime_s = launched_uptime_s - 61")
    assert store.run(run_id).status is RunStatus.FAILED


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.PAUSED])
def test_a_run_whose_worker_died_frees_its_slot(store: Store, status: RunStatus) -> None:
    died, waiting = store.create_run(CONFIG), store.create_run(CONFIG, in_queue=True)
    store.claim(died)
    store.set_status(died, status)
    gone = dead_process()
    sql(
        store.path,
        f"UPDATE runs SET pid = {gone.pid}, process_birth = '' WHERE id = '{died}'",
    )
    assert store.run(died).status is RunStatus.FAILED
    assert store.next_in_queue() == waiting


def test_many_threads_get_a_run_once(store: Store) -> None:
    run_id = store.create_run(CONFIG, in_queue=True)
    store.create_run(CONFIG, in_queue=True)
    handed: list[str | None] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        handed.append(store.next_in_queue())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, handed)) == sorted([run_id, *["None"] * 7])


def test_next_in_queue_writes_nothing_while_no_run_is_due(store: Store) -> None:
    page = Store(store.path, readonly=True)
    assert page.next_in_queue() is None
    playing = store.create_run(CONFIG)
    store.create_run(CONFIG, in_queue=True)
    assert page.next_in_queue() is None
    assert store.cancel(playing) is False
    store.not_launched(playing, "No memory.")
    with pytest.raises(StoreError, match="opened for reading only"):
        page.next_in_queue()


def test_only_a_run_in_the_queue_is_cancelled(store: Store) -> None:
    first, second = (store.create_run(CONFIG, in_queue=True) for _ in range(2))
    assert store.next_in_queue() == first
    assert not store.cancel(first)
    assert store.cancel(second)
    row = store.run(second)
    assert (row.status, row.message, row.in_queue) == (RunStatus.STOPPED, "Cancelled before it started.", False)
    assert not store.cancel(second)
    assert store.queue() == []
    with pytest.raises(StoreError, match="There is no run"):
        store.cancel("nosuchid")


def test_deleting_a_run_in_the_queue_cancels_it(store: Store) -> None:
    run_id = store.create_run(CONFIG, in_queue=True)
    store.delete(run_id)
    assert (store.queue(), store.next_in_queue()) == ([], None)
    store.restore(run_id)
    assert store.run(run_id).message == "Cancelled before it started."
    assert store.next_in_queue() is None


def test_a_claimed_run_leaves_the_queue(store: Store) -> None:
    run_id = store.create_run(CONFIG, in_queue=True)
    store.claim(run_id)
    assert (store.queue(), store.next_in_queue()) == ([], None)


def test_the_runs_of_a_comparison_are_listed(store: Store) -> None:
    first, _, third = (store.create_run(CONFIG, in_queue=True, comparison=name) for name in ("fig4", "", "fig4"))
    assert [row.id for row in store.runs("fig4")] == [third, first]
    assert [row.comparison for row in store.runs()] == ["fig4", "", "fig4"]
    assert store.runs("fig5") == []
