"""The figures of a comparison: lines, bands, bars and what they say."""

from __future__ import annotations

import json
import math
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from pwff_core.figures.comparison import ChartId, PlayedRun, over_seeds, runs_frame
from pwff_core.figures.comparison_figure import chart_figure
from pwff_core.figures.panel_figure import figure_json
from tests.support.rounds import PLANNED


def test_lines_have_bands_over_seeds_and_gaps(frame: pd.DataFrame) -> None:
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
def test_an_empty_figure_says_so(chart_id: ChartId) -> None:
    figure = chart_figure(chart_id, over_seeds(chart_id, runs_frame([PlayedRun("pwff", 1, [])], PLANNED)), PLANNED)
    assert not figure.data
    assert figure.layout.annotations[-1].text == "No round has measured it yet."
    assert figure.layout.yaxis.showticklabels is False


@pytest.mark.parametrize("chart_id", get_args(ChartId))
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_are_strict_json(chart_id: ChartId, theme: str, frame: pd.DataFrame) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    figure = chart_figure(chart_id, over_seeds(chart_id, frame), PLANNED, theme=theme)
    tree = json.loads(figure_json(figure), parse_constant=refuse)
    assert "template" not in tree["layout"] and tree["data"]
