from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import pwff_core
from pwff_core import launch, worker
from pwff_core.config import InstructionConfig, RunConfig
from pwff_core.conversation import kept as kept_models
from pwff_core.conversation import models_folder
from pwff_core.errors import DataError, EngineError, PwffError, StoreError, TrainingError
from pwff_core.models.saved import load
from pwff_core.store import RunRow, RunStatus, Store
from tests.scripted import CONVERGED, federation, profile, record

ROOT = Path(__file__).resolve().parent.parent
CONFIG = RunConfig(clients=2, instruction=InstructionConfig(rounds=5))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs.sqlite")


def play(store: Store, module: ModuleType, monkeypatch: pytest.MonkeyPatch, run_id: str = "") -> RunRow:
    """Plays a run of five rounds with the module in the federation's place, and returns its row."""
    monkeypatch.setitem(sys.modules, "pwff_core.federation", module)
    monkeypatch.setattr(pwff_core, "federation", module, raising=False)
    run_id = run_id or store.create_run(CONFIG)
    try:
        for _ in worker.recorded(store, run_id):
            pass
    finally:
        row = store.run(run_id)
    return row


def kept(store: Store, run_id: str) -> list[int]:
    return [found.round for _, found in store.rounds(run_id)]


def test_a_whole_run_is_written_as_it_is_played(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    row = play(store, federation(), monkeypatch)
    assert (row.status, row.message, row.rounds_done, row.rounds_total) == (RunStatus.FINISHED, "", 5, 5)
    assert (row.profiles, row.notes) == ((profile(0), profile(1)), ("A remark — with a dash.",))
    assert [found for _, found in store.rounds(row.id)] == [record(number, row.id) for number in range(1, 6)]


def test_a_round_is_in_the_store_before_it_is_given_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwff_core, "federation", federation(), raising=False)
    run_id = store.create_run(CONFIG)
    for found in worker.recorded(store, run_id):
        assert kept(store, run_id) == [*range(1, found.round + 1)]
        assert store.run(run_id).status is RunStatus.RUNNING


# stop


