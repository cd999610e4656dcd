from __future__ import annotations

import json
import math
import tomllib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.figures import (
    MAX_POINTS,
    PANELS,
    TEMPLATES,
    PanelId,
    figure_json,
    library_folder,
    panel_figure,
    panel_table,
    panel_words,
    round_frame,
    template_tree,
    value_text,
)
from pwff_core.paths import root_dir
from pwff_core.records import METRICS, ClientRecord, RoundRecord


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


def test_the_position_counts_on_over_stages() -> None:
    second = record(1).model_copy(update={"stage": "alignment"})
    frame = round_frame([record(1), record(2), second])
    assert list(frame.index) == [1, 2, 3] and frame["round"].tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.6312, "%", "63.1 %"), (10.834, "s", "10.8 s"), (0.905, "s", "905 ms"), (125.0, "s", "2 min 05 s"),
        (0.0905, "J", "90.5 mJ"), (1_548_000, "bit", "1.55 Mbit"), (1.2345, "nat", "1.234 nat"),
    ],
)  # fmt: skip
def test_values_in_words(value: float, unit: str, text: str) -> None:
    assert value_text(value, unit) == text


def traces(panel_id: PanelId, frame: pd.DataFrame, **kwargs: float) -> dict[str, object]:
    return {trace.name: trace for trace in panel_figure(panel_id, frame, 16, **kwargs).data}


def test_accuracy_is_drawn_in_percent_on_a_fixed_axis_with_its_band() -> None:
    frame = round_frame([record(1), record(2, (0.5, 0.9))])
    drawn = traces("accuracy", frame)
    assert set(drawn) == {"lowest client", "client range", "whole", "knowledge", "style"}
    np.testing.assert_allclose(drawn["whole"].y, [50, 70])
    np.testing.assert_allclose(drawn["lowest client"].y, [40, 50])
    np.testing.assert_allclose(drawn["client range"].y, [60, 90])
    figure = panel_figure("accuracy", frame, 16)
    assert figure.layout.yaxis.range == (0, 100) and figure.layout.xaxis.range == (0.5, 16.5)
    assert figure.layout.yaxis.title.text == "Accuracy [%]" and figure.layout.xaxis.title.text == "Round"


def test_a_line_that_was_never_measured_is_left_out() -> None:
    frame = round_frame([record(1, style=None)])
    assert "style" not in traces("accuracy", frame)
    assert "style [%]" not in panel_table("accuracy", frame)


def test_the_expected_value_is_a_level_line_and_infinity_is_not_drawn() -> None:
    frame = round_frame([record(1)])
    assert list(traces("delay", frame, expected=1.25)["expected"].y) == [1.25, 1.25]
    assert "expected" not in traces("delay", frame, expected=math.inf)


def test_lines_differ_by_more_than_colour() -> None:
    for panel in PANELS.values():
        looks = [(line.dash, line.marker) for line in panel.lines]
        assert len(set(looks)) == len(looks)


@given(rounds=st.integers(1, 4 * MAX_POINTS))
def test_a_trace_has_at_most_the_cap_and_keeps_first_and_last_round(rounds: int) -> None:
    base = round_frame([record(1)])
    frame = pd.DataFrame(np.repeat(base.to_numpy(), rounds, axis=0), columns=base.columns, index=range(1, rounds + 1))
    line = panel_figure("energy", frame, rounds).data[0]
    assert len(line.x) == min(rounds, MAX_POINTS)
    assert (line.x[0], line.x[-1]) == (1, rounds)


@given(rounds=st.integers(1, 20_000))
def test_the_round_axis_has_at_most_ten_whole_steps(rounds: int) -> None:
    step = panel_figure("loss", round_frame([]), rounds).layout.xaxis.dtick
    assert step == int(step) >= 1
    assert rounds / step <= 10
    assert step == 1 or rounds / step >= 4  # and not too few: the ladder 1, 2, 5, 10 loses at most 2.5-fold


def test_words_say_the_last_value_and_the_first() -> None:
    assert panel_words("accuracy", round_frame([]), 16) == "Accuracy on each client's own data: no round yet."
    frame = round_frame([record(1), record(2, (0.5, 0.9))])
    assert panel_words("accuracy", frame, 16) == (
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
            layout = panel_figure(panel_id, round_frame([record(1)]), 3, theme=theme).layout
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
        for line in (line for panel in PANELS.values() for line in panel.lines):
            high, low = sorted((_luminance(line.colour), background), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 3, (theme, line.colour)


def test_charts_have_the_background_of_the_page() -> None:
    path = root_dir() / ".streamlit" / "config.toml"
    page = tomllib.loads(path.read_text(encoding="utf-8"))["theme"]
    for theme in TEMPLATES:
        assert template_tree(theme)["layout"]["paper_bgcolor"] == page[theme]["backgroundColor"]
        assert template_tree(theme)["layout"]["font"]["color"] == page[theme]["textColor"]


def test_json_for_the_browser_leaves_the_template_to_it() -> None:
    tree = json.loads(figure_json(panel_figure("loss", round_frame([record(1)]), 3)))
    assert "template" not in tree["layout"]
    assert [trace["name"] for trace in tree["data"]] == ["lowest client", "client range", "mean client"]


def test_plotly_js_lies_in_the_library_folder() -> None:
    assert (library_folder() / "plotly.min.js").stat().st_size > 1_000_000
