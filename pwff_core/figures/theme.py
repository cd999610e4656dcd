"""Colours, templates and how each method looks.

Colours are Okabe and Ito's, those that keep a contrast of 3:1 on white and on dark alike. Some methods share one of the
four; methods in one figure of the paper never do, and no two share a marker, or a colour together with a dash or a
pattern.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import plotly
import plotly.graph_objects as go

from pwff_core.methods import MethodId

Theme = Literal["light", "dark"]

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # Okabe and Ito (2008)
GREY = "#7f7f7f"
CLEAR = "rgba(0,0,0,0)"
_FONT = "'Source Sans', 'Source Sans 3', 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


class MethodStyle(NamedTuple):
    """How a method is drawn; dash, marker and pattern in plotly's words."""

    colour: str
    dash: str
    marker: str
    pattern: str  # "" is a full bar


METHOD_STYLES: dict[MethodId, MethodStyle] = {
    "pwff": MethodStyle(BLUE, "solid", "circle", ""),
    "vanilla_fl": MethodStyle(VERMILLION, "dash", "square", "/"),
    "fedada": MethodStyle(GREEN, "dot", "diamond", "x"),
    "fedlora": MethodStyle(PURPLE, "dashdot", "triangle-up", "."),
    "sfl": MethodStyle(VERMILLION, "longdash", "triangle-down", "\\"),
    "pfl": MethodStyle(GREEN, "longdashdot", "cross", "+"),
    "shepherd": MethodStyle(PURPLE, "8px 3px 2px 3px 2px 3px", "star", "|"),
    "local": MethodStyle(GREY, "solid", "hexagon", "-"),
    "centralised": MethodStyle(GREY, "dash", "x", "/"),
}


def rgb(colour: str) -> tuple[int, int, int]:
    """'#0072B2' → (0, 114, 178)."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def with_opacity(colour: str, opacity: float) -> str:
    """A colour as plotly writes it with an opacity."""
    red, green, blue = rgb(colour)
    return f"rgba({red},{green},{blue},{opacity})"


def mix(first: str, second: str, share: float) -> str:
    """The colour at a share (0 … 1) of the way from the first to the second."""
    mixed = (round(a + (b - a) * share) for a, b in zip(rgb(first), rgb(second), strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _template(background: str, text: str, grid: str) -> go.layout.Template:
    """A template that names every colour: under Streamlit plotly's own has placeholders, which export near black."""
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
        "yanchor": "bottom", "bgcolor": CLEAR, "font": {"size": 12},
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
        modebar={"bgcolor": CLEAR, "color": text, "activecolor": BLUE},
        xaxis=axis,
        yaxis=axis,
    )
    return go.layout.Template(layout=layout)


TEMPLATES: dict[Theme, go.layout.Template] = {
    "light": _template("#ffffff", "#1b2733", "#d5dde5"),
    "dark": _template("#10161c", "#e6edf3", "#36434f"),
}


def template_tree(theme: Theme) -> dict[str, Any]:
    """The template of a theme as plain JSON values."""
    tree: dict[str, Any] = TEMPLATES[theme].to_plotly_json()
    return tree


def notice(text: str) -> dict[str, Any]:
    """A text in the middle of a chart that has no numbers yet, as an annotation."""
    return {"text": text, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False, "opacity": 0.8}


def library_folder() -> Path:
    """The folder of the installed plotly wheel that holds plotly.min.js."""
    return Path(plotly.__file__).parent / "package_data"
