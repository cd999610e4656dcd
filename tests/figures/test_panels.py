from __future__ import annotations

import json
import math
import tomllib
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.figures.frames import (
    MAX_CLIENT_LINES,
    Span,
    client_lines,
    planned_stages,
    round_frame,
    spans_of,
    value_text,
)
from pwff_core.figures.panel_figure import MAX_POINTS, figure_json, panel_figure
from pwff_core.figures.panels import PANELS, PanelId, panel_table, panel_words, panels_of
from pwff_core.figures.steering_marks import Piece
from pwff_core.figures.theme import BLUE, GREY, TEMPLATES, VERMILLION, between, library_folder, template_tree
from pwff_core.knobs import with_changes
from pwff_core.paths import root_dir
from pwff_core.records import METRICS, ClientRecord, RoundRecord, Stage
from tests.support.scripted import WEIGHTS, whole_run

PLANNED: dict[Stage, int] = {"instruction": 3, "reward": 2, "alignment": 4}


def one_stage(rounds: int, done: int = 0) -> tuple[Span, ...]:
    return (Span("instruction", 1, rounds, rounds, done, ""),)


def client(number: int, accuracy: float | None, delay_s: float) -> ClientRecord:
    return ClientRecord(
        client=number,
        helpfulness_weight=0.5,
        accuracy=accuracy,
        loss=1.0 + number,
        delay_s=delay_s,
        energy_j=2 * delay_s,
    )


def record(number: int, accuracies: tuple[float | None, ...] = (0.4, 0.6), style: float | None = 0.8) -> RoundRecord:
    known = [value for value in accuracies if value is not None]
    delays = [1.0 + index for index in range(len(accuracies))]
    return RoundRecord(
        run="r", method="pwff", stage="instruction", round=number,
        accuracy=sum(known) / len(known) if known else None, knowledge_accuracy=0.25, style_accuracy=style, loss=1.5,
        delay_s=max(delays), energy_j=2 * sum(delays), uplink_bits=64, wall_s=0.5,
        clients=tuple(client(index, accuracy, delays[index]) for index, accuracy in enumerate(accuracies)),
    )  # fmt: skip


def test_round_frame_has_a_row_a_round_with_mean_and_range_over_clients() -> None:
    frame = round_frame([record(1), record(2, (0.5, 0.9))])
    assert list(frame.index) == [1, 2]
    assert frame["accuracy"].tolist() == [0.5, 0.7]
    assert frame["accuracy_low"].tolist() == [0.4, 0.5]
    assert frame["accuracy_high"].tolist() == [0.6, 0.9]
    assert frame["delay_s"].tolist() == [2.0, 2.0]  # the slowest client
    assert frame["delay_s_mean"].tolist() == [1.5, 1.5]
    assert frame["energy_j"].tolist() == [6.0, 6.0]


def test_what_was_not_measured_is_nan_in_the_frame_and_a_dash_in_words() -> None:
    frame = round_frame([record(1, (None, None))])
    assert math.isnan(frame["accuracy"].iloc[0]) and math.isnan(frame["accuracy_high"].iloc[0])
    assert value_text(math.nan, "%") == "–"


def test_round_frame_of_no_records_has_the_same_columns() -> None:
    assert list(round_frame([]).columns) == list(round_frame([record(1)]).columns)


def test_a_frame_goes_on_where_another_ends() -> None:
    records = whole_run()
    parts = [round_frame(records[:4]), round_frame(records[4:], first=5)]
    pd.testing.assert_frame_equal(pd.concat(parts), round_frame(records), check_index_type=False)


def test_the_position_counts_on_over_stages() -> None:
    second = record(1).model_copy(update={"stage": "alignment"})
    frame = round_frame([record(1), record(2), second])
    assert list(frame.index) == [1, 2, 3] and frame["round"].tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.6312, "%", "63.1 %"), (10.834, "s", "10.8 s"), (0.905, "s", "905 ms"), (125.0, "s", "2 min 05 s"),
        (0.0905, "J", "90.5 mJ"), (1_548_000, "bit", "1.55 Mbit"), (1.2345, "nat", "1.234 nat"),
        (0.251, "sd", "+0.25 sd"), (-1.0, "sd", "-1.00 sd"), (21.345, "tokens", "21.3 tokens"),
    ],
)  # fmt: skip
def test_values_in_words(value: float, unit: str, text: str) -> None:
    assert value_text(value, unit) == text


