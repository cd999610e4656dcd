"""A panel as a plotly figure."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.figures.frames import (
    Span,
    client_lines,
    round_frame,
    spans_of,
)
from pwff_core.figures.panel_figure import MAX_POINTS, figure_json, panel_figure
from pwff_core.figures.panels import PANELS, PanelId, panel_table, panel_words
from pwff_core.figures.steering_marks import Piece
from pwff_core.figures.theme import BLUE, TEMPLATES, VERMILLION, mix, template_tree
from pwff_core.records import METRICS
from tests.support.rounds import PLANNED, tuning_round
from tests.support.scripted import WEIGHTS, whole_run


def one_stage(rounds: int, done: int = 0) -> tuple[Span, ...]:
    return (Span("instruction", 1, rounds, rounds, done, ""),)


def traces(panel_id: PanelId, frame: pd.DataFrame, **kwargs: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in panel_figure(panel_id, frame, one_stage(16), **kwargs).data}


def test_accuracy_is_drawn_in_percent_on_a_fixed_axis_with_its_band() -> None:
    frame = round_frame([tuning_round(1), tuning_round(2, (0.5, 0.9))])
    drawn = traces("accuracy", frame)
    assert set(drawn) == {"client range", "whole", "knowledge", "style"}
    np.testing.assert_allclose(drawn["whole"].y, [50, 70])
    np.testing.assert_array_equal(
        drawn["client range"].x, [1, 2, 2, 1, math.nan]
    )  # along the top and back along the bottom
    np.testing.assert_allclose(drawn["client range"].y[:4], [60, 90, 50, 40])
    figure = panel_figure("accuracy", frame, one_stage(16))
    assert figure.layout.yaxis.range == (0, 100) and figure.layout.xaxis.range == (0.5, 16.5)
    assert figure.layout.yaxis.title.text == "Accuracy [%]" and figure.layout.xaxis.title.text == "Round"


def test_an_unmeasured_line_is_left_out() -> None:
    frame = round_frame([tuning_round(1, style=None)])
    assert "style" not in traces("accuracy", frame)
    assert "style [%]" not in panel_table("accuracy", frame)


def test_an_expected_value_is_a_level_line_unless_infinite() -> None:
    frame = round_frame([tuning_round(1)])
    assert list(traces("delay", frame, expected=[Piece(1, 16, 1.25)])["expected"].y) == [1.25, 1.25, None]
    assert "expected" not in traces("delay", frame, expected=[Piece(1, 16, math.inf)])


@given(rounds=st.integers(1, 4 * MAX_POINTS))
def test_a_long_trace_is_thinned_and_keeps_both_ends(rounds: int) -> None:
    base = round_frame([tuning_round(1)])
    frame = pd.DataFrame(np.repeat(base.to_numpy(), rounds, axis=0), columns=base.columns, index=range(1, rounds + 1))
    line = panel_figure("energy", frame, one_stage(rounds)).data[0]
    assert len(line.x) == min(rounds, MAX_POINTS)
    assert (line.x[0], line.x[-1]) == (1, rounds)


@given(rounds=st.integers(1, 20_000))
def test_the_round_axis_has_at_most_ten_whole_steps(rounds: int) -> None:
    step = panel_figure("loss", round_frame([]), one_stage(rounds)).layout.xaxis.dtick
    assert step == int(step) >= 1
    assert rounds / step <= 10
    assert step == 1 or rounds / step >= 4  # and not too few: the ladder 1, 2, 5, 10 loses at most 2.5-fold


def test_every_panel_has_titles_unit_and_template() -> None:
    for theme in TEMPLATES:
        for panel_id, panel in PANELS.items():
            layout = panel_figure(panel_id, round_frame([tuning_round(1)]), one_stage(3), theme=theme).layout
            assert layout.title.text == panel.title
            assert f"[{METRICS[panel.metric].unit}]" in layout.yaxis.title.text
            assert layout.template.layout.paper_bgcolor == template_tree(theme)["layout"]["paper_bgcolor"]


def test_json_for_the_browser_has_no_template() -> None:
    tree = json.loads(figure_json(panel_figure("loss", round_frame([tuning_round(1)]), one_stage(3))))
    assert "template" not in tree["layout"]
    assert [trace["name"] for trace in tree["data"]] == ["client range", "answers, mean client"]


def test_several_stages_are_named_and_marked() -> None:
    records = whole_run(rounds={"instruction": 2, "reward": 2, "alignment": 4}, instruction="It converged.")
    layout = panel_figure("accuracy", round_frame(records), spans_of(PLANNED, records)).layout
    assert [note.text for note in layout.annotations] == ["Instruction", "Rewards", "Alignment"]
    assert layout.annotations[0].hovertext == "Instruction tuning: 2 of 3 rounds<br>It converged."
    assert [shape.x0 for shape in layout.shapes if shape.type == "line"] == [2.5, 4.5]
    assert layout.xaxis.range == (0.5, 8.5) and layout.xaxis.title.text == "Round, over all stages"
    layout = panel_figure("accuracy", round_frame([tuning_round(1)]), one_stage(3)).layout
    assert not layout.annotations and not layout.shapes


def test_a_stage_with_little_room_is_labelled_with_its_number() -> None:
    spans = spans_of({"instruction": 50, "reward": 1, "alignment": 20}, [])
    layout = panel_figure("accuracy", round_frame([]), spans).layout
    assert [note.text for note in layout.annotations] == ["Instruction", "2", "Alignment"]


def test_the_reward_begins_with_the_models_before_alignment() -> None:
    records = whole_run()
    figure = panel_figure("reward", round_frame(records), spans_of(PLANNED, records))
    drawn = {trace.name: trace for trace in figure.data}
    assert set(drawn) == {
        "stage",
        "reference",
        "client range",
        "weighted",
        "helpfulness",
        "harmlessness",
        "in training",
    }
    weighted = np.asarray(drawn["weighted"].y)
    assert np.isnan(weighted[:4]).all()
    mean_square = sum(weight**2 + (1 - weight) ** 2 for weight in WEIGHTS) / len(WEIGHTS)
    np.testing.assert_allclose(weighted[4:], [mean_square * number / 4 for number in range(5)])
    assert np.isnan(np.asarray(drawn["in training"].y)[:5]).all()
    stages = [(t.hovertemplate.split()[0], list(t.customdata), list(t.x)) for t in figure.data if t.name == "stage"]
    assert stages == [
        ("Instruction", [1, 2, 3], [1, 2, 3]), ("Rewards", [1, 2], [4, 5]), ("Alignment", [1, 2, 3, 4], [6, 7, 8, 9]),
    ]  # fmt: skip
    assert drawn["in training"].line.width < drawn["weighted"].line.width


def test_a_gap_in_the_rounds_is_a_gap_in_line_and_band() -> None:
    records = whole_run()
    drawn = {t.name: t for t in panel_figure("accuracy", round_frame(records), spans_of(PLANNED, records)).data}
    assert np.isnan(np.asarray(drawn["whole"].y)[3:5]).all()
    around = [1, 2, 3, 3, 2, 1, math.nan, 6, 7, 8, 9, 9, 8, 7, 6, math.nan]
    np.testing.assert_array_equal(drawn["client range"].x, around)


@pytest.mark.parametrize("panel_id", ["reward", "refusals", "kl", "pairs"])
def test_an_empty_panel_says_when_its_first_number_comes(panel_id: PanelId) -> None:
    records = whole_run()[:2]
    figure = panel_figure(panel_id, round_frame(records), spans_of(PLANNED, records))
    assert figure.layout.annotations[-1].text.startswith("Begins ")
    assert figure.layout.yaxis.showticklabels is False
    lines = [trace for trace in figure.data if trace.name not in ("stage", "client range")]
    assert [trace.name for trace in lines] == [line.name for line in PANELS[panel_id].lines]
    words = panel_words(panel_id, round_frame(records), spans_of(PLANNED, records))
    assert "no number yet. Begins" in words and "<" not in words
    assert panel_table(panel_id, round_frame(records)).empty


def test_chance_is_a_level_of_the_pairs() -> None:
    records = whole_run()
    (chance,) = (
        t for t in panel_figure("pairs", round_frame(records), spans_of(PLANNED, records)).data if t.name == "chance"
    )
    assert chance.y == (50.0, 50.0) and chance.x == (0.5, 9.5)


def test_the_loss_of_pairs_is_not_the_loss_of_tokens() -> None:
    rewarded = whole_run()[3].model_copy(update={"loss": 0.6})
    frame = round_frame([tuning_round(1), rewarded])
    assert frame["loss"].tolist()[0] == 1.5 and math.isnan(frame["loss"].tolist()[1])
    assert math.isnan(frame["pair_loss"].tolist()[0]) and frame["pair_loss"].tolist()[1] == 0.6


def test_the_expected_line_covers_its_pieces() -> None:
    spans, pieces = spans_of(PLANNED, []), [Piece(1, 3, 1.0), Piece(6, 9, 2.0)]
    (line,) = (t for t in panel_figure("delay", round_frame([]), spans, expected=pieces).data if t.name == "expected")
    assert line.x == (0.5, 3.5, None, 5.5, 9.5, None) and line.y == (1.0, 1.0, None, 2.0, 2.0, None)


def test_single_clients_have_the_colour_and_dash_of_their_weight() -> None:
    records = whole_run(weights=(1.0, 0.0, 0.5))
    lines = client_lines(records, "refusal_rate")
    assert lines.weights == {1: 0.0, 2: 0.5, 0: 1.0}
    assert lines.values[0].tolist()[4:] == [0.5, 0.375, 0.25, 0.125, 0.0]
    figure = panel_figure("refusals", round_frame(records), spans_of(PLANNED, records), clients=lines)
    single = [(trace.line.dash, trace.line.color) for trace in figure.data[:3]]
    assert single == [("dot", BLUE.lower()), ("dash", mix(BLUE, VERMILLION, 0.5)), ("solid", VERMILLION.lower())]
    assert [trace.name for trace in figure.data[3:]] == ["mean client"]  # in the band's place
    assert "client 1, λ 0.00" in figure.data[0].hovertemplate and figure.layout.hovermode == "closest"
