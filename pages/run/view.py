"""A run as it goes: status, progress, tiles, charts, clients; drawn anew each time from what has been read.

No store in here, so that a replay is drawn by the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import pandas as pd
import streamlit as st

from pages.parts.chart import chart_with_table
from pages.parts.words import doubts, pending_words, plain, sentence, settings_words, status_words
from pages.run import whatif
from pages.run.client_table import draw_clients
from pages.server.cache import Cache
from pages.server.drawings import LIVE, MOST_STATES, RunView, drawings_of, frame_of
from pwff_core.config import ChannelConfig
from pwff_core.figures.changes import config_at, steering_words
from pwff_core.figures.frames import MAX_CLIENT_LINES, Span, value_text
from pwff_core.figures.panels import PANELS, panel_table
from pwff_core.records import METRICS
from pwff_core.runs.store import RunRow, RunStatus

_TILES = Cache(MOST_STATES)


def draw_run(view: RunView, *, scope: str = LIVE, what_if: ChannelConfig | None = None) -> None:
    """Everything about one run, top to bottom.

    Args:
        view: the run.
        scope: LIVE, or what stands before the keys of its widgets, so that a replay has its own.
        what_if: a channel that all its rounds are priced over too, dashed beside what was measured.
    """
    row, records, spans = view.row, view.records, view.spans
    held = config_at(row.config, view.steerings).channel
    priced = whatif.price_rounds(row, records, held, what_if) if what_if and records and what_if != held else None
    with st.container(key="status"):  # a place of its own: what comes and goes in it does not move the charts,
        _status(view, spans)  # which the browser would then build anew, and lose their zoom
        if priced:
            st.info(whatif.words(priced, records), icon=":material/calculate:")
    if not records and (row.status.ended or row.in_queue):
        return
    frame = frame_of(row, records, scope)
    _tiles(row, frame, scope)
    _charts(view, frame, spans, scope, priced)
    draw_clients(row, records, key=_key_prefix(scope))
    _notes(row)


def _key_prefix(scope: str) -> str:
    """What stands before a widget's key: nothing for the run that is watched live."""
    return "" if scope == LIVE else f"{scope}:"


def _status(view: RunView, spans: Sequence[Span]) -> None:
    row, records = view.row, view.records
    words = plain(status_words(row, records, spans, view.pending_commands, view.queue_position))
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
    newest = [steering_words(steering) for steering in view.steerings[-1:]]
    for line in (*newest, *pending_words(view.pending_changes)):
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


def _tiles(row: RunRow, frame: pd.DataFrame, scope: str) -> None:
    with st.container(key="tiles:round"):
        for tile in _TILES.get((scope, row.id, row.created_at, len(frame)), lambda: tiles_of(frame)):
            st.metric(
                tile.label,
                tile.value,
                tile.change,
                delta_color=tile.delta_color,
                help=tile.help,
                delta_description=tile.since,
            )


def _charts(
    view: RunView, frame: pd.DataFrame, spans: Sequence[Span], scope: str, priced: whatif.PricedRounds | None
) -> None:
    each_client = st.toggle(
        "Each client",
        key=f"{_key_prefix(scope)}each-client",
        help="Draws clients as thin lines, from blue and dotted (harmless first) to orange and solid (helpful first); "
        f"at most {MAX_CLIENT_LINES} of them, evenly over their weights. Point at a line to see whose it is.",
    )
    lines = whatif.lines(priced) if priced else {}
    with st.container(key="charts"):  # one beside the other by assets/style.css: st.columns would send thrice as much
        drawings = drawings_of(view, frame, spans, each_client=each_client, what_if=lines)
        for panel_id, drawing in drawings.items():
            key, label = f"{_key_prefix(scope)}{panel_id}", PANELS[panel_id].label
            line, parent = lines.get(panel_id), view.parent
            chart_with_table(
                key,
                drawing.figure,
                partial(panel_table, panel_id, frame, steerings=view.steerings, what_if=line, parent=parent),
                words=drawing.words,
                view=view.row.id,
                revision=drawing.revision,
                heading=f"{label} in numbers",
                alt=f"{label} of every round",
                keys=(f"numbers:{key}", f"table:{key}"),
            )


def _notes(row: RunRow) -> None:
    gpt2 = " The link is priced as if the model were GPT-2 small." if row.config.price_as == "gpt2" else ""
    st.caption(f"Real: the training, on this computer. Simulated: the channel, and with it delay and energy.{gpt2}")
    for note in row.notes:
        st.caption(plain(sentence(note)))
