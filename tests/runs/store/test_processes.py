"""Workers that died, and several processes that use one store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pwff_core.config import RunConfig
from pwff_core.runs import liveness
from pwff_core.runs.liveness import Process
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunRow, RunStatus, Store
from tests.support import scripted
from tests.support.store_tables import sql

ROOT = Path(__file__).resolve().parents[3]
CONFIG = RunConfig(clients=2)


def running(path: Path, process: Process, rounds: int) -> RunRow:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    engine.claim(run_id)
    for number in range(1, rounds + 1):
        engine.append(run_id, scripted.record(number))
    identity = f"pid = {process.pid}, process_started_at = {process.started_at}, process_birth = '{process.birth}'"
    sql(path, f"UPDATE runs SET {identity}")
    return Store(path, readonly=True).run(run_id)


def test_a_run_whose_process_lives_is_running(path: Path) -> None:
    assert running(path, liveness.this_process(), 1).status is RunStatus.RUNNING


@pytest.mark.parametrize(
    ("rounds", "kept"), [(0, "no round was complete"), (1, "its 1 round is kept"), (7, "its 7 rounds are kept")]
)
def test_a_run_whose_process_is_gone_reads_as_failed(path: Path, rounds: int, kept: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    row = running(path, Process(child.pid, time.time()), rounds)
    assert row.status is RunStatus.FAILED
    assert row.message == (
        f"The engine stopped without a word (process {child.pid} is gone); {kept}. The run can be resumed."
    )
    assert len(Store(path).rounds(row.id)) == rounds
    assert [row.status for row in Store(path).runs()] == [RunStatus.FAILED]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (b"loading\nBus error: no room in /dev/shm\n\n", " Its last words: Bus error: no room in /dev/shm."),
        (b"x" * 5000, f" Its last words: {'x' * 400}…"),
        (b"half a l\xffine", " Its last words: half a l\ufffdine."),
        (b"\x1b[31mred\tand  <b>bold</b>", " Its last words: [31mred and <b>bold</b>."),
        (b"RuntimeError: too hot!", " Its last words: RuntimeError: too hot!"),
    ],
)
def test_the_last_line_of_a_dead_worker_s_log_is_in_the_message(path: Path, written: bytes, words: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    row = running(path, Process(child.pid, time.time()), 1)
    log = RunFiles(path).log(row.id)
    log.parent.mkdir()
    log.write_bytes(written)
    failed = Store(path, readonly=True).run(row.id)
    reason = f"The engine stopped (process {child.pid} is gone); its 1 round is kept."
    assert failed.message == f"{reason}{words} The run can be resumed."
    assert Store(path, readonly=True).runs() == [failed]


def test_a_blank_log_adds_nothing_to_the_message(path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    row = running(path, Process(child.pid, time.time()), 0)
    RunFiles(path).log(row.id).parent.mkdir()
    RunFiles(path).log(row.id).write_text(" \n\n")
    assert "stopped without a word" in Store(path).run(row.id).message


@pytest.mark.parametrize(("off_s", "status"), [(5, RunStatus.RUNNING), (3600, RunStatus.FAILED)])
def test_a_worker_that_an_older_pwff_recorded(path: Path, off_s: float, status: RunStatus) -> None:
    process = liveness.this_process()
    assert running(path, Process(process.pid, process.started_at - off_s), 1).status is status


def test_another_process_with_the_same_id_is_not_the_worker(path: Path) -> None:
    process = liveness.this_process()
    assert running(path, Process(process.pid, process.started_at - 3600), 2).status is RunStatus.FAILED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no zombies")
def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    import psutil

    process = Process(child.pid, psutil.Process(child.pid).create_time())
    assert liveness.alive(process)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and its exit code was not read
    assert not liveness.alive(process)
    child.communicate()
    assert not liveness.alive(process)


def test_a_launched_run_that_no_worker_claims_fails_after_a_minute(path: Path) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    sql(path, "UPDATE runs SET launched_uptime_s = launched_uptime_s - 50")
    assert engine.run(run_id).status is RunStatus.QUEUED
    sql(path, "UPDATE runs SET launched_uptime_s = launched_uptime_s - 10")
    row = engine.run(run_id)
    reason = "The engine did not start within 60 s."
    assert (row.status, row.message) == (RunStatus.FAILED, f"{reason} The run can be resumed.")
    RunFiles(path).log(run_id).parent.mkdir()
    RunFiles(path).log(run_id).write_text("Traceback\nModuleNotFoundError: No module named 'torch'\n")
    words = "Its last words: ModuleNotFoundError: No module named 'torch'."
    assert engine.run(run_id).message == f"{reason} {words} The run can be resumed."
    engine.claim(run_id)  # a worker that was only slow may still take it
    assert engine.run(run_id).status is RunStatus.RUNNING


# several processes


WRITER = """
import sys
from pathlib import Path
from pwff_core.config import RunConfig
from pwff_core.runs.store import Store
from tests.support.scripted import record
store = Store(Path(sys.argv[1]))
input()
run_id = store.create_run(RunConfig(clients=2), sys.argv[2])
store.claim(run_id)
for number in range(1, 41):
    store.append(run_id, record(number, run_id))
"""


def test_two_processes_write_while_this_one_reads(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, name], stdin=subprocess.PIPE, env=environment) for name in ("one", "two")]
    page = Store(path, readonly=True)  # three processes may each be the first to make the file
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.close()
    seen: dict[str, list[int]] = {}
    last: dict[str, int] = {}
    while any(writer.poll() is None for writer in writers) or not seen:
        follow(page, seen, last)
    follow(page, seen, last)
    assert [writer.wait() for writer in writers] == [0, 0]
    assert {page.run(run_id).name: rounds for run_id, rounds in seen.items()} == dict.fromkeys(
        ("one", "two"), [*range(1, 41)]
    )


def follow(page: Store, seen: dict[str, list[int]], last: dict[str, int]) -> None:
    """Reads the new rounds of all runs, as a page does each second."""
    for row in page.runs():
        for row_id, record in page.rounds(row.id, after=last.get(row.id, 0)):
            assert record.run == row.id
            seen.setdefault(row.id, []).append(record.round)
            last[row.id] = row_id
