"""Records to charts: tables in, plotly Figures out, with a template of our own. The one room that knows plotly.

A chart is a row of PANELS: which columns it draws, in which colour, dash and marker (never colour alone; the colours
are Okabe and Ito's, those that keep a contrast of 3:1 on white and on dark alike). Figures are pure functions of their
arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import plotly
import plotly.graph_objects as go
from numpy.typing import NDArray

from pwff_core.records import METRICS, ClientRecord, RoundRecord
from pwff_core.units import seconds_text, with_prefix

Theme = Literal["light", "dark"]
PanelId = Literal["accuracy", "delay", "energy", "loss"]
MAX_POINTS = 1_500  # a trace; more cannot be told apart on a screen and slow the browser down

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # Okabe and Ito (2008)
_BAND_OPACITY = 0.25
_CLEAR = "rgba(0,0,0,0)"
_FONT = "'Source Sans', 'Source Sans 3', 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
_SPREAD = ("accuracy", "loss", "delay_s", "energy_j")  # metrics that are drawn with their spread over clients
_SHARES = ("accuracy", "knowledge_accuracy", "style_accuracy")
_ROUND_COLUMNS = (*_SHARES, "loss", "delay_s", "energy_j", "uplink_bits", "wall_s")


class Line(NamedTuple):
    """One line of a panel: a column of `round_frame` and how it looks."""

    column: str
    name: str
    colour: str
    dash: str
    marker: str
    band: str = ""  # metric whose lowest and highest client are drawn as a band around the line


class Panel(NamedTuple):
    """One chart: its title, the metric that gives unit and meaning, and its lines."""

    title: str
    metric: str  # key of METRICS
    lines: tuple[Line, ...]
    limits: tuple[float, float] | None = None  # y axis [unit of the metric]; None: from zero, as high as it needs


PANELS: dict[PanelId, Panel] = {
    "accuracy": Panel(
        "Accuracy on each client's own data", "accuracy",
        (
            Line("accuracy", "whole", BLUE, "solid", "circle", band="accuracy"),
            Line("knowledge_accuracy", "knowledge", VERMILLION, "dash", "square"),
            Line("style_accuracy", "style", GREEN, "dot", "diamond"),
        ),
        limits=(0.0, 100.0),
    ),
    "delay": Panel(
        "Delay of a round", "delay_s",
        (
            Line("delay_s", "slowest client", BLUE, "solid", "circle"),
            Line("delay_s_mean", "mean client", VERMILLION, "dash", "square", band="delay_s"),
        ),
    ),
    "energy": Panel("Energy of a round", "energy_j", (Line("energy_j", "all clients", BLUE, "solid", "circle"),)),
    "loss": Panel(
        "Loss on each client's own data", "loss", (Line("loss", "mean client", BLUE, "solid", "circle", band="loss"),)
    ),
}  # fmt: skip


def round_frame(records: Sequence[RoundRecord]) -> pd.DataFrame:
    """One row a round, in the order given; the index counts rounds over all stages from 1.

    Columns: stage, round, the round's own numbers under their record names (a share stays a share of 1, what was not
    measured is NaN), and for accuracy, loss, delay_s and energy_j the mean, lowest and highest client as `…_mean`,
    `…_low`, `…_high`.
    """
    rows = []
    for record in records:
        row: dict[str, object] = {"stage": record.stage, "round": record.round}
        row |= {name: _number(getattr(record, name)) for name in _ROUND_COLUMNS}
        for name in _SPREAD:
            row |= _spread(name, record.clients)
        rows.append(row)
    columns = ["stage", "round", *_ROUND_COLUMNS, *(f"{n}_{part}" for n in _SPREAD for part in ("mean", "low", "high"))]
    return pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(1, len(rows) + 1, name="position"))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _spread(name: str, clients: Sequence[ClientRecord]) -> dict[str, object]:
    values = [float(value) for value in (getattr(client, name) for client in clients) if value is not None]
    if not values:
        return {f"{name}_{part}": math.nan for part in ("mean", "low", "high")}
    return {f"{name}_mean": sum(values) / len(values), f"{name}_low": min(values), f"{name}_high": max(values)}


def value_text(value: float, unit: str) -> str:
    """A number of METRICS for people to read: a share as '63.1 %', s, J and bit with a prefix; '–' for none."""
    if math.isnan(value):
        return "–"
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "s":
        return seconds_text(value) if value >= 60 else with_prefix(value, "s")
    if unit in {"J", "bit", "bit/s"}:
        return with_prefix(value, unit)
    return f"{value:.3f} {unit}".rstrip()


def panel_words(panel_id: PanelId, frame: pd.DataFrame, rounds_total: int) -> str:
    """What a chart shows now, in a sentence: its text for people who do not see it."""
    panel = PANELS[panel_id]
    if frame.empty:
        return f"{panel.title}: no round yet."
    unit = METRICS[panel.metric].unit

    def state(row: pd.Series) -> str:
        lines = [line for line in panel.lines if not math.isnan(row[line.column])]
        return ", ".join(f"{line.name} {value_text(row[line.column], unit)}" for line in lines) or "not measured"

    now = f"{panel.title} after round {len(frame)} of {max(rounds_total, len(frame))}: {state(frame.iloc[-1])}."
    return now if len(frame) == 1 else f"{now} After round 1: {state(frame.iloc[0])}."


def panel_table(panel_id: PanelId, frame: pd.DataFrame) -> pd.DataFrame:
    """The numbers behind a chart, in the chart's unit, columns named as its legend and by their unit."""
    panel = PANELS[panel_id]
    unit = METRICS[panel.metric].unit
    table = pd.DataFrame({"Round": frame.index.to_numpy()})
    for line in _measured(panel, frame):
        table[f"{line.name} [{unit}]"] = _scaled(frame[line.column], panel)
        if line.band:
            table[f"lowest client [{unit}]"] = _scaled(frame[f"{line.band}_low"], panel)
            table[f"highest client [{unit}]"] = _scaled(frame[f"{line.band}_high"], panel)
    return table


