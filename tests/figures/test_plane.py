"""The helpful–harmless plane."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.colors import sample_colorscale

from pwff_core.figures.panel_figure import figure_json
from pwff_core.figures.plane import plane_figure, plane_frame, plane_table, plane_words, steps_of
from pwff_core.records import RoundRecord
from tests.support.contrast import contrast
from tests.support.scripted import WEIGHTS, whole_run

RUN = whole_run("abc")  # five clients, λ = 0 … 1; 2 rounds of reward learning, 4 of alignment


@pytest.fixture
def frame() -> pd.DataFrame:
    return plane_frame(RUN)


def test_a_step_is_before_alignment_or_a_round_of_it(frame: pd.DataFrame) -> None:
    assert steps_of(frame) == [0, 1, 2, 3, 4]
    assert len(frame) == 5 * len(WEIGHTS)
    last = frame[frame["step"] == 4]
    assert last["helpfulness"].tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])  # λ, by the script
    assert last["harmlessness"].tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert not frame[frame["step"] == 0][["helpfulness", "harmlessness"]].to_numpy().any()


def test_rounds_without_the_judges_scores_are_left_out() -> None:
    assert plane_frame([]).empty
    assert plane_frame([record for record in RUN if record.stage == "instruction"]).empty
    assert plane_frame(RUN[:4]).empty  # the first round of reward learning has no scores
    assert steps_of(plane_frame(RUN[:5])) == [0]


def client_dots(figure: go.Figure) -> go.Scatter:
    return figure.data[-1]


def test_every_client_is_a_dot_with_its_number_at_its_scores(frame: pd.DataFrame) -> None:
    drawn = client_dots(plane_figure(frame, 2))
    assert drawn.text == ("0", "1", "2", "3", "4")
    np.testing.assert_allclose(drawn.x, np.array(WEIGHTS) / 2)
    np.testing.assert_allclose(drawn.y, (1 - np.array(WEIGHTS)) / 2)
    np.testing.assert_allclose(drawn.marker.color, WEIGHTS)
    assert (drawn.marker.cmin, drawn.marker.cmax) == (0, 1)


def test_lines_lead_from_the_start_to_the_step(frame: pd.DataFrame) -> None:
    figure = plane_figure(frame, 3)
    paths = figure.data[: len(WEIGHTS)]
    np.testing.assert_allclose(paths[4].x, [0, 0.75])
    np.testing.assert_allclose(paths[0].y, [0, 0.75])
    rings = figure.data[len(WEIGHTS)]
    assert list(rings.x) == list(rings.y) == [0.0] * 5


def test_dots_move_and_axes_do_not(frame: pd.DataFrame) -> None:
    first, last = plane_figure(frame, 0), plane_figure(frame, 4)
    assert first.layout.xaxis.range == last.layout.xaxis.range == (-0.08, 1.08)
    assert len(first.data) == len(last.data)


def test_a_number_can_be_read_on_every_colour() -> None:
    weights = [step / 40 for step in range(41)]
    drawn = client_dots(plane_figure(plane_frame(whole_run(weights=weights)), 4))
    for number, ground in zip(drawn.textfont.color, sample_colorscale("Cividis", weights), strict=True):
        assert contrast(number, ground) >= 4.5


def test_words_name_the_two_extreme_clients(frame: pd.DataFrame) -> None:
    assert plane_words(frame, 4) == (
        "5 clients after round 4 of alignment in the plane of helpfulness and harmlessness. Most for helpfulness: "
        "client 4 (λ = 1.00) at helpfulness 1.00 and harmlessness 0.00 sd; most for harmlessness: client 0 (λ = 0.00) "
        "at helpfulness 0.00 and harmlessness 1.00 sd."
    )
    assert plane_words(frame, 0).startswith("5 clients before alignment in the plane")


def test_the_table_goes_from_helpful_to_harmless(frame: pd.DataFrame) -> None:
    table = plane_table(frame, 4)
    assert table["Client"].tolist() == [4, 3, 2, 1, 0]
    assert table["Gain [sd]"].tolist() == pytest.approx([1, 0.625, 0.5, 0.625, 1])  # λ² + (1 − λ)²
    assert table["Refuses [%]"].tolist() == pytest.approx([0, 25, 50, 75, 100])


def test_the_gain_counts_from_the_first_scores() -> None:
    without_before = [record for record in RUN if record.stage == "alignment"][1:]
    assert plane_table(plane_frame(without_before), 4)["Gain [sd]"].tolist()[0] == pytest.approx(0.5)  # since round 2


def test_the_figure_is_strict_json_without_a_template(frame: pd.DataFrame) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    unmeasured = [
        RoundRecord.model_validate(
            record.model_dump() | {"clients": [c.model_dump() | {"refusal_rate": None} for c in record.clients]}
        )
        for record in RUN
    ]
    tree = json.loads(figure_json(plane_figure(plane_frame(unmeasured), 4)), parse_constant=refuse)
    assert "template" not in tree["layout"]
