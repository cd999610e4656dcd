"""The numbers of a comparison: its frame, the means over seeds, and each chart's words and table."""

from __future__ import annotations

import math
from typing import get_args

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
from tests.support.rounds import PLANNED
from tests.support.scripted import whole_run


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


@pytest.mark.parametrize("chart_id", get_args(ChartId))
def test_words_and_table_of_an_empty_chart(chart_id: ChartId) -> None:
    means = over_seeds(chart_id, runs_frame([PlayedRun("pwff", 1, [])], PLANNED))
    assert chart_words(chart_id, means) == f"{CHARTS[chart_id].title}: no number yet."
    assert chart_table(chart_id, means).empty


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
