"""A steered run: its expected cost, its changes as lines, and its rounds at other settings."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.figures.frames import round_frame, spans_of
from pwff_core.figures.panel_figure import panel_figure
from pwff_core.figures.panels import PANELS, WhatIf, panel_table, panel_words
from pwff_core.figures.steering_marks import Piece, expected_pieces, steering_marks
from pwff_core.knobs import with_changes
from pwff_core.records import Steering
from tests.support.rounds import PLANNED, steering
from tests.support.scripted import whole_run

SPANS = spans_of(PLANNED, [])
AWGN = with_changes(
    RunConfig(), {"channel.fading": "awgn", "channel.snr_db": 0.0, "price_as": "gpt2", "clients": 2,
                  **{f"{stage}.rounds": count for stage, count in PLANNED.items()}},
)  # fmt: skip
GPT2_BITS = 580_968 * 32  # 36 adapters of 16,138 numbers


def test_the_expected_cost_follows_the_channel() -> None:
    # at 0 dB log2(1 + 1) = 1 bit/s/Hz over 1 MHz; over 2 MHz half the time. Round 5 is one of reward learning
    changes = [steering(2, 1e6, 2e6, "channel.bandwidth_hz"), steering(5, 2e6, 4e6, "channel.bandwidth_hz")]
    first = GPT2_BITS / 1e6
    delay = expected_pieces(AWGN, changes, SPANS)["delay"]
    assert [piece[:2] for piece in delay] == [(1, 1), (2, 3), (6, 9)]
    assert [piece.value for piece in delay] == pytest.approx([first, first / 2, first / 4], rel=1e-12)
    energy = expected_pieces(AWGN, [], SPANS)["energy"]
    assert energy == [Piece(1, 3, pytest.approx(2 * first)), Piece(6, 9, pytest.approx(2 * first))]
    assert stage_rounds(AWGN) == PLANNED


def test_nothing_is_expected_of_a_backbone_of_unknown_size() -> None:
    config = with_changes(RunConfig(), {"backbone": "someone/model", "price_as": "backbone"})
    assert expected_pieces(config, [], SPANS) == {"delay": [], "energy": []}


def test_every_panel_has_a_labelled_line_before_a_change() -> None:
    records = whole_run()
    frame = round_frame(records)
    for panel_id in PANELS:
        layout = panel_figure(panel_id, frame, spans_of(PLANNED, records), steerings=[steering(7, 5.0, 0.0)]).layout
        lines = [shape.x0 for shape in layout.shapes if shape.type == "line" and shape.line.dash is None]
        assert lines == [6.5]
        (label,) = (note for note in layout.annotations if note.name == "steering 1")
        assert (label.text, label.x, label.visible) == ("SNR 5 → 0 dB", 6.5, True)
        assert label.hovertext == "From round 7 (Alignment 2):<br>SNR 5 → 0 dB"
        assert layout.meta["narrow"]["steering 1"]["text"] == "0 dB"
        assert [note.text for note in layout.annotations[:3]] == ["Instruction", "Rewards", "Alignment"]


def test_a_chart_without_changes_has_no_marks() -> None:
    records = whole_run()
    layout = panel_figure("loss", round_frame(records), spans_of(PLANNED, records)).layout
    assert layout.meta is None and layout.margin.t == 62


def boxes(marks: dict[str, Any], names: dict[str, Any], rounds: int, width: float) -> list[tuple[float, float, float]]:
    """Row and ends [px] of each label that is seen, from its anchor, at 6.2 px a letter."""
    extents = []
    for note in marks["annotations"]:
        look = note | names.get(note["name"], {})
        width_px, at = 6.2 * len(look["text"]), (note["x"] - 0.5) / rounds * width
        if look["visible"]:
            extents.append(
                (look["yshift"], *((at, at + width_px) if look["xanchor"] == "left" else (at - width_px, at)))
            )
    return sorted(extents)


@given(positions=st.lists(st.integers(1, 60), min_size=1, max_size=25, unique=True), narrow=st.booleans())
def test_labels_never_overlap_nor_leave_the_chart(positions: list[int], narrow: bool) -> None:
    changes = [
        Steering(position=at, stage="instruction", round=at, before={"channel.snr_db": 5.0},
                 changes={"channel.snr_db": float(at), "channel.fading": "awgn"}, at=0.0)
        for at in sorted(positions)
    ]  # fmt: skip
    marks, width = steering_marks(changes, 60, stages=False), 250.0 if narrow else 420.0
    placed = boxes(marks, marks["meta"]["narrow"] if narrow else {}, 60, width)
    assert placed and len(marks["shapes"]) == len(changes)
    assert all(left >= 0 and right <= width for _, left, right in placed)
    for (row, _, right), (next_row, left, _) in pairwise(placed):
        assert next_row > row or left >= right


def test_labels_that_would_overlap_go_up_a_row_and_then_shrink() -> None:
    changes = [steering(position, 5.0, float(-position)) for position in (2, 3, 4)]
    notes = steering_marks(changes, 40, stages=True)["annotations"]
    assert [(note["text"], note["yshift"]) for note in notes] == [
        ("SNR 5 → -2 dB", 18), ("SNR 5 → -3 dB", 32), ("", 18),
    ]  # fmt: skip


def test_other_settings_are_a_dashed_line_in_words_and_table() -> None:
    records = whole_run()
    frame, spans = round_frame(records), spans_of(PLANNED, records)
    what_if = WhatIf("what if: SNR 0 dB", np.arange(1.0, 10.0))
    figure = panel_figure("delay", frame, spans, what_if=what_if)
    (line,) = (trace for trace in figure.data if trace.name == "what if: SNR 0 dB")
    assert line.line.dash == "dash" and list(line.y) == list(range(1, 10)) and list(line.x) == list(range(1, 10))
    styles = [(trace.line.dash, trace.marker.symbol) for trace in figure.data if trace.mode == "lines+markers"]
    assert len(set(styles)) == len(styles) == 3
    words = panel_words("delay", frame, spans, what_if=what_if, steerings=[steering(7, 5.0, 0.0)])
    assert words.endswith("What if: SNR 0 dB: 9.00 s in round 9. From round 7: SNR 5 → 0 dB.")
    table = panel_table("delay", frame, what_if=what_if, steerings=[steering(7, 5.0, 0.0)])
    assert table["what if: SNR 0 dB [s]"].tolist() == list(range(1, 10))
    assert table["Changed before it"].tolist() == ["", "", "", "", "", "", "SNR 5 → 0 dB", "", ""]


def test_the_line_of_other_settings_is_thinned_with_the_rounds() -> None:
    records = whole_run(rounds={"instruction": 4000}, weights=(0.5,))
    what_if = WhatIf("what if", np.arange(4000, dtype=float))
    figure = panel_figure("energy", round_frame(records), spans_of({"instruction": 4000}, records), what_if=what_if)
    line = figure.data[-1]
    assert len(line.x) == 1500 and [y + 1 for y in line.y] == list(line.x)
    assert not math.isnan(sum(line.y))
