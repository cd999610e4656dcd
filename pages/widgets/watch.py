"""A run as it goes: status, progress, tiles, charts, clients; drawn anew at each look at the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd
import streamlit as st

from pages.widgets.chart import live_chart
from pages.widgets.clients import draw_clients
from pages.widgets.price import expectation
from pages.widgets.words import plain, sentence, settings_words, status_words
from pwff_core.figures import (
    PANELS,
    PanelId,
    figure_json,
    panel_figure,
    panel_table,
    panel_words,
    round_frame,
    value_text,
)
from pwff_core.records import METRICS, RoundRecord
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
    stopping = not row.status.ended and store.stop_requested(row.id)
    _status(row, records, stopping)
    if not records and row.status.ended:
        return
    frame = round_frame(records)
    _tiles(frame)
    _charts(row, frame)
    draw_clients(row, records[-1] if records else None)
    _notes(row)


def _status(row: RunRow, records: Sequence[RoundRecord], stopping: bool) -> None:
    words = plain(status_words(row, records, stopping))
    st.markdown(f"**Run {row.id}:** {plain(settings_words(row.config))}")
    if row.status is RunStatus.FAILED:
        st.error(words, icon=":material/error:")
    elif row.status is RunStatus.STOPPED:
        st.info(words, icon=":material/stop_circle:")
    elif row.status is RunStatus.FINISHED:
        st.success(words, icon=":material/check_circle:")
    if not row.status.ended:
        st.progress(min(len(records) / max(row.rounds_total, 1), 1.0), text=words)


def _tiles(frame: pd.DataFrame) -> None:
    with st.container(key="tiles:round"):
        _tile(frame, "accuracy", "Accuracy", "normal")
        _tile(frame, "delay_s", "Delay of the round", "inverse")
        _tile(frame, "energy_j", "Energy of the round", "inverse")
        total = frame["energy_j"].sum() if len(frame) else float("nan")
        st.metric(
            "Energy so far", value_text(total, "J"), help="Transmit energy of all clients over all rounds until now."
        )


def _tile(frame: pd.DataFrame, column: str, label: str, delta_color: Literal["normal", "inverse"]) -> None:
    metric = METRICS[column]
    if frame.empty or frame[column].isna().all():
        st.metric(label, "–", help=metric.help)
        return
    now, first = frame[column].iloc[-1], frame[column].iloc[0]
    change = None
    if len(frame) > 1 and metric.unit == "%":
        change = f"{100 * (now - first):+.1f} points"
    elif len(frame) > 1 and now != first:
        change = f"{'+' if now > first else '-'}{value_text(abs(now - first), metric.unit)}"
    st.metric(
        label,
        value_text(now, metric.unit),
        change,
        delta_color=delta_color,
        help=metric.help,
        delta_description="since round 1" if change else None,
    )


class Drawing(NamedTuple):
    """A panel as it is sent to the browser."""

    figure: str  # JSON
    words: str
    table: pd.DataFrame


def _drawings(row: RunRow, frame: pd.DataFrame) -> dict[PanelId, Drawing]:
    """Every panel, drawn once a round: a look at which nothing is new takes no time from the training beside it."""
    state = (row.id, len(frame), row.rounds_total)
    kept: tuple[tuple[str, int, int], dict[PanelId, Drawing]] | None = st.session_state.get(_DRAWN)
    if kept and kept[0] == state:
        return kept[1]
    told = expectation(row.config)
    expected: dict[PanelId, float | None] = {"delay": told and told.delay_s, "energy": told and told.round_energy_j}
    drawings = {
        panel_id: Drawing(
            figure_json(panel_figure(panel_id, frame, row.rounds_total, expected=expected.get(panel_id))),
            panel_words(panel_id, frame, row.rounds_total),
            panel_table(panel_id, frame),
        )
        for panel_id in PANELS
    }
    st.session_state[_DRAWN] = (state, drawings)
    return drawings


def _charts(row: RunRow, frame: pd.DataFrame) -> None:
    drawings = list(_drawings(row, frame).items())
    revision = f"{len(frame)} of {row.rounds_total}"
    for left in range(0, len(drawings), 2):
        for column, (panel_id, drawing) in zip(st.columns(2), drawings[left : left + 2], strict=False):
            with column:
                live_chart(panel_id, drawing.figure, words=drawing.words, view=row.id, revision=revision)
                label = METRICS[PANELS[panel_id].metric].label
                with st.expander(f"{label} in numbers", key=f"numbers:{panel_id}"):
                    st.dataframe(drawing.table, hide_index=True, alt=f"{label} of every round", key=f"table:{panel_id}")


def _notes(row: RunRow) -> None:
    gpt2 = " The link is priced as if the model were GPT-2 small." if row.config.price_as == "gpt2" else ""
    st.caption(f"Real: the training, on this computer. Simulated: the channel, and with it delay and energy.{gpt2}")
    for note in row.notes:
        st.caption(plain(sentence(note)))
