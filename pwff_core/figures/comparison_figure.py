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
from pwff_core.figures.theme import GREY, METHOD_STYLES, TEMPLATES, Theme, notice, with_opacity
from pwff_core.methods import METHODS, MethodId
from pwff_core.records import METRICS, Stage

_BAND_OPACITY = 0.18
_MAX_TICKS = 10  # on an axis of rounds
_MIN_BARS = 4  # fewer bars are as wide as these


def chart_figure(
    chart_id: ChartId, means: pd.DataFrame, planned: Mapping[Stage, int], *, theme: Theme = "light"
) -> go.Figure:
    """A chart of several methods from its numbers (`over_seeds`); without any, its axes and a notice.

    `planned` has the stages on the axis of rounds, each with its rounds in the longest run.
    """
    chart = CHARTS[chart_id]
    draw = {"methods": _bars, "energy": _against_energy}.get(chart.over, _lines)
    traces = [trace for _, rows in means.groupby("method", sort=False) for trace in draw(chart, rows)]
    layout: dict[str, Any] = {
        "template": TEMPLATES[theme], "title": {"text": chart.title}, "xaxis": _x_axis(chart, planned, len(traces)),
        "yaxis": {"title": {"text": f"{METRICS[chart.metric].label} [{chart.unit}]"}},
    }  # fmt: skip
    layout["showlegend"] = chart.over != "methods"  # bars have their names below
    if chart.over in ("methods", "energy"):
        layout["hovermode"] = "closest"
    if chart.over == "methods":
        layout |= {"bargap": 0.35, "yaxis": layout["yaxis"] | {"rangemode": "tozero"}}
    if chart.over == "rounds":
        layout |= _stage_marks(planned)
    if not traces:  # without the numbers that plotly would make up for the axes
        for axis in ("xaxis", "yaxis"):
            layout[axis] |= {"showgrid": False, "showticklabels": False}
        layout["annotations"] = [*layout.get("annotations", []), notice("No round has measured it yet.")]
    return go.Figure(traces, layout)


def _x_axis(chart: Chart, planned: Mapping[Stage, int], bars: int) -> dict[str, Any]:
    if chart.over == "methods":
        margin = 0.5 + max(0.0, (_MIN_BARS - bars) / 2)  # a single bar does not fill the chart
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
        "title": {"text": title}, "range": [low, rounds + 0.5], "dtick": math.ceil(rounds / _MAX_TICKS), "tick0": 0,
        "unifiedhovertitle": {"text": hover},
    }  # fmt: skip


def _lines(chart: Chart, means: pd.DataFrame) -> list[go.Scatter]:
    """A method's mean over seeds as a line with markers, in a band of one standard deviation to each side."""
    method: MethodId = means["method"].iloc[0]
    style, name = METHOD_STYLES[method], METHODS[method].label
    rows = means.set_index("x").reindex(np.arange(means["x"].min(), means["x"].max() + 1))  # gaps are NaN
    spread = _spread_text(rows, chart.unit)
    line = go.Scatter(
        x=rows.index.to_numpy(), y=rows["mean"].to_numpy(), name=name, legendgroup=method, mode="lines+markers",
        line={"color": style.colour, "dash": style.dash, "width": 2.5}, marker={"symbol": style.marker, "size": 8},
        customdata=spread, hovertemplate="%{customdata}",
    )  # fmt: skip
    return [*_band(rows, style.colour, method), line]


def _band(rows: pd.DataFrame, colour: str, group: str) -> list[go.Scatter]:
    """Mean ± deviation around each stretch of rounds that more than one seed has measured; nothing without any."""
    measured = np.flatnonzero(rows["deviation"].notna())
    low, high = (rows["mean"] - rows["deviation"]).to_numpy(), (rows["mean"] + rows["deviation"]).to_numpy()
    position = rows.index.to_numpy()
    x: list[float | None] = []
    y: list[float | None] = []
    for places in np.split(measured, np.flatnonzero(np.diff(measured) > 1) + 1):
        x += [*position[places].tolist(), *position[places[::-1]].tolist(), None]
        y += [*high[places].tolist(), *low[places[::-1]].tolist(), None]
    if not measured.size:
        return []
    return [go.Scatter(
        x=x, y=y, mode="lines", line={"width": 0}, fill="toself", fillcolor=with_opacity(colour, _BAND_OPACITY),
        legendgroup=group, showlegend=False, hoverinfo="skip",
    )]  # fmt: skip


