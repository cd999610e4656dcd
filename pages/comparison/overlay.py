"""Up to five runs in the same charts: accuracy, reward, delay and energy."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts.chart import chart_with_table
from pages.parts.run_table import short_names, stored_frame
from pages.parts.words import plain, settings_words
from pwff_core.figures.overlay import MAX_RUNS, OVERLAY_PANELS, OverlayRun, overlay_figure, overlay_table, overlay_words
from pwff_core.figures.panel_figure import figure_json
from pwff_core.figures.panels import PANELS
from pwff_core.runs.store import RunRow, Store


def draw_overlay(store: Store, selected: Sequence[RunRow]) -> None:
    """Draw the charts of the selected runs, each with its words and its table."""
    rows = selected[:MAX_RUNS]
    if len(selected) > MAX_RUNS:
        st.warning(f"At most {MAX_RUNS} runs are drawn, the first {MAX_RUNS} that you ticked.", icon=":material/info:")
    st.subheader("Laid over each other", anchor=False)
    names = short_names(rows)
    lines = (f"**{plain(name)}**: {plain(settings_words(row.config))}" for name, row in zip(names, rows, strict=True))
    st.caption("  \n".join(lines))
    runs = [OverlayRun(name, stored_frame(store, row)) for name, row in zip(names, rows, strict=True)]
    revision = "; ".join(f"{row.id} {row.rounds_done} {row.name}" for row in rows)
    for left in range(0, len(OVERLAY_PANELS), 2):
        for column, panel_id in zip(st.columns(2), OVERLAY_PANELS[left : left + 2], strict=True):
            with column:
                label = PANELS[panel_id].label
                chart_with_table(
                    f"overlay-{panel_id}",
                    figure_json(overlay_figure(panel_id, runs)),
                    overlay_table(panel_id, runs),
                    words=overlay_words(panel_id, runs),
                    view="overlay",
                    revision=revision,
                    heading=f"{label} in numbers",
                    alt=f"{label} of every round and run",
                    keys=(f"overlay-numbers:{panel_id}", f"overlay-table:{panel_id}"),
                )
