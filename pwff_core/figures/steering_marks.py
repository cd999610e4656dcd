"""A run whose settings changed: each change as a labelled line, and the expected delay and energy of each link."""

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

_ROWS = 2  # of labels above the chart
_ROW_HEIGHT, _LETTER, _GAP = 14, 6.2, 8.0  # [px] of text of 11 px
_WIDE, _NARROW = 420.0, 250.0  # [px] the narrowest plot on a desk and on a phone
_STAGE_ROW = 18  # [px] height of the names of stages
_PRICED: tuple[Stage, ...] = ("instruction", "alignment")  # a reward model's size is known once it is loaded


class Piece(NamedTuple):
    """A stretch of rounds over which one value is expected."""

    first: int  # position of its first round
    last: int  # position of its last round
    value: float  # [unit of the panel]


def expected_pieces(
    config: RunConfig, steerings: Sequence[Steering], spans: Sequence[Span]
) -> dict[PanelId, list[Piece]]:
    """Delay [s] and energy [J] of a round by the closed form, a piece for each channel that the run had.

    Alignment uploads what instruction tuning uploads. Reward learning is left out, as the size of a reward model is
    known only once it is loaded. There are no pieces at all where this holds for the backbone too.
    """
    geometry = pricing_geometry(config, geometry_of(config.backbone))
    pieces: dict[PanelId, list[Piece]] = {"delay": [], "energy": []}
    if geometry is None:
        return pieces
    for span in (span for span in spans if span.stage in _PRICED):
        inside = {steering.position for steering in steerings if span.first < steering.position <= span.last}
        starts = sorted({span.first, *inside})
        for first, last in zip(starts, [*(start - 1 for start in starts[1:]), span.last], strict=True):
            cost = estimate(config_at(config, steerings, first), geometry)
            pieces["delay"].append(Piece(first, last, cost.delay_s))
            pieces["energy"].append(Piece(first, last, cost.round_energy_j))
    return pieces


class _Label(NamedTuple):
    text: str
    anchor: str  # side of the label that is at the line
    row: int


def steering_marks(steerings: Sequence[Steering], rounds: int, *, stages: bool) -> dict[str, Any]:
    """A line before the first round of each change, and its label above the plot, as parts of a layout.

    Labels do not overlap: where two would, the later one goes up a row, then shrinks to its new value, then is left
    out, as the chart's words and table have it too. `meta` holds the labels of a narrow chart (pages/parts/chart.js),
    and `rows` is the number of rows of labels.
    """
    wide = _place_labels(steerings, rounds, _WIDE, full=True)
    narrow = _place_labels(steerings, rounds, _NARROW, full=False)
    bottom = _STAGE_ROW if stages else 2
    annotations, narrow_labels = [], {}
    for place, (steering, label, short) in enumerate(zip(steerings, wide, narrow, strict=True)):
        name = f"steering {place + 1}"
        where = f" ({STAGE_LABELS[steering.stage]} {steering.round})" if stages else ""
        annotations.append({
            "name": name, "xref": "x", "x": steering.position - 0.5, "yref": "paper", "y": 1, "yanchor": "bottom",
            "showarrow": False, "font": {"size": 11}, "borderpad": 0,
            "hovertext": f"From round {steering.position}{where}:<br>"
            + changes_text(steering.before, steering.changes).replace(", ", "<br>"),
            **_label_layout(label, bottom),
        })  # fmt: skip
        narrow_labels[name] = _label_layout(short, bottom)
    shapes = [
        {
            "type": "line", "x0": steering.position - 0.5, "x1": steering.position - 0.5, "xref": "x", "yref": "paper",
            "y0": 0, "y1": 1, "line": {"color": VERMILLION, "width": 1.5}, "layer": "below",
        }
        for steering in steerings
    ]  # fmt: skip
    rows = 1 + max((label.row for label in (*wide, *narrow)), default=-1)
    return {"shapes": shapes, "annotations": annotations, "meta": {"narrow": narrow_labels}, "rows": rows}


def _label_layout(label: _Label, bottom: int) -> dict[str, Any]:
    return {
        "text": label.text, "xanchor": label.anchor, "yshift": bottom + _ROW_HEIGHT * label.row,
        "visible": bool(label.text),
    }  # fmt: skip


def rows_height(rows: int) -> int:
    """Height of rows of labels above the plot [px]."""
    return rows * _ROW_HEIGHT


def _place_labels(steerings: Sequence[Steering], rounds: int, width: float, *, full: bool) -> list[_Label]:
    """A text, side and row for each label, from left to right, so that none overlap; "" where no text fits."""
    occupied: list[list[tuple[float, float]]] = [[] for _ in range(_ROWS)]
    return [
        _first_free(occupied, (steering.position - 1) / rounds * width, _texts(steering, full), width)
        for steering in steerings
    ]


def _texts(steering: Steering, full: bool) -> list[str]:
    """The texts that a label may have, the longest first."""
    values = [value_words(path, value) for path, value in steering.changes.items()]
    sentences = [changes_text(steering.before, steering.changes)] if full else []
    return [*sentences, ", ".join(values), values[0] if len(values) == 1 else f"{values[0]} …"]


def _first_free(occupied: list[list[tuple[float, float]]], at: float, texts: Sequence[str], width: float) -> _Label:
    """The longest label that is free for a line at `at` [px]; its extent is added to `occupied`."""
    for text in texts:
        width_px = _LETTER * len(text) + _GAP
        for row, anchor in product(range(_ROWS), ("left", "right")):
            left = at if anchor == "left" else at - width_px
            inside = left >= 0 and left + width_px <= width
            if inside and all(left + width_px <= start or left >= end for start, end in occupied[row]):
                occupied[row].append((left, left + width_px))
                return _Label(text, anchor, row)
    return _Label("", "left", 0)
