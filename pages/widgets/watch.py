"""A run as it goes: status, progress, tiles, charts, clients; drawn anew at each look, from what is already read.

No store in here, so that a replay is drawn by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import pandas as pd
import streamlit as st

from pages.widgets import whatif
from pages.widgets.chart import live_chart
from pages.widgets.clients import draw_clients
from pages.widgets.words import asked_words, doubts, plain, sentence, settings_words, status_words
from pwff_core.config import ChannelConfig
from pwff_core.figures import (
    MAX_CLIENT_LINES,
    PANELS,
    PanelId,
    Span,
    client_lines,
    config_at,
    expected_pieces,
    figure_json,
    panel_figure,
    panel_table,
    panel_words,
    panels_of,
    planned_stages,
    round_frame,
    spans_of,
    steering_words,
    value_text,
)
from pwff_core.records import METRICS, RoundRecord, Steering, Value
from pwff_core.store import RunRow, RunStatus, Store

_SEEN, _FRAME, _DRAWN = "watch:seen", "watch:frame", "watch:drawn"


class Shown(NamedTuple):
    """One run as it is shown: of the store, or of a recording."""

    row: RunRow
    records: Sequence[RoundRecord]
    steerings: Sequence[Steering] = ()
    asked: Mapping[str, Value] = {}  # settings that were asked for and do not hold yet
    pending: frozenset[str] = frozenset()  # of "pause", "resume" and "stop": asked for, and not done yet
    position: int = 0  # in the queue, from 1; 0: it does not wait


def new_rounds(store: Store, run_id: str) -> list[RoundRecord]:
    """All rounds of a run; only those after the last one seen are read from the store."""
    seen: dict[str, Any] = st.session_state.get(_SEEN, {})
    if seen.get("run") != run_id:
        seen = {"run": run_id, "after": 0, "records": []}
    for row_id, record in store.rounds(run_id, after=seen["after"]):
        seen["records"].append(record)
        seen["after"] = row_id
    st.session_state[_SEEN] = seen
    records: list[RoundRecord] = seen["records"]
    return records


def look_at(store: Store, run_id: str, position: int = 0) -> Shown:
    """A run of the store as it stands now."""
    row = store.run(run_id)
    steerings = store.steerings(run_id)
    if row.status.ended:
        return Shown(row, new_rounds(store, run_id), steerings)
    asked, pending = store.asked(run_id), store.pending(run_id)
    return Shown(row, new_rounds(store, run_id), steerings, asked, pending, position)


def draw_run(shown: Shown, *, key: str = "live", what_if: ChannelConfig | None = None) -> None:
    """Everything about one run, top to bottom.

    Args:
        shown: the run.
        key: stands before the keys of its widgets and of what is kept for it, so that a replay has its own.
        what_if: a channel that all its rounds are priced over too, dashed beside what was measured.
    """
    row, records = shown.row, shown.records
    planned = planned_stages(row.config, row.rounds_total, records)
    spans = spans_of(planned, records)
    held = config_at(row.config, shown.steerings).channel
    priced = whatif.priced(row, records, held, what_if) if what_if and records and what_if != held else None
    with st.container(key="status"):  # a place of its own: what comes and goes in it does not move the charts,
        _status(shown, spans)  # which the browser would then build anew, and lose their zoom
        if priced:
            st.info(whatif.words(priced, records), icon=":material/calculate:")
    if not records and (row.status.ended or row.waits):
        return
    frame = _frame(row, records, key)
    _tiles(frame)
    _charts(shown, frame, spans, key, priced)
    draw_clients(row, records, key=_scope(key))
    _notes(row)


def _scope(key: str) -> str:
    """What stands before a widget's key: nothing for the run that is watched live."""
    return "" if key == "live" else f"{key}:"


def _frame(row: RunRow, records: Sequence[RoundRecord], key: str) -> pd.DataFrame:
    """The table of rounds; only new ones are added to what is kept."""
    kept: tuple[str, pd.DataFrame] | None = st.session_state.get(f"{_FRAME}:{key}")
    frame = kept[1] if kept and kept[0] == row.id and len(kept[1]) <= len(records) else round_frame([])
    if len(frame) < len(records) or not len(frame):
        new = round_frame(records[len(frame) :], first=len(frame) + 1)
        frame = pd.concat([frame, new]) if len(frame) else new
        st.session_state[f"{_FRAME}:{key}"] = (row.id, frame)
    return frame


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
    elif row.waits:
        st.info(words, icon=":material/hourglass_empty:")
    else:
        done, total = len(records), max(sum(span.rounds for span in spans), 1)
        st.progress(min(done / total, 1.0), text=words)
    for line in (*(steering_words(one) for one in shown.steerings[-1:]), *asked_words(shown.asked)):
        st.markdown(f":material/tune: {plain(line)}.")
    for warning in doubts(spans, records):
        st.warning(plain(warning), icon=":material/casino:")


