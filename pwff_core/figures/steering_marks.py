"""A run whose settings changed while it went: each change a labelled line, and what was then expected of the link."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

from pwff_core.config import RunConfig
from pwff_core.figures.changes import changes_text, config_at, value_words
from pwff_core.figures.frames import STAGE_LABELS, Span
from pwff_core.figures.panels import PanelId
from pwff_core.figures.theme import VERMILLION
from pwff_core.records import Stage, Steering
from pwff_core.wireless.link import estimate
from pwff_core.wireless.payload import geometry_of, pricing_geometry

# a steering's label is one of its texts, in one of two rows above the chart; wider or more, and they run together
_ROWS, _ROW_HEIGHT, _LETTER, _GAP = 2, 14, 6.2, 8.0  # the last three in pixels, of text of 11 px
_WIDE, _NARROW = 420.0, 250.0  # widths that a plot has at the least on a desk and on a phone [px]
_STAGE_ROW = 18  # [px] that the names of stages take
_PRICED: tuple[Stage, ...] = ("instruction", "alignment")  # a reward model's size is known once it is loaded


class Piece(NamedTuple):
    """A stretch of rounds over which one value is expected."""

    first: int  # positions, both of them in it
    last: int
    value: float  # [unit of the panel]


def expected_pieces(
    config: RunConfig, steerings: Sequence[Steering], spans: Sequence[Span]
) -> dict[PanelId, list[Piece]]:
    """What the closed form says of delay and energy before any training, for every channel that held.

    Alignment sends up what instruction tuning does; reward learning is left out, as a reward model's size is not told
    here. Nothing where the backbone's size is known only once it is loaded.
    """
    geometry = pricing_geometry(config, geometry_of(config.backbone))
    pieces: dict[PanelId, list[Piece]] = {"delay": [], "energy": []}
    if geometry is None:
        return pieces
    for span in (span for span in spans if span.stage in _PRICED):
        inside = {steering.position for steering in steerings if span.first < steering.position <= span.last}
        starts = sorted({span.first, *inside})
        for first, last in zip(starts, [*(start - 1 for start in starts[1:]), span.last], strict=True):
            told = estimate(config_at(config, steerings, first), geometry)
            pieces["delay"].append(Piece(first, last, told.delay_s))
            pieces["energy"].append(Piece(first, last, told.round_energy_j))
    return pieces


class _Label(NamedTuple):
    text: str
    anchor: str  # side of the label that is at the line
    row: int


def steering_marks(steerings: Sequence[Steering], rounds: int, *, stages: bool) -> dict[str, Any]:
    """A line before the first round of each change, and its label above the plot, as parts of a layout.

    Labels do not overlap: where two would, the later one goes up a row, then shrinks to its new value, then leaves its
    place to the list in the chart's words and table. `meta` holds what a narrow chart shows in their place
    (pages/parts/chart.js), and `rows` how many rows of labels there are.
    """
    wide = _placed(steerings, rounds, _WIDE, full=True)
    narrow = _placed(steerings, rounds, _NARROW, full=False)
    bottom = _STAGE_ROW if stages else 2
    annotations, small = [], {}
    for place, (steering, label, short) in enumerate(zip(steerings, wide, narrow, strict=True)):
        name = f"steering {place + 1}"
        where = f" ({STAGE_LABELS[steering.stage]} {steering.round})" if stages else ""
        annotations.append({
            "name": name, "xref": "x", "x": steering.position - 0.5, "yref": "paper", "y": 1, "yanchor": "bottom",
            "showarrow": False, "font": {"size": 11}, "borderpad": 0,
            "hovertext": f"From round {steering.position}{where}:<br>"
            + changes_text(steering.before, steering.changes).replace(", ", "<br>"),
            **_look(label, bottom),
        })  # fmt: skip
        small[name] = _look(short, bottom)
    shapes = [
        {
            "type": "line", "x0": steering.position - 0.5, "x1": steering.position - 0.5, "xref": "x", "yref": "paper",
            "y0": 0, "y1": 1, "line": {"color": VERMILLION, "width": 1.5}, "layer": "below",
        }
        for steering in steerings
    ]  # fmt: skip
    rows = 1 + max((label.row for label in (*wide, *narrow)), default=-1)
    return {"shapes": shapes, "annotations": annotations, "meta": {"narrow": small}, "rows": rows}


def _look(label: _Label, bottom: int) -> dict[str, Any]:
    return {
        "text": label.text, "xanchor": label.anchor, "yshift": bottom + _ROW_HEIGHT * label.row,
        "visible": bool(label.text),
    }  # fmt: skip


def rows_height(rows: int) -> int:
    """Pixels that so many rows of labels need above the plot."""
    return rows * _ROW_HEIGHT


def _placed(steerings: Sequence[Steering], rounds: int, width: float, *, full: bool) -> list[_Label]:
    """A text, side and row for each label, from left to right, overlapping none; no text where none fits."""
    taken: list[list[tuple[float, float]]] = [[] for _ in range(_ROWS)]
    return [
        _first_free(taken, (steering.position - 1) / rounds * width, _texts(steering, full), width)
        for steering in steerings
    ]


def _texts(steering: Steering, full: bool) -> list[str]:
    """What may stand at a line, the longest first."""
    values = [value_words(path, value) for path, value in steering.changes.items()]
    whole = [changes_text(steering.before, steering.changes)] if full else []
    return [*whole, ", ".join(values), values[0] if len(values) == 1 else f"{values[0]} …"]


def _first_free(taken: list[list[tuple[float, float]]], at: float, texts: Sequence[str], width: float) -> _Label:
    """The best label for a line at `at` [px]; the room that it takes is noted in `taken`."""
    for text in texts:
        long = _LETTER * len(text) + _GAP
        for row, anchor in product(range(_ROWS), ("left", "right")):
            left = at if anchor == "left" else at - long
            inside = left >= 0 and left + long <= width
            if inside and all(left + long <= start or left >= end for start, end in taken[row]):
                taken[row].append((left, left + long))
                return _Label(text, anchor, row)
    return _Label("", "left", 0)