def traces(panel_id: PanelId, frame: pd.DataFrame, **kwargs: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in panel_figure(panel_id, frame, one_stage(16), **kwargs).data}


def test_accuracy_is_drawn_in_percent_on_a_fixed_axis_with_its_band() -> None:
    frame = round_frame([record(1), record(2, (0.5, 0.9))])
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


def test_a_line_that_was_never_measured_is_left_out() -> None:
    frame = round_frame([record(1, style=None)])
    assert "style" not in traces("accuracy", frame)
    assert "style [%]" not in panel_table("accuracy", frame)


def test_the_expected_value_is_a_level_line_and_infinity_is_not_drawn() -> None:
    frame = round_frame([record(1)])
    assert list(traces("delay", frame, expected=[Piece(1, 16, 1.25)])["expected"].y) == [1.25, 1.25, None]
    assert "expected" not in traces("delay", frame, expected=[Piece(1, 16, math.inf)])


def test_lines_differ_by_more_than_colour() -> None:
    for panel in PANELS.values():
        looks = [(line.dash, line.marker) for line in panel.lines]
        assert len(set(looks)) == len(looks)


@given(rounds=st.integers(1, 4 * MAX_POINTS))
def test_a_trace_has_at_most_the_cap_and_keeps_first_and_last_round(rounds: int) -> None:
    base = round_frame([record(1)])
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


def test_words_say_the_last_value_and_the_first() -> None:
    assert (
        panel_words("accuracy", round_frame([]), one_stage(16)) == "Accuracy on each client's own data: no number yet."
    )
    frame = round_frame([record(1), record(2, (0.5, 0.9))])
    assert panel_words("accuracy", frame, one_stage(16)) == (
        "Accuracy on each client's own data after round 2 of 16: whole 70.0 %, knowledge 25.0 %, style 80.0 %. "
        "After round 1: whole 50.0 %, knowledge 25.0 %, style 80.0 %."
    )


def test_the_table_behind_a_chart_has_its_numbers_in_its_unit() -> None:
    table = panel_table("delay", round_frame([record(1)]))
    assert table.to_dict("list") == {
        "Round": [1], "slowest client [s]": [2.0], "mean client [s]": [1.5],
        "lowest client [s]": [1.0], "highest client [s]": [2.0],
    }  # fmt: skip


