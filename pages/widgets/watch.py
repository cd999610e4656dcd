"""A run as it goes: status, progress, tiles, charts, clients; drawn anew at each look at the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd
import streamlit as st

from pages.widgets.chart import live_chart
from pages.widgets.clients import draw_clients
from pages.widgets.price import expectations
from pages.widgets.words import doubts, plain, sentence, settings_words, status_words
from pwff_core.figures import (
    MAX_CLIENT_LINES,
    PANELS,
    PanelId,
    Span,
    client_lines,
    figure_json,
    panel_figure,
    panel_table,
    panel_words,
    panels_of,
    planned_stages,
    round_frame,
    spans_of,
    value_text,
)
from pwff_core.records import METRICS, RoundRecord, Stage
from pwff_core.store import RunRow, RunStatus, Store

_SEEN, _DRAWN = "watch:seen", "watch:drawn"


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


def draw_run(store: Store, row: RunRow) -> None:
    """Everything about one run, top to bottom."""
    records = new_rounds(store, row.id)
    planned = planned_stages(row.config, row.rounds_total, records)
    spans = spans_of(planned, records)
    stopping = not row.status.ended and store.stop_requested(row.id)
    _status(row, records, spans, stopping)
    if not records and row.status.ended:
        return
    frame = round_frame(records)
    _tiles(frame)
    _charts(row, records, frame, spans)
    draw_clients(row, records)
    _notes(row)


def _status(row: RunRow, records: Sequence[RoundRecord], spans: Sequence[Span], stopping: bool) -> None:
    words = plain(status_words(row, records, spans, stopping))
    st.markdown(f"**Run {row.id}:** {plain(settings_words(row.config, {span.stage: span.planned for span in spans}))}")
    if row.status is RunStatus.FAILED:
        st.error(words, icon=":material/error:")
    elif row.status is RunStatus.STOPPED:
        st.info(words, icon=":material/stop_circle:")
    elif row.status is RunStatus.FINISHED:
        st.success(words, icon=":material/check_circle:")
    if not row.status.ended:
        done, total = len(records), max(sum(span.rounds for span in spans), 1)
        st.progress(min(done / total, 1.0), text=words)
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
    table: pd.DataFrame


def _drawings(
    row: RunRow, records: Sequence[RoundRecord], frame: pd.DataFrame, spans: Sequence[Span], each_client: bool
) -> dict[PanelId, Drawing]:
    """Every panel, drawn once a round: a look at which nothing is new takes no time from the training beside it."""
    state = (row.id, len(frame), spans, each_client)
    kept: tuple[Any, dict[PanelId, Drawing]] | None = st.session_state.get(_DRAWN)
    if kept and kept[0] == state:
        return kept[1]
    told = expectations(row.config)
    expected: dict[PanelId, dict[Stage, float]] = {
        "delay": {stage: estimate.delay_s for stage, estimate in told.items()},
        "energy": {stage: estimate.round_energy_j for stage, estimate in told.items()},
    }
    drawings = {}
    for panel_id in panels_of(span.stage for span in spans):
        metric = PANELS[panel_id].clients if each_client else ""
        lines = client_lines(records, metric) if metric and records else None
        figure = panel_figure(panel_id, frame, spans, expected=expected.get(panel_id), clients=lines)
        drawings[panel_id] = Drawing(
            figure_json(figure), panel_words(panel_id, frame, spans), panel_table(panel_id, frame)
        )
    st.session_state[_DRAWN] = (state, drawings)
    return drawings


def _charts(row: RunRow, records: Sequence[RoundRecord], frame: pd.DataFrame, spans: Sequence[Span]) -> None:
    each_client = st.toggle(
        "Each client",
        key="each-client",
        help="Draws clients as thin lines, from blue and dotted (harmless first) to orange and solid (helpful first); "
        f"at most {MAX_CLIENT_LINES} of them, evenly over their weights. Point at a line to see whose it is.",
    )
    drawings = list(_drawings(row, records, frame, spans, each_client).items())
    revision = f"{len(frame)} of {sum(span.rounds for span in spans)}{', each client' if each_client else ''}"
    for left in range(0, len(drawings), 2):
        for column, (panel_id, drawing) in zip(st.columns(2), drawings[left : left + 2], strict=False):
            with column:
                live_chart(panel_id, drawing.figure, words=drawing.words, view=row.id, revision=revision)
                label = PANELS[panel_id].label
                with st.expander(f"{label} in numbers", key=f"numbers:{panel_id}"):
                    st.dataframe(drawing.table, hide_index=True, alt=f"{label} of every round", key=f"table:{panel_id}")


def _notes(row: RunRow) -> None:
    gpt2 = " The link is priced as if the model were GPT-2 small." if row.config.price_as == "gpt2" else ""
    st.caption(f"Real: the training, on this computer. Simulated: the channel, and with it delay and energy.{gpt2}")
    for note in row.notes:
        st.caption(plain(sentence(note)))
