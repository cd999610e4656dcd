"""The scheduler launches the runs of the queue one after another, from any process."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pwff_core.config import InstructionConfig, RunConfig
from pwff_core.errors import ConfigError, EngineError, StoreError
from pwff_core.runs import processes, scheduler
from pwff_core.runs.store import RunStatus, Store
from tests.support import workers
from tests.support.launched import Launched
from tests.support.store_tables import sql

CONFIG = RunConfig(clients=2, instruction=InstructionConfig(rounds=2))


def queued(store: Store, count: int) -> list[str]:
    return [store.create_run(CONFIG, in_queue=True) for _ in range(count)]


def test_only_the_first_run_of_the_queue_is_launched(store: Store, launched: Launched) -> None:
    first, second = queued(store, 2)
    assert [scheduler.advance(store, launched), scheduler.advance(store, launched)] == [[first], []]
    store.claim(first)
    assert scheduler.advance(store, launched) == []
    store.finish(first, RunStatus.FAILED, "No memory.")
    assert scheduler.advance(store, launched) == [second]
    assert launched == [first, second]


def test_an_empty_queue_launches_nothing(store: Store, launched: Launched) -> None:
    store.create_run(CONFIG)
    assert scheduler.advance(Store(store.path, readonly=True), launched) == []


def test_as_many_runs_are_launched_as_may_play_at_once(
    store: Store, launched: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = queued(store, 5)
    monkeypatch.setenv("PWFF_PARALLEL", "3")
    assert scheduler.advance(store, launched) == ids[:3]
    for run_id in ids[:3]:
        store.claim(run_id)
    assert scheduler.advance(store, launched) == []
    store.finish(ids[1], RunStatus.FINISHED)
    assert scheduler.advance(store, launched) == [ids[3]]
    monkeypatch.setenv("PWFF_PARALLEL", "1")  # three are still playing
    store.finish(ids[0], RunStatus.FINISHED)
    assert scheduler.advance(store, launched) == []
    assert launched == ids[:4]


@pytest.mark.parametrize(("text", "count"), [("1", 1), (" 64 ", 64), ("", 1), (None, 1)])
def test_the_number_of_parallel_runs_is_read_from_the_environment(
    text: str | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PWFF_PARALLEL", raising=False)
    if text is not None:
        monkeypatch.setenv("PWFF_PARALLEL", text)
    assert scheduler.parallel() == count


@pytest.mark.parametrize("text", ["0", "65", "-1", "two", "1.5", "1_0", "٣", "9" * 5000])
def test_an_invalid_number_of_parallel_runs_is_an_error(
    store: Store, launched: Launched, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(store, 1)
    monkeypatch.setenv("PWFF_PARALLEL", text)
    with pytest.raises(
        ConfigError, match=r"^\$PWFF_PARALLEL is '.{1,20}'; .* give a whole number from 1 to 64, or leave"
    ):
        scheduler.advance(store, launched)
    assert launched == []


@pytest.mark.parametrize("died", ["before it took the run", "while it played"])
def test_a_dead_worker_frees_its_slot(
    store: Store, launched: Launched, monkeypatch: pytest.MonkeyPatch, died: str
) -> None:
    first, second, third = queued(store, 3)
    monkeypatch.setenv("PWFF_PARALLEL", "2")
    assert scheduler.advance(store, launched) == [first, second]
    if died == "while it played":
        store.claim(first)
        sql(store.path, f"UPDATE runs SET pid = 4194305 WHERE id = '{first}'")  # above the highest id of a process
    else:
        sql(store.path, f"UPDATE runs SET launched_uptime_s = launched_uptime_s - 61 WHERE id = '{first}'")
    assert scheduler.advance(store, launched) == [third]
    assert (store.run(first).status, store.run(second).status) == (RunStatus.FAILED, RunStatus.QUEUED)


def test_a_readonly_store_advances_the_queue(store: Store, launched: Launched) -> None:
    page = Store(store.path, readonly=True)
    ids = queued(store, 2)
    assert [scheduler.advance(page, launched), scheduler.advance(page, launched)] == [[ids[0]], []]
    assert launched == ids[:1]


INTERFACE = """
import os, sys
from pathlib import Path
from pwff_core.runs import scheduler
from pwff_core.config import RunConfig
from pwff_core.runs.store import Store
store = Store(Path(sys.argv[1]))
for name in sys.argv[2:]:
    store.create_run(RunConfig(clients=2), name, in_queue=True)