def test_every_panel_has_title_axis_titles_and_unit_and_a_template_of_our_own() -> None:
    for theme in TEMPLATES:
        for panel_id, panel in PANELS.items():
            layout = panel_figure(panel_id, round_frame([record(1)]), one_stage(3), theme=theme).layout
            assert layout.title.text == panel.title
            assert f"[{METRICS[panel.metric].unit}]" in layout.yaxis.title.text
            assert layout.template.layout.paper_bgcolor == template_tree(theme)["layout"]["paper_bgcolor"]


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_lines_contrast_with_both_backgrounds_at_three_to_one() -> None:
    for theme in TEMPLATES:
        background = _luminance(template_tree(theme)["layout"]["paper_bgcolor"])
        lines = [line.colour for panel in PANELS.values() for line in panel.lines]
        clients = [between(BLUE, VERMILLION, weight / 20) for weight in range(21)]
        for colour in (*lines, *clients, GREY):
            high, low = sorted((_luminance(colour), background), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 3, (theme, colour)


def test_charts_have_the_background_of_the_page() -> None:
    path = root_dir() / ".streamlit" / "config.toml"
    page = tomllib.loads(path.read_text(encoding="utf-8"))["theme"]
    for theme in TEMPLATES:
        assert template_tree(theme)["layout"]["paper_bgcolor"] == page[theme]["backgroundColor"]
        assert template_tree(theme)["layout"]["font"]["color"] == page[theme]["textColor"]


def test_json_for_the_browser_leaves_the_template_to_it() -> None:
    tree = json.loads(figure_json(panel_figure("loss", round_frame([record(1)]), one_stage(3))))
    assert "template" not in tree["layout"]
    assert [trace["name"] for trace in tree["data"]] == ["client range", "answers, mean client"]


def test_plotly_js_lies_in_the_library_folder() -> None:
    assert (library_folder() / "plotly.min.js").stat().st_size > 1_000_000


# ---- three stages on one axis -----------------------------------------------------------------------------------


def test_stages_lie_one_after_the_other() -> None:
    assert spans_of(PLANNED, []) == (
        Span("instruction", 1, 3, 3, 0, ""), Span("reward", 4, 2, 2, 0, ""), Span("alignment", 6, 4, 4, 0, ""),
    )  # fmt: skip
    assert [(span.first, span.last, span.done) for span in spans_of(PLANNED, whole_run()[:4])] == [
        (1, 3, 3), (4, 5, 1), (6, 9, 0),
    ]  # fmt: skip


def test_a_stage_that_ends_early_is_as_short_as_it_was_and_says_why() -> None:
    records = whole_run(rounds={"instruction": 2}, instruction="Loss has not improved for 1 rounds.")
    first, second, third = spans_of(PLANNED, records)
    assert first == Span("instruction", 1, 2, 3, 2, "Loss has not improved for 1 rounds.")
    assert first.early and not second.early and (second.first, third.last) == (3, 8)
    # without a reason, a stage is over once the next one has begun
    unsaid = whole_run(rounds={"instruction": 2, "reward": 1})
    assert [span.rounds for span in spans_of(PLANNED, unsaid[:2])] == [3, 2, 4]
    assert [span.rounds for span in spans_of(PLANNED, unsaid)] == [2, 2, 4]


@given(done=st.integers(0, 9), cut=st.integers(1, 3))
def test_stages_fill_the_axis_without_gap_and_hold_all_rounds(done: int, cut: int) -> None:
    records = whole_run(rounds={"instruction": cut, "reward": 2, "alignment": 4})[:done]
    spans = spans_of(PLANNED, records)
    assert spans[0].first == 1
    assert all(left.last + 1 == right.first for left, right in zip(spans, spans[1:], strict=False))
    assert sum(span.done for span in spans) == len(records)
    assert all(span.done <= span.rounds <= span.planned for span in spans)


def test_planned_stages_are_those_that_fit_into_the_rounds_of_the_run() -> None:
    config = with_changes(RunConfig(), {f"{stage}.rounds": count for stage, count in PLANNED.items()})
    assert planned_stages(config, 9, []) == PLANNED == stage_rounds(config)
    assert planned_stages(config, 9, whole_run()) == PLANNED
    assert planned_stages(config, 3, []) == {"instruction": 3}  # a run of the version that had one stage


def test_stages_stay_planned_when_one_has_ended_early_and_fewer_rounds_are_expected() -> None:
    config = with_changes(RunConfig(), {f"{stage}.rounds": count for stage, count in PLANNED.items()})
    records = whole_run(rounds={"instruction": 1, "reward": 2, "alignment": 3}, instruction="It.", alignment="It too.")
    for done in (1, 2, 3):
        assert planned_stages(config, 1 + 2 + 4, records[:done]) == PLANNED
    assert planned_stages(config, 3 + 2 + 4, records[:1]) == PLANNED  # the round is in the store, the sum not yet
    assert planned_stages(config, 1 + 2 + 3, records) == PLANNED
    assert [(span.rounds, span.planned) for span in spans_of(PLANNED, records)] == [(1, 3), (2, 2), (3, 4)]


def test_stages_are_named_and_marked_only_where_there_are_several() -> None:
    records = whole_run(rounds={"instruction": 2, "reward": 2, "alignment": 4}, instruction="It converged.")
    layout = panel_figure("accuracy", round_frame(records), spans_of(PLANNED, records)).layout
    assert [note.text for note in layout.annotations] == ["Instruction", "Rewards", "Alignment"]
    assert layout.annotations[0].hovertext == "Instruction tuning: 2 of 3 rounds<br>It converged."
    assert [shape.x0 for shape in layout.shapes if shape.type == "line"] == [2.5, 4.5]
    assert layout.xaxis.range == (0.5, 8.5) and layout.xaxis.title.text == "Round, over all stages"
    one = panel_figure("accuracy", round_frame([record(1)]), one_stage(3)).layout
    assert not one.annotations and not one.shapes


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
    named = [(t.hovertemplate.split()[0], list(t.customdata), list(t.x)) for t in figure.data if t.name == "stage"]
    assert named == [
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
def test_a_panel_without_a_number_says_when_its_first_one_comes(panel_id: PanelId) -> None:
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
    frame = round_frame([record(1), rewarded])
    assert frame["loss"].tolist()[0] == 1.5 and math.isnan(frame["loss"].tolist()[1])
    assert math.isnan(frame["pair_loss"].tolist()[0]) and frame["pair_loss"].tolist()[1] == 0.6


def test_words_and_table_name_the_rounds_that_measured() -> None:
    records = whole_run()
    frame, spans = round_frame(records), spans_of(PLANNED, records)
    assert panel_words("kl", frame, spans) == (
        "KL from the models before alignment after round 9 of 9: mean client 2.000 nat. "
        "After round 6: mean client 0.500 nat."
    )
    table = panel_table("kl", frame)
    assert table["Round"].tolist() == [6, 7, 8, 9]
    assert table["Stage"].tolist() == ["Alignment 1", "Alignment 2", "Alignment 3", "Alignment 4"]


def test_the_expected_line_is_drawn_over_the_stretches_that_it_is_told_for() -> None:
    spans, told = spans_of(PLANNED, []), [Piece(1, 3, 1.0), Piece(6, 9, 2.0)]
    (line,) = (t for t in panel_figure("delay", round_frame([]), spans, expected=told).data if t.name == "expected")
    assert line.x == (0.5, 3.5, None, 5.5, 9.5, None) and line.y == (1.0, 1.0, None, 2.0, 2.0, None)


def test_a_run_has_the_panels_of_its_stages() -> None:
    assert panels_of(["instruction"]) == ["accuracy", "delay", "energy", "loss"]
    assert panels_of(["instruction", "reward"]) == ["accuracy", "delay", "energy", "pairs", "loss"]
    assert panels_of(PLANNED) == list(PANELS)


# ---- single clients ---------------------------------------------------------------------------------------------


def test_single_clients_are_drawn_by_rising_weight_with_the_dash_of_their_third() -> None:
    records = whole_run(weights=(1.0, 0.0, 0.5))
    lines = client_lines(records, "refusal_rate")
    assert lines.weights == {1: 0.0, 2: 0.5, 0: 1.0}
    assert lines.values[0].tolist()[4:] == [0.5, 0.375, 0.25, 0.125, 0.0]
    figure = panel_figure("refusals", round_frame(records), spans_of(PLANNED, records), clients=lines)
    single = [(trace.line.dash, trace.line.color) for trace in figure.data[:3]]
    assert single == [("dot", BLUE.lower()), ("dash", between(BLUE, VERMILLION, 0.5)), ("solid", VERMILLION.lower())]
    assert [trace.name for trace in figure.data[3:]] == ["mean client"]  # in the band's place
    assert "client 1, λ 0.00" in figure.data[0].hovertemplate and figure.layout.hovermode == "closest"


def test_of_many_clients_some_are_drawn_evenly_over_the_weights() -> None:
    lines = client_lines(whole_run(weights=[k / 100 for k in range(101)])[:1], "accuracy")
    weights = list(lines.weights.values())
    assert len(weights) == MAX_CLIENT_LINES == 20
    assert (weights[0], weights[-1]) == (0.0, 1.0)
    steps = np.diff(weights)
    assert steps.min() >= 0.05 - 1e-9 and steps.max() <= 0.06 + 1e-9


def test_no_rounds_have_no_clients() -> None:
    assert client_lines([], "accuracy").weights == {}
