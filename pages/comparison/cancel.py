"""Cancel runs of a comparison: a queued run at once, a run that has started after a question."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts.notices import errors_as_notice
from pages.parts.words import count, plain
from pages.server import session
from pwff_core.comparison.presets import run_label
from pwff_core.paths import default_store_path
from pwff_core.runs.store import RunRow, Store

ALL = ""
NOTICE = "compare:notice"
_RUN, _TO_STOP = "compare:one", "compare:asked"


def set_notice(text: str) -> None:
    """A notice above the comparison when that is drawn next."""
    st.session_state[NOTICE] = text


def draw_cancel(rows: Sequence[RunRow], viewer: str) -> None:
    """Draw the buttons to cancel one run or all that have not ended, and the question before a stop."""
    unfinished = {row.id: row for row in rows if not row.status.ended and session.may_change(row, viewer)}
    if not unfinished:
        st.session_state.pop(_TO_STOP, None)
        return
    if st.session_state.get(_RUN) not in unfinished:
        st.session_state.pop(_RUN, None)
    with st.container(horizontal=True, vertical_alignment="bottom", key="cancelling"):
        run_id = st.selectbox(
            "Run to cancel",
            list(unfinished),
            format_func=lambda run_id: run_label(unfinished[run_id].config),
            key=_RUN,
            width=260,
        )
        st.button(
            "Cancel this run", icon=":material/close:", key="cancel-one", on_click=_cancel, args=(run_id, rows, viewer)
        )
        st.button(
            "Cancel all",
            icon=":material/playlist_remove:",
            key="cancel-all",
            on_click=_cancel,
            args=(ALL, rows, viewer),
        )
    _confirm_stop(unfinished)


def _cancel(selection: str, rows: Sequence[RunRow], viewer: str) -> None:
    """Callback: cancel what is queued; what has started gets a question. `selection` is a run id or ALL."""
    with errors_as_notice("The runs could not be cancelled", set_notice):
        store = Store(default_store_path())
        changeable = [row for row in rows if not row.status.ended and session.may_change(row, viewer)]
        selected = [row for row in changeable if selection in (ALL, row.id)]
        cancelled = [row for row in reversed(selected) if store.cancel(row.id)]  # the last first, so that none starts
        started = [row.id for row in selected if row not in cancelled and not store.run(row.id).status.ended]
        if cancelled:
            set_notice(f"{count(len(cancelled), 'waiting run')} cancelled.")
        if started:
            st.session_state[_TO_STOP] = started


def _confirm_stop(unfinished: dict[str, RunRow]) -> None:
    """Ask in the page, once, whether runs that have started shall stop."""
    to_stop = [unfinished[run_id] for run_id in st.session_state.get(_TO_STOP, ()) if run_id in unfinished]
    if not to_stop:
        st.session_state.pop(_TO_STOP, None)
        return
    names = " and ".join(run_label(row.config) for row in to_stop)
    with st.container(border=True, key="stop-question"):
        st.markdown(
            plain(
                f"{names}: started already. Stop after the round that is being trained? The rounds are kept, but the "
                "table and the verdicts count finished runs alone."
            )
        )
        with st.container(horizontal=True):
            ids = [row.id for row in to_stop]
            st.button("Stop it", type="primary", icon=":material/stop:", key="stop-yes", on_click=_stop, args=(ids,))
            st.button("Let it go on", key="stop-no", on_click=_stop, args=([],))


def _stop(run_ids: Sequence[str]) -> None:
    """Callback of the answer to that question."""
    st.session_state.pop(_TO_STOP, None)
    with errors_as_notice("The run could not be asked to stop", set_notice):
        store = Store(default_store_path(), readonly=True)
        for run_id in run_ids:
            store.request_stop(run_id)
