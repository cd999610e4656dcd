"""The Runs page: every run of the store, to be found, opened, replayed, renamed, deleted, and laid over each other."""

from __future__ import annotations

import streamlit as st

from pages.comparison.overlay import draw_overlay
from pages.parts.notices import draw_notices, draw_toasts, errors_on_page
from pages.parts.run_table import STATUS_LABELS, RunFilter, choose_runs
from pages.parts.words import count
from pages.run.actions import delete_what_has_stopped, draw_actions, draw_undo, live_page
from pages.server import session
from pages.server.router import through_the_router
from pwff_core.figures.overlay import MAX_RUNS
from pwff_core.methods import METHODS
from pwff_core.paths import default_store_path
from pwff_core.runs import scheduler
from pwff_core.runs.recording import DEMO_ID
from pwff_core.runs.store import RunRow, Store

POLL_S = 2.0
_CHOSEN = "runs:chosen"
_TEXT, _STATUSES, _METHODS = "runs:text", "runs:statuses", "runs:methods"


def draw_filters() -> RunFilter:
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
    return RunFilter(text, statuses, methods)


def clear_filters() -> None:
    """Callback: show all runs again."""
    st.session_state[_TEXT], st.session_state[_STATUSES], st.session_state[_METHODS] = "", [], []


def welcome() -> None:
    """What will be here, while there is no run."""
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


def table_state(store: Store) -> tuple[tuple[object, ...], ...]:
    """What the table shows of the runs; where it changes, the page is drawn again."""
    return tuple((row.id, row.status, row.rounds_done, row.in_queue) for row in store.runs())


def poll(store: Store, drawn: tuple[tuple[object, ...], ...]) -> None:
    """Starts what is due in the queue, and draws the page again once the table has changed."""
    with errors_on_page(st.warning):
        if store.queue():
            scheduler.advance(Store(store.path))
        if table_state(store) != drawn:
            st.rerun()


def draw_runs(store: Store, rows: list[RunRow], viewer: str) -> None:
    """Filter and table, and what can be done with the runs that are chosen in it."""
    chosen_filter = draw_filters()
    fitting = [row for row in rows if chosen_filter.fits(row)]
    if not fitting:
        st.info(f"None of the {count(len(rows), 'run')} fits.", icon=":material/filter_alt_off:")
        st.button("Show all runs", key="runs:clear", on_click=clear_filters)
        return
    positions = {row.id: place for place, row in enumerate(store.queue(), start=1)}
    chosen = choose_runs(store, fitting, positions, _CHOSEN)
    if not chosen:
        st.caption(
            f"{count(len(fitting), 'run')}. Tick one at its left to open, resume, fork, replay, rename, export or "
            f"delete it; tick up to {MAX_RUNS} to lay them over each other."
        )
    elif len(chosen) == 1:
        draw_actions(store, chosen[0], positions.get(chosen[0].id, 0), viewer)
    else:
        draw_overlay(store, chosen)


def page() -> None:
    st.title("Runs: what was played, and what came out", anchor=False)
    viewer = session.identify_viewer()
    draw_toasts()
    with st.container(key="notices"):
        draw_notices()
    with errors_on_page(icon=":material/database_off:"):
        store = Store(default_store_path(), readonly=True)
        delete_what_has_stopped(store)
        draw_undo(store, arrived=_TEXT not in st.session_state)
        rows, drawn = store.runs(), table_state(store)
        if rows:
            draw_runs(store, rows, viewer)
        else:
            welcome()
        going = any(not row.status.ended for row in rows)
        st.fragment(lambda: poll(store, drawn), run_every=POLL_S if going else None)()


through_the_router()
page()
