from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import PresetId, RunConfig, preset_config
from pwff_core.export import config_toml
from pwff_core.export.contents import _toml, readme_text, run_words
from pwff_core.knobs import load_toml, with_changes
from pwff_core.records import Steering
from pwff_core.runs.recording import Recording
from pwff_core.runs.store import RunRow, RunStatus

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.booleans() | st.tuples(st.floats(0, 1)))
def test_a_value_reads_back_from_toml(value: object) -> None:
    assert tomllib.loads(f"x = {_toml(value)}")["x"] == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("preset", get_args(PresetId))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 7, "channel.deadline_s": 2.5, "channel.coherence_time_s": math.inf, "data.personal_styles": False},
        {"instruction.learning_rate": None, "alignment.learning_rate": 1e-7, "data.topic_column": 'a "b" \\ \x7f ü'},
        {"clients": 2, "preferences.helpfulness_weights": (0.0, 1 / 3), "channel.deadline_s": math.inf},
    ],
)
def test_the_config_is_taken_back_whatever_the_command_starts_from(
    preset: PresetId, changes: dict[str, object], tmp_path: Path
) -> None:
    config = with_changes(preset_config(preset), changes)
    file = tmp_path / "config.toml"
    file.write_text(config_toml(config), encoding="utf-8")
    for base in get_args(PresetId):
        assert load_toml(file, preset_config(base)) == config


def test_units_stand_beside_the_numbers() -> None:
    assert "snr_db = 5.0  # dB\n" in config_toml(RunConfig())


def recording(**changes: object) -> Recording:
    row = RunRow(
        id="abc", name="", created_at=0.0, status=RunStatus.STOPPED, message="", config=RunConfig(seed=3), profiles=(),
        notes=(), rounds_done=0, rounds_total=27, pid=None, heartbeat_at=None, deleted=False,
    )  # fmt: skip
    return Recording(row.model_copy(update=changes), (), (), {"python": "3.12.1", "pwff": "0.1.0"})


def test_the_words_of_a_run_say_settings_seed_name_and_what_is_real() -> None:
    assert run_words(recording(name="für <b>Ω</b>")) == (
        "Run abc (für <b>Ω</b>): PWFF, 10 clients, mean SNR 5 dB, 1 MHz and 1 W a client, Rayleigh fading; rounds at "
        "the most: 16 of instruction, 4 of reward, 7 of alignment; seed 3; 0 of 27 rounds played, stopped. The "
        "training is real; the channel, and with it delay and energy, is simulated."
    )


def test_the_words_of_a_steered_run_say_from_when_what_holds() -> None:
    change = Steering(
        position=7,
        stage="instruction",
        round=7,
        before={"channel.snr_db": 5.0},
        changes={"channel.snr_db": 0.0},
        at=1.0,
    )
    said = run_words(recording()._replace(steerings=(change,)))
    assert "stopped. From round 7: SNR 5 → 0 dB. The training is real" in said


def test_the_readme_lists_files_sizes_versions_and_how_to_go_on() -> None:
    files = ["figures/a.pdf", "figures/b.pdf", "figures/figures.html", "tables/rounds.csv", "config.toml", "run.json"]
    said = readme_text("A title", "About it.", files, "ieee-2", {"python": "3.12.1", "pwff": "0.1.0"})
    assert said.startswith("A title\n=======\n\nAbout it.\n")
    assert said.count("figures/*.pdf            7.16 × 3 in; for LaTeX") == 1 and "a.pdf" not in said
    assert "pwff run --config config.toml" in said and "run.json has them" in said
    assert "Made with: Python 3.12.1, pwff 0.1.0" in said
    short = readme_text("A title", "About it.", ["tables/means.csv"], "slide", {})
    assert "--config" not in short and "run.json" not in short and "means.csv" in short
