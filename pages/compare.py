"""The Compare page: several methods on several seeds, one run after another, beside each other and beside the paper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from pages.comparison.cancel import NOTICE, draw_cancel, set_notice
from pages.comparison.results import comparison_words, draw_comparison, draw_comparison_export
from pages.comparison.setup import Setup, draw_setup, expected_duration_s, setup_words
from pages.parts.notices import errors_as_notice, errors_on_page
from pages.parts.words import plain, sentence
from pages.server import session
from pages.server.router import through_the_router
from pwff_core.comparison.presets import new_comparison_id, run_label
from pwff_core.paths import default_store_path
from pwff_core.runs import scheduler
from pwff_core.runs.store import RunRow, Store

POLL_S = 1.0
_CHOSEN, _LAST, _JUST_STARTED = "compare:chosen", "compare:last", "compare:to-show"


def group_by_comparison(rows: Sequence[RunRow]) -> dict[str, list[RunRow]]:
    """The runs of each comparison in the order in which they start; the newest comparison first."""
    comparisons: dict[str, list[RunRow]] = {}
    for row in rows:
        if row.comparison:
            comparisons.setdefault(row.comparison, []).insert(0, row)
    return comparisons


def choose_comparison(comparisons: dict[str, list[RunRow]], store: Store) -> str:
    """Draw the choice of a comparison. It begins with that of the address, or the session's last, or the newest."""
    if just_started := st.session_state.pop(_JUST_STARTED, None):
        st.session_state[_CHOSEN] = just_started
    if st.session_state.get(_CHOSEN) not in comparisons:
        st.session_state.pop(_CHOSEN, None)
        in_address = st.query_params.get("comparison")
        if in_address and in_address not in comparisons:
            st.session_state[NOTICE] = f"There is no comparison {in_address[:40]!r} in {store.path}."
            del st.query_params["comparison"]
        candidates = (in_address, st.session_state.get(_LAST), next(iter(comparisons)))
        st.session_state[_CHOSEN] = next(comparison for comparison in candidates if comparison in comparisons)
    chosen: str = st.selectbox(
        "Comparison",
        list(comparisons),
        format_func=lambda comparison: comparison_words(comparisons[comparison]),
        key=_CHOSEN,
    )
    st.query_params["comparison"] = st.session_state[_LAST] = chosen
    return chosen


def start(setup: Setup, viewer: str, click: int) -> None:
    """Callback of Start: queue all runs, launch the first, and show their comparison."""
    if not session.is_first_call("compare-start", click):
        return
    with errors_as_notice("The comparison could not be started", set_notice):
        store = Store(default_store_path())
        comparison = new_comparison_id()
        with session.within_limits(store, viewer, *setup.runs):
            for config in setup.runs:
                name = f"{setup.label}: {run_label(config)}"
                store.create_run(config, name, in_queue=True, comparison=comparison, owner=viewer)
        scheduler.advance(store)
        st.session_state[_JUST_STARTED] = comparison


def new_comparison(store: Store, viewer: str) -> None:
    """Draw the choices, the runs that follow from them, and Start."""
    setup = draw_setup()
    if setup.problem:
        st.error(f"A comparison cannot start like this. {setup.problem}")
    else:
        st.markdown(plain(sentence(setup_words(setup, expected_duration_s(store, setup)))))
    st.button(
        "Start",
        type="primary",
        icon=":material/play_arrow:",
        key="compare-start",
        on_click=start,
        args=(setup, viewer, session.click_number("compare-start")),
        disabled=bool(setup.problem),
    )


def poll(comparison: str, before: tuple[str, ...]) -> None:
    """Draw the comparison as it is now. When a run has begun or ended, the whole page is drawn again."""
    with errors_on_page(st.warning):
        store = Store(default_store_path(), readonly=True)
        if store.queue():
            scheduler.advance(Store(store.path))
        rows = store.runs(comparison)[::-1]
        if run_states(rows) != before:
            st.rerun()
        draw_comparison(store, comparison, rows)


def run_states(rows: Sequence[RunRow]) -> tuple[str, ...]:
    """The part of the runs that the page outside the polled fragment depends on."""
    return tuple(f"{row.id} {row.status}" for row in rows)


def page() -> None:
    st.title("Compare methods, and with the paper", anchor=False)
    viewer = session.identify_viewer()
    with errors_on_page():
        store = Store(default_store_path(), readonly=True)
        comparisons = group_by_comparison(store.runs())
        if not comparisons:
            st.info(
                "No comparison yet. Choose a figure of the paper below and press **Start**: every method is then "
                "really trained on this computer, one run after another, on the same data and the same simulated "
                "channel. The charts fill in round by round, and each claim of the paper gets its verdict.",
                icon=":material/compare_arrows:",
            )
        # a new comparison makes a new key, so that the expander closes once it has been started
        key = f"new-comparison:{len(comparisons)}"
        with st.expander("New comparison", expanded=not comparisons, icon=":material/add:", key=key):
            new_comparison(store, viewer)
        comparison = choose_comparison(comparisons, store) if comparisons else None
        if notice := st.session_state.pop(NOTICE, None):
            st.warning(plain(notice), icon=":material/info:")
        if comparison is None:
            return
        rows = comparisons[comparison]
        draw_cancel(rows, viewer)
        unfinished = any(not row.status.ended for row in rows)
        st.fragment(partial(poll, comparison, run_states(rows)), run_every=POLL_S if unfinished else None)()
        draw_comparison_export(store, comparison, rows)


through_the_router()
page()
