"""Taking runs of a comparison back: those that wait at once, the one that is going after asking."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts.words import count, plain
from pages.server import session
from pwff_core.comparison.presets import run_label
from pwff_core.errors import StoreError
from pwff_core.paths import default_store_path
from pwff_core.runs.store import RunRow, Store

ALL = ""
NOTICE = "compare:notice"
_ONE, _ASKED = "compare:one", "compare:asked"


def draw_cancelling(rows: Sequence[RunRow], me: str) -> None:
    """Buttons to cancel one run or all of a comparison, while some have not ended; and the question before a stop."""
    going = {row.id: row for row in rows if not row.status.ended and session.may_change(row, me)}
    if not going:
        st.session_state.pop(_ASKED, None)
        return
    if st.session_state.get(_ONE) not in going:
        st.session_state.pop(_ONE, None)
    with st.container(horizontal=True, vertical_alignment="bottom", key="cancelling"):
        one = st.selectbox(
            "Run to cancel",
            list(going),
            format_func=lambda run_id: run_label(going[run_id].config),
            key=_ONE,
            width=260,
        )
        st.button("Cancel this run", icon=":material/close:", key="cancel-one", on_click=_wish, args=(one, rows, me))
        st.button(
            "Cancel all", icon=":material/playlist_remove:", key="cancel-all", on_click=_wish, args=(ALL, rows, me)
        )
    _question(going)


def _wish(wanted: str, rows: Sequence[RunRow], me: str) -> None:
    """Callback: takes back what waits; what has started is asked about first."""
    try:
        store = Store(default_store_path())
        mine = [row for row in rows if not row.status.ended and session.may_change(row, me)]
        chosen = [row for row in mine if wanted in (ALL, row.id)]
        cancelled = [row for row in reversed(chosen) if store.cancel(row.id)]  # the last first: none of them starts yet
        started = [row.id for row in chosen if row not in cancelled and not store.run(row.id).status.ended]
    except StoreError as error:
        st.session_state[NOTICE] = f"The runs could not be cancelled: {error}"
        return
    if cancelled:
        st.session_state[NOTICE] = f"{count(len(cancelled), 'waiting run')} cancelled."
    if started:
        st.session_state[_ASKED] = started


def _question(going: dict[str, RunRow]) -> None:
    """Asked in the page, once: whether runs that have started shall stop."""
    asked = [going[run_id] for run_id in st.session_state.get(_ASKED, ()) if run_id in going]
    if not asked:
        st.session_state.pop(_ASKED, None)
        return
    names = " and ".join(run_label(row.config) for row in asked)
    with st.container(border=True, key="stop-question"):
        st.markdown(
            plain(
                f"{names}: started already. Stop after the round that is being trained? The rounds are kept, but the "
                "table and the verdicts count finished runs alone."
            )
        )
        with st.container(horizontal=True):
            ids = [row.id for row in asked]
            st.button("Stop it", type="primary", icon=":material/stop:", key="stop-yes", on_click=_stop, args=(ids,))
            st.button("Let it go on", key="stop-no", on_click=_stop, args=([],))


def _stop(run_ids: Sequence[str]) -> None:
    """Callback of the answer."""
    st.session_state.pop(_ASKED, None)
    try:
        store = Store(default_store_path(), readonly=True)
        for run_id in run_ids:
            store.request_stop(run_id)
    except StoreError as error:
        st.session_state[NOTICE] = f"The run could not be asked to stop: {error}"
