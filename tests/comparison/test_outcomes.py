"""What is compared, the numbers of a run, and how long a comparison takes."""

from __future__ import annotations

import math

import pytest

from pwff_core.comparison.claims import CLAIMS, claims_of
from pwff_core.comparison.outcomes import (
    MEASURES,
    Outcome,
    mean_text,
    method_table,
    outcome_of,
    run_table,
    shown_measures,
    spread_text,
)
from pwff_core.comparison.presets import FIGURES, MOST_RUNS, figure_config, new_comparison_id, plan, run_label
from pwff_core.comparison.timing import expected_seconds, same_work
from pwff_core.config import PreferencesConfig, RunConfig, preset_config, stage_rounds
from pwff_core.errors import ConfigError
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS, MethodId
from pwff_core.records import METRICS
from tests.support.scripted import whole_run


def outcome(method: MethodId, seed: int, **values: float) -> Outcome:
    return Outcome("run", RunConfig(method=method, seed=seed), {name: values.get(name) for name in MEASURES})


# ---- presets ------------------------------------------------------------------------------------------------------


def test_fig4_plays_instruction_tuning_alone_with_every_method() -> None:
    runs = plan(figure_config("fig4", RunConfig()), FIGURES["fig4"].methods, FIGURES["fig4"].seeds)
    assert {tuple(stage_rounds(config).items()) for config in runs} == {(("instruction", 16),)}
    assert [run_label(config) for config in runs[:5]] == [
        *("PWFF, seed 1", "Vanilla FL, seed 1", "FedAda, seed 1", "FedLoRA, seed 1"),
        "PWFF, seed 2",
    ]


def test_fig5_plays_three_stages_with_preferences_spread_over_the_clients() -> None:
    own = PreferencesConfig(helpfulness_weights=(0.1, 0.1, 0.1), harmlessness_weights=(0.9, 0.9, 0.9))
    runs = plan(figure_config("fig5", RunConfig(clients=3, preferences=own)), FIGURES["fig5"].methods, (1,))
    assert [config.method for config in runs] == ["pwff", "sfl", "pfl", "shepherd"]
    assert {config.preferences.helpfulness_weights for config in runs} == {(0.0, 0.5, 1.0)}
    assert {tuple(stage_rounds(config)) for config in runs} == {("instruction", "reward", "alignment")}


def test_runs_of_a_comparison_differ_by_method_and_seed_alone() -> None:
    base = with_changes(preset_config("demo"), {"channel.snr_db": 12.0, "clients": 5})
    first, *others = plan(base, ("pwff", "local"), ("3", 4))
    for config in others:
        assert with_changes(config, {"method": first.method, "seed": first.seed}) == first


