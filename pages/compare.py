"""The Compare page: several methods on several seeds, one run after another, beside each other and beside the paper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from pages.comparison.cancel import NOTICE, draw_cancelling
from pages.comparison.export import draw_comparison_export
from pages.comparison.results import comparison_words, draw_comparison
from pages.comparison.setup import Setup, draw_setup, seconds_of, setup_words
from pages.parts.words import plain, sentence
from pages.server import session
from pages.server.router import through_the_router
from pwff_core.comparison.presets import new_comparison_id, run_label
from pwff_core.errors import PwffError, StoreError
from pwff_core.paths import default_store_path
from pwff_core.runs import scheduler
from pwff_core.runs.store import RunRow, Store

POLL_S = 1.0
_CHOSEN, _LAST, _TO_SHOW = "compare:chosen", "compare:last", "compare:to-show"


def comparisons(rows: Sequence[RunRow]) -> dict[str, list[RunRow]]:
    """The runs of each comparison in the order in which they start; the newest comparison first."""
    found: dict[str, list[RunRow]] = {}
    for row in rows:
        if row.comparison:
            found.setdefault(row.comparison, []).insert(0, row)
    return found


def chosen(found: dict[str, list[RunRow]], store: Store) -> str:
    """The comparison to show: that of the address, or the one shown last in this session, or the newest of some."""
    if to_show := st.session_state.pop(_TO_SHOW, None):
        st.session_state[_CHOSEN] = to_show
    if st.session_state.get(_CHOSEN) not in found:
        st.session_state.pop(_CHOSEN, None)
        asked = st.query_params.get("comparison")
        if asked and asked not in found:
            st.session_state[NOTICE] = f"There is no comparison {asked[:40]!r} in {store.path}."
            del st.query_params["comparison"]
        wanted = (asked, st.session_state.get(_LAST))
        st.session_state[_CHOSEN] = next((known for known in wanted if known in found), next(iter(found)))
    shown: str = st.selectbox(
        "Comparison", list(found), format_func=lambda known: comparison_words(found[known]), key=_CHOSEN
    )
    st.query_params["comparison"] = st.session_state[_LAST] = shown
    return shown


def start(setup: Setup, me: str, click: int) -> None:
    """Callback of Start: all runs into the queue, the first one launched, their comparison into the address."""
    if not session.is_first_call("compare-start", click):
        return
    try:
        store = Store(default_store_path())
        comparison = new_comparison_id()
        with session.within_limits(store, me, *setup.runs):
            for config in setup.runs:
                name = f"{setup.label}: {run_label(config)}"
                store.create_run(config, name, waits=True, comparison=comparison, owner=me)
        scheduler.advance(store)
    except PwffError as error:
        st.session_state[NOTICE] = f"The comparison could not be started: {error}"
        return
    st.session_state[_TO_SHOW] = comparison


def new_comparison(store: Store, me: str) -> None:
    """The choices, what they come to, and Start."""
    setup = draw_setup()
    if setup.problem:
        st.error(f"A comparison cannot start like this. {plain(setup.problem)}")
    else:
        st.markdown(plain(sentence(setup_words(setup, seconds_of(store, setup)))))
    st.button(
        "Start",
        type="primary",
        icon=":material/play_arrow:",
        key="compare-start",
        on_click=start,
        args=(setup, me, session.click_number("compare-start")),
        disabled=bool(setup.problem),
    )


def look(comparison: str, before: tuple[str, ...]) -> None:
    """One look at the comparison. When a run has begun or ended, the whole page is drawn again."""
    try:
        store = Store(default_store_path(), readonly=True)
        if store.waiting():
            scheduler.advance(Store(store.path))
        rows = store.runs(comparison)[::-1]
        if states(rows) != before:
            st.rerun()
        draw_comparison(store, comparison, rows)
    except StoreError as error:
        st.warning(plain(sentence(str(error))))


def states(rows: Sequence[RunRow]) -> tuple[str, ...]:
    """What of the runs the page outside the looks depends on."""
    return tuple(f"{row.id} {row.status}" for row in rows)


def page() -> None:
    st.title("Compare methods, and with the paper", anchor=False)
    me = session.identify_viewer()
    try:
        store = Store(default_store_path(), readonly=True)
        found = comparisons(store.runs())
        if not found:
            st.info(
                "No comparison yet. Choose a figure of the paper below and press **Start**: every method is then "
                "really trained on this computer, one run after another, on the same data and the same simulated "
                "channel. The charts fill in round by round, and each claim of the paper gets its verdict.",
                icon=":material/compare_arrows:",
            )
        # another key once there is another one, so that it closes when that has been started
        key = f"new-comparison:{len(found)}"
        with st.expander("New comparison", expanded=not found, icon=":material/add:", key=key):
            new_comparison(store, me)
        shown = chosen(found, store) if found else None
        if notice := st.session_state.pop(NOTICE, None):
            st.warning(plain(notice), icon=":material/info:")
        if shown is None:
            return
        rows = found[shown]
        draw_cancelling(rows, me)
        going = any(not row.status.ended for row in rows)
        st.fragment(partial(look, shown, states(rows)), run_every=POLL_S if going else None)()
        draw_comparison_export(store, shown, rows)
    except StoreError as error:
        st.error(plain(sentence(str(error))))


through_the_router()
page()
