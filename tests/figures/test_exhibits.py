"""The exhibits of the Channel lab as charts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from pwff_core.config import preset_config
from pwff_core.figures.exhibits import (
    lost_figure,
    mean_delay_figure,
    mean_delay_table,
    rank_figure,
    rank_table,
    upload_figure,
    upload_table,
)
from pwff_core.wireless.exhibits import paper_rank, reward_uploads, settling

PAPER = preset_config("paper")
BITS = 580_968 * 32


def trace_of(figure: go.Figure, prefix: str) -> Any:
    return next(trace for trace in figure.data if trace.name.startswith(prefix))


def test_ranks_are_marked_on_both_curves() -> None:
    figure = rank_figure({"rank 8": paper_rank(8), "rank 96": paper_rank(96)}, 0.43)
    mark = trace_of(figure, "rank 8")
    assert mark.y == (pytest.approx(56.8, abs=0.05), pytest.approx(43.2, abs=0.05))
    assert trace_of(figure, "PWFF by Fig. 5").y[0] == pytest.approx(57)
    assert mark.marker.symbol != trace_of(figure, "rank 96").marker.symbol
    assert rank_table([paper_rank(8)])["PWFF saves [%]"].tolist() == pytest.approx([43.2], abs=0.05)


def test_mean_delays_and_lost_uploads() -> None:
    settled = settling(BITS, PAPER.channel, 0)
    figure = mean_delay_figure(settled)
    one_draw = [trace for trace in figure.data if trace.name == "one draw an upload"]
    assert [trace.showlegend for trace in one_draw] == [True, False, False]
    assert one_draw[0].y[-1] == settled.one_draw[0][-1]
    assert max(trace_of(figure, "10 blocks").x) == 1000
    table = mean_delay_table(settled)
    assert table["Uploads"].tolist() == [1, 10, 100, 1000, 10_000, 100_000]
    assert table["100 blocks [s]"].iloc[3] == settled.blocks[100][-1]
    assert math.isnan(table["100 blocks [s]"].iloc[4])
    assert table["Theory of one draw [s]"].iloc[-1] == settled.typical_s[-1]
    lost = lost_figure(settled)
    np.testing.assert_allclose(trace_of(lost, "one draw").y, 100 * settled.lost_one_draw)
    assert [trace.name for trace in lost.data][1:] == ["10 blocks, simulated", "100 blocks, simulated"]


def test_uploads_as_bars_and_numbers() -> None:
    uploads = reward_uploads(PAPER)
    figure = upload_figure([uploads.whole, uploads.head])
    assert list(figure.data[0].text) == ["20 min 40 s", "2.75 s"]
    table = upload_table([uploads.rounded])
    assert table["Delay [s]"].tolist() == pytest.approx([1231], abs=0.5)
