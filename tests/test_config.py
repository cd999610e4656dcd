"""Every knob can be drawn and checked; a bad value is answered in one sentence; a config survives TOML and JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pwff_core.config import ChannelConfig, RunConfig, preset_config, stage_rounds
from pwff_core.errors import ConfigError
from pwff_core.knobs import Knob, allowed_values, explain, knobs, load_toml, parse_config, with_changes

KNOBS = knobs()


def refusal(changes: dict[str, Any]) -> str:
    """The text that a person reads about a config with these changes."""
    with pytest.raises(ConfigError) as caught:
        with_changes(RunConfig(), changes)
    return str(caught.value)


# ---- knobs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knob", KNOBS.values(), ids=KNOBS)
def test_every_knob_can_be_shown(knob: Knob) -> None:
    assert knob.label
    assert len(knob.label) <= 24
    assert knob.help.endswith(".")
    assert knob.kind in ("choice", "switch", "integer", "number", "text", "list")
    assert (knob.kind == "choice") == bool(knob.choices)
    assert knob.value is None or knob.kind != "choice" or knob.value in knob.choices
    if knob.kind in ("integer", "number"):
        assert knob.low is not None
        assert knob.high is None or knob.low < knob.high
        assert knob.scale == "linear" or knob.low > 0  # a logarithmic slider has no zero
    assert allowed_values(knob).startswith("give ")


def test_a_suffix_of_a_name_is_the_unit() -> None:
    units = {"_db": "dB", "_hz": "Hz", "_w": "W", "_s": "s"}
    for path, knob in KNOBS.items():
        for suffix, unit in units.items():
            assert knob.unit == unit or not path.endswith(suffix)


def test_symbols_and_units_are_those_of_the_paper() -> None:
    expected = {  # arXiv 2404.13238v2, section V; the coherence time is a textbook's
        "clients": ("K", ""),
        "channel.snr_db": ("γ̄", "dB"),
        "channel.transmit_power_w": ("P", "W"),
        "channel.bandwidth_hz": ("B", "Hz"),
        "channel.coherence_time_s": ("T_c", "s"),
        "adapter.bottleneck": ("b", ""),
        "lora.rank": ("r", ""),
    }
    assert {path: (KNOBS[path].symbol, KNOBS[path].unit) for path in expected} == expected


def test_knobs_have_the_values_of_a_config() -> None:
    config = with_changes(RunConfig(), {"channel.snr_db": 12.5, "lora.rank": 3})
    assert {path: knob.value for path, knob in knobs(config).items() if knob.value != KNOBS[path].value} == {
        "channel.snr_db": 12.5,
        "lora.rank": 3,
    }


def test_what_a_knob_takes_in_words() -> None:
    expected = {
        "channel.snr_db": "give a number from -30 to 60 dB",
        "channel.bandwidth_hz": "give a number from 1,000 to 1,000,000,000 Hz",
        "channel.deadline_s": "give a number of at least 0.001 s, or inf",
        "clients": "give a whole number from 2 to 200",
        "instruction.learning_rate": "give a number from 1e-07 to 1",
        "channel.fading": "give one of rayleigh, awgn",
        "data.personal_styles": "give true or false",
        "data.source": "give a text",
        "data.topic_column": "give a text",
        "preferences.helpfulness_weights": "give a list of numbers from 0 to 1, one a client",
    }
    assert {path: allowed_values(KNOBS[path]) for path in expected} == expected


# ---- bad values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("clients", 0, "clients: 0 is not allowed; give a whole number from 2 to 200."),
        ("clients", 10_000, "clients: 10000 is not allowed; give a whole number from 2 to 200."),
        ("clients", 2.5, "clients: 2.5 is not allowed; give a whole number from 2 to 200."),
        ("clients", "ten", "clients: 'ten' is not allowed; give a whole number from 2 to 200."),
        ("clients", None, "clients: None is not allowed; give a whole number from 2 to 200."),
        ("channel.snr_db", 200, "channel.snr_db: 200 is not allowed; give a number from -30 to 60 dB."),
        ("channel.snr_db", "five", "channel.snr_db: 'five' is not allowed; give a number from -30 to 60 dB."),
        ("channel.snr_db", math.nan, "channel.snr_db: nan is not allowed; give a number from -30 to 60 dB."),
        ("channel.snr_db", math.inf, "channel.snr_db: inf is not allowed; give a number from -30 to 60 dB."),
        ("channel.snr_db", True, "channel.snr_db: true is not allowed; give a number from -30 to 60 dB."),
        ("channel.bandwidth_hz", 0, "channel.bandwidth_hz: 0 is not allowed; give a number from 1,000 to 1,000,000,000 Hz."),
        ("channel.bandwidth_hz", -1e6, "channel.bandwidth_hz: -1000000.0 is not allowed; give a number from 1,000 to 1,000,000,000 Hz."),
        ("channel.deadline_s", math.nan, "channel.deadline_s: nan is not allowed; give a number of at least 0.001 s, or inf."),
        ("instruction.rounds", True, "instruction.rounds: true is not allowed; give a whole number from 0 to 10,000."),
        ("seed", -1, "seed: -1 is not allowed; give a whole number from 0 to 2,147,483,647."),
        ("method", "pwf", "method: 'pwf' is not one of pwff, vanilla_fl, fedada, fedlora, sfl, pfl, shepherd, local, centralised. Did you mean 'pwff'?"),
        ("channel.fading", "rician", "channel.fading: 'rician' is not one of rayleigh, awgn."),
        ("float_bits", 8, "float_bits: 8 is not one of 16, 32."),
        ("float_bits", "32", "float_bits: '32' is not one of 16, 32."),
        ("data.source", 5, "data.source: 5 is not allowed; give a text."),
        ("data.personal_styles", "maybe", "data.personal_styles: 'maybe' is not allowed; give true or false."),
        ("preferences.helpfulness_weights", 5, "preferences.helpfulness_weights: 5 is not allowed; give a list of numbers from 0 to 1, one a client."),
        ("preferences.helpfulness_weights", ["a", "b"], "preferences.helpfulness_weights: 'a' is not allowed; give a list of numbers from 0 to 1, one a client."),
        ("preferences.helpfulness_weights", [0.5, 1.2], "preferences.helpfulness_weights: the weight of client 1 is 1.2; allowed is 0 to 1."),
        ("preferences.helpfulness_weights", [0.5] * 3, "preferences.helpfulness_weights has 3 weights for 10 clients; give one a client."),
        ("chanel.snr_db", 5, "unknown setting 'chanel.snr_db'. Did you mean 'channel.snr_db'? `pwff run --help` lists all."),
        ("zzzz", 5, "unknown setting 'zzzz'. `pwff run --help` lists all."),
    ],
)  # fmt: skip
def test_a_bad_value_is_answered_in_one_sentence(path: str, value: object, text: str) -> None:
    assert refusal({path: value}) == text


def test_two_problems_are_two_sentences() -> None:
    assert refusal({"clients": 0, "channel.snr_db": 99}) == (
        "clients: 0 is not allowed; give a whole number from 2 to 200. "
        "channel.snr_db: 99 is not allowed; give a number from -30 to 60 dB."
    )


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"channel": 5}, "channel: 5 is not allowed; give a table of this section's settings: snr_db, bandwidth_hz"),
        ({"adapter": True}, "adapter: true is not allowed; give a table of this section's settings: bottleneck."),
        ({"channel": {"snr": 3}}, "unknown setting 'channel.snr'. Did you mean 'channel.snr_db'?"),
        ({"methd": "pwff"}, "unknown setting 'methd'. Did you mean 'method'?"),
    ],
)
def test_a_tree_of_the_wrong_shape(tree: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(tree)
    assert str(caught.value).startswith(text)


def test_weights_must_sum_to_one() -> None:
    helpful, harmless = [0.5] * 10, [0.5] * 9 + [0.6]
    assert refusal({"preferences.helpfulness_weights": helpful, "preferences.harmlessness_weights": harmless}) == (
        "preferences: the weights of client 9 are 0.5 and 0.6, which sum to 1.1; they must sum to 1."
    )
    assert refusal({"preferences.helpfulness_weights": helpful, "preferences.harmlessness_weights": [0.5] * 9}) == (
        "preferences: 10 helpfulness and 9 harmlessness weights; give one of each a client."
    )
    weights = {"preferences.helpfulness_weights": [0.3] * 10, "preferences.harmlessness_weights": [0.7] * 10}
    assert with_changes(RunConfig(), weights).preferences.harmlessness_weights == (0.7,) * 10


def test_one_draw_for_an_upload_needs_a_deadline() -> None:
    assert "set deadline_s (seconds) or a finite coherence_time_s." in refusal({"channel.coherence_time_s": math.inf})
    bounded = with_changes(RunConfig(), {"channel.coherence_time_s": math.inf, "channel.deadline_s": 30})
    assert bounded.channel.deadline_s == 30
    still = with_changes(RunConfig(), {"channel.coherence_time_s": math.inf, "channel.fading": "awgn"})
    assert math.isinf(still.channel.coherence_time_s)


def test_each_problem_lies_under_the_path_of_its_knob() -> None:
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate({"clients": 0, "channel": {"snr_db": "five"}, "lora": {"rang": 8}})
    assert {path: str(problem) for path, problem in explain(caught.value).items()} == {
        "clients": "clients: 0 is not allowed; give a whole number from 2 to 200.",
        "channel.snr_db": "channel.snr_db: 'five' is not allowed; give a number from -30 to 60 dB.",
        "lora.rang": "unknown setting 'lora.rang'. Did you mean 'lora.rank'?",
    }


@pytest.mark.parametrize("knob", [knob for knob in KNOBS.values() if knob.low is not None], ids=lambda knob: knob.path)
def test_a_bound_is_allowed_and_a_step_beyond_it_is_not(knob: Knob) -> None:
    assert knob.low is not None
    base = with_changes(RunConfig(), {"alignment.rounds": 0})  # which needs reward.rounds
    cast = int if knob.kind == "integer" else float
    for bound in (knob.low, knob.high):
        if bound is not None:
            assert knobs(with_changes(base, {knob.path: cast(bound)}))[knob.path].value == bound
    step = 1 if knob.kind == "integer" else abs(knob.low) * 1e-6 + 1e-12
    assert knob.path in refusal({knob.path: cast(knob.low - step)})
    if knob.high is not None:
        assert knob.path in refusal({knob.path: cast(knob.high + max(step, knob.high * 1e-6))})


def test_alignment_needs_reward_models() -> None:
    assert refusal({"reward.rounds": 0}) == (
        "alignment needs reward models: set reward.rounds to 1 or more, or skip alignment too (alignment.rounds = 0)."
    )
    assert stage_rounds(with_changes(RunConfig(), {"reward.rounds": 0, "alignment.rounds": 0})) == {"instruction": 16}
    with_changes(RunConfig(), {"method": "fedada", "reward.rounds": 0})  # a method without rewards has no such stages


def test_stages_follow_from_the_row_of_the_method() -> None:
    changes = {"instruction.rounds": 3, "reward.rounds": 2, "alignment.rounds": 0}
    assert stage_rounds(with_changes(RunConfig(), changes)) == {"instruction": 3, "reward": 2}
    assert stage_rounds(with_changes(RunConfig(), {"method": "fedlora"})) == {"instruction": 16}
    assert list(stage_rounds(RunConfig())) == ["instruction", "reward", "alignment"]


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().clients = 5  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().channel.snr_db = 5.0  # type: ignore[misc]


# ---- presets ----------------------------------------------------------------------------------------------------


def test_presets() -> None:
    demo, paper, printed = (preset_config(name) for name in ("demo", "paper", "paper-as-printed"))
    assert demo == RunConfig()
    assert (demo.preset, paper.preset, printed.preset) == ("demo", "paper", "paper-as-printed")
    for config in (paper, printed):
        assert (config.backbone, config.clients, config.adapter.bottleneck) == ("gpt2", 10, 10)
        link = config.channel
        assert (link.snr_db, link.bandwidth_hz, link.transmit_power_w, link.fading) == (5, 1e6, 1, "rayleigh")
    assert (paper.lora.rank, printed.lora.rank) == (8, 96)
    assert paper.lora.alpha / paper.lora.rank == printed.lora.alpha / printed.lora.rank  # only the rank differs
    assert with_changes(printed, {"preset": "paper", "lora.rank": 8, "lora.alpha": 16}) == paper


# ---- files ------------------------------------------------------------------------------------------------------


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_toml_file_is_laid_over_a_base(tmp_path: Path) -> None:
    base = with_changes(RunConfig(), {"seed": 7, "clients": 4})
    path = toml(tmp_path, "clients = 5\n[channel]\nsnr_db = 0\ndeadline_s = inf\n[data]\npersonal_styles = false\n")
    expected = {"clients": 5, "channel.snr_db": 0.0, "data.personal_styles": False}
    assert load_toml(path, base) == with_changes(base, expected)


def test_a_toml_file_that_names_a_preset_starts_from_it(tmp_path: Path) -> None:
    path = toml(tmp_path, 'preset = "paper-as-printed"\nseed = 3\n')
    assert load_toml(path, RunConfig()) == with_changes(preset_config("paper-as-printed"), {"seed": 3})
    with pytest.raises(ConfigError, match="preset: 'papr' is not one of .* Did you mean 'paper'?"):
        load_toml(toml(tmp_path, 'preset = "papr"'), RunConfig())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[chanel]\nsnr_db = 3", "unknown setting 'chanel.snr_db'. Did you mean 'channel.snr_db'?"),
        ("snr_db = 3", "unknown setting 'snr_db'. Did you mean 'channel.snr_db'?"),
        ("[channel]\nsnr_db = 'five'", "channel.snr_db: 'five' is not allowed; give a number from -30 to 60 dB."),
        ("[channel]\nsnr_db = nan", "channel.snr_db: nan is not allowed; give a number from -30 to 60 dB."),
        ("clients = ", "is not valid TOML: "),
    ],
)
def test_a_toml_file_with_a_mistake(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_toml(toml(tmp_path, text), RunConfig())
    assert message in str(caught.value)


def test_a_toml_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "no.toml"
    with pytest.raises(ConfigError) as caught:
        load_toml(missing, RunConfig())
    assert str(caught.value) == f"cannot read the config file {missing}: No such file or directory."
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_toml(tmp_path / "binary.toml", RunConfig())


# ---- round trips ------------------------------------------------------------------------------------------------


def values_of(knob: Knob) -> st.SearchStrategy[Any]:
    if knob.choices:
        return st.sampled_from(knob.choices)
    if knob.kind == "switch":
        return st.booleans()
    if knob.kind == "integer":
        assert knob.low is not None
        return st.integers(int(knob.low), int(knob.high) if knob.high is not None else 10**9)
    if knob.kind == "number":
        numbers = st.floats(knob.low, knob.high, allow_nan=False)
        return numbers if knob.value is not None else st.none() | numbers
    return st.text(min_size=1, max_size=12)


CHANGES = st.fixed_dictionaries(
    {}, optional={path: values_of(knob) for path, knob in KNOBS.items() if knob.kind != "list"}
).filter(lambda changes: changes.get("channel.coherence_time_s") != math.inf or "channel.deadline_s" in changes)


@given(CHANGES, st.data())
def test_a_config_survives_json(changes: dict[str, Any], data: st.DataObject) -> None:
    if changes.get("channel.coherence_time_s") == math.inf and changes["channel.deadline_s"] == math.inf:
        changes["channel.deadline_s"] = 1.0
    if changes.get("reward.rounds") == 0:
        changes["alignment.rounds"] = 0
    clients = changes.get("clients", 10)
    if clients <= 20 and data.draw(st.booleans()):
        weights = data.draw(st.lists(st.floats(0, 1), min_size=clients, max_size=clients))
        changes["preferences.helpfulness_weights"] = weights
    config = with_changes(RunConfig(), changes)
    text = config.model_dump_json()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert RunConfig.model_validate_json(text) == config
    assert parse_config(json.loads(text)) == config
    assert parse_config(config.model_dump()) == config


@given(CHANGES)
def test_changes_change_their_own_knobs_alone(changes: dict[str, Any]) -> None:
    if changes.get("channel.coherence_time_s") == math.inf:
        changes["channel.deadline_s"] = 1.0
    if changes.get("reward.rounds") == 0:
        changes["alignment.rounds"] = 0
    config = with_changes(RunConfig(), changes)
    assert {path: knob.value for path, knob in knobs(config).items()} == {
        path: changes.get(path, knob.value) for path, knob in KNOBS.items()
    }


def test_infinity_is_a_text_that_any_json_reader_takes() -> None:
    text = ChannelConfig().model_dump_json()
    assert json.loads(text)["deadline_s"] == "Infinity"
    assert ChannelConfig.model_validate_json(text).deadline_s == math.inf
