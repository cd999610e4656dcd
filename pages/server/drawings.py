"""What is drawn of a run, made once for all browsers: its table of rounds, its panels as they are sent, its clients.

A new round is drawn by the session that sees it first; the other twenty-nine send what it made. What a thing depends
on is in its key, so nothing is shown for another run or another state. Kept are MOST_STATES states of runs, whichever
were asked for last and within the last minute; a state is at most eight panels of some 10 kB each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from pages.server.cache import Shelf
from pwff_core.figures.frames import Span, client_lines, round_frame
from pwff_core.figures.panel_figure import figure_json, panel_figure
from pwff_core.figures.panels import PANELS, PanelId, Parent, WhatIf, panel_words, panels_of
from pwff_core.figures.steering_marks import expected_pieces
from pwff_core.records import RoundRecord, Steering
from pwff_core.runs.store import RunRow

MOST_STATES = 48
MOST_FRAMES = 8  # runs whose table of rounds is kept: 0.4 kB a round

_PANELS, _FRAMES = Shelf(MOST_STATES), Shelf(MOST_FRAMES)


class Drawing(NamedTuple):
    """A panel as it is sent to the browser."""

    figure: str  # JSON
    words: str
    revision: str  # another one for another figure


class Drawable(NamedTuple):
    """All that the panels of a run show, but for what a single person asks for."""

    row: RunRow
    records: Sequence[RoundRecord]
    frame: pd.DataFrame
    spans: Sequence[Span]
    steerings: Sequence[Steering]
    parent: Parent | None

    @property
    def state(self) -> tuple[object, ...]:
        """What the panels depend on: rounds and steerings are only ever added to a run."""
        parent = self.parent and (self.parent.name, len(self.parent.frame))
        run = self.row.id, self.row.created_at
        return (*run, len(self.frame), tuple(self.spans), len(self.steerings), parent)


class _Growing:
    """The table of a run's rounds."""

    def __init__(self) -> None:
        self.frame = round_frame([])


def frame_of(row: RunRow, records: Sequence[RoundRecord], scope: str) -> pd.DataFrame:
    """The table of a run's rounds; only new ones are added to what is kept, and a replay that goes back gets a part.

    `scope` tells the live run from its replay, whose rounds take another time.
    """
    growing = _FRAMES.take((scope, row.id, row.created_at), _Growing)
    frame = growing.frame  # a table is never changed, only replaced by a longer one: sessions may do so at once
    if len(frame) < len(records):
        new = round_frame(records[len(frame) :], first=len(frame) + 1)
        frame = growing.frame = pd.concat([frame, new]) if len(frame) else new
    return frame.iloc[: len(records)]


def drawings(drawn: Drawable, each_client: bool, what_if: Mapping[PanelId, WhatIf]) -> dict[PanelId, Drawing]:
    """Every panel of a run. `each_client`: single clients in the place of their range; `what_if`: dashed lines."""
    key = (*drawn.state, each_client, tuple(_key(panel_id, line) for panel_id, line in what_if.items()))
    return _PANELS.take(key, lambda: _drawn(drawn, each_client, what_if))


def _key(panel_id: PanelId, line: WhatIf) -> tuple[object, ...]:
    return panel_id, line.name, line.values.tobytes()


def _drawn(drawn: Drawable, each_client: bool, what_if: Mapping[PanelId, WhatIf]) -> dict[PanelId, Drawing]:
    expected = expected_pieces(drawn.row.config, drawn.steerings, drawn.spans)
    found = {}
    for panel_id in panels_of(span.stage for span in drawn.spans):
        metric = PANELS[panel_id].clients if each_client else ""
        figure = panel_figure(
            panel_id,
            drawn.frame,
            drawn.spans,
            theme=None,
            expected=expected.get(panel_id, ()),
            clients=client_lines(drawn.records, metric) if metric and drawn.records else None,
            steerings=drawn.steerings,
            what_if=what_if.get(panel_id),
            parent=drawn.parent,
        )
        words = panel_words(
            panel_id,
            drawn.frame,
            drawn.spans,
            steerings=drawn.steerings,
            what_if=what_if.get(panel_id),
            parent=drawn.parent,
        )
        text = figure_json(figure)
        found[panel_id] = Drawing(text, words, hashlib.blake2b(text.encode(), digest_size=8).hexdigest())
    return found
