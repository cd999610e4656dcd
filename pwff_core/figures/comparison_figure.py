"""The charts of several methods as plotly Figures: lines with bands, bars, and accuracy against energy.

A method keeps its colour, dash, marker and pattern everywhere (`METHOD_STYLES`). A spread is one sample standard
deviation to each side: a band around a line, an error bar on a bar or on a last point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pwff_core.figures.comparison import CHARTS, Chart, ChartId
from pwff_core.figures.frames import STAGE_LABELS, value_text
from pwff_core.figures.theme import GREY, METHOD_STYLES, TEMPLATES, Theme, see_through
from pwff_core.methods import METHODS, MethodId
from pwff_core.records import METRICS, Stage

_BAND_OPACITY = 0.18
_TICKS = 10  # at most, on an axis of rounds
_LEAST_BARS = 4  # bars are as wide as if there were so many


def chart_figure(
    chart_id: ChartId, told: pd.DataFrame, planned: Mapping[Stage, int], *, theme: Theme = "light"
) -> go.Figure:
    """A chart of several methods with its numbers (`over_seeds`); without any, its axes and a word that it waits.

    `planned`: the stages on the axis of rounds, each with its rounds in the longest run.
    """
    chart = CHARTS[chart_id]
    draw = {"methods": _bars, "energy": _against_energy}.get(chart.over, _lines)
    traces = [trace for _, mine in told.groupby("method", sort=False) for trace in draw(chart, mine)]
    layout: dict[str, Any] = {
        "template": TEMPLATES[theme], "title": {"text": chart.title}, "xaxis": _x_axis(chart, planned, len(traces)),
        "yaxis": {"title": {"text": f"{METRICS[chart.metric].label} [{chart.unit}]"}},
    }  # fmt: skip
    layout["showlegend"] = chart.over != "methods"  # bars have their names below them
    if chart.over in ("methods", "energy"):
        layout["hovermode"] = "closest"
    if chart.over == "methods":
        layout |= {"bargap": 0.35, "yaxis": layout["yaxis"] | {"rangemode": "tozero"}}
    if chart.over == "rounds":
        layout |= _stage_marks(planned)
    if not traces:  # quiet, without the numbers that plotly makes up for an axis
        for axis in ("xaxis", "yaxis"):
            layout[axis] |= {"showgrid": False, "showticklabels": False}
        layout["annotations"] = [*layout.get("annotations", []), _notice("No round has measured it yet.")]
    return go.Figure(traces, layout)


def _x_axis(chart: Chart, planned: Mapping[Stage, int], bars: int) -> dict[str, Any]:
    if chart.over == "methods":
        margin = 0.5 + max(0.0, (_LEAST_BARS - bars) / 2)  # one bar alone is no wall
        return {"type": "category", "range": [-margin, bars - 1 + margin]}
    if chart.over == "energy":
        return {"title": {"text": "Energy so far, all clients [J]"}, "rangemode": "tozero"}
    if chart.over == "alignment":
        rounds = planned.get("alignment", 1)
        title, low, hover = "Round of alignment (0: before)", -0.3, "Round %{x} of alignment"
    else:
        rounds = max(sum(planned.values()), 1)
        title, low, hover = "Round" if len(planned) < 2 else "Round, over all stages", 0.5, "Round %{x}"
    return {
        "title": {"text": title}, "range": [low, rounds + 0.5], "dtick": math.ceil(rounds / _TICKS), "tick0": 0,
        "unifiedhovertitle": {"text": hover},
    }  # fmt: skip


def _lines(chart: Chart, told: pd.DataFrame) -> list[go.Scatter]:
    """A method's mean over seeds as a line with markers, in a band of one standard deviation to each side."""
    method: MethodId = told["method"].iloc[0]
    look, name = METHOD_STYLES[method], METHODS[method].label
    whole = told.set_index("x").reindex(np.arange(told["x"].min(), told["x"].max() + 1))  # a gap stays a gap
    spread = _spread_text(whole, chart.unit)
    line = go.Scatter(
        x=whole.index.to_numpy(), y=whole["mean"].to_numpy(), name=name, legendgroup=method, mode="lines+markers",
        line={"color": look.colour, "dash": look.dash, "width": 2.5}, marker={"symbol": look.marker, "size": 8},
        customdata=spread, hovertemplate="%{customdata}",
    )  # fmt: skip
    return [*_band(whole, look.colour, method), line]


