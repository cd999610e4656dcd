"""A run that fails keeps its rounds, and the store says in a sentence why it failed."""

from __future__ import annotations

import pytest

from pwff_core.errors import DataError, EngineError, PwffError, TrainingError
from pwff_core.runs.store import RunRow, RunStatus, Store
from tests.support.scripted import ScriptedEngine
from tests.support.workers import CONFIG, kept, play


def raising(error: Exception, at: int) -> ScriptedEngine:
    def before_round(number: int) -> None:
        if number == at:
            raise error

    return ScriptedEngine(before_round)


def failed(store: Store, engine: ScriptedEngine) -> tuple[PwffError, RunRow]:
    run_id = store.create_run(CONFIG)
    with pytest.raises(PwffError) as caught:
        play(store, engine, run_id)
    row = store.run(run_id)
    assert (row.status, row.message) == (RunStatus.FAILED, str(caught.value))
    return caught.value, row


def test_nan_in_training_keeps_the_rounds_before_it(store: Store) -> None:
    text = "The loss is not a number in instruction round 4; lower instruction.learning_rate."
    error, row = failed(store, raising(TrainingError(text), at=4))
    assert (row.message, kept(store, row.id)) == (text, [1, 2, 3])


def test_bad_data_fails_before_the_first_round(store: Store) -> None:
    _, row = failed(store, ScriptedEngine(prepare_error=DataError("x.json is empty; give rows.")))
    assert (row.message, row.rounds_done) == ("x.json is empty; give rows.", 0)


OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})  # torch's name for it on a GPU


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
        UserWarning("mkldnn_matmul failed, switching to BLAS gemm: could not create a primitive"),
    ],
)
def test_lack_of_memory_is_reported_in_a_sentence(store: Store, error: Exception) -> None:
    caught, row = failed(store, raising(error, at=2))
    assert isinstance(caught, TrainingError)
    assert row.message.startswith(
        "The computer has not enough memory for this run; resume it after closing other programs, or"
    )
    assert kept(store, row.id) == [1]


def test_an_unexpected_error_is_reported_in_the_log(store: Store) -> None:
    caught, row = failed(store, raising(ZeroDivisionError("division\nby zero"), at=3))
    log = store.path.parent / "logs" / f"{row.id}.log"
    assert isinstance(caught, EngineError)
    assert row.message == f"The engine failed: ZeroDivisionError: division by zero. The full report is in {log}."
    report = log.read_text(encoding="utf-8")
    assert report.startswith("Traceback") and "before_round" in report
    assert kept(store, row.id) == [1, 2]


def test_a_report_goes_to_stderr_if_the_log_cannot_be_written(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (store.path.parent / "logs").write_text("in the way")
    _, row = failed(store, raising(ZeroDivisionError("division by zero"), at=2))
    assert row.message == "The engine failed: ZeroDivisionError: division by zero."
    assert "in before_round" in capsys.readouterr().err


def test_a_failed_run_can_be_resumed(store: Store) -> None:
    _, row = failed(store, raising(MemoryError(), at=3))
    store.requeue(row.id, in_queue=False)
    resumed = play(store, ScriptedEngine(), row.id)
    assert (resumed.status, resumed.message, kept(store, row.id)) == (RunStatus.FINISHED, "", [1, 2, 3, 4, 5])
