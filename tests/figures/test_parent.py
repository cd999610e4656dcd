"""A fork beside its parent: thin dashed lines from where they part, in words and in the table."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from pwff_core.figures.frames import client_lines, round_frame, spans_of
from pwff_core.figures.panel_figure import panel_figure
from pwff_core.figures.panels import PANELS, PanelId, Parent, panel_table, panel_words
from tests.support.rounds import PLANNED
from tests.support.scripted import whole_run

RECORDS = whole_run()
WHOLE = round_frame(RECORDS)
PARENT = Parent("<i>Lesson</i> %{y}", WHOLE.loc[2:])  # forked after round 2
FIRST = round_frame(RECORDS[:4])  # as far as the fork has come


def parent_traces(panel_id: PanelId, frame: pd.DataFrame = FIRST) -> list[object]:
    figure = panel_figure(panel_id, frame, spans_of(PLANNED, RECORDS[: len(frame)]), parent=PARENT)
    return [trace for trace in figure.data if trace.legendgroup == "parent"]


@pytest.mark.parametrize("panel_id", list(PANELS))
def test_parent_lines_are_thin_and_dashed_from_the_fork_on(panel_id: PanelId) -> None:
    lines = {line.colour: line for line in PANELS[panel_id].lines if WHOLE.loc[2:, line.column].notna().any()}
    traces = parent_traces(panel_id)
    assert [trace.line.color for trace in traces] == list(lines)
    for trace in traces:
        line = lines[trace.line.color]
        assert (trace.line.dash, trace.line.width, trace.marker.symbol) == ("dash", 1.25, f"{line.marker}-open")
        assert list(trace.x) == [2, 3, 4, 5, 6, 7, 8, 9]
        values = PANELS[panel_id].scaled(WHOLE.loc[2:, line.column])
        assert list(trace.y) == pytest.approx(list(values), nan_ok=True)
    assert [trace.showlegend for trace in traces] == [True] + [False] * (len(traces) - 1)


def test_a_parent_s_name_is_never_read_as_markup() -> None:
    for trace in parent_traces("accuracy"):
        assert trace.name == "parent: &lt;i>Lesson&lt;/i> %{y}"
        assert "Lesson" not in trace.hovertemplate
    assert [trace.text for trace in parent_traces("delay")] == [
        "slowest client, &lt;i>Lesson&lt;/i> %{y}", "mean client, &lt;i>Lesson&lt;/i> %{y}",
    ]  # fmt: skip


def test_with_single_clients_only_the_mean_has_a_parent_line() -> None:
    spans = spans_of(PLANNED, RECORDS[:4])
    figure = panel_figure("accuracy", FIRST, spans, clients=client_lines(RECORDS[:4], "accuracy"), parent=PARENT)
    assert sum(trace.legendgroup == "parent" for trace in figure.data) == 1


def test_an_empty_chart_shows_the_parent_instead_of_a_notice() -> None:
    spans = spans_of(PLANNED, RECORDS[:4])
    assert any("Begins" in note.text for note in panel_figure("kl", FIRST, spans).layout.annotations)
    with_parent = panel_figure("kl", FIRST, spans, parent=PARENT)
    assert not any("Begins" in note.text for note in with_parent.layout.annotations)
    # scripted: KL is 2 · round / 4 in alignment, rounds 6 to 9
    assert [y for y in with_parent.data[-1].y if not math.isnan(y)] == [0.5, 1.0, 1.5, 2.0]


def test_words_and_table_have_the_parent_s_numbers() -> None:
    spans = spans_of(PLANNED, RECORDS[:4])
    words = panel_words("delay", FIRST, spans, parent=PARENT)
    parent_words = "which it was forked from, after round 9: slowest client 1.40 s, mean client 1.20 s."
    assert words.endswith(f"{PARENT.name}, {parent_words}")
    assert panel_words("kl", FIRST, spans, parent=PARENT).endswith("after round 9: mean client 2.000 nat.")
    table = panel_table("delay", FIRST, parent=PARENT)
    assert table["Round"].tolist() == [1, 2, 3, 4]
    assert table[f"slowest client, {PARENT.name} [s]"].tolist() == pytest.approx([math.nan, 1.4, 1.4, 1.4], nan_ok=True)
