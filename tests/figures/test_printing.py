"""Figures for paper: sizes, letters, strokes, and labels that do not lie on each other."""

from __future__ import annotations

import math
from itertools import combinations

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.figures.frames import round_frame, spans_of
from pwff_core.figures.panel_figure import panel_figure
from pwff_core.figures.panels import PANELS, PanelId
from pwff_core.figures.plane import plane_figure, plane_frame
from pwff_core.figures.printing import PRESETS, SizeId, for_print, label_extent, stack_labels, text_width
from pwff_core.records import Steering, Value
from tests.support.scripted import whole_run

RECORDS = whole_run()
SPANS = spans_of({"instruction": 3, "reward": 2, "alignment": 4}, RECORDS)
ONE, TWO, SLIDE = PRESETS["ieee-1"], PRESETS["ieee-2"], PRESETS["slide"]


def steering(position: int, **changes: Value) -> Steering:
    paths = {f"channel.{name}": value for name, value in changes.items()}
    return Steering(
        position=position, stage="instruction", round=position, before=dict.fromkeys(paths, 5.0), changes=paths, at=0.0
    )


def panel(panel_id: PanelId, *steerings: Steering) -> go.Figure:
    return panel_figure(panel_id, round_frame(RECORDS), SPANS, steerings=steerings)


def test_sizes_are_those_of_journals_and_slides() -> None:
    assert (ONE.width, ONE.width_in, ONE.font_pt) == (336, 3.5, 8)
    assert (TWO.width, TWO.font) == (pytest.approx(687.36), ONE.font)
    assert ONE.font == pytest.approx(10.667, abs=1e-3)  # 8 pt of 72 an inch, in pixels of 96
    assert (SLIDE.width, SLIDE.height) == (1280, 720)


@pytest.mark.parametrize("size", list(PRESETS))
@pytest.mark.parametrize("panel_id", list(PANELS))
def test_letters_have_the_preset_s_size_and_lines_half_a_point(panel_id: PanelId, size: SizeId) -> None:
    preset = PRESETS[size]
    layout = for_print(panel(panel_id), preset).layout
    sizes = {layout.font.size, layout.legend.font.size, *(label.font.size for label in layout.annotations)}
    for axis in (layout.xaxis, layout.yaxis):
        sizes |= {axis.tickfont.size, axis.title.font.size}
    assert sizes == {preset.font}
    assert (layout.width, layout.height) == (preset.width, preset.height)
    traces = for_print(panel(panel_id), preset).data
    widths = [trace.line.width for trace in traces if trace.line.width]
    assert widths and min(widths) >= 2 / 3
    assert f"[{PANELS[panel_id].unit}]" in layout.yaxis.title.text


def test_the_title_is_a_slide_s_alone() -> None:
    assert for_print(panel("accuracy"), ONE).layout.title.text is None
    assert for_print(panel("accuracy"), SLIDE).layout.title.text == "Accuracy on each client's own data"
    assert for_print(go.Figure(), SLIDE).layout.title.text is None


def test_strokes_follow_the_preset_and_no_outline_stays_none() -> None:
    screen = panel("accuracy")
    printed = for_print(screen, ONE)
    for before, after in zip(screen.data, printed.data, strict=True):
        if before.line.width is not None:
            assert after.line.width == pytest.approx(before.line.width and max(0.5 * before.line.width, 2 / 3))
    band = next(trace for trace in printed.data if trace.fill == "toself")
    assert band.line.width == 0
    whole = next(trace for trace in printed.data if trace.name == "whole")
    assert (whole.line.width, whole.marker.size, whole.marker.maxdisplayed) == (1.25, 3.5, 30)


def test_the_figure_of_the_screen_is_not_changed() -> None:
    screen = panel("delay", steering(2, snr_db=0.0))
    before = screen.to_json()
    for_print(screen, ONE)
    assert screen.to_json() == before


