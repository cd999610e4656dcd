"""What is drawn of a run, made once for all browsers: its table of rounds, and its panels as they are sent.

A new round is drawn by the session that sees it first; the others send what it made. What a value depends on is in
its key, so nothing is shown for another run or another state. MOST_STATES states of runs are kept, those that were
asked for last and within the last minute; a state is at most eight panels of some 10 kB each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from pages.server.cache import Cache
from pwff_core.figures.frames import Span, client_lines, planned_stages, round_frame, spans_of
from pwff_core.figures.panel_figure import figure_json, panel_figure
from pwff_core.figures.panels import PANELS, PanelId, Parent, WhatIf, panel_words, panels_of
from pwff_core.figures.steering_marks import expected_pieces
from pwff_core.records import RoundRecord, Steering, Value
from pwff_core.runs.store import RunRow

LIVE = "live"  # the scope of a run that is watched live; a replay has another
MOST_STATES = 48
MOST_FRAMES = 8  # runs whose table of rounds is kept: 0.4 kB a round

_PANELS, _FRAMES = Cache(MOST_STATES), Cache(MOST_FRAMES)


class RunView(NamedTuple):
    """One run as it is drawn: a run of the store, or a recording."""

    row: RunRow
    records: Sequence[RoundRecord]
    steerings: Sequence[Steering] = ()
    pending_changes: Mapping[str, Value] = {}  # settings that were asked for and do not hold yet
    pending_commands: frozenset[str] = frozenset()  # of "pause", "resume" and "stop": asked for, and not done yet
    queue_position: int = 0  # from 1; 0: it does not wait
    parent: Parent | None = None  # the run that it was forked from

    @property
    def spans(self) -> tuple[Span, ...]:
        """Its stages, and how far they are."""
        return spans_of(planned_stages(self.row.config, self.row.rounds_total, self.records), self.records)

    def state(self, spans: Sequence[Span]) -> tuple[object, ...]:
        """What its panels depend on: rounds and steerings are only ever added to a run."""
        parent = self.parent and (self.parent.name, len(self.parent.frame))
        run = self.row.id, self.row.created_at
        return (*run, len(self.records), tuple(spans), len(self.steerings), parent)


class Drawing(NamedTuple):
    """A panel as it is sent to the browser."""

    figure: str  # JSON
    words: str
    revision: str  # another one for another figure


class _GrowingFrame:
    """The table of a run's rounds."""

    def __init__(self) -> None:
        self.frame = round_frame([])


def frame_of(row: RunRow, records: Sequence[RoundRecord], scope: str) -> pd.DataFrame:
    """The table of a run's rounds; only new ones are added to what is kept, and a replay that goes back gets a part.

    `scope` tells the live run from its replay, whose rounds take another time.
    """
    growing = _FRAMES.get((scope, row.id, row.created_at), _GrowingFrame)
    frame = growing.frame  # a table is never changed, only replaced by a longer one: sessions may do so at once
    if len(frame) < len(records):
        new = round_frame(records[len(frame) :], first=len(frame) + 1)
        frame = growing.frame = pd.concat([frame, new]) if len(frame) else new
    return frame.iloc[: len(records)]


def drawings_of(
    view: RunView,
    frame: pd.DataFrame,
    spans: Sequence[Span],
    *,
    each_client: bool = False,
    what_if: Mapping[PanelId, WhatIf] | None = None,
) -> dict[PanelId, Drawing]:
    """Every panel of a run, by its table and its stages.

    `each_client`: single clients in the place of their range; `what_if`: dashed lines, by panel.
    """
    lines = what_if or {}
    key = tuple((panel_id, line.name, line.values.tobytes()) for panel_id, line in lines.items())
    return _PANELS.get(
        (*view.state(spans), each_client, key), lambda: _draw_panels(view, frame, spans, each_client, lines)
    )


def draw_ahead(view: RunView) -> None:
    """Draws what every browser is sent of a run that is watched live, before they ask for it one after another."""
    drawings_of(view, frame_of(view.row, view.records, LIVE), view.spans)


def _draw_panels(
    view: RunView, frame: pd.DataFrame, spans: Sequence[Span], each_client: bool, lines: Mapping[PanelId, WhatIf]
) -> dict[PanelId, Drawing]:
    expected = expected_pieces(view.row.config, view.steerings, spans)
    drawings = {}
    for panel_id in panels_of(span.stage for span in spans):
        metric = PANELS[panel_id].clients if each_client else ""
        figure = panel_figure(
            panel_id,
            frame,
            spans,
            theme=None,
            expected=expected.get(panel_id, ()),
            clients=client_lines(view.records, metric) if metric and view.records else None,
            steerings=view.steerings,
            what_if=lines.get(panel_id),
            parent=view.parent,
        )
        words = panel_words(
            panel_id, frame, spans, steerings=view.steerings, what_if=lines.get(panel_id), parent=view.parent
        )
        text = figure_json(figure)
        drawings[panel_id] = Drawing(text, words, hashlib.blake2b(text.encode(), digest_size=8).hexdigest())
    return drawings
