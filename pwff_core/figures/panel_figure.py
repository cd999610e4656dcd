"""A panel as a plotly Figure: a pure function of the run's rounds, its stages and, on demand, single clients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.io.json import to_json_plotly

from pwff_core.figures.frames import STAGE_LABELS, STAGE_NAMES, ClientLines, Span
from pwff_core.figures.panels import PANELS, Level, Line, Panel, PanelId, Parent, WhatIf
from pwff_core.figures.steering_marks import Piece, rows_height, steering_marks
from pwff_core.figures.theme import (
    BLUE,
    CLEAR,
    GREEN,
    GREY,
    PURPLE,
    TEMPLATES,
    VERMILLION,
    Theme,
    mix,
    notice,
    with_opacity,
)
from pwff_core.records import Steering

MAX_POINTS = 1_500  # of a trace; more cannot be seen apart and slow the browser down
_MAX_MARKERS = 40  # on a line, evenly spread; more overlap and take the browser most of its time
_MAX_CLIENT_POINTS = 300  # of a single client's line, as there are up to 20 of them
_BAND_OPACITY, _STAGE_OPACITY = 0.25, 0.1
_NARROW, _WIDE = 0.1, 0.45  # shares of the axis: less has room for a number alone, more for the early end too
# dashes of single clients by weight on helpfulness, which sets their colour too
_THIRDS = (
    (1 / 3, "dot", "λ up to ⅓: harmless first"),
    (2 / 3, "dash", "λ about ½"),
    (1.0, "solid", "λ from ⅔: helpful first"),
)


def panel_figure(
    panel_id: PanelId,
    frame: pd.DataFrame,
    spans: Sequence[Span],
    *,
    theme: Theme | None = "light",
    expected: Sequence[Piece] = (),
    clients: ClientLines | None = None,
    steerings: Sequence[Steering] = (),
    what_if: WhatIf | None = None,
    parent: Parent | None = None,
) -> go.Figure:
    """A panel over the rounds of all stages: lines with markers, the range over clients as a band.

    Args:
        panel_id: which panel.
        frame: the run's rounds (`round_frame`).
        spans: its stages on the axis of rounds (`spans_of`); several are marked and named.
        theme: light or dark; None for a figure that the browser draws with its own theme (`figure_json`).
        expected: values of the closed form (`expected_pieces`), drawn as thin level lines.
        clients: single clients (`client_lines` of the panel's `clients`), drawn instead of the band.
        steerings: changes of settings, a labelled line before the first round of each.
        what_if: every round at other channel settings, drawn dashed.
        parent: the run that it was forked from, drawn thin and dashed from the fork on.
    """
    panel = PANELS[panel_id]
    thinned = thin_out(frame, MAX_POINTS)
    rounds = max(spans[-1].last if spans else 0, len(frame), 1)
    measured = panel.measured(thinned)
    traces = _stage_names(thinned) if len(spans) > 1 and not clients else []
    if panel.level and measured:
        traces.append(_level(panel.level, rounds))
    if clients:
        traces += _single_clients(clients, panel)
    for line in measured or panel.lines:  # without any number all lines, so that the legend is there from the start
        if line.band and not clients:
            traces.append(_band(line, panel, thinned))
        if line.band or not clients:
            traces.append(_curve(line, panel, thinned))
    if expected:
        traces += _expected_lines(expected, panel.unit)
    if what_if:
        traces.append(_what_if(what_if, panel, thinned))
    parent_lines = _parent_lines(parent, panel, each_client=clients is not None) if parent else []
    traces += parent_lines
    # the whole layout at once: plotly takes a millisecond for each later change
    layout: dict[str, Any] = {
        "template": TEMPLATES[theme] if theme else {}, "title": {"text": panel.title},
        "xaxis": _round_axis(rounds, spans),
        "yaxis": _value_axis(panel), **_marks(spans, steerings, rounds),
    }  # fmt: skip
    if clients:
        layout["hovermode"] = "closest"
    if panel.waits and not measured and not parent_lines:  # no axis numbers, but a word on when the first value comes
        layout["xaxis"]["showgrid"] = layout["yaxis"]["showgrid"] = layout["yaxis"]["showticklabels"] = False
        layout["annotations"] = [*layout.get("annotations", []), notice(panel.waits)]
    return go.Figure(traces, layout)


def _round_axis(rounds: int, spans: Sequence[Span]) -> dict[str, Any]:
    several = len(spans) > 1
    return {
        "title": {"text": "Round, over all stages" if several else "Round"}, "range": [0.5, rounds + 0.5],
        "dtick": _round_step(rounds), "tick0": 0,
        "unifiedhovertitle": {"text": "Round %{x}"},
    }  # fmt: skip


def _value_axis(panel: Panel) -> dict[str, Any]:
    scale = {"range": list(panel.limits)} if panel.limits else {"rangemode": "tozero"}
    return {"title": {"text": f"{panel.label} [{panel.unit}]"}, **scale}


def thin_out(frame: pd.DataFrame, max_rows: int) -> pd.DataFrame:
    """At most `max_rows` rows, evenly spread, with the first and the last."""
    count = len(frame)
    return frame.iloc[np.unique(np.linspace(0, count - 1, min(count, max_rows)).round().astype(np.int64))]


def _round_step(rounds: int) -> int:
    """Distance of the ticks on the axis of rounds: 1, 2 or 5 × 10^k, so that there are at most ten."""
    magnitude: int = 10 ** max(0, math.floor(math.log10(rounds / 10)))
    return next(step * magnitude for step in (1, 2, 5, 10) if rounds / (step * magnitude) <= 10)


def _curve(line: Line, panel: Panel, frame: pd.DataFrame) -> go.Scatter:
    width, size = (1.25, 5) if line.thin else (2.5, 7)
    return go.Scatter(
        x=frame.index.to_numpy(), y=_as_float32([panel.scaled(frame[line.column])]), name=line.name,
        mode="lines+markers",
        line={"color": line.colour, "dash": line.dash, "width": width},
        marker={"symbol": line.marker, "size": size, "maxdisplayed": _MAX_MARKERS},
        hovertemplate=f"%{{y:.4g}} {panel.unit}",
    )  # fmt: skip


def _stage_names(frame: pd.DataFrame) -> list[go.Scatter]:
    """Invisible lines that give the hover box of a round a row with its stage and its number within the stage."""
    return [
        go.Scatter(
            x=rounds.index.to_numpy(), y=np.zeros(len(rounds)), name="stage", mode="lines", line={"color": CLEAR},
            customdata=rounds["round"].to_numpy(dtype=np.int64), showlegend=False,
            hovertemplate=f"{STAGE_LABELS[stage]} %{{customdata}}<extra></extra>",
        )
        for stage, rounds in frame.groupby("stage", sort=False)
    ]  # fmt: skip


def _band(line: Line, panel: Panel, frame: pd.DataFrame) -> go.Scatter:
    """The area from the lowest to the highest client: an outline of each stretch of rounds without a gap."""
    low, high = panel.scaled(frame[f"{line.band}_low"]), panel.scaled(frame[f"{line.band}_high"])
    measured = np.flatnonzero(~np.isnan(low))
    stretches = [places for places in np.split(measured, np.flatnonzero(np.diff(measured) > 1) + 1) if places.size]
    position, gap = frame.index.to_numpy(dtype=np.float64), [math.nan]
    x = [part for places in stretches for part in (position[places], position[places[::-1]], gap)]
    y = [part for places in stretches for part in (high[places], low[places[::-1]], gap)]
    return go.Scatter(
        x=_as_float32(x), y=_as_float32(y), name="client range", mode="lines", line={"width": 0}, hoverinfo="skip",
        fill="toself", fillcolor=with_opacity(line.colour, _BAND_OPACITY),
        legendrank=1001,  # after the lines, which have plotly's 1000
    )  # fmt: skip


def _as_float32(parts: Sequence[Any]) -> NDArray[np.float32]:
    """The parts as one float32 array: four bytes a number on the way to the browser."""
    return np.concatenate([*parts, []]).astype(np.float32)


def _single_clients(clients: ClientLines, panel: Panel) -> list[go.Scatter]:
    """A thin line a client, from blue (harmless first) to vermillion (helpful first); each third has a dash."""
    values = thin_out(clients.values, _MAX_CLIENT_POINTS)
    lines: list[go.Scatter] = []
    in_legend: set[str] = set()
    for client, weight in clients.weights.items():
        _, dash, name = next(third for third in _THIRDS if weight <= third[0])
        lines.append(go.Scatter(
            x=values.index.to_numpy(), y=_as_float32([panel.scaled(values[client])]), name=name, legendgroup=name,
            showlegend=name not in in_legend, mode="lines+markers", marker={"size": 3, "maxdisplayed": _MAX_MARKERS},
            line={"color": mix(BLUE, VERMILLION, weight), "dash": dash, "width": 1.25},
            hovertemplate=f"client {client}, λ {weight:.2f}: %{{y:.4g}} {panel.unit}<extra></extra>",
        ))  # fmt: skip
        in_legend.add(name)
    return lines


def _level(level: Level, rounds: int) -> go.Scatter:
    return go.Scatter(
        x=[0.5, rounds + 0.5], y=[level.value, level.value], name=level.name, mode="lines", hoverinfo="skip",
        line={"color": GREY, "dash": "longdash", "width": 1.5}, legendrank=1002,
    )  # fmt: skip


def _expected_lines(expected: Sequence[Piece], unit: str) -> list[go.Scatter]:
    """A level line over each piece with a finite value, with gaps between them: one trace, or none."""
    finite = [piece for piece in expected if math.isfinite(piece.value)]
    if not finite:
        return []
    x = [edge for piece in finite for edge in (piece.first - 0.5, piece.last + 0.5, None)]
    y = [edge for piece in finite for edge in (piece.value, piece.value, None)]
    return [go.Scatter(
        x=x, y=y, name="expected", mode="lines", connectgaps=False, hovertemplate=f"%{{y:.4g}} {unit}",
        line={"color": PURPLE, "dash": "longdashdot", "width": 1.5},
    )]  # fmt: skip


def _what_if(what_if: WhatIf, panel: Panel, frame: pd.DataFrame) -> go.Scatter:
    return go.Scatter(
        x=frame.index.to_numpy(), y=_as_float32([what_if.values[frame.index.to_numpy() - 1]]), name=what_if.name,
        mode="lines+markers", line={"color": GREEN, "dash": "dash", "width": 2},
        marker={"symbol": "diamond-open", "size": 6, "maxdisplayed": _MAX_MARKERS},
        hovertemplate=f"%{{y:.4g}} {panel.unit}",
    )  # fmt: skip


def _parent_lines(parent: Parent, panel: Panel, *, each_client: bool) -> list[go.Scatter]:
    """The parent's lines, in the colours and markers of the run's lines, with one legend entry for all."""
    frame = thin_out(parent.frame, MAX_POINTS)
    lines = [line for line in panel.measured(frame) if line.band or not each_client]
    return [
        go.Scatter(
            x=frame.index.to_numpy(), y=_as_float32([panel.scaled(frame[line.column])]),
            name=f"parent: {escape_tags(parent.name)}", legendgroup="parent", showlegend=place == 0, legendrank=1003,
            mode="lines+markers", line={"color": line.colour, "dash": "dash", "width": 1.25},
            marker={"symbol": f"{line.marker}-open", "size": 5, "maxdisplayed": _MAX_MARKERS},
            # not in the template itself, where plotly would fill in a %{} of the name
            text=f"{line.name}, {escape_tags(parent.name)}",
            hovertemplate=f"%{{text}}: %{{y:.4g}} {panel.unit}<extra></extra>",
        )
        for place, line in enumerate(lines)
    ]  # fmt: skip


def safe_cell(text: str) -> str:
    """A text that no spreadsheet reads as a formula: one that begins like a formula gets a quote in front."""
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text


def escape_tags(name: str) -> str:
    """A name that plotly shows letter for letter, without reading tags or entities in it."""
    return name.replace("&", "&amp;").replace("<", "&lt;")


def _marks(spans: Sequence[Span], steerings: Sequence[Steering], rounds: int) -> dict[str, Any]:
    """Shapes and labels of the stages and of the changes of settings, as parts of a layout."""
    marks = _stage_marks(spans, rounds)
    if not steerings:
        return marks
    changes = steering_marks(steerings, rounds, stages=len(spans) > 1)
    top = marks.get("margin", {"t": 44})["t"] + rows_height(changes["rows"])
    return {
        "shapes": [*marks.get("shapes", []), *changes["shapes"]],
        "annotations": [*marks.get("annotations", []), *changes["annotations"]],
        "margin": {"t": top}, "meta": changes["meta"],
    }  # fmt: skip


def _stage_marks(spans: Sequence[Span], rounds: int) -> dict[str, Any]:
    """Of several stages: a shade behind every second, a line before each but the first, names on top."""
    if len(spans) < 2:
        return {}
    shapes, annotations = [], []
    for place, span in enumerate(spans):
        left, right = span.first - 0.5, span.last + 0.5
        ground = {"type": "rect", "x0": left, "x1": right, "line": {"width": 0}}
        ground["fillcolor"] = with_opacity(GREY, _STAGE_OPACITY)
        border = {"type": "line", "x0": left, "x1": left, "line": {"color": GREY, "dash": "dot", "width": 1}}
        shapes += [ground] * (place % 2) + [border] * (place > 0)
        annotations.append({
            "text": _stage_label(place, span, span.rounds / rounds), "hovertext": _stage_words(span), "xref": "x",
            "yref": "paper", "x": (left + right) / 2, "y": 1, "yanchor": "bottom", "showarrow": False,
            "font": {"size": 12},
        })  # fmt: skip
    where = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    return {"shapes": [shape | where for shape in shapes], "annotations": annotations, "margin": {"t": 62}}


def _stage_label(place: int, span: Span, share: float) -> str:
    """A stage's name, or its number, as its share of the axis has room."""
    if share < _NARROW:
        return f"{place + 1}"
    return f"{STAGE_LABELS[span.stage]}{', ended early' if span.early and share >= _WIDE else ''}"


def _stage_words(span: Span) -> str:
    """A stage's name, its rounds and, once it has ended, the reason."""
    rounds = f"{span.rounds} of {span.planned}" if span.early else f"{span.rounds}"
    reason = f"<br>{span.reason}" if span.reason else ""
    return f"{STAGE_NAMES[span.stage].capitalize()}: {rounds} round{'' if span.planned == 1 else 's'}{reason}"


def figure_json(figure: go.Figure) -> str:
    """The figure as plotly.js reads it, without a template: the browser sets its own (`template_tree`)."""
    tree = figure.to_dict()
    del tree["layout"]["template"]
    return str(to_json_plotly(tree))