def panel_figure(
    panel_id: PanelId, frame: pd.DataFrame, rounds_total: int, *, theme: Theme = "light", expected: float | None = None
) -> go.Figure:
    """A panel drawn over the rounds: lines with markers, the range over clients as a band, axis titles with units.

    `expected` [unit of the panel] is drawn as a thin horizontal line: what the closed form says before any training.
    """
    panel = PANELS[panel_id]
    drawn = frame.iloc[_kept(len(frame))]
    figure = go.Figure(layout={"template": TEMPLATES[theme], "title": {"text": panel.title}})
    for line in _measured(panel, drawn):
        if line.band:
            figure.add_traces(_band(line, panel, drawn))
        figure.add_trace(_curve(line, panel, drawn))
    rounds = max(rounds_total, len(frame), 1)
    if expected is not None and math.isfinite(expected):
        figure.add_trace(_reference(expected, rounds, METRICS[panel.metric].unit))
    figure.update_xaxes(title_text="Round", range=[0.5, rounds + 0.5], dtick=_round_step(rounds), tick0=0)
    figure.update_yaxes(title_text=_axis_title(panel))
    if panel.limits:
        figure.update_yaxes(range=list(panel.limits))
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure


def _axis_title(panel: Panel) -> str:
    metric = METRICS[panel.metric]
    return f"{metric.label} [{metric.unit}]"


def _measured(panel: Panel, frame: pd.DataFrame) -> list[Line]:
    """The lines that have any number; all of them while there is no round yet, so that the legend is there at once."""
    return [line for line in panel.lines if frame.empty or frame[line.column].notna().any()]


def _scaled(column: pd.Series, panel: Panel) -> NDArray[np.float64]:
    factor = 100.0 if METRICS[panel.metric].unit == "%" else 1.0
    return np.asarray(column, dtype=np.float64) * factor