@pytest.mark.parametrize(
    ("methods", "seeds", "message"),
    [
        ((), (1,), "A comparison needs at least one method and one seed."),
        (("pwff",), (), "A comparison needs at least one method and one seed."),
        (("pwff", "nosuch"), (1,), "method: 'nosuch' is not one of"),
        (("pwff",), ("1", "two"), "seed: 'two' is not allowed; give a whole number"),
        (("pwff", "local"), range(51), f"2 methods with 51 seeds are 102 runs; at most {MOST_RUNS} are allowed."),
    ],
)
def test_a_plan_that_is_not_allowed_is_answered_in_a_sentence(
    methods: tuple[str, ...], seeds: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        plan(RunConfig(), methods, seeds)
    assert str(error.value).startswith(message)


def test_a_figure_whose_stage_has_no_rounds_is_refused() -> None:
    no_tuning = with_changes(RunConfig(), {"instruction.rounds": 0})
    with pytest.raises(ConfigError, match=r"Fig\. 4 shows instruction, and instruction\.rounds is 0"):
        figure_config("fig4", no_tuning)
    figure_config("fig5", no_tuning)  # alignment alone may be compared


def test_ids_differ_and_are_safe_in_an_address() -> None:
    ids = {new_comparison_id() for _ in range(50)}
    assert len(ids) == 50
    assert all(len(comparison) == 8 and comparison.isalnum() for comparison in ids)


# ---- claims -------------------------------------------------------------------------------------------------------


def test_claims_are_about_methods_of_their_figure_and_known_measures() -> None:
    for claim in CLAIMS:
        assert set(claim.methods) <= set(FIGURES[claim.figure].methods)
        assert claim.subject not in claim.others and claim.others
        assert claim.measure in MEASURES
        assert METHODS[claim.subject].label in claim.sentence
        # what follows from the payload is delay and energy, and nothing else
        assert claim.by_payload == (claim.measure in ("delay_s_a_round", "energy_j_a_round"))


def test_a_comparison_has_the_claims_about_its_own_methods_alone() -> None:
    assert [claim.figure for claim in claims_of(FIGURES["fig4"].methods)] == ["fig4", "fig4"]
    assert len(claims_of(FIGURES["fig5"].methods)) == 8
    assert [claim.sentence for claim in claims_of(["pwff", "pfl"])] == ["PWFF needs 43 % less energy than PFL."]
    assert claims_of(["pwff", "local"]) == []
    assert claims_of(list(METHODS)) == list(CLAIMS)


# ---- outcomes -----------------------------------------------------------------------------------------------------


def test_an_outcome_of_three_stages() -> None:
    values = outcome_of("abc", RunConfig(), whole_run("abc")).values
    # five clients k = 0 … 4 of the script: accuracy 0.9 − 0.4/3 − k/100 after tuning, 0.86 − k/100 after alignment
    assert values["tuned_accuracy"] == pytest.approx(0.9 - 0.4 / 3 - 0.02)
    assert values["accuracy"] == pytest.approx(0.86 - 0.02)
    assert values["loss"] == pytest.approx(2 - 0.86)  # not that of pairs
    # helpfulness λ and harmlessness 1 − λ, λ = 0, ¼, ½, ¾, 1: the sum is 1, weighted λ² + (1 − λ)²
    assert values["reward_sum"] == pytest.approx(1.0)
    assert values["reward"] == pytest.approx((1 + 0.625 + 0.5 + 0.625 + 1) / 5)
    # a client's upload takes 1 + k/10 s at 1 W in each of 3 + 2 + 4 rounds
    assert (values["delay_s_a_round"], values["delay_s_in_all"]) == pytest.approx((1.4, 9 * 1.4))
    assert (values["energy_j_a_round"], values["energy_j_in_all"]) == pytest.approx((6.0, 54.0))
    assert values["uplink_bits_a_round"] == 5000


def test_means_are_over_the_rounds_that_send_the_methods_own_payload() -> None:
    costly = [
        record.model_copy(update={"energy_j": 1000.0}) if record.stage == "reward" else record for record in whole_run()
    ]
    values = outcome_of("abc", RunConfig(), costly).values
    assert values["energy_j_a_round"] == pytest.approx(6.0)
    assert values["energy_j_in_all"] == pytest.approx(7 * 6.0 + 2 * 1000.0)


def test_a_run_without_alignment_has_no_reward_even_if_rewards_were_learned() -> None:
    values = outcome_of("abc", RunConfig(), whole_run()[:5]).values  # its last round scored the models before alignment
    assert values["reward_sum"] is values["reward"] is values["refusal_rate"] is None


def test_a_run_without_rounds_measured_nothing_and_spent_nothing() -> None:
    values = outcome_of("abc", RunConfig(), []).values
    assert values["accuracy"] is None
    assert values["energy_j_a_round"] == values["delay_s_in_all"] == 0.0


def test_every_measure_has_a_metric_and_a_title_with_its_unit() -> None:
    assert all(measure.metric in METRICS for measure in MEASURES.values())
    assert MEASURES["accuracy"].title == "Accuracy [%]"
    assert len({measure.title for measure in MEASURES.values()}) == len(MEASURES)


def test_the_run_table_is_in_si_units_with_nan_for_what_was_not_measured() -> None:
    table = run_table([outcome("pwff", 3, accuracy=0.5)])
    assert table[["method", "seed", "run", "accuracy"]].to_numpy().tolist() == [["pwff", 3, "run", 0.5]]
    assert math.isnan(table["reward"].iloc[0])
    assert list(run_table([]).columns) == ["method", "seed", "run", *MEASURES]


def test_the_method_table_is_a_row_a_method_in_the_order_of_methods() -> None:
    outcomes = [
        outcome("local", 1, tuned_accuracy=0.5, accuracy=0.5),
        outcome("pwff", 1, tuned_accuracy=0.5, accuracy=0.5),
        outcome("pwff", 2, tuned_accuracy=0.7, accuracy=0.7),
    ]
    # mean 0.6, deviations 0.1 each: sqrt(0.02 / 1) = 0.141
    assert method_table(outcomes).to_dict("records") == [
        {"Method": "PWFF", "Runs": "2", "Accuracy [%]": "60.0 ± 14.1"},
        {"Method": "Local only", "Runs": "1", "Accuracy [%]": "50.0"},
    ]


def test_accuracy_after_tuning_has_its_own_column_where_a_later_stage_measured_accuracy() -> None:
    assert shown_measures([outcome("pwff", 1, tuned_accuracy=0.5, accuracy=0.4)]) == ["tuned_accuracy", "accuracy"]


@pytest.mark.parametrize(
    ("measure", "values", "text"),
    [
        ("accuracy", [0.5, 0.6, 0.7], "60.0 ± 10.0"),  # deviations 0.1, 0, 0.1 → sqrt(0.02 / 2) = 0.1
        ("loss", [1.25, None], "1.250"),
        ("loss", [None], "–"),
        ("reward", [-0.1, -0.2], "−0.15 ± 0.07"),
        ("reward", [-0.001], "0.00"),
        ("energy_j_in_all", [192.0, 194.0], "193 ± 1"),
        ("energy_j_in_all", [193.1, 193.3], "193.2 ± 0.1"),
        ("energy_j_in_all", [19080.0], "19080"),
        ("delay_s_a_round", [0.0963, 0.0965], "0.0964 ± 0.0001"),
        ("delay_s_a_round", [0.0, 0.0], "0.00 ± 0.00"),
    ],
)
def test_mean_and_spread_in_the_measures_unit(measure: str, values: list[float | None], text: str) -> None:
    assert spread_text(measure, values) == text


def test_a_tiny_spread_does_not_add_endless_decimals() -> None:
    assert mean_text("energy_j_in_all", 12.1, 1e-15) == "12.100000 ± 0.000000"


# ---- timing -------------------------------------------------------------------------------------------------------


def test_expected_seconds_are_those_of_earlier_rounds_of_the_same_stage() -> None:
    base = with_changes(RunConfig(), {"instruction.rounds": 10, "reward.rounds": 3, "alignment.rounds": 5})
    earlier = [(RunConfig(seed=9), whole_run())]  # rounds of 1.5, 0.5 and 4 s, by the script
    runs = plan(base, ("pwff", "vanilla_fl"), (1, 2))
    whole, tuning = 10 * 1.5 + 3 * 0.5 + 5 * 4.0, 10 * 1.5
    assert expected_seconds(runs, earlier) == pytest.approx(2 * (whole + tuning))
    assert expected_seconds(runs, [(RunConfig(), whole_run()[:3])]) is None  # no round of alignment was ever played
    assert expected_seconds(runs, []) is None


@pytest.mark.parametrize("path", ["clients", "instruction.batch_size", "backbone", "alignment.max_new_tokens"])
def test_settings_with_more_computing_are_other_work(path: str) -> None:
    other = {"clients": 7, "instruction.batch_size": 9, "backbone": "gpt2", "alignment.max_new_tokens": 9}[path]
    assert not same_work(RunConfig(), with_changes(RunConfig(), {path: other}))


@pytest.mark.parametrize("path", ["seed", "method", "channel.snr_db", "instruction.rounds", "price_as"])
def test_settings_without_computing_leave_the_work_the_same(path: str) -> None:
    other = {"seed": 7, "method": "local", "channel.snr_db": 9, "instruction.rounds": 9, "price_as": "gpt2"}[path]
    assert same_work(RunConfig(), with_changes(RunConfig(), {path: other}))
