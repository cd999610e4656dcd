"""The exhibits of the Channel lab as charts: the rank that fits the paper, a mean that never settles, reward models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from pwff_core.figures.frames import value_text
from pwff_core.figures.theme import BLUE, GREEN, GREY, PURPLE, TEMPLATES, VERMILLION, Theme
from pwff_core.wireless.exhibits import Rank, Settling, Upload, paper_rank

_RANKS = np.unique(np.geomspace(1, 128, 60).round().astype(np.int64))
_TICKS = (1, 2, 4, 8, 16, 32, 96)
_STYLES = ((BLUE, "solid"), (GREEN, "dash"), (PURPLE, "longdashdot"))


def rank_figure(marked: Mapping[str, Rank], claim: float, *, theme: Theme = "light") -> go.Figure:
    """Cost of uploading adapters alone or LoRA alone over the rank, as a share of both together.

    Args:
        marked: ranks to mark, by their labels.
        claim: the share that not uploading LoRA saves, by the paper.
        theme: light or dark.
    """
    ranks = [paper_rank(int(rank)) for rank in _RANKS]
    level = 100 * (1 - claim)
    traces = [
        go.Scatter(x=_RANKS, y=[100 * row.adapter_share for row in ranks], name="adapters alone (PWFF)", mode="lines",
                   line={"color": BLUE, "width": 2.5}, hovertemplate="%{y:.1f} %"),
        go.Scatter(x=_RANKS, y=[100 * row.lora_share for row in ranks], name="LoRA alone (Shepherd)", mode="lines",
                   line={"color": VERMILLION, "width": 2.5, "dash": "dash"}, hovertemplate="%{y:.1f} %"),
        go.Scatter(x=[_RANKS[0], _RANKS[-1]], y=[level, level], mode="lines", hoverinfo="skip",
                   name=f"PWFF by Fig. 5: {level:.0f} %", line={"color": GREY, "dash": "dot", "width": 2}),
    ]  # fmt: skip
    for (label, row), symbol in zip(marked.items(), ("circle", "square", "diamond"), strict=False):
        traces.append(go.Scatter(
            x=[row.rank, row.rank], y=[100 * row.adapter_share, 100 * row.lora_share], name=label, mode="markers",
            marker={"symbol": symbol, "size": 11, "color": [BLUE, VERMILLION], "line": {"width": 1.5, "color": GREY}},
            hoverinfo="skip",
        ))  # fmt: skip
    ticks = {"tickvals": _TICKS, "ticktext": [f"{rank}" for rank in _TICKS]}
    return go.Figure(traces, _layout(theme, "What an upload costs beside PFL's", {
        "xaxis": {"title": {"text": "LoRA rank r"}, "type": "log", **ticks,
                  "unifiedhovertitle": {"text": "rank %{x}"}},
        "yaxis": {"title": {"text": "Share of PFL's upload [%]"}, "range": [0, 100]},
    }))  # fmt: skip


def rank_table(rows: Sequence[Rank]) -> pd.DataFrame:
    """The numbers behind the ranks, a row each."""
    return pd.DataFrame({
        "Rank": [row.rank for row in rows], "Adapters [numbers]": [row.adapters for row in rows],
        "LoRA [numbers]": [row.lora for row in rows], "PWFF saves [%]": [100 * row.lora_share for row in rows],
        "LoRA alone, of adapters alone [%]": [100 * row.lora / row.adapters for row in rows],
    })  # fmt: skip


def mean_delay_figure(settling: Settling, *, theme: Theme = "light") -> go.Figure:
    """The mean delay of the first 1, 2, 3 … uploads, with one draw an upload and with several."""
    traces = []
    for run, means in enumerate(settling.one_draw):
        traces.append(go.Scatter(
            x=settling.places, y=means[settling.places - 1], name="one draw an upload", legendgroup="one",
            showlegend=not run, mode="lines", line={"color": VERMILLION, "width": 1.5}, hovertemplate="%{y:.3g} s",
        ))  # fmt: skip
    traces.append(_reference_line(settling.places, settling.typical_s, "theory: grows like ln n", "dash"))
    for (blocks, means), (colour, dash) in zip(settling.blocks.items(), _STYLES, strict=False):
        places = settling.places[settling.places <= len(means)]
        traces.append(go.Scatter(
            x=places, y=means[places - 1], name=f"{blocks} blocks an upload", mode="lines",
            hovertemplate="%{y:.4g} s", line={"color": colour, "dash": dash, "width": 2.5},
        ))  # fmt: skip
    traces.append(_reference_line(settling.places[[0, -1]], np.full(2, settling.limit_s), "S / E[R]", "dot"))
    return go.Figure(traces, _layout(theme, "Mean delay of the first n uploads", {
        "xaxis": {"title": {"text": "Number of uploads n"}, "type": "log", "dtick": 1,
                  "unifiedhovertitle": {"text": "%{x} uploads"}},
        "yaxis": {"title": {"text": "Mean delay [s]"}, "type": "log", "dtick": "D2"},
    }))  # fmt: skip


def _reference_line(x: NDArray[np.int64], y: NDArray[np.float64], name: str, dash: str) -> go.Scatter:
    line = {"color": GREY, "dash": dash, "width": 2}
    return go.Scatter(x=x, y=y, name=name, mode="lines", hoverinfo="skip", line=line)


def mean_delay_table(settling: Settling) -> pd.DataFrame:
    """The numbers behind the mean delays after 1, 10, 100 … uploads; NaN where not simulated."""
    counts = [10**power for power in range(len(str(len(settling.one_draw[0]))))]
    table = pd.DataFrame({"Uploads": counts})
    for number, means in enumerate(settling.one_draw, start=1):
        table[f"One draw, {number} [s]"] = [_mean_after(means, count) for count in counts]
    table["Theory of one draw [s]"] = settling.typical_s[np.searchsorted(settling.places, counts)]
    for blocks, means in settling.blocks.items():
        table[f"{blocks} blocks [s]"] = [_mean_after(means, count) for count in counts]
    return table


def _mean_after(means: NDArray[np.float64], count: int) -> float:
    return float(means[count - 1]) if count <= len(means) else math.nan


def lost_figure(settling: Settling, *, theme: Theme = "light") -> go.Figure:
    """The share of lost uploads over the deadline: by the outage formula, and simulated."""
    traces = [go.Scatter(
        x=settling.deadlines_s, y=100 * settling.lost_one_draw, name="one draw: outage formula", mode="lines",
        hovertemplate="%{y:.3g} %", line={"color": VERMILLION, "width": 2.5},
    )]  # fmt: skip
    for (blocks, lost), (colour, dash) in zip(settling.lost_blocks.items(), _STYLES, strict=False):
        traces.append(go.Scatter(
            x=settling.deadlines_s, y=100 * lost, name=f"{blocks} blocks, simulated", mode="lines",
            hovertemplate="%{y:.3g} %", line={"color": colour, "dash": dash, "width": 2.5},
        ))  # fmt: skip
    return go.Figure(traces, _layout(theme, "Uploads that a deadline cuts off", {
        "xaxis": {"title": {"text": "Deadline [s]"}, "type": "log", "dtick": "D2",
                  "unifiedhovertitle": {"text": "%{x:.3g} s"}},
        "yaxis": {"title": {"text": "Uploads lost [%]"}, "range": [0, 100]},
    }))  # fmt: skip


def upload_figure(rows: Sequence[Upload], *, theme: Theme = "light") -> go.Figure:
    """A bar for each upload, with its delay as text."""
    bars = go.Bar(
        y=[row.name for row in rows], x=[row.delay_s for row in rows], orientation="h", textposition="auto",
        text=[value_text(row.delay_s, "s") for row in rows], textangle=0, hoverinfo="skip", constraintext="none",
        marker={"color": BLUE}, insidetextfont={"color": "#ffffff"}, insidetextanchor="start",
    )  # fmt: skip
    return go.Figure([bars], _layout(theme, "Time of one upload", {
        "xaxis": {"title": {"text": "Delay [s]"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "ticks": ""}, "showlegend": False, "margin": {"b": 50}, "height": 280,
    }))  # fmt: skip


def upload_table(rows: Sequence[Upload]) -> pd.DataFrame:
    """The numbers behind the bars, a row each."""
    return pd.DataFrame({
        "Upload": [row.name for row in rows], "Numbers": [row.num_params for row in rows],
        "Bits [Mbit]": [row.bits / 1e6 for row in rows], "Delay [s]": [row.delay_s for row in rows],
        "Energy of a client [J]": [row.energy_j for row in rows],
    })  # fmt: skip


def _layout(theme: Theme, title: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"template": TEMPLATES[theme], "title": {"text": title}, "height": 420, "margin": {"b": 100}} | more