def test_a_page_stops_a_run_after_the_round_it_is_in(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = store.create_run(CONFIG)
    page = Store(store.path, readonly=True)
    row = play(
        store, federation(lambda number: page.request_stop(run_id) if number == 3 else None), monkeypatch, run_id
    )
    assert (row.status, row.message) == (RunStatus.STOPPED, "Stopped after 3 of 5 rounds.")
    assert kept(store, run_id) == [1, 2, 3]


def test_a_stop_before_the_start(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = store.create_run(CONFIG)
    store.request_stop(run_id)
    row = play(store, federation(), monkeypatch, run_id)
    assert (row.status, row.message, row.rounds_done) == (RunStatus.STOPPED, "Stopped after 0 of 5 rounds.", 0)


def test_a_stop_in_the_last_round_finds_nothing_to_stop(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = store.create_run(CONFIG)
    module = federation(lambda number: store.request_stop(run_id) if number == 5 else None)
    assert play(store, module, monkeypatch, run_id).status is RunStatus.FINISHED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_round_stops_the_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    run_id = store.create_run(CONFIG)
    module = federation(lambda at: signal.raise_signal(number) if at == 4 else None)
    with pytest.raises(KeyboardInterrupt):
        play(store, module, monkeypatch, run_id)
    row = store.run(run_id)
    assert (row.status, row.message) == (RunStatus.STOPPED, "Stopped after 3 of 5 rounds.")
    assert kept(store, run_id) == [1, 2, 3]
    assert signal.getsignal(number) is before


def test_a_signal_while_a_round_is_written_waits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    append = Store.append

    def interrupted(self: Store, run_id: str, one: object) -> None:
        signal.raise_signal(signal.SIGINT)
        append(self, run_id, one)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "append", interrupted)
    run_id = store.create_run(CONFIG)
    with pytest.raises(KeyboardInterrupt):
        play(store, federation(), monkeypatch, run_id)
    assert kept(store, run_id) == [1]
    assert store.run(run_id).message == "Stopped after 1 of 5 rounds."


def test_closing_the_stream_stops_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwff_core, "federation", federation(), raising=False)
    run_id = store.create_run(CONFIG)
    stream = worker.recorded(store, run_id)
    assert next(stream).round == 1
    stream.close()
    assert store.run(run_id).message == "Stopped after 1 of 5 rounds."


def test_a_run_plays_outside_the_main_thread(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[RunRow] = []
    thread = threading.Thread(target=lambda: rows.append(play(store, federation(), monkeypatch)))
    thread.start()
    thread.join()
    assert [row.status for row in rows] == [RunStatus.FINISHED]


# what is kept of it


def rounds_of_the_models(store: Store, run_id: str) -> float:
    """How many rounds the run's models have been through, as they are kept."""
    (number,) = load(models_folder(store.path, run_id)).after["lora"]["rounds"].unique().tolist()
    return float(number)


@pytest.mark.parametrize(("stop_in", "status"), [(None, RunStatus.FINISHED), (2, RunStatus.STOPPED)])
def test_the_models_are_kept_beside_the_store_before_the_run_is_said_to_have_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch, stop_in: int | None, status: RunStatus
) -> None:
    ends: list[tuple[RunStatus, bool]] = []
    finish = Store.finish

    def seen(self: Store, run_id: str, status: RunStatus, message: str = "") -> None:
        ends.append((status, kept_models(self.path, run_id) is not None))
        finish(self, run_id, status, message)

    monkeypatch.setattr(Store, "finish", seen)
    run_id = store.create_run(CONFIG)
    row = play(
        store, federation(lambda number: store.request_stop(run_id) if number == stop_in else None), monkeypatch, run_id
    )
    assert ends == [(status, True)]
    assert rounds_of_the_models(store, run_id) == row.rounds_done == (stop_in or 5)


def test_models_in_the_middle_of_a_round_are_not_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = store.create_run(CONFIG)
    with pytest.raises(KeyboardInterrupt):
        play(store, federation(lambda number: signal.raise_signal(signal.SIGINT)), monkeypatch, run_id)
    assert kept_models(store.path, run_id) is None


@pytest.mark.parametrize(
    ("stop_in", "status", "begin"),
    [(None, RunStatus.FINISHED, ""), (2, RunStatus.STOPPED, "Stopped after 2 of 5 rounds. ")],
)
def test_models_that_cannot_be_kept_leave_the_run_as_it_is_and_are_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, stop_in: int | None, status: RunStatus, begin: str
) -> None:
    (store.path.parent / "models").write_text("in the way")
    run_id = store.create_run(CONFIG)
    row = play(
        store, federation(lambda number: store.request_stop(run_id) if number == stop_in else None), monkeypatch, run_id
    )
    folder = models_folder(store.path, run_id)
    assert row.status is status
    assert row.message.startswith(f"{begin}The models cannot be written to {folder} (")
    assert row.message.endswith("); make room or allow writing there.")
    assert kept(store, run_id) == [*range(1, (stop_in or 5) + 1)]


def test_a_stage_that_ended_early_lowers_what_is_expected(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwff_core, "federation", federation(converges_at=3), raising=False)
    run_id = store.create_run(CONFIG)
    expected = [store.run(run_id).rounds_total for _ in worker.recorded(store, run_id)]
    assert expected == [5, 5, 3]  # by whom a round is given to, it is known
    row = store.run(run_id)
    assert (row.status, row.rounds_done, row.rounds_total) == (RunStatus.FINISHED, 3, 3)
    assert (row.profiles, row.notes) == ((profile(0), profile(1)), ("A remark — with a dash.",))
    assert [found.stage_end for _, found in store.rounds(run_id)] == ["", "", CONVERGED]


def test_a_stop_in_the_round_that_turned_out_to_be_the_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = store.create_run(CONFIG)
    module = federation(lambda number: store.request_stop(run_id) if number == 3 else None, converges_at=3)
    assert play(store, module, monkeypatch, run_id).status is RunStatus.FINISHED


# failure


def raising(error: Exception, at: int) -> ModuleType:
    def before_round(number: int) -> None:
        if number == at:
            raise error

    return federation(before_round)