def test_paper_is_light_even_from_a_dark_screen() -> None:
    dark = panel_figure("accuracy", round_frame(RECORDS), SPANS, theme="dark")
    assert for_print(dark, ONE).layout.template.layout.paper_bgcolor == "#ffffff"


def test_a_marker_at_the_end_of_an_axis_has_room() -> None:
    assert tuple(for_print(panel("accuracy"), ONE).layout.yaxis.range) == (0, 103)
    assert for_print(panel("delay"), ONE).layout.yaxis.range is None


def test_dots_with_numbers_are_as_large_as_their_numbers_need() -> None:
    plane = plane_frame(RECORDS)
    dots = for_print(plane_figure(plane, 4), ONE).data[-1]
    assert dots.marker.size > 1.5 * dots.textfont.size
    assert dots.marker.colorbar.tickfont.size == ONE.font


def test_bars_and_their_bounds_are_printed_too() -> None:
    bars = go.Figure(go.Bar(x=["a"], y=[1.0], text=["1"], error_y={"array": [0.1], "thickness": 3}))
    (printed,) = for_print(bars, ONE).data
    assert (printed.textfont.size, printed.error_y.thickness) == (ONE.font, 1.5)


# labels above the plot


def test_stages_and_changes_have_a_row_each() -> None:
    printed = for_print(panel("accuracy", steering(2, snr_db=0.0)), ONE)
    shifts = {label.text: label.yshift for label in printed.layout.annotations}
    line = 1.3 * ONE.font
    assert shifts == pytest.approx({"Instruction": 0, "Rewards": 0, "Alignment": 0, "SNR 5 → 0 dB": line})
    assert printed.layout.margin.t == pytest.approx((0.5 + 2 * 1.3) * ONE.font)


@given(st.lists(st.tuples(st.floats(0.5, 9.5), st.text("SNR 50→dBimW", min_size=1, max_size=40)), max_size=8))
def test_no_two_labels_touch_and_none_leaves_the_plot(labels: list[tuple[float, str]]) -> None:
    layout = {
        "xaxis": {"range": [0.5, 9.5]},
        "annotations": [{"text": text, "x": x, "xref": "x", "yref": "paper", "y": 1} for x, text in labels],
    }
    rows = stack_labels(layout, ONE)
    boxes = []
    for label in layout["annotations"]:
        wide = text_width(label["text"], ONE.font)
        at = (label["x"] - 0.5) / 9 * (ONE.width - 5 * ONE.font)
        left = at + label["xshift"] if "xshift" in label else at - wide / 2
        boxes.append((round(label["yshift"] / (1.3 * ONE.font)), left, left + wide))
        assert left >= -1e-6 and (left + wide <= ONE.width - 5 * ONE.font or math.isclose(left, 0))
    assert rows == 1 + max((row for row, _, _ in boxes), default=-1)
    for (row, left, right), (other, start, end) in combinations(boxes, 2):
        assert row != other or right <= start + 1e-6 or left >= end - 1e-6


def test_a_label_outside_the_axis_takes_no_room() -> None:
    figure = panel("kl").update_xaxes(range=[5.5, 9.5])
    assert for_print(figure, ONE).layout.margin.t == pytest.approx((0.5 + 1.3) * ONE.font)  # Alignment alone
    layout = {"xaxis": {"range": [0.5, 9.5]}}
    assert label_extent({"text": "far", "x": 12.0, "xref": "x"}, layout, ONE) is None


def test_widths_are_about_those_of_arial() -> None:
    # measured with Liberation Sans, whose letters are as wide as Arial's, in units of 1/2048 of the font's size
    measured = {
        "client range": 10_588,
        "Will": 3_298,
        "Alignment": 9_107,
        "SNR 5 → 0 dB": 13_431,
        "helpfulness": 10_361,
    }
    for text, width in measured.items():
        assert 0.95 < text_width(text, 2048) / width < 1.15, text
    assert text_width("<b>a</b><br>abc", 10) == text_width("abc", 10)