def _band(whole: pd.DataFrame, colour: str, group: str) -> list[go.Scatter]:
    """Mean ± deviation around each stretch of rounds that more than one seed has measured; nothing without any."""
    known = np.flatnonzero(whole["deviation"].notna())
    low, high = (whole["mean"] - whole["deviation"]).to_numpy(), (whole["mean"] + whole["deviation"]).to_numpy()
    position = whole.index.to_numpy()
    x: list[float | None] = []
    y: list[float | None] = []
    for places in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        x += [*position[places].tolist(), *position[places[::-1]].tolist(), None]
        y += [*high[places].tolist(), *low[places[::-1]].tolist(), None]
    if not known.size:
        return []
    return [go.Scatter(
        x=x, y=y, mode="lines", line={"width": 0}, fill="toself", fillcolor=see_through(colour, _BAND_OPACITY),
        legendgroup=group, showlegend=False, hoverinfo="skip",
    )]  # fmt: skip


def _bars(chart: Chart, told: pd.DataFrame) -> list[go.Bar]:
    """A method's bar with its number below it and an error bar."""
    row = told.iloc[0]
    look, name = METHOD_STYLES[row["method"]], METHODS[row["method"]].label
    return [go.Bar(
        x=[f"{name}<br>{value_text(row['mean'], chart.unit)}"], y=[row["mean"]], name=name,
        error_y=_error([row["deviation"]]), customdata=_spread_text(told, chart.unit),
        hovertemplate=f"{name}: %{{customdata}}<extra></extra>",
        marker={
            "color": look.colour, "line": {"color": look.colour, "width": 1.5},
            "pattern": {"shape": look.pattern, "fillmode": "replace", "size": 9, "solidity": 0.4},
        },
    )]  # fmt: skip


def _against_energy(chart: Chart, told: pd.DataFrame) -> list[go.Scatter]:
    """A method's path over the rounds, and where it stands now as a large point with the spread of both."""
    method: MethodId = told["method"].iloc[0]
    look, name = METHOD_STYLES[method], METHODS[method].label
    path = go.Scatter(
        x=told["energy"].to_numpy(), y=told["mean"].to_numpy(), name=name, legendgroup=method, mode="lines+markers",
        line={"color": look.colour, "dash": look.dash, "width": 1.5}, marker={"symbol": look.marker, "size": 5},
        customdata=told["x"].to_numpy(),
        hovertemplate=f"{name}, round %{{customdata}}: %{{y:.4g}} {chart.unit}, %{{x:.4g}} J<extra></extra>",
    )  # fmt: skip
    last = told.iloc[-1]
    now = go.Scatter(
        x=[last["energy"]], y=[last["mean"]], name=name, legendgroup=method, showlegend=False, mode="markers",
        error_x=_error([last["energy_deviation"]]), error_y=_error([last["deviation"]]),
        marker={"symbol": look.marker, "size": 13, "color": look.colour}, customdata=_spread_text(told.iloc[-1:], "%"),
        hovertemplate=f"{name} now: %{{customdata}}, %{{x:.4g}} J<extra></extra>",
    )  # fmt: skip
    return [path, now]


def _error(deviations: Sequence[float]) -> dict[str, Any]:
    """Error bars; none where the spread is not known."""
    known = [0.0 if math.isnan(value) else value for value in deviations]
    return {"type": "data", "array": known, "visible": any(known), "thickness": 2, "width": 8, "color": GREY}


def _spread_text(told: pd.DataFrame, unit: str) -> list[str]:
    """'93.6 ± 0.4 % (3 seeds)' of each row."""
    texts = []
    for mean, deviation, seeds in zip(told["mean"], told["deviation"], told["seeds"], strict=True):
        if math.isnan(mean):
            texts.append("")
        elif math.isnan(deviation):
            texts.append(f"{mean:.4g} {unit} (1 seed)")
        else:
            texts.append(f"{mean:.4g} ± {deviation:.2g} {unit} ({seeds:.0f} seeds)")
    return texts


def _stage_marks(planned: Mapping[Stage, int]) -> dict[str, Any]:
    """Of several stages: a dotted border before each but the first, and their names on top."""
    if len(planned) < 2:
        return {}
    shapes, annotations, first = [], [], 0.5
    where = {"xref": "x", "yref": "paper"}
    for place, (stage, rounds) in enumerate(planned.items()):
        if place:
            line = {"color": GREY, "dash": "dot", "width": 1}
            shapes.append({"type": "line", "x0": first, "x1": first, "y0": 0, "y1": 1, "line": line, **where})
        label = STAGE_LABELS[stage] if rounds >= 0.2 * sum(planned.values()) else f"{place + 1}"
        annotations.append({
            "text": label, "x": first + rounds / 2, "y": 1, "yanchor": "bottom", "showarrow": False,
            "font": {"size": 12}, "hovertext": STAGE_LABELS[stage], **where,
        })  # fmt: skip
        first += rounds
    return {"shapes": shapes, "annotations": annotations, "margin": {"t": 62}}


def _notice(text: str) -> dict[str, Any]:
    return {"text": text, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False, "opacity": 0.8}
