"""Several runs in one chart: a line a run, told apart by colour, dash and marker.

The axis counts the rounds of all stages from 1, as on the Live page. Runs with other numbers of rounds are in other
stages at the same place; the hover box of a round names the stage of each run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from pwff_core.figures.frames import STAGE_LABELS, value_text
from pwff_core.figures.panel_figure import MAX_POINTS, escape_tags, safe_cell, thin_out
from pwff_core.figures.panels import PANELS, PanelId
from pwff_core.figures.theme import BLUE, GREEN, GREY, PURPLE, TEMPLATES, VERMILLION, Theme, notice

OVERLAY_PANELS: tuple[PanelId, ...] = ("accuracy", "reward", "delay", "energy")
_STYLES = (  # colour, dash and marker of the runs, in their order
    (BLUE, "solid", "circle"),
    (VERMILLION, "dash", "square"),
    (GREEN, "dot", "diamond"),
    (PURPLE, "dashdot", "triangle-up"),
    (GREY, "longdash", "x"),
)
MAX_RUNS = len(_STYLES)
_TICKS = 10  # at most, on the axis of rounds
_LEGEND_ROW, _PLOT = 20, 340  # [px]


class OverlayRun(NamedTuple):
    """One run of the overlay."""

    name: str  # in legend and table; no two runs have the same
    frame: pd.DataFrame  # its rounds (`round_frame`)


def overlay_figure(panel_id: PanelId, runs: Sequence[OverlayRun], *, theme: Theme = "light") -> go.Figure:
    """The metric of a panel over the rounds of up to MAX_RUNS runs, without the range over clients."""
    panel = PANELS[panel_id]
    rounds = max((len(run.frame) for run in runs), default=1)
    # shares lie close together at the top: on an axis from zero they would be one line
    scale = {} if panel.limits else {"rangemode": "tozero"}
    layout: dict[str, Any] = {
        "template": TEMPLATES[theme], "title": {"text": panel.title},
        "xaxis": {
            "title": {"text": "Round, over all stages"}, "range": [0.5, rounds + 0.5], "tick0": 0,
            "dtick": math.ceil(rounds / _TICKS), "unifiedhovertitle": {"text": "Round %{x}"},
        },
        "yaxis": {"title": {"text": f"{panel.label} [{panel.unit}]"}, **scale},
        # one name a row: people's names are long, and beside each other they would be cut
        "showlegend": True, "legend": {"entrywidth": 1, "entrywidthmode": "fraction"},
        "margin": {"b": 60 + _LEGEND_ROW * len(runs)}, "height": _PLOT + _LEGEND_ROW * len(runs),
    }  # fmt: skip
    if not any(run.frame[panel.metric].notna().any() for run in runs):
        layout["annotations"] = [notice("None of these runs has measured it.")]
    return go.Figure([_line(panel_id, run, *style) for run, style in zip(runs, _STYLES, strict=False)], layout)


def _line(panel_id: PanelId, run: OverlayRun, colour: str, dash: str, marker: str) -> go.Scatter:
    panel = PANELS[panel_id]
    frame = thin_out(run.frame, MAX_POINTS)
    stages = [f"{STAGE_LABELS[stage]} {number}" for stage, number in zip(frame["stage"], frame["round"], strict=True)]
    return go.Scatter(
        x=frame.index.to_numpy(), y=panel.scaled(frame[panel.metric]), name=escape_tags(run.name), mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 2.5}, marker={"symbol": marker, "size": 7},
        customdata=stages, hovertemplate=f"%{{y:.4g}} {panel.unit} (%{{customdata}})",
    )  # fmt: skip


def overlay_words(panel_id: PanelId, runs: Sequence[OverlayRun]) -> str:
    """What the chart shows, a sentence a run, for people who cannot see it."""
    panel = PANELS[panel_id]

    def run_words(run: OverlayRun) -> str:
        measured = run.frame[panel.metric].dropna()
        if measured.empty:
            return f"{run.name}: not measured."
        first, last = (value_text(measured.iloc[place], panel.unit) for place in (0, -1))
        return f"{run.name}: {first} in round {measured.index[0]}, {last} in round {measured.index[-1]}."

    return " ".join([f"{panel.title}, {len(runs)} runs.", *map(run_words, runs)])


def overlay_table(panel_id: PanelId, runs: Sequence[OverlayRun]) -> pd.DataFrame:
    """The numbers behind the chart, in its unit: a row a round that any run measured, a column a run."""
    panel = PANELS[panel_id]
    columns = {
        f"{safe_cell(run.name)} [{panel.unit}]": pd.Series(panel.scaled(run.frame[panel.metric]), run.frame.index)
        for run in runs
    }
    table = pd.DataFrame(columns).dropna(how="all").rename_axis("Round")
    return table.reset_index()
