"""A figure of the screen made ready for paper or a slide: its size, its letters, its strokes, and nothing on top of
anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, get_args

import plotly.graph_objects as go

from pwff_core.figures.theme import TEMPLATES

SizeId = Literal["ieee-1", "ieee-2", "slide"]
PIXELS_PER_INCH = 96  # of plotly and of browsers, on paper too
_POINTS_PER_INCH = 72
_INK = "#1b2733"
_FAMILY = "Arial, Helvetica, 'Liberation Sans', sans-serif"  # what journals ask for, or its like
# widths of letters over the height of the font, about those of Arial
_NARROW, _BROAD = frozenset("fijlrtI .,:;'|!()[]/-·"), frozenset("mwMW@%→")
_LETTERS = {"narrow": 0.31, "broad": 0.86, "capital": 0.7, "other": 0.56}
_LINE = 1.3  # height of a line of text over that of the font
_LEAST_KEY = 30  # [px] the piece of line in front of a legend's word; plotly allows no less
_LEAST_LINE = 2 / 3  # [px] half a point: thinner lines are lost in print
_HEADROOM = 0.03  # of a value axis, so that a marker at its end is whole
_SCREEN_LINE, _SCREEN_MARKER = 2.0, 6.0  # [px] plotly's own, where a figure says nothing


class Preset(NamedTuple):
    """One size that figures are exported in."""

    label: str
    width_in: float
    height_in: float
    font_pt: float
    strokes: float  # lines and markers over those of the screen
    titled: bool  # whether the title stands in the figure; a paper has it in the caption
    png_dpi: int
    most_markers: int  # of a line: more would run together

    @property
    def width(self) -> float:
        """Width [px]."""
        return self.width_in * PIXELS_PER_INCH

    @property
    def height(self) -> float:
        """Height [px]."""
        return self.height_in * PIXELS_PER_INCH

    @property
    def font(self) -> float:
        """Size of the letters [px]."""
        return self.font_pt * PIXELS_PER_INCH / _POINTS_PER_INCH


# widths: IEEE, "Preparation of papers for transactions and journals"; a slide is as wide as PowerPoint's at 16:9
PRESETS: dict[SizeId, Preset] = {
    "ieee-1": Preset("IEEE, one column (3.5 in)", 3.5, 2.5, 8, 0.5, False, 600, 30),
    "ieee-2": Preset("IEEE, two columns (7.16 in)", 7.16, 3.0, 8, 0.55, False, 600, 50),
    "slide": Preset("Slide, 16:9", 40 / 3, 7.5, 18, 1.6, True, 144, 50),
}
assert set(PRESETS) == set(get_args(SizeId))


def for_print(figure: go.Figure, preset: Preset) -> go.Figure:
    """A copy of a figure in the preset's size, light, with the preset's letters and strokes.

    Labels above the plot are moved apart where they would touch, and room is made for them and for the legend below.
    """
    tree = figure.to_dict()
    layout: dict[str, Any] = tree["layout"]
    title = layout.pop("title", {}).get("text", "") if preset.titled else layout.pop("title", None) and ""
    layout |= {
        "template": TEMPLATES["light"], "width": preset.width, "height": preset.height, "hovermode": False,
        "font": {"family": _FAMILY, "size": preset.font, "color": _INK},
    }  # fmt: skip
    for trace in tree["data"]:
        _trace(trace, preset)
    for name, axis in _axes(layout).items():
        _axis(axis, preset)
        if name.startswith("y") and axis.get("range") and axis.get("type") != "log":
            low, high = axis["range"]
            axis["range"] = [low, high + _HEADROOM * (high - low)]
    for shape in layout.get("shapes", ()):
        _scale(shape.setdefault("line", {}), "width", preset.strokes, _SCREEN_LINE)
    rows = _labels(layout, preset)
    top = (0.5 + rows * _LINE) * preset.font
    if title:
        top += 1.6 * _LINE * preset.font
        layout["title"] = {
            "text": title, "font": {"size": 1.25 * preset.font}, "x": 0.5, "xanchor": "center", "xref": "container",
            "y": 1 - 0.5 * preset.font / preset.height, "yanchor": "top", "yref": "container",
        }  # fmt: skip
    layout["margin"] = {"l": 4.2 * preset.font, "r": 0.8 * preset.font, "t": top, "b": 2, "pad": 0}
    layout["legend"] = layout.get("legend", {}) | _legend(tree["data"], preset)
    return go.Figure(tree)


def _trace(trace: dict[str, Any], preset: Preset) -> None:
    """Lines, markers, error bars and texts of one trace."""
    mode = trace.get("mode", "")
    if "line" in trace or "lines" in mode:
        _scale(trace.setdefault("line", {}), "width", preset.strokes, _SCREEN_LINE)
    marker = trace.get("marker", {})
    for name in ("error_x", "error_y"):
        if name in trace:
            _scale(trace[name], "thickness", preset.strokes, _SCREEN_LINE)
            _scale(trace[name], "width", preset.strokes, _SCREEN_MARKER)
    if "line" in marker:
        _scale(marker["line"], "width", preset.strokes, 0.0)
    if "colorbar" in marker:
        marker["colorbar"] |= {"thickness": 0.6 * preset.font, "tickfont": {"size": preset.font}}
    if "text" in mode:  # a number in a dot
        marker["size"] = 1.6 * preset.font
        trace["textfont"] = trace.get("textfont", {}) | {"size": 0.85 * preset.font}
    elif "markers" in mode:
        _scale(trace.setdefault("marker", {}), "size", preset.strokes, _SCREEN_MARKER)
        if "lines" in mode:
            trace["marker"]["maxdisplayed"] = preset.most_markers
    if trace.get("type") == "bar":
        trace["textfont"] = trace.get("textfont", {}) | {"size": preset.font}


def _scale(owner: dict[str, Any], name: str, factor: float, otherwise: float) -> None:
    """One size times the factor; a list of sizes (plotly packs those) stays."""
    value = owner.get(name, otherwise)
    if isinstance(value, int | float):
        owner[name] = value and max(factor * value, _LEAST_LINE)


def _axes(layout: dict[str, Any]) -> dict[str, dict[str, Any]]:
    names = {"xaxis", "yaxis"} | {name for name in layout if re.fullmatch(r"[xy]axis\d*", name)}
    return {name: layout.setdefault(name, {}) for name in sorted(names)}


def _axis(axis: dict[str, Any], preset: Preset) -> None:
    """Letters of one size, thin dark lines, thin pale grid, and as much margin as the axis needs."""
    hair = max(_LEAST_LINE, preset.strokes)
    axis["title"] = axis.get("title", {}) | {"font": {"size": preset.font}, "standoff": 0.4 * preset.font}
    axis |= {
        "tickfont": {"size": preset.font}, "ticklen": 0.35 * preset.font, "tickwidth": hair, "linewidth": hair,
        "gridwidth": hair, "linecolor": _INK, "tickcolor": _INK, "automargin": True,
    }  # fmt: skip


def _width(text: str, font: float) -> float:
    """About how wide a text is [px]: its longest line, without marks."""
    lines = [re.sub(r"<[^>]*>", "", line) for line in text.split("<br>")]
    return font * max(sum(_LETTERS[_kind(letter)] for letter in line) for line in lines)


def _kind(letter: str) -> str:
    if letter in _NARROW:
        return "narrow"
    return "broad" if letter in _BROAD else "capital" if letter.isupper() else "other"


def _labels(layout: dict[str, Any], preset: Preset) -> int:
    """Puts the labels above the plot into as many rows as they need, in the order of the screen; how many that is."""
    rows: list[list[tuple[float, float]]] = []  # from where to where labels reach [px]
    above = []
    for label in layout.get("annotations", ()):
        label["font"] = label.get("font", {}) | {"size": preset.font}
        if label["text"] and label.get("yref") == "paper" and label.get("y", 0) >= 1:
            if reach := _reach(label, layout, preset):
                above.append((label.get("yshift", 0), reach, label))
    for _, (left, right), label in sorted(above, key=lambda found: found[:2]):
        free = (place for place, row in enumerate(rows) if all(right <= a or left >= b for a, b in row))
        place = next(free, len(rows))
        if place == len(rows):
            rows.append([])
        rows[place].append((left, right))
        label["yshift"] = place * _LINE * preset.font
    return len(rows)


def _reach(label: dict[str, Any], layout: dict[str, Any], preset: Preset) -> tuple[float, float] | None:
    """From where to where a label reaches along the plot [px]; None if it is not seen, as its place is cut off.

    A label that would leave the plot is moved back into it.
    """
    across = preset.width - 5 * preset.font  # about what axis and margins leave
    low, high = (0.0, 1.0) if label.get("xref") == "paper" else layout["xaxis"].get("range", (0.0, 1.0))
    at, wide = across * (label["x"] - low) / (high - low), _width(label["text"], preset.font) + 0.5 * preset.font
    if not 0 <= at <= across:
        return None
    wanted = at - wide * {"left": 0.0, "right": 1.0}.get(label.get("xanchor", "center"), 0.5)
    left = max(0.0, min(wanted, across - wide))
    if left != wanted:
        label |= {"xanchor": "left", "xshift": left - at}
    return left, left + wide


def _legend(traces: Iterable[dict[str, Any]], preset: Preset) -> dict[str, Any]:
    """Below the axis, in columns as wide as its longest word."""
    shown = [trace.get("name", "") for trace in traces if trace.get("showlegend", True)]
    longest = max((_width(name, preset.font) for name in shown), default=0.0)
    return {
        "orientation": "h", "x": 0.5, "xref": "container", "xanchor": "center", "y": 0.0, "yref": "container",
        "yanchor": "bottom", "font": {"size": preset.font}, "bgcolor": "rgba(0,0,0,0)", "tracegroupgap": 0,
        "itemwidth": max(_LEAST_KEY, 2.4 * preset.font), "entrywidth": longest, "entrywidthmode": "pixels",
    }  # fmt: skip
