"""The Clients page: each client's preferences, its scores, and a chat with its model.

The models answer in a process of their own (pwff_core.runs.chat); this page has no torch.
"""

from __future__ import annotations

import streamlit as st

from pages.parts.notices import errors_on_page
from pages.parts.run_table import run_words
from pages.parts.words import plain, sentence
from pages.run.chat import draw_chat
from pages.run.plane import draw_plane
from pages.server.router import through_the_router
from pages.server.snapshots import latest_snapshot
from pages.settings.address import RUN
from pwff_core.config import stage_rounds
from pwff_core.errors import StoreError
from pwff_core.paths import default_store_path
from pwff_core.runs.recording import DEMO_ID, recorded_demo
from pwff_core.runs.store import RunRow, RunStatus, Store

_CHOSEN, _LAST, _NOTICE = "clients:run", "clients:last-run", "clients:notice"


def best_run(rows: list[RunRow]) -> RunRow | None:
    """The run to show by default: the newest that finished with alignment, or one that is going, or the newest."""
    criteria = (
        lambda row: row.status is RunStatus.FINISHED and "alignment" in stage_rounds(row.config),
        lambda row: not row.status.ended,
        lambda row: True,
    )
    return next((row for fits in criteria for row in rows if fits(row)), None)


def choose_run(store: Store) -> RunRow:
    """Draw the choice of a run. It begins with that of the address, or this session's last one, or the best.

    The recorded demo can always be chosen. It is the choice if the store has no run.
    """
    rows = store.runs()
    by_id = {row.id: row for row in [*rows, recorded_demo().row]}
    if st.session_state.get(_CHOSEN) not in by_id:
        st.session_state.pop(_CHOSEN, None)
        in_address = st.query_params.get(RUN)
        if in_address and in_address not in by_id:
            st.session_state[_NOTICE] = _missing_words(store, in_address)
        row = by_id.get(in_address or st.session_state.get(_LAST, "")) or best_run(rows)
        st.session_state[_CHOSEN] = row.id if row else DEMO_ID
    if notice := st.session_state.pop(_NOTICE, None):
        st.warning(plain(sentence(notice)), icon=":material/info:")
    chosen = st.selectbox("Run", list(by_id), format_func=lambda run_id: _words(by_id[run_id]), key=_CHOSEN)
    st.query_params[RUN] = st.session_state[_LAST] = chosen
    return by_id[chosen]


def _missing_words(store: Store, run_id: str) -> str:
    """Why a run is not in the list."""
    try:
        return f"Run {store.run(run_id).id} was deleted."
    except StoreError as error:
        return str(error)


def _words(row: RunRow) -> str:
    return f"Recorded demo: {row.name}" if row.id == DEMO_ID else run_words(row)


def draw_recorded_demo(*, is_only_run: bool) -> None:
    """Draw the recorded demo in the place of a run of the store."""
    demo = recorded_demo()
    start = (
        "No run yet. Start one on the **Live** page; its clients are then shown here, and answer. "
        if is_only_run
        else ""
    )
    st.info(f"{start}This run is **recorded**: it was played on another computer.", icon=":material/history:")
    draw_plane(demo.row, lambda: (demo.row, demo.records))
    st.subheader("Ask the clients", anchor=False)
    st.info(
        "A recording holds numbers and not models, so nobody can be asked here. The clients of a run that was played "
        "on this computer answer.",
        icon=":material/chat_error:",
    )


def page() -> None:
    st.title("Clients: what each one wants, and says", anchor=False)
    with errors_on_page():
        store = Store(default_store_path(), readonly=True)
        row = choose_run(store)
        if row.id == DEMO_ID:
            draw_recorded_demo(is_only_run=not store.runs())
            return
        draw_plane(row, lambda: latest_snapshot(store.path, row.id, now=True).view[:2])
        draw_chat(store, row)


through_the_router()
page()