started = scheduler.advance(store, lambda path, run_id: store.claim(run_id))  # the worker is this process, and ends
print(*(store.run(run_id).name for run_id in started), flush=True)
os._exit(9)
"""


def test_the_queue_outlives_the_processes_that_use_it(store: Store) -> None:
    def interface(*names: str) -> str:
        command = [sys.executable, "-c", INTERFACE, str(store.path), *names]
        done = subprocess.run(command, env=processes.environment(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 9, done.stderr
        return done.stdout.strip()

    assert [interface("a", "b", "c"), interface(), interface("d"), interface(), interface()] == [*"abcd", ""]
    assert store.queue() == []


def test_a_run_that_cannot_be_launched_has_failed_and_the_next_one_starts(
    store: Store,
) -> None:
    bad, good, later = queued(store, 3)

    def launching(store_path: Path, run_id: str) -> None:
        if run_id == bad:
            raise EngineError("The engine cannot be started (out of memory); check free memory.")

    assert scheduler.advance(store, launching) == [good]
    row = store.run(bad)
    assert (row.status, row.message) == (
        RunStatus.FAILED,
        "The engine cannot be started (out of memory); check free memory.",
    )
    assert [row.id for row in store.queue()] == [later]


def test_a_folder_for_logs_that_cannot_be_made_fails_each_run_with_the_reason(store: Store) -> None:
    (store.path.parent / "logs").write_text("in the way")
    ids = queued(store, 2)
    assert scheduler.advance(store) == []
    assert all("The engine cannot be started" in store.run(run_id).message for run_id in ids)


def test_only_one_of_many_threads_launches_a_run(store: Store, launched: Launched) -> None:
    first, _ = queued(store, 2)
    barrier = threading.Barrier(8)

    def advance() -> None:
        barrier.wait()
        scheduler.advance(store, launched)

    threads = [threading.Thread(target=advance) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert launched == [first]


ADVANCE = """
import sys
from pathlib import Path
from pwff_core.runs import scheduler
from pwff_core.runs.store import Store
store = Store(Path(sys.argv[1]))
print("ready", flush=True)
input()
print(*scheduler.advance(store, lambda path, run_id: None))
"""


def test_only_one_of_five_processes_launches_a_run(store: Store) -> None:
    first, _ = queued(store, 2)
    command = [sys.executable, "-c", ADVANCE, str(store.path)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=processes.environment(), text=True)
        for _ in range(5)
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0].split() for process in started]
    assert sorted(outputs) == [[], [], [], [], [first]]


# with workers


def launch_scripted(store_path: Path, run_id: str) -> None:
    """Starts a worker with a scripted engine, which starts such workers in turn."""
    workers.launch(store_path, run_id, 0.05)


def has_ended(store: Store, run_id: str) -> bool:
    return store.run(run_id).status.ended


def test_a_worker_launches_the_next_run_when_its_own_has_ended(store: Store) -> None:
    ids = queued(store, 3)
    assert scheduler.advance(store, launch_scripted) == ids[:1]
    alive_at_once = 0
    deadline = time.monotonic() + 60
    while not all(has_ended(store, run_id) for run_id in ids):
        assert time.monotonic() < deadline, store.runs()
        alive_at_once = max(alive_at_once, sum(row.status is RunStatus.RUNNING for row in store.runs()))
        time.sleep(0.01)
    rows = [store.run(run_id) for run_id in ids]
    assert [row.status for row in rows] == [RunStatus.FINISHED] * 3
    assert [row.rounds_done for row in rows] == [2, 2, 2]
    assert len({row.pid for row in rows}) == 3
    assert alive_at_once == 1


def test_the_next_run_starts_after_a_stopped_and_a_failed_one(store: Store) -> None:
    stopped, failed, last = queued(store, 3)
    store.request_stop(stopped)
    sql(store.path, f"UPDATE runs SET config = replace(config, 'snr_db', 'snr') WHERE id = '{failed}'")
    scheduler.advance(store, launch_scripted)
    workers.wait_until(lambda: has_ended(store, last))
    assert store.run(stopped).message == "Stopped after 0 of 2 rounds."
    with pytest.raises(StoreError, match="was written by another version"):
        store.run(failed)  # its worker could not read its settings
    assert store.run(last).status is RunStatus.FINISHED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_a_terminated_worker_launches_nothing(store: Store) -> None:
    (waiting,) = queued(store, 1)
    run_id = store.create_run(CONFIG)
    process = workers.launch(store.path, run_id, 600.0)
    workers.wait_until(lambda: store.run(run_id).profiles)
    process.terminate()
    assert process.wait(timeout=30) == 0
    assert store.run(waiting).in_queue  # a shutdown does not start the whole queue; the next page does
    assert scheduler.advance(store, launch_scripted) == [waiting]
    workers.wait_until(lambda: has_ended(store, waiting))
