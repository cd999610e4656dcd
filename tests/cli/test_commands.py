"""`pwff run`, `runs`, `app`, and what the command line says to bad input."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from pwff_core import cli
from pwff_core.cli import flags, terminal
from pwff_core.config import InstructionConfig, RunConfig
from pwff_core.errors import ModelError, TrainingError
from pwff_core.knobs import knobs
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunStatus, Store
from pwff_core.tools.text_table import table
from tests.support.cli_output import SHORT, play_with, sentence
from tests.support.scripted import federation, record

ROOT = Path(__file__).resolve().parent.parent.parent


# help


@pytest.mark.parametrize(("command", "flag"), [("run", "--channel.snr-db dB"), ("rank", "--candidates N")])
def test_help_answers_at_once_without_what_training_needs(command: str, flag: str) -> None:
    code = (
        "import sys, pwff_core.cli as cli\n"
        f"try: cli.main([{command!r}, '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'scipy', 'streamlit', 'plotly', 'tqdm', 'openai'}\n"
        "print(*sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert time.monotonic() - start < 5.0  # 0.5 s on an idle computer
    assert flag in done.stdout


def test_every_setting_is_a_flag_with_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert end.value.code == 0
    for path, entry in knobs().items():
        assert f"--{path.replace('_', '-')}" in shown
        if path != "preset":
            assert " ".join(entry.help.split()[:4]) in shown


def test_no_command_is_help_and_version_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 0
    assert "{run,resume,fork,compare,runs,export,rank,app,doctor}" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pwff ")


# flags


def parsed(*words: str) -> RunConfig:
    command = cli._parsed(["run", *words])
    assert isinstance(command, flags.Run)
    return flags.config_of(command.preset, command.config, command.settings)


def test_no_flags_are_the_demo() -> None:
    assert parsed() == RunConfig()


def test_flags_reach_their_settings() -> None:
    config = parsed(
        *("--method", "fedlora", "--clients=4", "--seed", "3", "--float-bits", "16", "--channel.snr-db", "-5.5"),
        *("--channel.deadline-s", "inf", "--data.personal-styles", "false", "--instruction.learning-rate", "1e-3"),
        *("--preferences.helpfulness-weights", "0", "0.25", "0.5,1"),
    )
    assert (config.method, config.clients, config.seed, config.float_bits) == ("fedlora", 4, 3, 16)
    assert (config.channel.snr_db, config.channel.deadline_s) == (-5.5, float("inf"))
    assert config.data.personal_styles is False
    assert config.instruction.learning_rate == 1e-3
    assert config.preferences.helpfulness_weights == (0.0, 0.25, 0.5, 1.0)


def test_flags_lie_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seed = 5\n[channel]\nsnr_db = 1.0\n[lora]\nrank = 12\n")
    config = parsed("--preset", "paper", "--config", str(file), "--channel.snr-db", "2")
    assert (config.seed, config.channel.snr_db, config.lora.rank) == (5, 2.0, 12)
    assert (config.backbone, config.instruction.rounds) == ("gpt2", 50)


def test_none_takes_a_setting_back() -> None:
    config = parsed(
        "--preset", "paper", "--instruction.learning-rate", "none", "--preferences.helpfulness-weights", "none"
    )
    assert config.instruction.learning_rate is None
    assert config.preferences.helpfulness_weights is None


def test_a_flag_without_its_value_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "--channel.snr-db", "--json"])
    assert end.value.code == 2
    assert "Missing value for argument '--channel.snr-db'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--clients 0", "clients: 0 is not allowed; give a whole number from 2 to 200."),
        ("--clients 10000", "clients: 10000 is not allowed; give a whole number from 2 to 200."),
        ("--clients 2.5", "clients: 2.5 is not allowed; give a whole number from 2 to 200."),
        ("--channel.snr-db 200", "channel.snr_db: 200 is not allowed; give a number from -30 to 60 dB."),
        ("--channel.snr-db five", "channel.snr_db: 'five' is not allowed; give a number from -30 to 60 dB."),
        ("--channel.snr_db=", "channel.snr_db: '' is not allowed; give a number from -30 to 60 dB."),
        (
            "--channel.bandwidth-hz 0",
            "channel.bandwidth_hz: 0 is not allowed; give a number from 1,000 to 1,000,000,000 Hz.",
        ),
        (
            "--channel.bandwidth-hz -1e6",
            "channel.bandwidth_hz: -1000000.0 is not allowed; give a number from 1,000 to 1,000,000,000 Hz.",
        ),
        (
            "--clients 2 --preferences.helpfulness-weights 0.5 0.5 --preferences.harmlessness-weights 0.5 0.4",
            "preferences: the weights of client 1 are 0.5 and 0.4, which sum to 0.9; they must sum to 1.",
        ),
        (
            "--preferences.helpfulness-weights 0.5",
            "preferences.helpfulness_weights has 1 weights for 10 clients; give one a client.",
        ),
        (
            "--method pwf",
            "method: 'pwf' is not one of pwff, vanilla_fl, fedada, fedlora, sfl, pfl, shepherd, local, centralised. "
            "Did you mean 'pwff'?",
        ),
        ("--data.personal-styles maybe", "data.personal_styles: 'maybe' is not allowed; give true or false."),
        (
            "--channel.snr 5",
            "Unknown flag --channel.snr; did you mean --channel.snr-db? `pwff run --help` lists all flags.",
        ),
        ("--client 5", "Unknown flag --client; did you mean --clients? `pwff run --help` lists all flags."),
        ("--stor=x", "Unknown flag --stor; did you mean --store? `pwff run --help` lists all flags."),
        ("--zzzzzz 5", "Unknown flag --zzzzzz. `pwff run --help` lists all flags."),
        ("fast", "`pwff run` does not take 'fast'; a flag takes its value as --flag value."),
        ("--preset papre", "preset: 'papre' is not one of demo, paper, paper-as-printed."),
        ("--config nowhere.toml", "cannot read the config file nowhere.toml: No such file or directory."),
    ],
)
def test_bad_settings_are_one_sentence_and_start_no_run(
    path: Path, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    assert sentence(capsys, "run", *words.split()) == said
    assert not path.exists()


def test_a_run_that_memory_does_not_suffice_for_may_be_forced(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    play_with(monkeypatch, federation(prepare_error=ModelError("needs about 31 GB; 24 GB are free.")))
    assert cli.main(["run", *SHORT]) == 2
    assert "pwff: needs about 31 GB; 24 GB are free." in capsys.readouterr().err
    assert cli.main(["run", *SHORT, "--force"]) == 0
    assert [row.status for row in Store(path).runs()] == [RunStatus.FINISHED, RunStatus.FAILED]


def test_an_unknown_field_in_the_file_names_the_nearest(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[channel]\nsnr_dB = 5\n")
    assert "unknown setting 'channel.snr_dB'. Did you mean 'channel.snr_db'?" in sentence(
        capsys, "run", "--config", str(file)
    )


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    said = sentence(capsys, "comprae")
    assert said == (
        "unknown command 'comprae'; did you mean compare? "
        "There are run, resume, fork, compare, runs, export, rank, app, doctor."
    )


# run


def test_run_shows_progress_and_a_table(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", *SHORT, "--name", "mine", "--method", "local"]) == 0
    said = capsys.readouterr()
    (row,) = Store(path).runs()
    assert (row.name, row.config.method, row.status, row.rounds_done) == ("mine", "local", RunStatus.FINISHED, 3)
    assert "Local only: 100%" in said.err and "3/3" in said.err and "instruction: accuracy 3.0 %" in said.err
    assert f"Run {row.id} is finished" in said.err
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
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
    play_with(monkeypatch, federation(converges_at=2))
    assert cli.main(["run", *SHORT]) == 0
    assert "PWFF: 100%" in (said := capsys.readouterr().err) and "2/2" in said


def test_models_that_cannot_be_kept_are_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path.parent / "models").write_text("in the way")
    assert cli.main(["run", *SHORT]) == 0
    said = capsys.readouterr().err
    assert "pwff: The models cannot be written to" in said and "is finished; `pwff export" in said


def test_ctrl_c_keeps_the_rounds(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_with(monkeypatch, federation(lambda number: signal.raise_signal(signal.SIGINT) if number == 3 else None))
    assert cli.main(["run", *SHORT]) == 130
    (row,) = Store(path).runs()
    assert (row.status, row.rounds_done) == (RunStatus.STOPPED, 2)
    assert (
        f"Stopped after 2 of 3 rounds. They are kept as run {row.id}; `pwff resume {row.id}` goes on with it."
        in capsys.readouterr().err
    )


def raise_in_round(error: Exception, at: int) -> ModuleType:
    def before_round(number: int) -> None:
        if number == at:
            raise error

    return federation(before_round)


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


def test_what_nobody_foresaw_has_exit_code_1_and_no_traceback(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_with(monkeypatch, raise_in_round(ZeroDivisionError("oh"), at=1))
    assert cli.main(["run", *SHORT]) == 1
    said = capsys.readouterr().err
    assert "pwff: The engine failed: ZeroDivisionError: oh. The full report is in" in said
    assert "Traceback" not in said


# stores that cannot be used


def test_a_store_that_is_not_sqlite(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(b"something else entirely" * 100)
    for words in (["run", *SHORT], ["runs"], ["export", "latest"], ["compare", *SHORT], ["app"]):
        assert sentence(capsys, *words) == (
            f"The store {path} is not a store of runs (not an SQLite file); "
            "choose another file with --store or $PWFF_STORE."
        )


def test_a_damaged_store_names_the_doctor(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(path).create_run(RunConfig())
    path.write_bytes(path.read_bytes()[:8192])
    assert cli.main(["runs"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "is malformed" in said[0]
    assert said[1] == "`pwff doctor` says what is damaged, and `pwff doctor --mend` saves what can be read."


def test_a_locked_store(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Store(path)
    monkeypatch.setattr(import_module("pwff_core.cli.run"), "Store", lambda path: Store(path, patience_s=0.05))
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert "is locked by another program; close that program and try again" in sentence(capsys, "run", *SHORT)
    blocker.close()


def test_a_store_in_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    said = sentence(capsys, "run", *SHORT, "--store", str(tmp_path / "file" / "runs.sqlite"))
    assert "cannot be made" in said and "choose another file with --store or $PWFF_STORE" in said


# runs


def test_runs_lists_newest_first(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs"]) == 0
    assert capsys.readouterr().out.startswith(f"No runs yet in {path};")
    store = Store(path)
    first = store.create_run(RunConfig(method="fedada", clients=3, instruction=InstructionConfig(rounds=7)), "one")
    second = store.create_run(RunConfig(method="local"))
    assert cli.main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == [second, first]
    assert lines[1].split()[3:] == ["fedada", "3", "5", "dB", "0/7", "queued", "one"]
    assert cli.main(["runs", "--json"]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [second, first]


def test_runs_in_a_pipe_that_closes_early(path: Path) -> None:
    store = Store(path)
    for _ in range(3):
        store.create_run(RunConfig())
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pwff_core", "runs", "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


# small parts


def test_a_table_lines_up() -> None:
    assert table(("a", "bb"), [("ccc", "d"), ("", "e")]) == "a    bb\n───  ──\nccc  d\n     e"


def test_numbers_in_words() -> None:
    assert terminal.in_words("accuracy", 0.6314) == "63.1 %"
    assert terminal.in_words("delay_s", 125.0) == "2 min 05 s"
    assert terminal.in_words("delay_s", 0.0963) == "96.3 ms"
    assert terminal.in_words("energy_j", 1720.0) == "1.72 kJ"
    assert terminal.in_words("loss", None) == "–"


def test_a_run_without_rounds_has_no_table() -> None:
    assert terminal.summary([]) == "The run has no rounds."


def test_python_m_is_the_same_program(path: Path) -> None:
    command = [sys.executable, "-m", "pwff_core", "run", "--clients", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pwff: clients: 0 is not allowed; give a whole number from 2 to 200.\n"
