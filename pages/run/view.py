"""A run as it goes: status, progress, tiles, charts, clients; drawn anew at each look, from what is already read.

No store in here, so that a replay is drawn by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import pandas as pd
import streamlit as st

from pages.parts.chart import live_chart
from pages.parts.words import asked_words, doubts, plain, sentence, settings_words, status_words
from pages.run import whatif
from pages.run.client_table import draw_clients
from pages.server.cache import Shelf
from pages.server.drawings import Drawable, drawings, frame_of
from pwff_core.config import ChannelConfig
from pwff_core.figures.changes import config_at, steering_words
from pwff_core.figures.frames import MAX_CLIENT_LINES, Span, planned_stages, spans_of, value_text
from pwff_core.figures.panels import PANELS, Parent, panel_table
from pwff_core.records import METRICS, RoundRecord, Steering, Value
from pwff_core.runs.store import RunRow, RunStatus

MOST_STATES = 48
_LIVE = "live"
_TILES = Shelf(MOST_STATES)


class Shown(NamedTuple):
    """One run as it is shown: of the store, or of a recording."""

    row: RunRow
    records: Sequence[RoundRecord]
    steerings: Sequence[Steering] = ()
    asked: Mapping[str, Value] = {}  # settings that were asked for and do not hold yet
    pending: frozenset[str] = frozenset()  # of "pause", "resume" and "stop": asked for, and not done yet
    position: int = 0  # in the queue, from 1; 0: it does not wait
    parent: Parent | None = None  # that it was forked from


def draw_run(shown: Shown, *, key: str = _LIVE, what_if: ChannelConfig | None = None) -> None:
    """Everything about one run, top to bottom.

    Args:
        shown: the run.
        key: stands before the keys of its widgets, so that a replay has its own.
        what_if: a channel that all its rounds are priced over too, dashed beside what was measured.
    """
    row, records = shown.row, shown.records
    planned = planned_stages(row.config, row.rounds_total, records)
    spans = spans_of(planned, records)
    held = config_at(row.config, shown.steerings).channel
    priced = whatif.price_run(row, records, held, what_if) if what_if and records and what_if != held else None
    with st.container(key="status"):  # a place of its own: what comes and goes in it does not move the charts,
        _status(shown, spans)  # which the browser would then build anew, and lose their zoom
        if priced:
            st.info(whatif.words(priced, records), icon=":material/calculate:")
    if not records and (row.status.ended or row.in_queue):
        return
    frame = frame_of(row, records, key)
    _tiles(row, frame, key)
    _charts(shown, frame, spans, key, priced)
    draw_clients(row, records, key=_scope(key))
    _notes(row)


def make_ready(shown: Shown) -> None:
    """Makes what every browser is sent of a run that is watched live, before they ask for it one after another."""
    row, records = shown.row, shown.records
    frame = frame_of(row, records, _LIVE)
    spans = spans_of(planned_stages(row.config, row.rounds_total, records), records)
    drawings(Drawable(row, records, frame, spans, shown.steerings, shown.parent), False, {})


def _scope(key: str) -> str:
    """What stands before a widget's key: nothing for the run that is watched live."""
    return "" if key == _LIVE else f"{key}:"


def _status(shown: Shown, spans: Sequence[Span]) -> None:
    row, records = shown.row, shown.records
    words = plain(status_words(row, records, spans, shown.pending, shown.position))
    name = plain(row.name) if row.name else f"Run {row.id}"
    st.markdown(f"**{name}:** {plain(settings_words(row.config, {span.stage: span.planned for span in spans}))}")
    if row.status is RunStatus.FAILED:
        st.error(words, icon=":material/error:")
    elif row.status is RunStatus.STOPPED:
        st.info(words, icon=":material/stop_circle:")
    elif row.status is RunStatus.FINISHED:
        st.success(words, icon=":material/check_circle:")
    elif row.status is RunStatus.STALLED:
        st.warning(words, icon=":material/pending:")
    elif row.in_queue:
        st.info(words, icon=":material/hourglass_empty:")
    else:
        done, total = len(records), max(sum(span.rounds for span in spans), 1)
        st.progress(min(done / total, 1.0), text=words)
    for line in (*(steering_words(one) for one in shown.steerings[-1:]), *asked_words(shown.asked)):
        st.markdown(f":material/tune: {plain(line)}.")
    for warning in doubts(spans, records):
        st.warning(plain(warning), icon=":material/casino:")


