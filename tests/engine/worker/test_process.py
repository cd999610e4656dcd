"""The worker as a process: its launch and its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pwff_core.config import InstructionConfig, RunConfig
from pwff_core.engine.worker.__main__ import NICENESS, main
from pwff_core.errors import EngineError, StoreError
from pwff_core.runs import processes, scheduler
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support.store_tables import sql
from tests.support.workers import CONFIG, SECONDS, kept, launch, wait_until

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_worker_loses_no_round_and_reads_as_failed_with_its_log_tail(store: Store) -> None:
    run_id = store.create_run(RunConfig(clients=2, instruction=InstructionConfig(rounds=1000)))
    # spawned, not launched, so that its exit code is not read
    process = processes.spawn("tests.support.workers", run_id, "--store", str(store.path), f"{SECONDS}0.02")
    wait_until(lambda: store.run(run_id).rounds_done >= 5)
    RunFiles(store.path).log(run_id).parent.mkdir()
    with RunFiles(store.path).log(run_id).open("a") as log:
        log.write("RuntimeWarning: memory is nearly used up\n")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    row = Store(store.path, readonly=True).run(run_id)  # at once
    assert row.status is RunStatus.FAILED
    assert row.message == (
        f"The engine stopped (process {process.pid} is gone); its {row.rounds_done} rounds are kept. "
        "Its last words: RuntimeWarning: memory is nearly used up. The run can be resumed."
    )
    process.wait()
    assert kept(store, run_id) == [*range(1, row.rounds_done + 1)]
    assert row.rounds_done >= 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_paused_worker_that_is_killed_has_failed_too(store: Store) -> None:
    run_id = store.create_run(CONFIG)
    store.pause(run_id, "me")
    process = launch(store.path, run_id, 0.02)
    wait_until(lambda: store.run(run_id).status is RunStatus.PAUSED)
    process.kill()
    process.wait()
    assert store.run(run_id).status is RunStatus.FAILED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_a_terminated_worker_stops_at_once_and_cleanly(store: Store) -> None:
    run_id = store.create_run(CONFIG)
    process = launch(store.path, run_id, 600.0)  # in the middle of a round that would take ten minutes
    wait_until(lambda: store.run(run_id).profiles)
    process.terminate()
    assert process.wait(timeout=30) == 0
    assert store.run(run_id).message == "Stopped after 0 of 5 rounds."


def test_an_unknown_run_is_reported_on_stderr(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nosuchid", "--store", str(store.path)]) == 1
    assert capsys.readouterr().err.startswith("There is no run 'nosuchid' in")


def test_launch_starts_a_worker_that_logs_beside_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.path.parent
    (folder / "signal.py").write_text("raise SystemExit('a module of the working folder was imported')")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    process = scheduler.launch(Path("runs.sqlite"), "nosuchid")
    assert process.wait(timeout=60) == 1
    log = RunFiles(store.path).log("nosuchid")
    assert log == folder / "logs" / "nosuchid.log"
    assert log.read_text().strip() == f"There is no run 'nosuchid' in {store.path}; `pwff runs` lists those there are."


def test_launch_into_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(EngineError, match="^The engine cannot be started .* check free memory and the folder"):
        scheduler.launch(tmp_path / "runs.sqlite", "abc")


def test_importing_the_worker_imports_no_torch() -> None:
    code = "import sys, pwff_core.engine.worker; print(*sorted({'torch', 'pandas', 'transformers'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == ""


def test_a_store_that_cannot_be_used_ends_the_process_with_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "runs.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not an SQLite file"):
        Store(tmp_path / "runs.sqlite")
    assert main(["abc", "--store", str(tmp_path / "runs.sqlite")]) == 1


def test_a_worker_makes_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gone" / "runs.sqlite"
    assert main(["abc", "--store", str(path)]) == 1
    assert capsys.readouterr().err == f"There is no store {path}; name the one that holds the run with --store.\n"
    assert not path.parent.exists()


def test_a_worker_that_has_ended_is_no_zombie(store: Store) -> None:
    pid = scheduler.launch(store.path, "nosuchid").pid

    def gone() -> bool:  # the system lists a zombie until its exit code is read
        return pid not in [child.pid for child in psutil.Process().children()]

    wait_until(gone)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_resumed_worker_continues_where_a_killed_one_stopped(store: Store) -> None:
    run_id = store.create_run(RunConfig(clients=2, instruction=InstructionConfig(rounds=20)))
    killed = launch(store.path, run_id, 0.05)
    wait_until(lambda: store.run(run_id).rounds_done >= 5)
    killed.kill()
    killed.wait()
    done = store.run(run_id).rounds_done
    store.requeue(run_id, in_queue=False)
    resumed = launch(store.path, run_id, 0.0)
    assert resumed.wait(timeout=60) == 0
    row = store.run(run_id)
    assert (row.status, row.rounds_done, row.pid) == (RunStatus.FINISHED, 20, resumed.pid)
    assert kept(store, run_id) == [*range(1, 21)]
    assert f"Resumed after round {done}." in row.notes


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot remove what is in use")
def test_a_worker_whose_run_is_deleted_ends_with_exit_code_1(store: Store) -> None:
    run_id = store.create_run(CONFIG)
    process = launch(store.path, run_id, 600.0)
    wait_until(lambda: store.run(run_id).profiles)
    sql(store.path, "DELETE FROM runs")
    assert process.wait(timeout=60) == 1
    lines = RunFiles(store.path).log(run_id).read_text(encoding="utf-8").strip().splitlines()
    assert lines[-1].startswith(f"Run {run_id} is not this process's any more: it was deleted, or another worker")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no niceness")
def test_a_worker_has_a_lower_priority_than_the_pages() -> None:
    code = "from pwff_core.engine.worker.__main__ import step_back; step_back(); import os; print(os.nice(0))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(process.stdout) == min(os.nice(0) + NICENESS, 19)