def _kept(count: int) -> NDArray[np.int64]:
    """Positions of at most MAX_POINTS rounds, evenly spread, the first and the last always among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(np.int64))


def _round_step(rounds: int) -> int:
    """Distance of the ticks on the round axis: a whole 1, 2 or 5 × 10^k that gives at most ten of them."""
    magnitude: int = 10 ** max(0, math.floor(math.log10(rounds / 10)))
    return next(step * magnitude for step in (1, 2, 5, 10) if rounds / (step * magnitude) <= 10)


def _curve(line: Line, panel: Panel, frame: pd.DataFrame) -> go.Scatter:
    unit = METRICS[panel.metric].unit
    return go.Scatter(
        x=frame.index.to_numpy(), y=_scaled(frame[line.column], panel), name=line.name, mode="lines+markers",
        line={"color": line.colour, "dash": line.dash, "width": 2.5}, marker={"symbol": line.marker, "size": 7},
        hovertemplate=f"%{{y:.4g}} {unit}",
    )  # fmt: skip


def _band(line: Line, panel: Panel, frame: pd.DataFrame) -> list[go.Scatter]:
    """Two invisible edges with the area between them filled: from the lowest to the highest client."""
    red, green, blue = (int(line.colour[i : i + 2], 16) for i in (1, 3, 5))
    x, group = frame.index.to_numpy(), f"band {line.column}"
    low = go.Scatter(
        x=x, y=_scaled(frame[f"{line.band}_low"], panel), mode="lines", line={"width": 0},
        legendgroup=group, showlegend=False, hoverinfo="skip", name="lowest client",
    )  # fmt: skip
    high = go.Scatter(
        x=x, y=_scaled(frame[f"{line.band}_high"], panel), mode="lines", line={"width": 0}, name="client range",
        fill="tonexty", fillcolor=f"rgba({red},{green},{blue},{_BAND_OPACITY})", legendgroup=group, hoverinfo="skip",
        legendrank=1001,  # after the lines, which have plotly's 1000
    )  # fmt: skip
    return [low, high]


def _reference(value: float, rounds: int, unit: str) -> go.Scatter:
    return go.Scatter(
        x=[0.5, rounds + 0.5], y=[value, value], name="expected", mode="lines",
        line={"color": PURPLE, "dash": "longdashdot", "width": 1.5}, hovertemplate=f"%{{y:.4g}} {unit}",
    )  # fmt: skip


def _template(background: str, text: str, grid: str) -> go.layout.Template:
    """Every colour is stated: plotly's default template holds placeholders under Streamlit, which export near black."""
    axis = {
        "gridcolor": grid, "linecolor": grid, "zeroline": False, "ticks": "outside", "tickcolor": grid,
        "showline": True, "automargin": True, "title": {"standoff": 8},
    }  # fmt: skip
    title = {
        "font": {"size": 16}, "x": 0.0, "xref": "container", "xanchor": "left", "pad": {"l": 8},
        "y": 0.97, "yanchor": "top",
    }  # fmt: skip
    legend = {
        "orientation": "h", "x": 0.0, "xref": "container", "xanchor": "left", "y": 0.0, "yref": "container",
        "yanchor": "bottom", "bgcolor": _CLEAR, "font": {"size": 12},
    }  # fmt: skip
    layout = go.Layout(
        font={"family": _FONT, "size": 13, "color": text},
        title=title,
        paper_bgcolor=background,
        plot_bgcolor=background,
        colorway=[BLUE, VERMILLION, GREEN, PURPLE],
        hovermode="x unified",
        hoverlabel={"bgcolor": background, "bordercolor": grid, "font": {"color": text}},
        legend=legend,
        margin={"l": 56, "r": 16, "t": 44, "b": 40},
        modebar={"bgcolor": _CLEAR, "color": text, "activecolor": BLUE},
        xaxis=axis,
        yaxis=axis,
    )
    return go.layout.Template(layout=layout)


TEMPLATES: dict[Theme, go.layout.Template] = {
    "light": _template("#ffffff", "#1b2733", "#d5dde5"),
    "dark": _template("#10161c", "#e6edf3", "#36434f"),
}


def figure_json(figure: go.Figure) -> str:
    """The figure as plotly.js reads it, without template: the browser sets that of its own theme (`template_tree`)."""
    bare = go.Figure(figure)
    bare.layout.template = None
    return str(bare.to_json())


def template_tree(theme: Theme) -> dict[str, Any]:
    """The template of a theme as plain JSON values."""
    tree: dict[str, Any] = TEMPLATES[theme].to_plotly_json()
    return tree


def library_folder() -> Path:
    """The folder of the installed plotly wheel that holds plotly.min.js."""
    return Path(plotly.__file__).parent / "package_data"
