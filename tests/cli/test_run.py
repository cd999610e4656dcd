"""`pwff run`: progress, tables and JSON; how it ends when it is stopped or fails."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.errors import ModelError, TrainingError
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunStatus, Store
from tests.support.cli_output import SHORT, play_with
from tests.support.scripted import ScriptedEngine, record


def test_run_shows_progress_and_a_table(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", *SHORT, "--name", "mine", "--method", "local"]) == 0
    output = capsys.readouterr()
    (row,) = Store(path).runs()
    assert (row.name, row.config.method, row.status, row.rounds_done) == ("mine", "local", RunStatus.FINISHED, 3)
    assert "Local only: 100%" in output.err and "3/3" in output.err and "instruction: accuracy 3.0 %" in output.err
    assert f"Run {row.id} is finished" in output.err
    lines = [" ".join(line.split()) for line in output.out.splitlines()]
    assert lines[0] == "instruction 1 instruction 3 in all"
    assert "Accuracy 1.0 % 3.0 %" in lines
    assert "Delay 2.00 s 2.00 s 6.00 s" in lines
    assert "Energy 4.00 J 4.00 J 12.0 J" in lines
    assert "Uplink 64.0 bit 64.0 bit 192 bit" in lines


def test_run_json_is_one_object_a_round_and_nothing_else(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", *SHORT, "--json"]) == 0
    (row,) = Store(path).runs()
    lines = capsys.readouterr().out.splitlines()
    assert [RoundRecord.model_validate_json(line) for line in lines] == [record(n, row.id) for n in (1, 2, 3)]
    first = json.loads(lines[0])
    assert {"run", "method", "stage", "round", "accuracy", "loss", "delay_s", "energy_j", "uplink_bits"} <= set(first)
    assert first["reward"] is None and first["clients"][1]["snr_db"] is None


def test_a_run_that_converges_fills_its_bar(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_with(monkeypatch, ScriptedEngine(converges_at=2))
    assert cli.main(["run", *SHORT]) == 0
    assert "PWFF: 100%" in (error := capsys.readouterr().err) and "2/2" in error


def test_models_that_cannot_be_kept_are_reported(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path.parent / "models").write_text("in the way")
    assert cli.main(["run", *SHORT]) == 0
    errors = capsys.readouterr().err
    assert "pwff: The models cannot be written to" in errors and "is finished; `pwff export" in errors


def test_force_plays_a_run_that_memory_is_short_for(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    play_with(monkeypatch, ScriptedEngine(prepare_error=ModelError("needs about 31 GB; 24 GB are free.")))
    assert cli.main(["run", *SHORT]) == 2
    assert "pwff: needs about 31 GB; 24 GB are free." in capsys.readouterr().err
    assert cli.main(["run", *SHORT, "--force"]) == 0
    assert [row.status for row in Store(path).runs()] == [RunStatus.FINISHED, RunStatus.FAILED]


def test_ctrl_c_keeps_the_rounds(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_with(monkeypatch, ScriptedEngine(lambda number: signal.raise_signal(signal.SIGINT) if number == 3 else None))
    assert cli.main(["run", *SHORT]) == 130
    (row,) = Store(path).runs()
    assert (row.status, row.rounds_done) == (RunStatus.STOPPED, 2)
    assert (
        f"Stopped after 2 of 3 rounds. They are kept as run {row.id}; `pwff resume {row.id}` goes on with it."
        in capsys.readouterr().err
    )


def raise_in_round(error: Exception, at: int) -> ScriptedEngine:
    def before_round(number: int) -> None:
        if number == at:
            raise error

    return ScriptedEngine(before_round)


def test_nan_is_one_sentence_and_keeps_the_rounds(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_with(monkeypatch, raise_in_round(TrainingError("The loss of instruction round 2 is not finite."), at=2))
    assert cli.main(["run", *SHORT]) == 2
    (row,) = Store(path).runs()
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "pwff: The loss of instruction round 2 is not finite.",
        f"Run {row.id} keeps its 1 of 3 rounds; `pwff resume {row.id}` goes on with it.",
    ]
    assert (row.status, row.rounds_done) == (RunStatus.FAILED, 1)


def test_an_unexpected_error_is_exit_code_1_without_a_traceback(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_with(monkeypatch, raise_in_round(ZeroDivisionError("oh"), at=1))
    assert cli.main(["run", *SHORT]) == 1
    errors = capsys.readouterr().err
    assert "pwff: The engine failed: ZeroDivisionError: oh. The full report is in" in errors
    assert "Traceback" not in errors
