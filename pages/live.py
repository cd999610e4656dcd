"""The Live page: set up a run, start it, watch it, stop it.

The engine is a process of its own that writes to the store; this page reads the store. So a refresh, or a second
browser with the same address, shows the same run.
"""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.widgets import settings
from pages.widgets.price import at_once
from pages.widgets.watch import draw_run
from pages.widgets.words import plain, sentence, settings_words
from pwff_core import launch
from pwff_core.config import RunConfig
from pwff_core.errors import PwffError, StoreError
from pwff_core.paths import default_store_path
from pwff_core.store import RunRow, Store

POLL_S = 1.0
_NOTICE, _TO_SHOW = "live:notice", "live:to-show"


def open_store() -> tuple[Store | None, RunRow | None]:
    """The store of runs and the run to show; without a store, the reason is on the page."""
    try:
        store = Store(default_store_path(), readonly=True)
        return store, attached(store)
    except StoreError as error:
        st.error(plain(sentence(str(error))))
        return None, None


def attached(store: Store) -> RunRow | None:
    """The run to show: that of the address, or one that is going, or the newest. Its id is in the address then."""
    if chosen := st.session_state.pop(_TO_SHOW, None):
        st.query_params["run"] = chosen  # here, as what a callback puts into the address does not reach the browser
    asked = st.query_params.get("run")
    if asked:
        try:
            row = store.run(asked)
            if not row.deleted:
                return row
            st.session_state[_NOTICE] = f"Run {row.id} was deleted."
        except StoreError as error:
            st.session_state[_NOTICE] = sentence(str(error))
        del st.query_params["run"]
    rows = store.runs()
    found = next((row for row in rows if not row.status.ended), rows[0] if rows else None)
    if found:
        st.query_params["run"] = found.id
    return found


def start(config: RunConfig) -> None:
    """Callback of Start: a new run in the store, its engine as a process, its id in the address."""
    st.session_state.pop(_NOTICE, None)
    try:
        store = Store(default_store_path())
        run_id = store.create_run(config)
        launch.launch(store.path, run_id)
    except (PwffError, OSError) as error:
        st.session_state[_NOTICE] = f"The run could not be started: {error}"
        return
    show(run_id)


def stop(run_id: str) -> None:
    """Callback of Stop: ask the engine to end after the round that it is in."""
    try:
        Store(default_store_path(), readonly=True).request_stop(run_id)
    except StoreError as error:
        st.session_state[_NOTICE] = f"The run could not be asked to stop: {error}"


def controls(config: RunConfig | None, problems: dict[str, str], row: RunRow | None, store: Store | None) -> None:
    """What Start would do and cost, and the two buttons."""
    active = row is not None and not row.status.ended
    with st.container(border=True, key="next-run"):
        with st.container(horizontal=True, vertical_alignment="center", key="buttons"):
            if config is None:
                st.error(f"A run cannot start like this. {settings.problem_words(problems)}")
            else:
                st.markdown(f"**{'Next run' if row else 'Your run'}:** {plain(settings_words(config))}")
            st.button(
                "Start",
                type="primary",
                icon=":material/play_arrow:",
                key="start",
                on_click=start,
                args=(config,),
                disabled=config is None or active or store is None,
                help="A run is going; stop it first, or wait." if active else None,
            )
            st.button(
                "Stop",
                icon=":material/stop:",
                key="stop",
                on_click=stop,
                args=(row.id if row else "",),
                disabled=not active,
                help="Ends the run after the round it is in; all its rounds are kept." if active else None,
            )
        if config:
            at_once(config)


def elsewhere(store: Store, shown: RunRow) -> None:
    """A way to the run that is going, while an ended one is shown."""
    going = next((row for row in store.runs() if not row.status.ended), None)
    if going is None or not shown.status.ended:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="elsewhere"):
        st.info(f"Another run is going: {plain(settings_words(going.config))}.")
        st.button("Show it", key="show-going", on_click=show, args=(going.id,))


def show(run_id: str) -> None:
    """Callback: put a run into the address."""
    st.session_state[_TO_SHOW] = run_id


def watch(run_id: str, *, active: bool) -> None:
    """One look at the run. Once it has ended, the whole page is drawn again and the looking ends."""
    try:
        store = Store(default_store_path(), readonly=True)
        row = store.run(run_id)
        if active and row.status.ended:
            st.rerun()
        draw_run(store, row)
    except StoreError as error:
        st.warning(plain(sentence(str(error))))


def page() -> None:
    st.title("Federated fine-tuning, live", anchor=False)
    store, row = open_store()
    if not settings.ready():
        settings.adopt(row.config if row else RunConfig())
    active = row is not None and not row.status.ended
    with st.sidebar:
        st.header("Settings", anchor=False)
        config, problems = settings.panel(busy=active)
    if notice := st.session_state.pop(_NOTICE, None):
        st.warning(plain(notice), icon=":material/info:")
    controls(config, dict(problems), row, store)
    if store is None:
        return
    if row is None:
        welcome()
        return
    elsewhere(store, row)
    st.fragment(partial(watch, row.id, active=active), run_every=POLL_S if active else None)()


def welcome() -> None:
    """What will happen, while there is no run to show."""
    st.info(
        "No run yet. Press **Start**: each client then really trains a small language model on its own texts, on "
        "this computer; a simulated radio channel carries what it uploads; the server averages it and sends it back. "
        "Then the clients learn together what a helpful and what a harmless answer is, and each model is aligned with "
        "what its own owner wants. Every round adds a point to the charts, the first within about 15 seconds.",
        icon=":material/waving_hand:",
    )


page()
