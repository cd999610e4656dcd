"""The Runs page: every run of the store, to be found, opened, replayed, renamed, deleted, and laid over each other."""

from __future__ import annotations

import streamlit as st

from pages.comparison.overlay import draw_overlay
from pages.parts.notices import draw_notices, draw_toasts
from pages.parts.run_table import STATUS_LABELS, Wanted, choose
from pages.parts.words import count, plain, sentence
from pages.run.actions import delete_what_has_stopped, draw_actions, draw_undo, live_page
from pages.server import session
from pages.server.router import through_the_router
from pwff_core.errors import StoreError
from pwff_core.figures.overlay import MAX_RUNS
from pwff_core.methods import METHODS
from pwff_core.paths import default_store_path
from pwff_core.runs import scheduler
from pwff_core.runs.recording import DEMO_ID
from pwff_core.runs.store import RunRow, Store

POLL_S = 2.0
_CHOSEN = "runs:chosen"
_TEXT, _STATUSES, _METHODS = "runs:text", "runs:statuses", "runs:methods"


def filters() -> Wanted:
    """What the boxes above the table say."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="runs-filter"):
        text = st.text_input(
            "Find",
            key=_TEXT,
            placeholder="Words of a name, of the settings, or an id",
            live="0.4s",
            icon=":material/search:",
            persist_state="page",  # also while no run is left to be found
        )
        statuses = st.multiselect(
            "Status", list(STATUS_LABELS), format_func=STATUS_LABELS.__getitem__, key=_STATUSES, placeholder="All"
        )
        methods = st.multiselect(
            "Method", list(METHODS), format_func=lambda method: METHODS[method].label, key=_METHODS, placeholder="All"
        )
    return Wanted(text, statuses, methods)


def clear_filters() -> None:
    """Callback: show all runs again."""
    st.session_state[_TEXT], st.session_state[_STATUSES], st.session_state[_METHODS] = "", [], []


def welcome() -> None:
    """What stands here later, while there is no run."""
    st.info(
        "No run yet. Every run that you start on the **Live** page is kept here: to open it again, to play it once "
        "more, to lay it over others, and to take it home as files.",
        icon=":material/history:",
    )
    with st.container(horizontal=True):
        if st.button("Start one on the Live page", type="primary", icon=":material/show_chart:", key="runs:to-live"):
            live_page()
        if st.button("Play the recorded demo", icon=":material/history:", key="runs:to-demo"):
            live_page(replay=DEMO_ID)


def news(store: Store) -> tuple[tuple[object, ...], ...]:
    """What the table shows of the runs; a change of it is worth drawing the page again."""
    return tuple((row.id, row.status, row.rounds_done, row.in_queue) for row in store.runs())


def look(store: Store, known: tuple[tuple[object, ...], ...]) -> None:
    """One look at the store. It starts what is due in the queue, and draws the page again once something is new."""
    try:
        if store.queue():
            scheduler.advance(Store(store.path))
        if news(store) != known:
            st.rerun()
    except StoreError as error:
        st.warning(plain(sentence(str(error))))


def draw_runs(store: Store, rows: list[RunRow], me: str) -> None:
    """Filter and table, and what can be done with the runs that are chosen in it."""
    wanted = filters()
    found = [row for row in rows if wanted.fits(row)]
    if not found:
        st.info(f"None of the {count(len(rows), 'run')} fits.", icon=":material/filter_alt_off:")
        st.button("Show all runs", key="runs:clear", on_click=clear_filters)
        return
    positions = {row.id: place for place, row in enumerate(store.queue(), start=1)}
    chosen = choose(store, found, positions, _CHOSEN)
    if not chosen:
        st.caption(
            f"{count(len(found), 'run')}. Tick one at its left to open, resume, fork, replay, rename, export or delete "
            f"it; tick up to {MAX_RUNS} to lay them over each other."
        )
    elif len(chosen) == 1:
        draw_actions(store, chosen[0], positions.get(chosen[0].id, 0), me)
    else:
        draw_overlay(store, chosen)


def page() -> None:
    st.title("Runs: what was played, and what came out", anchor=False)
    me = session.identify_viewer()
    draw_toasts()
    with st.container(key="notices"):
        draw_notices()
    try:
        store = Store(default_store_path(), readonly=True)
        delete_what_has_stopped(store)
        draw_undo(store, arrived=_TEXT not in st.session_state)
        rows, known = store.runs(), news(store)
        if rows:
            draw_runs(store, rows, me)
        else:
            welcome()
        going = any(not row.status.ended for row in rows)
        st.fragment(lambda: look(store, known), run_every=POLL_S if going else None)()
    except StoreError as error:
        st.error(plain(sentence(str(error))), icon=":material/database_off:")


through_the_router()
page()
