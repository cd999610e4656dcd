"""Charts of several methods: the numbers behind them, and what they draw."""

from __future__ import annotations

import json
import math
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from pwff_core.figures.comparison import (
    CHARTS,
    ChartId,
    PlayedRun,
    chart_table,
    chart_words,
    charts_of,
    over_seeds,
    runs_frame,
)
from pwff_core.figures.comparison_figure import chart_figure
from pwff_core.figures.panel_figure import figure_json
from pwff_core.figures.theme import METHOD_STYLES
from pwff_core.methods import MethodId
from pwff_core.records import RoundRecord
from tests.support.rounds import PLANNED
from tests.support.scripted import whole_run


def shifted_run(accuracy: float, energy: float = 0.0) -> list[RoundRecord]:
    """The scripted run with this much more accuracy and energy in each round."""
    return [
        record.model_copy(
            update={
                "accuracy": None if record.accuracy is None else record.accuracy + accuracy,
                "energy_j": record.energy_j + energy,
            }
        )
        for record in whole_run()
    ]


@pytest.fixture
def frame() -> pd.DataFrame:
    """PFL on seed 1, PWFF on seeds 1 and 2; the second is 0.02 better and 2 J dearer a round."""
    return runs_frame(
        [
            PlayedRun("pfl", 1, shifted_run(-0.1)),
            PlayedRun("pwff", 1, shifted_run(0.0)),
            PlayedRun("pwff", 2, shifted_run(0.02, 2.0)),
        ],
        PLANNED,
    )


