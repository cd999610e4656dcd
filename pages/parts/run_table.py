"""The table of runs, its filter, and what a run is called elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import streamlit as st

from pages.parts.words import count, settings_words
from pwff_core.figures.frames import round_frame
from pwff_core.figures.panel_figure import safe_cell
from pwff_core.methods import METHODS, MethodId
from pwff_core.runs.store import RunRow, RunStatus, Store

STATUS_LABELS: dict[RunStatus, str] = {
    RunStatus.QUEUED: "Queued",
    RunStatus.RUNNING: "Running",
    RunStatus.PAUSED: "Paused",
    RunStatus.STALLED: "Held up",
    RunStatus.FINISHED: "Finished",
    RunStatus.STOPPED: "Stopped",
    RunStatus.FAILED: "Failed",
}
_LONGEST = 40  # letters of a name in a legend


class RunFilter(NamedTuple):
    """The runs that a person wants to see; nothing chosen is no limit."""

    text: str = ""
    statuses: Sequence[RunStatus] = ()
    methods: Sequence[MethodId] = ()

    def fits(self, row: RunRow) -> bool:
        """Whether a run is one of them: every word of the text is in its name, settings, status, id or parent."""
        method = METHODS[row.config.method]
        state = f"{STATUS_LABELS[row.status]} {row.id} {f'fork {row.parent}' if row.parent else ''}"
        words = f"{row.name} {settings_words(row.config)} {method.id} {state}".casefold()
        return (
            all(word in words for word in self.text.casefold().split())
            and (not self.statuses or row.status in self.statuses)
            and (not self.methods or method.id in self.methods)
        )


def title_of(row: RunRow) -> str:
    """A run's name, or its settings in words."""
    return row.name or settings_words(row.config)


def run_words(row: RunRow) -> str:
    """A run in a line of a list: its name or settings, its start, status and id."""
    begun = time.strftime("%d %b %H:%M", time.localtime(row.created_at))
    return f"{title_of(row)} · {begun} · {row.status.value} · {row.id}"


def short_names(rows: Sequence[RunRow]) -> list[str]:
    """A name for each run that fits into a legend; no two are the same."""
    whole = [row.name or f"{METHODS[row.config.method].label}, seed {row.config.seed}" for row in rows]
    names = [name if len(name) <= _LONGEST else f"{name[:_LONGEST]} …" for name in whole]
    return [name if names.count(name) == 1 else f"{name} ({row.id})" for name, row in zip(names, rows, strict=True)]


def stored_frame(store: Store, row: RunRow) -> pd.DataFrame:
    """The rounds of a run as a table (`figures.round_frame`), read once for each number of rounds.

    It is kept by Streamlit's cache, not that of pages/server, which builds on this room.
    """
    return _frame(store.path, row.id, row.rounds_done)


@st.cache_data(max_entries=500, show_spinner=False)
def _frame(store_path: Path, run_id: str, rounds_done: int) -> pd.DataFrame:
    return round_frame([record for _, record in Store(store_path, readonly=True).rounds(run_id)[:rounds_done]])


def status_text(row: RunRow, positions: Mapping[str, int]) -> str:
    """'Queued, position 2', 'Running', 'Finished'."""
    if row.id in positions:
        return f"{STATUS_LABELS[row.status]}, position {positions[row.id]}"
    return "Starting" if row.status is RunStatus.QUEUED else STATUS_LABELS[row.status]


def fork_text(row: RunRow, names: Mapping[str, str]) -> str:
    """The parent of a fork: 'Lesson, round 7', or "" where there is none; `names` of all runs, by id."""
    return f"{names.get(row.parent) or row.parent}, round {row.forked_at}" if row.parent else ""


def history_table(store: Store, rows: Sequence[RunRow], positions: Mapping[str, int]) -> pd.DataFrame:
    """One row a run: accuracy as a percentage and reward [sd] are the last ones that were measured.

    Forks have their parents in a column, which is there where any run is a fork.
    """
    forks = any(row.parent for row in rows)
    names = {row.id: row.name for row in store.runs()} if forks else {}
    lines = []
    for row in rows:
        frame = stored_frame(store, row)
        last = frame[["accuracy", "reward"]].ffill().iloc[-1] if len(frame) else {}
        lines.append(
            {
                "Run": safe_cell(title_of(row)),
                "Status": status_text(row, positions),
                "Method": METHODS[row.config.method].label,
                "Rounds": f"{row.rounds_done} of {row.rounds_total}",
                "Accuracy [%]": 100 * last.get("accuracy", float("nan")),
                "Reward [sd]": last.get("reward", float("nan")),
                **({"Forked from": fork_text(row, names)} if forks else {}),
                "Seed": row.config.seed,
                "Started": datetime.fromtimestamp(row.created_at),
                "Id": row.id,
            }
        )
    return pd.DataFrame(lines)


def choose_runs(store: Store, rows: Sequence[RunRow], positions: Mapping[str, int], chosen_key: str) -> list[RunRow]:
    """Draws the table and returns the runs that are ticked in it; the session keeps their ids under `chosen_key`.

    The browser knows places in the table only, and a new run moves them all: so the places are set anew each time.
    """
    ids, key = [row.id for row in rows], "runs:table"

    def take() -> None:
        places = st.session_state[key]["selection"]["rows"]
        st.session_state[chosen_key] = [ids[place] for place in places if place < len(ids)]

    chosen = [run_id for run_id in st.session_state.get(chosen_key, []) if run_id in ids]
    st.session_state[chosen_key] = chosen
    st.session_state[key] = {
        "selection": {"rows": [ids.index(run_id) for run_id in chosen], "columns": [], "cells": []}
    }
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    st.dataframe(
        history_table(store, rows, positions),
        hide_index=True,
        key=key,
        on_select=take,
        selection_mode="multi-row",
        placeholder="–",
        alt=f"{count(len(rows), 'run')}, newest first",
        column_config={
            "Run": text(width=280, help="Its name, or its settings."),
            "Accuracy [%]": number(format="%.1f", help="The last that was measured, mean over clients."),
            "Reward [sd]": number(format="%+.2f", help="The last that was measured, mean over clients."),
            "Started": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
        },
    )
    return [rows[ids.index(run_id)] for run_id in chosen]