def failed(store: Store, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> tuple[PwffError, RunRow]:
    run_id = store.create_run(CONFIG)
    with pytest.raises(PwffError) as caught:
        play(store, module, monkeypatch, run_id)
    row = store.run(run_id)
    assert (row.status, row.message) == (RunStatus.FAILED, str(caught.value))
    return caught.value, row


def test_nan_in_training_keeps_the_rounds_before_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "The loss is not a number in instruction round 4; lower instruction.learning_rate."
    error, row = failed(store, raising(TrainingError(text), at=4), monkeypatch)
    assert (row.message, kept(store, row.id)) == (text, [1, 2, 3])


def test_bad_data_fails_before_the_first_round(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, row = failed(store, federation(prepare_error=DataError("x.json is empty; give rows.")), monkeypatch)
    assert (row.message, row.rounds_done) == ("x.json is empty; give rows.", 0)


OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})  # as torch calls it on the GPU


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")],
)
def test_lack_of_memory_is_said_plainly(store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    caught, row = failed(store, raising(error, at=2), monkeypatch)
    assert isinstance(caught, TrainingError)
    assert row.message.startswith("The computer has not enough memory for this run; choose fewer clients")
    assert kept(store, row.id) == [1]


def test_what_nobody_foresaw_goes_to_the_log(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    caught, row = failed(store, raising(ZeroDivisionError("division\nby zero"), at=3), monkeypatch)
    log = store.path.parent / "logs" / f"{row.id}.log"
    assert isinstance(caught, EngineError)
    assert row.message == f"The engine failed: ZeroDivisionError: division by zero. The full report is in {log}."
    report = log.read_text(encoding="utf-8")
    assert report.startswith("Traceback") and "before_round" in report
    assert kept(store, row.id) == [1, 2]


# the process


SLOW = """
import sys
from tests import scripted
scripted.install_slow(float(sys.argv.pop(1)))
from pwff_core.worker import main
sys.exit(main())
"""


def start(store: Store, run_id: str, seconds_a_round: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SLOW, str(seconds_a_round), run_id, "--store", str(store.path)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})


def wait_for_rounds(store: Store, run_id: str, rounds: int) -> None:
    deadline = time.monotonic() + 60
    while store.run(run_id).rounds_done < rounds:
        assert time.monotonic() < deadline, f"no round {rounds}: {store.run(run_id)}"
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_worker_loses_no_round_and_reads_as_failed(store: Store) -> None:
    run_id = store.create_run(RunConfig(clients=2, instruction=InstructionConfig(rounds=1000)))
    process = start(store, run_id, 0.02)
    wait_for_rounds(store, run_id, 5)
    process.kill()
    process.wait()
    row = Store(store.path, readonly=True).run(run_id)
    assert row.status is RunStatus.FAILED
    assert row.message == (
        f"The engine stopped without a word (process {process.pid} is gone); its {row.rounds_done} rounds are kept."
    )
    assert kept(store, run_id) == [*range(1, row.rounds_done + 1)]
    assert row.rounds_done >= 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_a_terminated_worker_stops_at_once_and_cleanly(store: Store) -> None:
    run_id = store.create_run(CONFIG)
    process = start(store, run_id, 600.0)  # in the middle of a round that would take ten minutes
    deadline = time.monotonic() + 60
    while not store.run(run_id).profiles:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=30) == 0
    assert store.run(run_id).message == "Stopped after 0 of 5 rounds."


def test_the_process_says_on_stderr_what_it_cannot_do(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert worker.main(["nosuchid", "--store", str(store.path)]) == 1
    assert capsys.readouterr().err.startswith("There is no run 'nosuchid' in")


# launch


@pytest.fixture
def launched() -> Iterator[list[subprocess.Popen[bytes]]]:
    yield launch._started
    for process in launch._started:
        process.wait(timeout=60)


def test_launch_starts_a_worker_that_logs_beside_the_store(
    store: Store, launched: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "signal.py").write_text("raise SystemExit('a module of the working folder was taken')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    launch.launch(Path("runs.sqlite"), "nosuchid")
    assert launched[-1].wait(timeout=60) == 1
    log = launch.log_path(store.path, "nosuchid")
    assert log == tmp_path / "logs" / "nosuchid.log"
    assert log.read_text().strip() == f"There is no run 'nosuchid' in {store.path}; `pwff runs` lists those there are."


def test_launch_into_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(EngineError, match="^The engine cannot be started .* check free memory and the folder"):
        launch.launch(tmp_path / "runs.sqlite", "abc")


def test_importing_the_worker_brings_no_training_in() -> None:
    code = "import sys, pwff_core.worker; print(*sorted({'torch', 'pandas', 'transformers'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == ""


def test_a_store_that_cannot_be_used_is_the_callers_to_hear(tmp_path: Path) -> None:
    (tmp_path / "runs.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not an SQLite file"):
        Store(tmp_path / "runs.sqlite")
    assert worker.main(["abc", "--store", str(tmp_path / "runs.sqlite")]) == 1