class Tile(NamedTuple):
    """A number above the charts, in words."""

    label: str
    value: str
    change: str | None  # since when, in `since`
    since: str | None
    help: str
    delta_color: Literal["normal", "inverse"] = "normal"


def tiles_of(frame: pd.DataFrame) -> list[Tile]:
    """The last numbers that the rounds measured, and their changes."""
    # what a round sends depends on its stage, so that only rounds of one stage compare
    stage = frame[frame["stage"] == frame["stage"].iloc[-1]] if len(frame) else frame
    total = frame["energy_j"].sum() if len(frame) else float("nan")
    energy_help = "Transmit energy of all clients over all rounds until now."
    return [
        _tile(frame, "accuracy", "Accuracy", "normal"),
        *([_tile(frame, "reward", "Reward", "normal")] if frame["reward"].notna().any() else []),
        _tile(stage, "delay_s", "Delay of the round", "inverse"),
        _tile(stage, "energy_j", "Energy of the round", "inverse"),
        Tile("Energy so far", value_text(total, "J"), None, None, energy_help),
    ]


def _tile(frame: pd.DataFrame, column: str, label: str, delta_color: Literal["normal", "inverse"]) -> Tile:
    """The last number that was measured, and its change since the first."""
    metric, measured = METRICS[column], frame[frame[column].notna()]
    if measured.empty:
        return Tile(label, "–", None, None, metric.help)
    now, first = measured[column].iloc[-1], measured[column].iloc[0]
    change = None
    if len(measured) > 1 and metric.unit == "%":
        change = f"{100 * (now - first):+.1f} points"
    elif len(measured) > 1 and now != first:
        change = f"{'+' if now > first else '-'}{value_text(abs(now - first), metric.unit).lstrip('+')}"
    since = "by alignment" if column == "reward" else "since round 1"
    return Tile(label, value_text(now, metric.unit), change, since if change else None, metric.help, delta_color)


def _tiles(row: RunRow, frame: pd.DataFrame, key: str) -> None:
    with st.container(key="tiles:round"):
        for tile in _TILES.take((key, row.id, row.created_at, len(frame)), lambda: tiles_of(frame)):
            st.metric(
                tile.label,
                tile.value,
                tile.change,
                delta_color=tile.delta_color,
                help=tile.help,
                delta_description=tile.since,
            )


def _charts(
    shown: Shown, frame: pd.DataFrame, spans: Sequence[Span], key: str, priced: whatif.PricedRun | None
) -> None:
    each_client = st.toggle(
        "Each client",
        key=f"{_scope(key)}each-client",
        help="Draws clients as thin lines, from blue and dotted (harmless first) to orange and solid (helpful first); "
        f"at most {MAX_CLIENT_LINES} of them, evenly over their weights. Point at a line to see whose it is.",
    )
    lines = whatif.lines(priced) if priced else {}
    drawn = Drawable(shown.row, shown.records, frame, spans, shown.steerings, shown.parent)
    with st.container(key="charts"):  # one beside the other by assets/style.css: st.columns would send thrice as much
        for panel_id, drawing in drawings(drawn, each_client, lines).items():
            name = f"{_scope(key)}{panel_id}"
            live_chart(name, drawing.figure, words=drawing.words, view=shown.row.id, revision=drawing.revision)
            told = {"steerings": shown.steerings, "what_if": lines.get(panel_id), "parent": shown.parent}
            table = partial(panel_table, panel_id, frame, **told)
            _numbers(name, PANELS[panel_id].label, table)


def _numbers(name: str, label: str, table: Callable[[], pd.DataFrame]) -> None:
    """The table behind a chart; made and sent only while it is open."""
    box = st.expander(f"{label} in numbers", key=f"numbers:{name}", on_change="rerun")
    if box.open:
        box.dataframe(table(), hide_index=True, alt=f"{label} of every round", key=f"table:{name}")


def _notes(row: RunRow) -> None:
    gpt2 = " The link is priced as if the model were GPT-2 small." if row.config.price_as == "gpt2" else ""
    st.caption(f"Real: the training, on this computer. Simulated: the channel, and with it delay and energy.{gpt2}")
    for note in row.notes:
        st.caption(plain(sentence(note)))
