from __future__ import annotations

import math

import pandas as pd
import pytest

from pwff_core.figures.frames import round_frame
from pwff_core.figures.overlay import MAX_RUNS, OVERLAY_PANELS, OverlayRun, overlay_figure, overlay_table, overlay_words
from pwff_core.figures.panel_figure import MAX_POINTS, figure_json
from pwff_core.figures.panels import PANELS
from tests.support.scripted import record, whole_run

WHOLE = OverlayRun("whole", round_frame(whole_run()))  # 3 + 2 + 4 rounds
TUNED = OverlayRun("<b>tuned & done</b>", round_frame(whole_run(rounds={"instruction": 4})))
EMPTY = OverlayRun("empty", round_frame([]))


def test_a_run_is_a_line_over_all_its_rounds_in_the_unit_of_the_chart() -> None:
    figure = overlay_figure("accuracy", [WHOLE, TUNED])
    whole, tuned = figure.data
    assert list(whole.x) == [*range(1, 10)] and list(tuned.x) == [1, 2, 3, 4]
    # scripted: client k of 5 has 0.9 − 0.4 / round − k / 100 while instructed, so their mean is 2 points lower
    assert whole.y[:3] == pytest.approx([48, 68, 100 * (0.88 - 0.4 / 3)])
    assert tuned.y == pytest.approx([48, 68, 100 * (0.88 - 0.4 / 3), 78])
    assert math.isnan(whole.y[3])  # reward learning measures none
    assert list(figure.layout.xaxis.range) == [0.5, 9.5] and figure.layout.xaxis.dtick == 1
    assert figure.layout.yaxis.title.text == "Accuracy [%]"


def test_the_box_over_a_round_names_the_stage_of_each_run() -> None:
    whole, tuned = overlay_figure("delay", [WHOLE, TUNED]).data
    assert list(whole.customdata[2:6]) == ["Instruction 3", "Rewards 1", "Rewards 2", "Alignment 1"]
    assert list(tuned.customdata) == ["Instruction 1", "Instruction 2", "Instruction 3", "Instruction 4"]


def test_five_runs_differ_in_colour_dash_and_marker() -> None:
    traces = overlay_figure("energy", [WHOLE._replace(name=f"run {place}") for place in range(MAX_RUNS)]).data
    assert MAX_RUNS == len(traces) == 5
    for look in ("line.color", "line.dash", "marker.symbol", "name"):
        assert len({trace[look] for trace in traces}) == 5


def test_a_name_is_drawn_letter_for_letter() -> None:
    assert overlay_figure("reward", [TUNED]).data[0].name == "&lt;b>tuned &amp; done&lt;/b>"
    assert TUNED.name in overlay_words("reward", [TUNED])


def test_words_have_the_first_and_last_value_of_each_run() -> None:
    assert overlay_words("delay", [WHOLE, EMPTY]) == (
        "Delay of a round, 2 runs. whole: 1.40 s in round 1, 1.40 s in round 9. empty: not measured."
    )
    assert "whole: +0.00 sd in round 5, +0.75 sd in round 9." in overlay_words("reward", [WHOLE, TUNED])


def test_the_table_has_a_row_a_round_and_a_column_a_run() -> None:
    table = overlay_table("reward", [WHOLE, TUNED])
    assert list(table.columns) == ["Round", "whole [sd]", "<b>tuned & done</b> [sd]"]
    assert table["Round"].tolist() == [5, 6, 7, 8, 9]  # the judge scores once before alignment, then in each round
    assert table["whole [sd]"].tolist() == pytest.approx([0, 0.75 / 4, 0.375, 0.75 * 3 / 4, 0.75])
    assert table.iloc[:, 2].isna().all()
    assert overlay_table("delay", [WHOLE, TUNED])["Round"].tolist() == [*range(1, 10)]


@pytest.mark.parametrize("panel_id", OVERLAY_PANELS)
def test_without_a_number_the_chart_says_so(panel_id: str) -> None:
    figure = overlay_figure(panel_id, [EMPTY])
    assert [note.text for note in figure.layout.annotations] == ["None of these runs has measured it."]
    assert overlay_table(panel_id, [EMPTY]).empty
    assert not overlay_figure("energy", [WHOLE, EMPTY]).layout.annotations


def test_long_runs_are_thinned_and_keep_both_ends() -> None:
    long = OverlayRun("long", round_frame([record(number) for number in range(1, 4_001)]))
    figure = overlay_figure("delay", [long])
    assert len(figure.data[0].x) == MAX_POINTS
    assert (figure.data[0].x[0], figure.data[0].x[-1]) == (1, 4_000)
    assert figure.layout.xaxis.dtick == 400
    assert len(figure_json(figure)) < 100_000


def test_every_panel_of_the_overlay_is_one_of_the_live_page() -> None:
    assert set(OVERLAY_PANELS) <= set(PANELS)
    assert all(PANELS[panel_id].metric in WHOLE.frame for panel_id in OVERLAY_PANELS)
    assert isinstance(WHOLE.frame, pd.DataFrame)