def _bars(chart: Chart, means: pd.DataFrame) -> list[go.Bar]:
    """A method's bar with its number below it and an error bar."""
    row = means.iloc[0]
    style, name = METHOD_STYLES[row["method"]], METHODS[row["method"]].label
    return [go.Bar(
        x=[f"{name}<br>{value_text(row['mean'], chart.unit)}"], y=[row["mean"]], name=name,
        error_y=_error([row["deviation"]]), customdata=_spread_text(means, chart.unit),
        hovertemplate=f"{name}: %{{customdata}}<extra></extra>",
        marker={
            "color": style.colour, "line": {"color": style.colour, "width": 1.5},
            "pattern": {"shape": style.pattern, "fillmode": "replace", "size": 9, "solidity": 0.4},
        },
    )]  # fmt: skip


def _against_energy(chart: Chart, means: pd.DataFrame) -> list[go.Scatter]:
    """A method's path over the rounds, and its last point, large, with the spread of accuracy and energy."""
    method: MethodId = means["method"].iloc[0]
    style, name = METHOD_STYLES[method], METHODS[method].label
    path = go.Scatter(
        x=means["energy"].to_numpy(), y=means["mean"].to_numpy(), name=name, legendgroup=method, mode="lines+markers",
        line={"color": style.colour, "dash": style.dash, "width": 1.5}, marker={"symbol": style.marker, "size": 5},
        customdata=means["x"].to_numpy(),
        hovertemplate=f"{name}, round %{{customdata}}: %{{y:.4g}} {chart.unit}, %{{x:.4g}} J<extra></extra>",
    )  # fmt: skip
    last = means.iloc[-1]
    now = go.Scatter(
        x=[last["energy"]], y=[last["mean"]], name=name, legendgroup=method, showlegend=False, mode="markers",
        error_x=_error([last["energy_deviation"]]), error_y=_error([last["deviation"]]),
        marker={"symbol": style.marker, "size": 13, "color": style.colour},
        customdata=_spread_text(means.iloc[-1:], "%"),
        hovertemplate=f"{name} now: %{{customdata}}, %{{x:.4g}} J<extra></extra>",
    )  # fmt: skip
    return [path, now]


def _error(deviations: Sequence[float]) -> dict[str, Any]:
    """Error bars; none where there is no spread."""
    lengths = [0.0 if math.isnan(value) else value for value in deviations]
    return {"type": "data", "array": lengths, "visible": any(lengths), "thickness": 2, "width": 8, "color": GREY}


def _spread_text(means: pd.DataFrame, unit: str) -> list[str]:
    """Each row as '93.6 ± 0.4 % (3 seeds)'."""
    texts = []
    for mean, deviation, seeds in zip(means["mean"], means["deviation"], means["seeds"], strict=True):
        if math.isnan(mean):
            texts.append("")
        elif math.isnan(deviation):
            texts.append(f"{mean:.4g} {unit} (1 seed)")
        else:
            texts.append(f"{mean:.4g} ± {deviation:.2g} {unit} ({seeds:.0f} seeds)")
    return texts


def _stage_marks(planned: Mapping[Stage, int]) -> dict[str, Any]:
    """Of several stages: a dotted line before each but the first, and their names on top."""
    if len(planned) < 2:
        return {}
    shapes, annotations, first = [], [], 0.5
    refs = {"xref": "x", "yref": "paper"}
    for place, (stage, rounds) in enumerate(planned.items()):
        if place:
            line = {"color": GREY, "dash": "dot", "width": 1}
            shapes.append({"type": "line", "x0": first, "x1": first, "y0": 0, "y1": 1, "line": line, **refs})
        label = STAGE_LABELS[stage] if rounds >= 0.2 * sum(planned.values()) else f"{place + 1}"
        annotations.append({
            "text": label, "x": first + rounds / 2, "y": 1, "yanchor": "bottom", "showarrow": False,
            "font": {"size": 12}, "hovertext": STAGE_LABELS[stage], **refs,
        })  # fmt: skip
        first += rounds
    return {"shapes": shapes, "annotations": annotations, "margin": {"t": 62}}