def test_the_frame_has_a_row_a_run_and_round(frame: pd.DataFrame) -> None:
    assert len(frame) == 3 * 9
    rows = frame[(frame["method"] == "pwff") & (frame["seed"] == 2)]
    assert rows["position"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert rows["energy_so_far_j"].tolist() == pytest.approx([8.0 * number for number in range(1, 10)])
    assert rows["accuracy"].isna().tolist() == [False] * 3 + [True] * 2 + [False] * 4
    # scored once rewards are learned, and after each round of alignment
    assert rows["step"].dropna().tolist() == [0, 1, 2, 3, 4]
    assert rows["reward_sum"].dropna().tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_an_early_end_does_not_move_the_next_stage() -> None:
    short = whole_run(rounds={"instruction": 2, "alignment": 1})
    frame = runs_frame([PlayedRun("pwff", 1, whole_run()), PlayedRun("vanilla_fl", 1, short)], PLANNED)
    assert frame[frame["method"] == "vanilla_fl"]["position"].tolist() == [1, 2, 6]


def test_means_and_deviations_are_over_seeds_in_the_charts_unit(frame: pd.DataFrame) -> None:
    means = over_seeds("accuracy", frame)
    assert means["method"].drop_duplicates().tolist() == ["pwff", "pfl"]  # as in METHODS
    first = means.iloc[0]
    unshifted = 100 * whole_run()[0].accuracy
    assert (first["x"], first["mean"], first["seeds"]) == (1, pytest.approx(unshifted + 1), 2)
    assert first["deviation"] == pytest.approx(math.sqrt(2))  # of −1 and +1 percent points
    assert means[means["method"] == "pfl"]["deviation"].isna().all()
    assert means[means["method"] == "pwff"]["x"].tolist() == [1, 2, 3, 6, 7, 8, 9]


def test_a_bar_is_the_mean_without_reward_learning() -> None:
    dear = [
        record.model_copy(update={"energy_j": 1000.0}) if record.stage == "reward" else record for record in whole_run()
    ]
    means = over_seeds("energy", runs_frame([PlayedRun("pwff", 1, dear)], PLANNED))
    assert means[["mean", "seeds"]].to_numpy().tolist() == [[pytest.approx(6.0), 1]]


def test_a_comparison_without_alignment_has_no_charts_of_rewards() -> None:
    assert charts_of({"instruction": 3}) == ["accuracy", "delay", "energy", "accuracy_energy"]
    assert charts_of(PLANNED) == list(get_args(ChartId)) == list(CHARTS)


def test_every_method_has_a_style_of_its_own() -> None:
    assert set(METHOD_STYLES) == set(get_args(MethodId))
    assert len({style.marker for style in METHOD_STYLES.values()}) == len(METHOD_STYLES)
    assert len({(style.colour, style.dash) for style in METHOD_STYLES.values()}) == len(METHOD_STYLES)
    assert len({(style.colour, style.pattern) for style in METHOD_STYLES.values()}) == len(METHOD_STYLES)
    for methods in (("pwff", "vanilla_fl", "fedada", "fedlora"), ("pwff", "sfl", "pfl", "shepherd")):
        for part in ("colour", "dash", "marker", "pattern"):
            assert len({getattr(METHOD_STYLES[method], part) for method in methods}) == 4


def test_lines_have_bands_over_seeds_and_gaps(
    frame: pd.DataFrame,
) -> None:
    band, pwff, pfl = chart_figure("accuracy", over_seeds("accuracy", frame), PLANNED).data
    assert (pwff.name, pfl.name) == ("PWFF", "PFL")
    assert pwff.x.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert np.isnan(pwff.y).tolist() == [False] * 3 + [True] * 2 + [False] * 4
    assert band.fill == "toself" and not band.showlegend
    outline = [point for point in zip(band.x, band.y, strict=True) if point[0] == 1]
    assert [y for _, y in outline] == pytest.approx([pwff.y[0] + math.sqrt(2), pwff.y[0] - math.sqrt(2)])
    assert [x for x in band.x if x is not None] == [1, 2, 3, 3, 2, 1, 6, 7, 8, 9, 9, 8, 7, 6]
    assert pwff.customdata[0].endswith("± 1.4 % (2 seeds)")
    assert pfl.customdata[0].endswith("% (1 seed)")


def test_several_stages_are_marked(frame: pd.DataFrame) -> None:
    layout = chart_figure("accuracy", over_seeds("accuracy", frame), PLANNED).layout
    assert [shape.x0 for shape in layout.shapes] == [3.5, 5.5]
    assert [label.text for label in layout.annotations] == ["Instruction", "Rewards", "Alignment"]
    single = chart_figure("accuracy", over_seeds("accuracy", frame), {"instruction": 3}).layout
    assert not single.shapes and not single.annotations


def test_bars_have_patterns_numbers_and_error_bars_from_zero(frame: pd.DataFrame) -> None:
    figure = chart_figure("energy", over_seeds("energy", frame), PLANNED)
    pwff, pfl = figure.data
    assert (pwff.x[0], pwff.y[0]) == ("PWFF<br>7.00 J", pytest.approx(7.0))
    assert (pwff.marker.pattern.shape, pfl.marker.pattern.shape) == ("", "+")
    assert pwff.error_y.array[0] == pytest.approx(math.sqrt(2)) and pwff.error_y.visible
    assert not pfl.error_y.visible
    assert figure.layout.yaxis.rangemode == "tozero"


def test_accuracy_against_energy_ends_in_a_point_with_the_spread_of_both(frame: pd.DataFrame) -> None:
    path, now = chart_figure("accuracy_energy", over_seeds("accuracy_energy", frame), PLANNED).data[:2]
    assert path.x.tolist() == pytest.approx([7.0 * number for number in (1, 2, 3, 6, 7, 8, 9)])
    assert (now.x[0], now.y[0]) == (path.x[-1], path.y[-1])
    assert now.error_x.array[0] == pytest.approx(9 * math.sqrt(2))
    assert now.error_y.array[0] == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("chart_id", get_args(ChartId))
def test_an_empty_chart_says_so(chart_id: ChartId) -> None:
    empty = runs_frame([PlayedRun("pwff", 1, [])], PLANNED)
    figure = chart_figure(chart_id, over_seeds(chart_id, empty), PLANNED)
    assert not figure.data
    assert figure.layout.annotations[-1].text == "No round has measured it yet."
    assert figure.layout.yaxis.showticklabels is False
    assert chart_words(chart_id, over_seeds(chart_id, empty)) == f"{CHARTS[chart_id].title}: no number yet."
    assert chart_table(chart_id, over_seeds(chart_id, empty)).empty


@pytest.mark.parametrize("chart_id", get_args(ChartId))
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_are_strict_json(chart_id: ChartId, theme: str, frame: pd.DataFrame) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    figure = chart_figure(chart_id, over_seeds(chart_id, frame), PLANNED, theme=theme)
    tree = json.loads(figure_json(figure), parse_constant=refuse)
    assert "template" not in tree["layout"] and tree["data"]


def test_words_have_the_last_value_of_each_method(frame: pd.DataFrame) -> None:
    assert chart_words("accuracy", over_seeds("accuracy", frame)) == (
        "Accuracy, mean over 2 seeds: PWFF 85.0 % after round 9, PFL 74.0 % after round 9."
    )
    assert (
        chart_words("energy", over_seeds("energy", frame))
        == "Energy of a round, all clients, mean over 2 seeds: PWFF 7.00 J, PFL 6.00 J."
    )
    assert chart_words("reward", over_seeds("reward", frame)).endswith(
        "PWFF +0.75 sd after round 4 of alignment, PFL +0.75 sd after round 4 of alignment."
    )
    assert chart_words("accuracy_energy", over_seeds("accuracy_energy", frame)).endswith(
        "PWFF 85.0 % at 63.0 J, PFL 74.0 % at 54.0 J."
    )


def test_tables_have_the_numbers_of_the_charts(frame: pd.DataFrame) -> None:
    energy = chart_table("energy", over_seeds("energy", frame))
    assert list(energy.columns) == ["Method", "Energy [J]", "± [J]", "Seeds"]
    assert energy["Energy [J]"].tolist() == pytest.approx([7.0, 6.0])
    rewards = chart_table("reward_sum", over_seeds("reward_sum", frame))
    assert list(rewards.columns) == ["Method", "Round of alignment", "Reward [sd]", "± [sd]", "Seeds"]
    assert rewards["Round of alignment"].tolist() == [0, 1, 2, 3, 4] * 2
    assert "Energy so far [J]" in chart_table("accuracy_energy", over_seeds("accuracy_energy", frame)).columns
