"""The flags: every setting is one, and a bad one is answered in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.cli.arguments import Run, parse
from pwff_core.cli.config_flags import config_of
from pwff_core.config import RunConfig
from pwff_core.knobs import knobs
from tests.support.cli_output import error_line


def test_every_setting_is_a_flag_with_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "--help"])
    help_text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert end.value.code == 0
    for path, entry in knobs().items():
        assert f"--{path.replace('_', '-')}" in help_text
        if path != "preset":
            assert " ".join(entry.help.split()[:4]) in help_text


def config_from(*words: str) -> RunConfig:
    command = parse(["run", *words])
    assert isinstance(command, Run)
    return config_of(command.preset, command.config, command.settings)


def test_no_flags_are_the_demo() -> None:
    assert config_from() == RunConfig()


def test_flags_set_their_settings() -> None:
    config = config_from(
        *("--method", "fedlora", "--clients=4", "--seed", "3", "--float-bits", "16", "--channel.snr-db", "-5.5"),
        *("--channel.deadline-s", "inf", "--data.personal-styles", "false", "--instruction.learning-rate", "1e-3"),
        *("--preferences.helpfulness-weights", "0", "0.25", "0.5,1"),
    )
    assert (config.method, config.clients, config.seed, config.float_bits) == ("fedlora", 4, 3, 16)
    assert (config.channel.snr_db, config.channel.deadline_s) == (-5.5, float("inf"))
    assert config.data.personal_styles is False
    assert config.instruction.learning_rate == 1e-3
    assert config.preferences.helpfulness_weights == (0.0, 0.25, 0.5, 1.0)


def test_flags_override_the_file_and_the_file_overrides_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seed = 5\n[channel]\nsnr_db = 1.0\n[lora]\nrank = 12\n")
    config = config_from("--preset", "paper", "--config", str(file), "--channel.snr-db", "2")
    assert (config.seed, config.channel.snr_db, config.lora.rank) == (5, 2.0, 12)
    assert (config.backbone, config.instruction.rounds) == ("gpt2", 50)


def test_none_resets_a_setting() -> None:
    config = config_from(
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
    ("words", "error"),
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
    path: Path, capsys: pytest.CaptureFixture[str], words: str, error: str
) -> None:
    assert error_line(capsys, "run", *words.split()) == error
    assert not path.exists()


def test_an_unknown_field_in_the_file_names_the_nearest(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[channel]\nsnr_dB = 5\n")
    assert "unknown setting 'channel.snr_dB'. Did you mean 'channel.snr_db'?" in error_line(
        capsys, "run", "--config", str(file)
    )


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    error = error_line(capsys, "comprae")
    assert error == (
        "unknown command 'comprae'; did you mean compare? "
        "There are run, resume, fork, compare, runs, export, rank, app, doctor."
    )