def _tiles(frame: pd.DataFrame) -> None:
    with st.container(key="tiles:round"):
        _tile(frame, "accuracy", "Accuracy", "normal")
        if frame["reward"].notna().any():
            _tile(frame, "reward", "Reward", "normal")
        # what a round sends depends on its stage, so that only rounds of one stage compare
        stage = frame[frame["stage"] == frame["stage"].iloc[-1]] if len(frame) else frame
        _tile(stage, "delay_s", "Delay of the round", "inverse")
        _tile(stage, "energy_j", "Energy of the round", "inverse")
        total = frame["energy_j"].sum() if len(frame) else float("nan")
        st.metric(
            "Energy so far", value_text(total, "J"), help="Transmit energy of all clients over all rounds until now."
        )


def _tile(frame: pd.DataFrame, column: str, label: str, delta_color: Literal["normal", "inverse"]) -> None:
    """The last number that was measured, and its change since the first."""
    metric, measured = METRICS[column], frame[frame[column].notna()]
    if measured.empty:
        st.metric(label, "–", help=metric.help)
        return
    now, first = measured[column].iloc[-1], measured[column].iloc[0]
    change = None
    if len(measured) > 1 and metric.unit == "%":
        change = f"{100 * (now - first):+.1f} points"
    elif len(measured) > 1 and now != first:
        change = f"{'+' if now > first else '-'}{value_text(abs(now - first), metric.unit).lstrip('+')}"
    since = "by alignment" if column == "reward" else "since round 1"
    st.metric(
        label,
        value_text(now, metric.unit),
        change,
        delta_color=delta_color,
        help=metric.help,
        delta_description=since if change else None,
    )


class Drawing(NamedTuple):
    """A panel as it is sent to the browser."""

    figure: str  # JSON
    words: str


def _drawings(
    shown: Shown, frame: pd.DataFrame, spans: Sequence[Span], key: str, each_client: bool, priced: whatif.Priced | None
) -> tuple[int, dict[PanelId, Drawing]]:
    """Every panel, drawn once a round: a look at which nothing is new takes no time from the training beside it.

    The first value is how often they were drawn anew.
    """
    state = (shown.row.id, len(frame), spans, each_client, len(shown.steerings), priced and priced.channel)
    kept: tuple[Any, int, dict[PanelId, Drawing]] | None = st.session_state.get(f"{_DRAWN}:{key}")
    if kept and kept[0] == state:
        return kept[1], kept[2]
    expected = expected_pieces(shown.row.config, shown.steerings, spans)
    lines = whatif.lines(priced) if priced else {}
    drawings = {}
    for panel_id in panels_of(span.stage for span in spans):
        metric = PANELS[panel_id].clients if each_client else ""
        figure = panel_figure(
            panel_id,
            frame,
            spans,
            expected=expected.get(panel_id, ()),
            clients=client_lines(shown.records, metric) if metric and shown.records else None,
            steerings=shown.steerings,
            what_if=lines.get(panel_id),
        )
        words = panel_words(panel_id, frame, spans, steerings=shown.steerings, what_if=lines.get(panel_id))
        drawings[panel_id] = Drawing(figure_json(figure), words)
    times = kept[1] + 1 if kept else 1
    st.session_state[f"{_DRAWN}:{key}"] = (state, times, drawings)
    return times, drawings


def _charts(shown: Shown, frame: pd.DataFrame, spans: Sequence[Span], key: str, priced: whatif.Priced | None) -> None:
    each_client = st.toggle(
        "Each client",
        key=f"{_scope(key)}each-client",
        help="Draws clients as thin lines, from blue and dotted (harmless first) to orange and solid (helpful first); "
        f"at most {MAX_CLIENT_LINES} of them, evenly over their weights. Point at a line to see whose it is.",
    )
    times, found = _drawings(shown, frame, spans, key, each_client, priced)
    drawings, lines = list(found.items()), whatif.lines(priced) if priced else {}
    for left in range(0, len(drawings), 2):
        for column, (panel_id, drawing) in zip(st.columns(2), drawings[left : left + 2], strict=False):
            with column:
                name = f"{_scope(key)}{panel_id}"
                live_chart(name, drawing.figure, words=drawing.words, view=shown.row.id, revision=f"{times}")
                table = partial(panel_table, panel_id, frame, steerings=shown.steerings, what_if=lines.get(panel_id))
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
