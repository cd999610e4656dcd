"""A figure of the screen for paper or a slide: its size, its letters, its strokes, and labels that do not overlap."""

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
_FAMILY = "Arial, Helvetica, 'Liberation Sans', sans-serif"  # as journals want it
# widths of letters over the height of the font, roughly those of Arial
_NARROW, _BROAD = frozenset("fijlrtI .,:;'|!()[]/-·"), frozenset("mwMW@%→")
_LETTERS = {"narrow": 0.31, "broad": 0.86, "capital": 0.7, "other": 0.56}
_LINE = 1.3  # height of a line of text over that of the font
_MIN_KEY = 30  # [px] the piece of line in front of a legend's word; plotly allows no less
_MIN_LINE = 2 / 3  # [px] half a point: thinner lines are lost in print
_HEADROOM = 0.03  # of a value axis, so that a marker at its end is not cut
_SCREEN_LINE, _SCREEN_MARKER = 2.0, 6.0  # [px] plotly's defaults


class Preset(NamedTuple):
    """One size that figures are exported in."""

    label: str
    width_in: float
    height_in: float
    font_pt: float
    strokes: float  # factor on lines and markers of the screen
    titled: bool  # whether the figure has its title; in a paper the caption has it
    png_dpi: int
    max_markers: int  # of a line: more would overlap

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

    Labels above the plot that would touch are moved apart; the margins have room for them and for the legend below.
    """
    tree = figure.to_dict()
    layout: dict[str, Any] = tree["layout"]
    title = layout.pop("title", {}).get("text", "") if preset.titled else layout.pop("title", None) and ""
    layout |= {
        "template": TEMPLATES["light"], "width": preset.width, "height": preset.height, "hovermode": False,
        "font": {"family": _FAMILY, "size": preset.font, "color": _INK},
    }  # fmt: skip
    for trace in tree["data"]:
        _resize_trace(trace, preset)
    for name, axis in _axes(layout).items():
        _resize_axis(axis, preset)
        if name.startswith("y") and axis.get("range") and axis.get("type") != "log":
            low, high = axis["range"]
            axis["range"] = [low, high + _HEADROOM * (high - low)]
    for shape in layout.get("shapes", ()):
        _scale(shape.setdefault("line", {}), "width", preset.strokes, _SCREEN_LINE)
    rows = stack_labels(layout, preset)
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


def _resize_trace(trace: dict[str, Any], preset: Preset) -> None:
    """Scales lines, markers, error bars and texts of one trace."""
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
            trace["marker"]["maxdisplayed"] = preset.max_markers
    if trace.get("type") == "bar":
        trace["textfont"] = trace.get("textfont", {}) | {"size": preset.font}


def _scale(sizes: dict[str, Any], name: str, factor: float, default: float) -> None:
    """Multiplies one size by the factor; a list of sizes (plotly packs those) stays."""
    value = sizes.get(name, default)
    if isinstance(value, int | float):
        sizes[name] = value and max(factor * value, _MIN_LINE)


def _axes(layout: dict[str, Any]) -> dict[str, dict[str, Any]]:
    names = {"xaxis", "yaxis"} | {name for name in layout if re.fullmatch(r"[xy]axis\d*", name)}
    return {name: layout.setdefault(name, {}) for name in sorted(names)}


def _resize_axis(axis: dict[str, Any], preset: Preset) -> None:
    """Sets letters of one size, thin dark lines, a thin pale grid, and as much margin as the axis needs."""
    thin = max(_MIN_LINE, preset.strokes)
    axis["title"] = axis.get("title", {}) | {"font": {"size": preset.font}, "standoff": 0.4 * preset.font}
    axis |= {
        "tickfont": {"size": preset.font}, "ticklen": 0.35 * preset.font, "tickwidth": thin, "linewidth": thin,
        "gridwidth": thin, "linecolor": _INK, "tickcolor": _INK, "automargin": True,
    }  # fmt: skip


def text_width(text: str, font: float) -> float:
    """Approximate width of a text [px]: that of its longest line, without tags."""
    lines = [re.sub(r"<[^>]*>", "", line) for line in text.split("<br>")]
    return font * max(sum(_LETTERS[_letter_class(letter)] for letter in line) for line in lines)


def _letter_class(letter: str) -> str:
    if letter in _NARROW:
        return "narrow"
    return "broad" if letter in _BROAD else "capital" if letter.isupper() else "other"


def stack_labels(layout: dict[str, Any], preset: Preset) -> int:
    """Puts the labels above the plot into rows, in the order of the screen; returns the number of rows."""
    rows: list[list[tuple[float, float]]] = []  # extents of the labels [px]
    above = []
    for label in layout.get("annotations", ()):
        label["font"] = label.get("font", {}) | {"size": preset.font}
        if label["text"] and label.get("yref") == "paper" and label.get("y", 0) >= 1:
            if extent := label_extent(label, layout, preset):
                above.append((label.get("yshift", 0), extent, label))
    for _, (left, right), label in sorted(above, key=lambda entry: entry[:2]):
        free = (index for index, row in enumerate(rows) if all(right <= start or left >= end for start, end in row))
        index = next(free, len(rows))
        if index == len(rows):
            rows.append([])
        rows[index].append((left, right))
        label["yshift"] = index * _LINE * preset.font
    return len(rows)


def label_extent(label: dict[str, Any], layout: dict[str, Any], preset: Preset) -> tuple[float, float] | None:
    """Left and right end of a label along the plot [px]; None if the axis does not reach to it.

    A label that would leave the plot is moved back into it.
    """
    across = preset.width - 5 * preset.font  # about what axis and margins leave
    low, high = (0.0, 1.0) if label.get("xref") == "paper" else layout["xaxis"].get("range", (0.0, 1.0))
    anchor, width = (
        across * (label["x"] - low) / (high - low),
        text_width(label["text"], preset.font) + 0.5 * preset.font,
    )
    if not 0 <= anchor <= across:
        return None
    start = anchor - width * {"left": 0.0, "right": 1.0}.get(label.get("xanchor", "center"), 0.5)
    left = max(0.0, min(start, across - width))
    if left != start:
        label |= {"xanchor": "left", "xshift": left - anchor}
    return left, left + width


def _legend(traces: Iterable[dict[str, Any]], preset: Preset) -> dict[str, Any]:
    """Below the axis, in columns as wide as its longest word."""
    names = [trace.get("name", "") for trace in traces if trace.get("showlegend", True)]
    longest = max((text_width(name, preset.font) for name in names), default=0.0)
    return {
        "orientation": "h", "x": 0.5, "xref": "container", "xanchor": "center", "y": 0.0, "yref": "container",
        "yanchor": "bottom", "font": {"size": preset.font}, "bgcolor": "rgba(0,0,0,0)", "tracegroupgap": 0,
        "itemwidth": max(_MIN_KEY, 2.4 * preset.font), "entrywidth": longest, "entrywidthmode": "pixels",
    }  # fmt: skip
