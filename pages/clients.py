"""The Clients page: who wants what, where each client's answers score, and what any client's model says.

The models talk in a process of their own (pwff_core.conversation); this page has no torch.
"""

from __future__ import annotations

import time

import streamlit as st

from pages.widgets.asking import draw_asking
from pages.widgets.plane import draw_plane
from pages.widgets.router import through_the_router
from pages.widgets.words import plain, sentence, settings_words
from pwff_core.config import stage_rounds
from pwff_core.errors import StoreError
from pwff_core.paths import default_store_path
from pwff_core.store import RunRow, RunStatus, Store

_CHOSEN, _LAST, _NOTICE = "clients:run", "clients:last-run", "clients:notice"


def best_run(rows: list[RunRow]) -> RunRow | None:
    """The run to show where none is asked for: the newest that finished with alignment, else one that is going."""
    wanted = (
        lambda row: row.status is RunStatus.FINISHED and "alignment" in stage_rounds(row.config),
        lambda row: not row.status.ended,
        lambda row: True,
    )
    return next((row for fits in wanted for row in rows if fits(row)), None)


def chosen_run(store: Store) -> RunRow | None:
    """The run of the address, or the one shown last in this session, or the best; and the box to choose another."""
    rows = store.runs()
    by_id = {row.id: row for row in rows}
    if st.session_state.get(_CHOSEN) not in by_id:
        st.session_state.pop(_CHOSEN, None)
        asked = st.query_params.get("run")
        if asked and asked not in by_id:
            st.session_state[_NOTICE] = f"There is no run {asked[:40]!r} in {store.path}."
        found = by_id.get(asked or st.session_state.get(_LAST, "")) or best_run(rows)
        if found is None:
            return None
        st.session_state[_CHOSEN] = found.id
    if notice := st.session_state.pop(_NOTICE, None):
        st.warning(plain(notice), icon=":material/info:")
    chosen = st.selectbox("Run", list(by_id), format_func=lambda run_id: run_words(by_id[run_id]), key=_CHOSEN)
    st.query_params["run"] = st.session_state[_LAST] = chosen
    return by_id[chosen]


def run_words(row: RunRow) -> str:
    """A run in a line of a list: its name or settings, when, and how it stands."""
    begun = time.strftime("%d %b %H:%M", time.localtime(row.created_at))
    return f"{row.name or settings_words(row.config)} · {begun} · {row.status.value} · {row.id}"


def page() -> None:
    st.title("Clients: what each one wants, and says", anchor=False)
    try:
        store = Store(default_store_path(), readonly=True)
        row = chosen_run(store)
        if row is None:
            st.info("No run yet. Start one on the **Live** page; its clients are then shown here.")
            return
        draw_plane(store, row)
        draw_asking(store, row)
    except StoreError as error:
        st.error(plain(sentence(str(error))))


through_the_router()
page()
