"""`pwff compare`: several methods on several seeds, with a scripted federation."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.errors import TrainingError
from pwff_core.records import RoundRecord
from pwff_core.runs.store import Store
from tests.support.cli_output import SHORT, play_with
from tests.support.scripted import ScriptedEngine


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_method_is_run_with_each_seed_as_one_comparison(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.csv"
    words = ["compare", *SHORT, "--methods", "pwff,local", "--seeds", "0,1", "--csv", str(file)]
    assert cli.main(words) == 0
    runs = Store(path).runs()
    made = [(row.config.method, row.config.seed, row.status.value) for row in reversed(runs)]
    assert made == [(m, s, "finished") for s in (0, 1) for m in ("pwff", "local")]
    (comparison,) = {row.comparison for row in runs}
    assert [row.id for row in Store(path).runs(comparison)] == [row.id for row in runs]
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == (
        "Method Runs Accuracy [%] Loss [nat] Delay a round [s] Energy a round [J] Delay in all [s] Energy in all [J]"
    )
    assert lines[2] == "PWFF 2 3.0 ± 0.0 0.333 ± 0.000 2.00 ± 0.00 4.00 ± 0.00 6.00 ± 0.00 12.0 ± 0.0"
    assert lines[3].startswith("Local only 2 3.0 ± 0.0")
    columns = ("method", "seed", "accuracy", "delay_s_a_round", "energy_j_in_all")
    expected = [(m, s, "0.03", "2.0", "12.0") for s in "01" for m in ("pwff", "local")]
    assert [tuple(row[name] for name in columns) for row in rows_of(file)] == expected
    assert not file.with_name("out-claims.csv").exists()  # the paper claims nothing of these two


def test_claims_of_the_paper_get_a_verdict_in_words_and_as_csv(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.csv"
    assert cli.main(["compare", *SHORT, "--methods", "pwff,vanilla_fl", "--seeds", "1,2", "--csv", str(file)]) == 0
    output = capsys.readouterr().out
    # the script uploads the same whatever the method, so there is no difference, and none in any spread
    assert "The paper: A round of PWFF has less delay than one of Vanilla FL. Here: within noise.\n" in output
    assert "PWFF is 0.00 ± 0.00 s above Vanilla FL." in " ".join(output.split())
    (claim,) = rows_of(tmp_path / "out-claims.csv")
    assert (claim["Figure"], claim["Verdict"]) == ("Fig. 4", "within noise")
    assert claim["Measured"].startswith("PWFF 2.00 ± 0.00 s, Vanilla FL 2.00 ± 0.00 s")


def test_a_figure_brings_its_methods_stages_and_seeds(path: Path) -> None:
    assert cli.main(["compare", "--figure", "fig4", "--clients", "2", "--instruction.rounds", "1"]) == 0
    made = [(row.config.method, row.config.seed) for row in reversed(Store(path).runs())]
    assert made == [(m, s) for s in (1, 2, 3) for m in ("pwff", "vanilla_fl", "fedada", "fedlora")]
    assert {(row.config.reward.rounds, row.config.alignment.rounds) for row in Store(path).runs()} == {(0, 0)}


def test_flags_override_the_figure(path: Path) -> None:
    words = ["--figure", "fig5", "--clients", "3", "--methods", "pwff", "--seeds", "7", "--instruction.rounds", "1"]
    assert cli.main(["compare", *words]) == 0
    (row,) = Store(path).runs()
    assert (row.config.method, row.config.seed) == ("pwff", 7)
    assert row.config.preferences.helpfulness_weights == (0.0, 0.5, 1.0)


def test_json_prints_rounds_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", *SHORT, "--methods", "pwff,fedada", "--json"]) == 0
    records = [RoundRecord.model_validate_json(line) for line in capsys.readouterr().out.splitlines()]
    assert [(record.method, record.round) for record in records] == [
        (m, n) for m in ("pwff", "fedada") for n in (1, 2, 3)
    ]


def test_a_failed_run_is_left_out_and_the_others_are_compared(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    def fail_first(number: int) -> None:
        calls.append(number)
        if len(calls) == 2:
            raise TrainingError("The loss of round 2 is not finite.")

    play_with(monkeypatch, ScriptedEngine(fail_first))
    assert cli.main(["compare", *SHORT, "--methods", "pwff,local"]) == 2
    output = capsys.readouterr()
    assert "pwff: PWFF, seed 0 is left out: The loss of round 2 is not finite." in output.err
    assert [line.split("  ")[0] for line in output.out.splitlines()[2:]] == ["Local only"]


def test_a_run_that_is_stopped_from_a_page_is_left_out(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop_it(number: int) -> None:
        store = Store(path)
        (row,) = store.runs()
        store.request_stop(row.id)

    play_with(monkeypatch, ScriptedEngine(stop_it))
    assert cli.main(["compare", *SHORT, "--methods", "pwff"]) == 2
    output = capsys.readouterr()
    assert "pwff: PWFF, seed 0 is left out: Stopped after 1 of 3 rounds." in output.err
    assert output.out == ""


def test_ctrl_c_names_the_run_that_can_be_resumed(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_with(monkeypatch, ScriptedEngine(lambda number: signal.raise_signal(signal.SIGINT) if number == 2 else None))
    assert cli.main(["compare", *SHORT, "--methods", "pwff,local"]) == 130
    (row,) = Store(path).runs()
    assert f"PWFF, seed 0 is stopped; `pwff resume {row.id}` goes on with this run alone." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--methods pwff,fedda", "method: 'fedda' is not one of"),
        ("--methods ,", "--methods is empty; give at least one, with commas between."),
        ("--seeds 0,x", "seed: 'x' is not allowed; give a whole number from 0 to 2,147,483,647."),
        ("--method pwff", "Unknown flag --method; did you mean --methods?"),
        ("--csv /nowhere/at/all.csv", "Cannot write /nowhere/at/all.csv (No such file or directory)"),
        ("--figure fig6", "--figure: 'fig6' is not one of fig4, fig5."),
        ("--figure fig5", "Fig. 5 shows alignment, and alignment.rounds is 0; set it to 1 or more."),
    ],
)
def test_a_bad_comparison_starts_no_run(path: Path, capsys: pytest.CaptureFixture[str], words: str, error: str) -> None:
    assert cli.main(["compare", *SHORT, *words.split()]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert output.err.removeprefix("pwff: ").startswith(error)
    assert not path.exists() or Store(path).runs() == []
